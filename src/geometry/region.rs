//! Half-open n-dimensional boxes.

/// A half-open box: on each axis the positions `start..end`. Also used for boxes of grid indices.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Region {
    /// First position on each axis.
    pub start: Vec<u64>,
    /// One past the last position on each axis.
    pub end: Vec<u64>,
}

impl Region {
    /// The region from the origin to `shape`.
    pub fn whole(shape: &[u64]) -> Self {
        Region { start: vec![0; shape.len()], end: shape.to_vec() }
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.start.len()
    }

    /// Extent on each axis.
    pub fn shape(&self) -> Vec<u64> {
        self.start.iter().zip(&self.end).map(|(&start, &end)| end.saturating_sub(start)).collect()
    }

    /// No element lies in it.
    pub fn is_empty(&self) -> bool {
        self.start.iter().zip(&self.end).any(|(start, end)| start >= end)
    }

    /// Number of elements; saturates.
    pub fn n_elems(&self) -> u64 {
        self.shape().iter().fold(1u64, |n, &len| n.saturating_mul(len))
    }

    /// What both contain (maybe empty).
    pub fn intersect(&self, other: &Region) -> Region {
        Region {
            start: self.start.iter().zip(&other.start).map(|(&a, &b)| a.max(b)).collect(),
            end: self.end.iter().zip(&other.end).map(|(&a, &b)| a.min(b)).collect(),
        }
    }

    /// Whether a position lies in it.
    pub fn contains(&self, at: &[u64]) -> bool {
        at.iter().zip(&self.start).all(|(at, start)| at >= start) && at.iter().zip(&self.end).all(|(at, end)| at < end)
    }

    /// Cut off at `shape`.
    pub fn clipped(&self, shape: &[u64]) -> Region {
        Region { start: self.start.clone(), end: self.end.iter().zip(shape).map(|(&end, &len)| end.min(len)).collect() }
    }

    /// The same box in coordinates whose origin is `origin`, which must not lie beyond `start`.
    pub fn relative_to(&self, origin: &[u64]) -> Region {
        let shift = |side: &[u64]| side.iter().zip(origin).map(|(&at, &from)| at - from).collect();
        Region { start: shift(&self.start), end: shift(&self.end) }
    }

    /// The same box moved by `origin`.
    pub fn translated(&self, origin: &[u64]) -> Region {
        let shift = |side: &[u64]| side.iter().zip(origin).map(|(&at, &by)| at + by).collect();
        Region { start: shift(&self.start), end: shift(&self.end) }
    }

    /// The grid cells of `cell_shape` that it touches, as a region of grid indices.
    pub fn cells(&self, cell_shape: &[u64]) -> Region {
        Region {
            start: self.start.iter().zip(cell_shape).map(|(&start, &len)| start / len).collect(),
            end: self.end.iter().zip(cell_shape).map(|(&end, &len)| end.div_ceil(len)).collect(),
        }
    }

    /// The region of grid cell `indices` of a grid of `cell_shape`, not clipped to any array.
    pub fn of_cell(indices: &[u64], cell_shape: &[u64]) -> Region {
        let start: Vec<u64> = indices.iter().zip(cell_shape).map(|(&idx, &len)| idx.saturating_mul(len)).collect();
        let end = start.iter().zip(cell_shape).map(|(&from, &len)| from.saturating_add(len)).collect();
        Region { start, end }
    }

    /// Calls `visit` with every position in it, in C order: [`Self::positions`] without an allocation for each.
    pub fn for_each(&self, mut visit: impl FnMut(&[u64])) {
        if self.is_empty() {
            return;
        }
        let mut at = self.start.clone();
        loop {
            visit(&at);
            let goes_on = (0..at.len()).rev().any(|axis| {
                at[axis] += 1;
                let is_inside = at[axis] < self.end[axis];
                if !is_inside {
                    at[axis] = self.start[axis];
                }
                is_inside
            });
            if !goes_on {
                return;
            }
        }
    }

    /// The positions in it from `at` on, in C order, whether or not `at` is one of them.
    pub fn positions_from(&self, at: &[u64]) -> Positions<'_> {
        let mut next = at.to_vec();
        let mut axis = 0;
        while axis < next.len() {
            if next[axis] < self.start[axis] {
                next[axis..].copy_from_slice(&self.start[axis..]);
                break;
            }
            if next[axis] >= self.end[axis] {
                // Past the last one with these leading indices: on to the next of those.
                let Some(before) = axis.checked_sub(1) else { return Positions { region: self, next: None } };
                next[before] += 1;
                next[axis..].copy_from_slice(&self.start[axis..]);
                axis = before;
                continue;
            }
            axis += 1;
        }
        Positions { region: self, next: (!self.is_empty()).then_some(next) }
    }

    /// Every position in it, in C order.
    pub fn positions(&self) -> Positions<'_> {
        let next = if self.is_empty() { None } else { Some(self.start.clone()) };
        Positions { region: self, next }
    }
}

/// Iterator over the positions of a [`Region`] in C order.
#[derive(Debug)]
pub struct Positions<'a> {
    region: &'a Region,
    next: Option<Vec<u64>>,
}

impl Iterator for Positions<'_> {
    type Item = Vec<u64>;

    fn next(&mut self) -> Option<Vec<u64>> {
        let here = self.next.take()?;
        let mut after = here.clone();
        for axis in (0..after.len()).rev() {
            after[axis] += 1;
            if after[axis] < self.region.end[axis] {
                self.next = Some(after);
                break;
            }
            after[axis] = self.region.start[axis];
        }
        Some(here)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_run_in_c_order_and_empty_regions_have_none() {
        let region = Region { start: vec![1, 4], end: vec![3, 6] };
        let all: Vec<_> = region.positions().collect();
        assert_eq!(all, [[1, 4], [1, 5], [2, 4], [2, 5]]);
        let mut visited = Vec::new();
        region.for_each(|at| visited.push(at.to_vec()));
        assert_eq!(visited, all);
        Region { start: vec![1, 4], end: vec![3, 4] }.for_each(|_| unreachable!("it is empty"));
        Region { start: vec![], end: vec![] }.for_each(|at| visited.push(at.to_vec()));
        assert_eq!(visited.len(), 5, "of no axes there is one position");
        assert_eq!(Region { start: vec![1, 4], end: vec![3, 4] }.positions().count(), 0);
        assert_eq!(Region { start: vec![], end: vec![] }.positions().count(), 1, "a scalar has one position");
    }

    #[test]
    fn positions_can_be_taken_up_anywhere() {
        let region = Region { start: vec![1, 4, 0], end: vec![3, 6, 2] };
        let all: Vec<_> = region.positions().collect();
        for at in Region::whole(&[4, 7, 3]).positions() {
            let rest: Vec<_> = all.iter().filter(|one| **one >= at).cloned().collect();
            assert_eq!(region.positions_from(&at).collect::<Vec<_>>(), rest, "from {at:?}");
        }
        assert_eq!(Region { start: vec![], end: vec![] }.positions_from(&[]).count(), 1);
        assert_eq!(Region { start: vec![2], end: vec![2] }.positions_from(&[0]).count(), 0);
    }

    #[test]
    fn cells_cover_exactly_what_is_touched() {
        let region = Region { start: vec![5], end: vec![10] };
        assert_eq!(region.cells(&[5]), Region { start: vec![1], end: vec![2] });
        assert_eq!(region.cells(&[4]), Region { start: vec![1], end: vec![3] });
    }
}
