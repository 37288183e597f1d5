//! Two boxes of elements held against each other, a run at a time.

use crate::geometry::{Region, unravel};
use crate::materialize::encode::is_fill;

/// Differences that are told one by one.
pub(super) const MOST_TOLD: usize = 5;

/// The elements of one side.
#[derive(Debug, Clone, Copy)]
pub(super) enum Side<'a> {
    /// The first one at `first`, the others at `strides` from it; both count elements.
    Bytes { bytes: &'a [u8], first: u64, strides: &'a [u64] },
    /// All of them this one.
    Fill(&'a [u8]),
}

/// Where two boxes differ.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::materialize) struct Found {
    /// Elements.
    pub(in crate::materialize) count: u64,
    /// The first of them, in C order.
    pub(super) first: Vec<Unequal>,
}

/// An element that is not the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Unequal {
    pub(super) at: Vec<u64>,
    pub(super) ours: Vec<u8>,
    pub(super) theirs: Vec<u8>,
}

impl<'a> Side<'a> {
    /// Whether elements along `axis` lie `distance` apart.
    fn is_spaced(&self, axis: usize, distance: u64) -> bool {
        match self {
            Side::Bytes { strides, .. } => strides[axis] == distance,
            Side::Fill(_) => true,
        }
    }

    /// `run` elements that follow each other from `outer` on; one of them stands for all where all are the same.
    fn run(&self, outer: &[u64], run: u64, item_bytes: usize) -> Side<'a> {
        match *self {
            Side::Fill(fill) => Side::Fill(fill),
            Side::Bytes { bytes, first, strides } => {
                let at = outer.iter().zip(strides).fold(first, |at, (idx, stride)| at + idx * stride) as usize;
                let bytes = &bytes[at * item_bytes..(at + run as usize) * item_bytes];
                Side::Bytes { bytes, first: 0, strides: &[] }
            }
        }
    }

    /// Element `nth` of a run.
    fn item(&self, nth: usize, item_bytes: usize) -> &'a [u8] {
        match *self {
            Side::Fill(fill) => fill,
            Side::Bytes { bytes, .. } => &bytes[nth * item_bytes..(nth + 1) * item_bytes],
        }
    }
}

/// Whether two runs are the same, bit for bit.
fn is_same(ours: Side<'_>, theirs: Side<'_>) -> bool {
    match (ours, theirs) {
        (Side::Bytes { bytes: ours, .. }, Side::Bytes { bytes: theirs, .. }) => ours == theirs,
        (Side::Bytes { bytes, .. }, Side::Fill(fill)) | (Side::Fill(fill), Side::Bytes { bytes, .. }) => {
            is_fill(bytes, fill)
        }
        (Side::Fill(ours), Side::Fill(theirs)) => ours == theirs,
    }
}

/// Where the elements of `region` (array coordinates), `item_bytes` each, are not the same on both sides.
pub(super) fn differences(region: &Region, item_bytes: usize, ours: Side<'_>, theirs: Side<'_>) -> Found {
    let mut found = Found::default();
    if region.is_empty() {
        return found;
    }
    let shape = region.shape();
    // The fastest axes, as far as both sides have them without gaps.
    let (mut n_outer, mut run) = (shape.len(), 1);
    while let Some(axis) = n_outer.checked_sub(1)
        && (shape[axis] == 1 || (ours.is_spaced(axis, run) && theirs.is_spaced(axis, run)))
    {
        run *= shape[axis];
        n_outer = axis;
    }
    Region::whole(&shape[..n_outer]).for_each(|outer| {
        let (ours, theirs) = (ours.run(outer, run, item_bytes), theirs.run(outer, run, item_bytes));
        if is_same(ours, theirs) {
            return;
        }
        for nth in 0..run as usize {
            let (ours, theirs) = (ours.item(nth, item_bytes), theirs.item(nth, item_bytes));
            if ours == theirs {
                continue;
            }
            found.count += 1;
            if found.first.len() < MOST_TOLD {
                let within = outer.iter().copied().chain(unravel(nth as u64, &shape[n_outer..]));
                let at = region.start.iter().zip(within).map(|(start, idx)| start + idx).collect();
                found.first.push(Unequal { at, ours: ours.to_vec(), theirs: theirs.to_vec() });
            }
        }
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_whatever_the_strides() {
        let region = Region { start: vec![10, 20, 30], end: vec![12, 23, 34] };
        let ours: Vec<u8> = (0..24).collect();
        // The same elements with the axes the other way round, one of them changed.
        let mut theirs = vec![0; 24];
        Region::whole(&[2, 3, 4]).for_each(|at| {
            theirs[(at[2] * 6 + at[1] * 2 + at[0]) as usize] = (at[0] * 12 + at[1] * 4 + at[2]) as u8;
        });
        let c_order = Side::Bytes { bytes: &ours, first: 0, strides: &[12, 4, 1] };
        let check = |theirs: &[u8]| {
            let turned = Side::Bytes { bytes: theirs, first: 0, strides: &[1, 2, 6] };
            differences(&region, 1, c_order, turned)
        };
        assert_eq!(check(&theirs), Found::default());
        theirs[2 * 6 + 2 + 1] = 99;
        let expected = Unequal { at: vec![11, 21, 32], ours: vec![18], theirs: vec![99] };
        assert_eq!(check(&theirs), Found { count: 1, first: vec![expected] });
    }

    #[test]
    fn fill_value_stands_for_every_element() {
        let region = Region { start: vec![0, 5], end: vec![2, 8] };
        let bytes = [7, 7, 7, 7, 7, 8];
        let ours = Side::Bytes { bytes: &bytes, first: 0, strides: &[3, 1] };
        let found = differences(&region, 1, ours, Side::Fill(&[7]));
        assert_eq!((found.count, found.first[0].at.as_slice()), (1, &[1, 7][..]));
        let found = differences(&region, 1, Side::Fill(&[6]), Side::Fill(&[7]));
        assert_eq!((found.count, found.first.len(), found.first[4].at.as_slice()), (6, MOST_TOLD, &[1, 6][..]));
        assert_eq!(differences(&region, 1, Side::Fill(&[7]), Side::Fill(&[7])), Found::default());
        assert_eq!(differences(&Region::whole(&[]), 1, Side::Fill(&[6]), Side::Fill(&[7])).count, 1, "a scalar");
        assert_eq!(differences(&Region::whole(&[3, 0]), 1, Side::Fill(&[6]), Side::Fill(&[7])).count, 0);
    }
}
