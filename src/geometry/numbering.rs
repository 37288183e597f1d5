//! Numbers for the cells of a grid that may grow.

use super::{Region, n_elems, ravel, unravel};

/// Cells that are looked for at a time.
const BATCH: usize = 256;

/// Numbers the cells of a grid so that a cell keeps its number when the grid grows or shrinks.
///
/// The grid as it is at first is a block, numbered in C order; further blocks of the same shape follow, as far as there is
/// room. So numbers are as dense as those of a grid that never grows, where most cells are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbering {
    /// Cells of a block along each axis, at least 1.
    block: Vec<u64>,
    /// Blocks along each axis.
    n_blocks: Vec<u64>,
    block_cells: u64,
}

impl Numbering {
    /// Numbers of a grid of `grid` cells that may grow to `room`. `None` where they pass `u64`.
    pub fn new(grid: &[u64], room: &[u64]) -> Option<Self> {
        let block: Vec<u64> = grid.iter().map(|&n| n.max(1)).collect();
        let n_blocks: Vec<u64> = block.iter().zip(room).map(|(&n, &most)| most.max(n).div_ceil(n)).collect();
        let block_cells = n_elems(&block)?;
        block_cells.checked_mul(n_elems(&n_blocks)?)?;
        Some(Numbering { block, n_blocks, block_cells })
    }

    /// The number of the cell at `indices`.
    pub fn number(&self, indices: &[u64]) -> u64 {
        if indices.iter().zip(&self.block).all(|(idx, n)| idx < n) {
            return ravel(indices, &self.block);
        }
        let split = |take: fn(u64, u64) -> u64| -> Vec<u64> {
            indices.iter().zip(&self.block).map(|(&idx, &n)| take(idx, n)).collect()
        };
        let (block, within) = (split(|idx, n| idx / n), split(|idx, n| idx % n));
        ravel(&block, &self.n_blocks) * self.block_cells + ravel(&within, &self.block)
    }

    /// Inverse of [`Self::number`].
    pub fn indices(&self, number: u64) -> Vec<u64> {
        let mut indices = unravel(number % self.block_cells, &self.block);
        if number >= self.block_cells {
            let block = unravel(number / self.block_cells, &self.n_blocks);
            for (axis, idx) in indices.iter_mut().enumerate() {
                *idx += block[axis] * self.block[axis];
            }
        }
        indices
    }

    /// The numbers from `from` on of the cells that a grid of `grid` cells has, in order.
    pub fn within(&self, grid: &[u64], from: u64) -> impl Iterator<Item = u64> {
        let grid = grid.to_vec();
        let blocks = Region::whole(&grid).cells(&self.block);
        let mut block = blocks.positions_from(&unravel(from / self.block_cells, &self.n_blocks)).next();
        let mut at = from;
        let mut some = Vec::new().into_iter();
        std::iter::from_fn(move || {
            loop {
                if let Some(number) = some.next() {
                    return Some(number);
                }
                let here = block.clone()?;
                let first = ravel(&here, &self.n_blocks) * self.block_cells;
                at = at.max(first);
                let start: Vec<u64> = here.iter().zip(&self.block).map(|(idx, n)| idx * n).collect();
                let end = (0..grid.len()).map(|axis| grid[axis].min(start[axis] + self.block[axis])).collect();
                // Some at a time: the rest may never be asked for.
                let cells = Region { start, end };
                let numbers = cells.positions_from(&self.indices(at)).take(BATCH).map(|cell| self.number(&cell));
                some = numbers.collect::<Vec<u64>>().into_iter();
                match some.as_slice().last() {
                    Some(last) if some.len() == BATCH && last + 1 < first + self.block_cells => at = last + 1,
                    _ => block = blocks.positions_from(&here).nth(1),
                }
            }
        })
    }

    /// Numbers lie below this.
    pub fn end(&self) -> u64 {
        self.block_cells * self.n_blocks.iter().product::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn numbers_are_those_of_c_order_and_distinct_wherever_the_grid_grows_to() {
        for (grid, room) in [([3, 4], [3, 4]), ([3, 4], [6, 9]), ([1, 5], [8, 40]), ([0, 2], [3, 3])] {
            let numbering = Numbering::new(&grid, &room).expect("fits");
            for indices in Region::whole(&grid).positions() {
                assert_eq!(numbering.number(&indices), ravel(&indices, &grid));
            }
            let mut numbers = HashSet::new();
            for indices in Region::whole(&room).positions() {
                let number = numbering.number(&indices);
                assert!(number < numbering.end() && numbers.insert(number), "{indices:?}");
                assert_eq!(numbering.indices(number), indices);
            }
        }
        let scalar = Numbering::new(&[], &[]).expect("fits");
        assert_eq!((scalar.number(&[]), scalar.within(&[], 0).count()), (0, 1));
        assert!(
            Numbering::new(&[1 << 40], &[1 << 63]).is_some() && Numbering::new(&[1 << 40; 2], &[1 << 40; 2]).is_none()
        );
    }

    #[test]
    fn the_cells_of_any_grid_can_be_gone_through_in_order_of_their_numbers() {
        let numbering = Numbering::new(&[3, 200], &[9, 800]).expect("fits");
        for grid in [[3, 200], [2, 150], [7, 200], [3, 201], [9, 800], [0, 200]] {
            let mut numbers: Vec<u64> = Region::whole(&grid).positions().map(|at| numbering.number(&at)).collect();
            numbers.sort_unstable();
            for from in [0, 1, 255, 599, 600, 2000, 7199] {
                let rest: Vec<u64> = numbers.iter().copied().filter(|&number| number >= from).collect();
                assert_eq!(numbering.within(&grid, from).collect::<Vec<_>>(), rest, "{grid:?} from {from}");
            }
        }
        let roomy = Numbering::new(&[3, 200], &[3 << 20, 200 << 20]).expect("fits");
        assert_eq!(roomy.within(&[3, 201], 590).count(), 13, "it does not go through all the room there is");
    }
}
