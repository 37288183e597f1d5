//! The order in which a source chunk's elements are encoded, and linear ranges of it.

use super::{Region, c_strides};

/// C order over the axes `order` of a chunk of `shape`: the order after any transpose codec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedOrder {
    /// `order[k]` is the array axis that is k-th slowest.
    order: Vec<usize>,
    /// Chunk extents in that order.
    ordered_shape: Vec<u64>,
    /// Element stride of each *array* axis.
    strides: Vec<u64>,
    n_elems: u64,
}

impl EncodedOrder {
    /// `shape` in array axes; `order` a permutation of them.
    pub fn new(shape: &[u64], order: &[usize]) -> Self {
        let ordered_shape: Vec<u64> = order.iter().map(|&axis| shape[axis]).collect();
        let ordered_strides = c_strides(&ordered_shape);
        let mut strides = vec![0; shape.len()];
        for (k, &axis) in order.iter().enumerate() {
            strides[axis] = ordered_strides[k];
        }
        let n_elems = ordered_shape.iter().fold(1u64, |n, &len| n.saturating_mul(len));
        EncodedOrder { order: order.to_vec(), ordered_shape, strides, n_elems }
    }

    /// Elements in a chunk.
    pub fn n_elems(&self) -> u64 {
        self.n_elems
    }

    /// Element stride of each array axis in the encoded stream.
    pub fn strides(&self) -> &[u64] {
        &self.strides
    }

    /// The array axis that varies slowest in the encoded stream, of those longer than 1.
    pub fn slowest_axis(&self) -> Option<usize> {
        self.order.iter().zip(&self.ordered_shape).find(|(_, len)| **len > 1).map(|(&axis, _)| axis)
    }

    /// First and one past the last encoded position of a non-empty region (chunk coordinates).
    pub fn hull(&self, local: &Region) -> (u64, u64) {
        let at =
            |side: &dyn Fn(usize) -> u64| (0..local.rank()).map(|axis| side(axis) * self.strides[axis]).sum::<u64>();
        (at(&|axis| local.start[axis]), at(&|axis| local.end[axis] - 1) + 1)
    }

    /// The linear range `start..end` as boxes in chunk coordinates: at most `2 * rank - 1` of them.
    pub fn boxes(&self, start: u64, end: u64) -> Vec<Region> {
        let mut boxes = Vec::new();
        self.split(0, start, end.min(self.n_elems), &mut Vec::new(), &mut boxes);
        boxes
    }

    /// Decomposes a range of the sub-array below the fixed leading indices `prefix` (encoded axis order).
    fn split(&self, depth: usize, start: u64, end: u64, prefix: &mut Vec<u64>, boxes: &mut Vec<Region>) {
        if start >= end {
            return;
        }
        let row_elems: u64 = self.ordered_shape.get(depth + 1..).map_or(1, |rest| rest.iter().product());
        if depth == self.ordered_shape.len() {
            return boxes.push(self.region(prefix, None));
        }
        let (first, last) = (start / row_elems, (end - 1) / row_elems);
        let (head, tail) = (start % row_elems, (end - 1) % row_elems + 1);
        if first == last {
            prefix.push(first);
            if head == 0 && tail == row_elems {
                boxes.push(self.region(prefix, None));
            } else {
                self.split(depth + 1, head, tail, prefix, boxes);
            }
            prefix.pop();
            return;
        }
        let mut whole = (first, last + 1);
        if head != 0 {
            prefix.push(first);
            self.split(depth + 1, head, row_elems, prefix, boxes);
            prefix.pop();
            whole.0 += 1;
        }
        if tail != row_elems {
            whole.1 -= 1;
        }
        if whole.0 < whole.1 {
            boxes.push(self.region(prefix, Some(whole)));
        }
        if tail != row_elems {
            prefix.push(last);
            self.split(depth + 1, 0, tail, prefix, boxes);
            prefix.pop();
        }
    }

    /// The box with the leading indices `prefix`, then `rows` on the next axis, then all of the rest.
    fn region(&self, prefix: &[u64], rows: Option<(u64, u64)>) -> Region {
        let mut region = Region { start: vec![0; self.order.len()], end: vec![0; self.order.len()] };
        for (k, &axis) in self.order.iter().enumerate() {
            let (start, end) = match (prefix.get(k), rows) {
                (Some(&at), _) => (at, at + 1),
                (None, Some(rows)) if k == prefix.len() => rows,
                _ => (0, self.ordered_shape[k]),
            };
            region.start[axis] = start;
            region.end[axis] = end;
        }
        region
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_cover_a_linear_range_once() {
        let shape = [3, 4, 5];
        for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
            let encoded = EncodedOrder::new(&shape, &order);
            for start in 0..60 {
                for end in start..=60 {
                    let boxes = encoded.boxes(start, end);
                    assert!(boxes.len() <= 5);
                    let mut seen: Vec<u64> = boxes
                        .iter()
                        .flat_map(|b| {
                            b.positions()
                                .map(|p| p.iter().zip(encoded.strides()).map(|(a, s)| a * s).sum())
                                .collect::<Vec<u64>>()
                        })
                        .collect();
                    seen.sort_unstable();
                    assert_eq!(seen, (start..end).collect::<Vec<_>>());
                }
            }
        }
    }
}
