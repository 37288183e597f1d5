//! In which order target files are dealt out, and where the order is cut.
//!
//! Files lie together that draw on the same source chunks, so that a share, a run of them, decodes few source chunks that
//! others decode, too. All of it follows from shapes, codecs and the number of shares: every machine comes to the same.

use super::Share;
use crate::geometry::{Region, n_elems, ravel};
use crate::materialize::array::ArrayCopy;
use crate::zarr::{Encoding, SourceArray};
use std::ops::Range;

/// A group of files is cut only where it is more than this part of a share: else whole groups are even enough.
const GROUPS_PER_SHARE: u128 = 8;

/// The target files of an array, in groups: one for each source chunk, of the files that begin in it.
#[derive(Debug, Clone)]
pub(crate) struct FileOrder {
    /// Source chunk and target file, elements.
    leaf_shape: Vec<u64>,
    file_shape: Vec<u64>,
    /// Files along each axis.
    grid: Vec<u64>,
    /// The axes in the order of files within a group, slowest first.
    axes: Vec<usize>,
    /// Decoded bytes of the array.
    bytes: u64,
}

impl FileOrder {
    pub(crate) fn of(array: &ArrayCopy) -> Self {
        let source = array.source();
        let (leaf_shape, file_shape) = (source.leaf_shape.clone(), array.file_shape.clone());
        let axes = if can_be_entered(source) {
            source.order()
        } else {
            // Tiles are lengthened along the axis with most files per source chunk first: there files stay together.
            let mut axes: Vec<usize> = (0..leaf_shape.len()).rev().collect();
            axes.sort_by_key(|&a| leaf_shape[a] / file_shape[a].max(1));
            axes
        };
        FileOrder { leaf_shape, file_shape, grid: array.file_grid.clone(), axes, bytes: array.array_bytes() }
    }

    /// Number of files.
    pub(crate) fn n_files(&self) -> u64 {
        n_elems(&self.grid).unwrap_or(u64::MAX)
    }

    /// Files along `axis` that are in one group with file `at` there.
    fn group_along(&self, axis: usize, at: u64) -> Range<u64> {
        let (leaf, file) = (u128::from(self.leaf_shape[axis].max(1)), u128::from(self.file_shape[axis].max(1)));
        let group = u128::from(at) * file / leaf;
        let border = |group: u128| ((group * leaf).div_ceil(file)).min(u128::from(self.grid[axis])) as u64;
        border(group)..border(group + 1)
    }

    /// The group, as a box of files, of the file at `position`; and how many files of the group come before it.
    fn group_of(&self, position: u64) -> (Region, u64) {
        let rank = self.grid.len();
        let (mut start, mut end) = (Vec::with_capacity(rank), Vec::with_capacity(rank));
        // Groups lie in C order: before this one lie whole layers of files on each axis, as wide on slower axes as it is.
        let (mut rest, mut width) = (position, 1);
        for axis in 0..rank {
            let layer: u64 = width * self.grid[axis + 1..].iter().product::<u64>();
            let along = self.group_along(axis, rest / layer);
            rest -= along.start * layer;
            width *= along.end - along.start;
            start.push(along.start);
            end.push(along.end);
        }
        (Region { start, end }, rest)
    }

    /// The number of the file at `position`.
    pub(crate) fn file_at(&self, position: u64) -> u64 {
        let (group, mut rest) = self.group_of(position);
        let mut file = group.start.clone();
        for &axis in self.axes.iter().rev() {
            let len = group.end[axis] - group.start[axis];
            file[axis] += rest % len;
            rest /= len;
        }
        ravel(&file, &self.grid)
    }

    /// A box of files that holds all of `run`.
    fn hull(&self, run: &Range<u64>) -> Region {
        let (first, before) = self.group_of(run.start);
        let (last, last_before) = self.group_of(run.end - 1);
        if first != last {
            return c_order_hull(&first, &last, &self.grid);
        }
        // Part of one group, in which the axes have an order of their own.
        let lens: Vec<u64> = self.axes.iter().map(|&axis| first.end[axis] - first.start[axis]).collect();
        let (from, to) = (crate::geometry::unravel(before, &lens), crate::geometry::unravel(last_before, &lens));
        let cell = |at: &[u64]| Region { start: at.to_vec(), end: at.iter().map(|at| at + 1).collect() };
        let part = c_order_hull(&cell(&from), &cell(&to), &lens);
        let mut hull = first;
        for (nth, &axis) in self.axes.iter().enumerate() {
            let origin = hull.start[axis];
            (hull.start[axis], hull.end[axis]) = (origin + part.start[nth], origin + part.end[nth]);
        }
        hull
    }

    /// How many source chunks the files of `run` draw on, at most: whole rows of them where the run breaks within one.
    pub(crate) fn n_leaves(&self, run: &Range<u64>, shape: &[u64]) -> u64 {
        if run.is_empty() {
            return 0;
        }
        let hull = self.hull(run);
        let region = Region {
            start: hull.start.iter().zip(&self.file_shape).map(|(at, file)| at * file).collect(),
            end: hull.end.iter().zip(&self.file_shape).map(|(at, file)| at.saturating_mul(*file)).collect(),
        };
        region.clipped(shape).cells(&self.leaf_shape).n_elems()
    }

    /// Where the order is cut at byte `at` of the array.
    fn cut(&self, at: u128, share_bytes: u128) -> u64 {
        let (n_files, bytes) = (u128::from(self.n_files()), u128::from(self.bytes.max(1)));
        let position = (at * n_files).div_ceil(bytes).min(n_files) as u64;
        if position == self.n_files() {
            return position;
        }
        let (group, before) = self.group_of(position);
        let group_bytes = u128::from(group.n_elems()) * bytes / n_files.max(1);
        if group_bytes * GROUPS_PER_SHARE <= share_bytes { position - before } else { position }
    }
}

/// The smallest box that holds all from `first` to `last` in C order.
fn c_order_hull(first: &Region, last: &Region, grid: &[u64]) -> Region {
    let mut hull = first.clone();
    for axis in 0..grid.len() {
        hull.end[axis] = last.end[axis];
        if first.start[axis] != last.start[axis] {
            hull.start[axis + 1..].fill(0);
            hull.end[axis + 1..].copy_from_slice(&grid[axis + 1..]);
            break;
        }
    }
    hull
}

/// What `share` makes of each array: a run of positions in its order. Arrays lie one behind the other, and are cut as one.
pub(crate) fn runs_of(orders: &[FileOrder], share: Share) -> Vec<Range<u64>> {
    let total: u128 = orders.iter().map(|order| u128::from(order.bytes)).sum();
    let border = |number: u64| total * u128::from(number) / u128::from(share.of());
    let (from, to) = (border(share.number() - 1), border(share.number()));
    let share_bytes = total / u128::from(share.of());
    let mut before: u128 = 0;
    let mut runs = Vec::with_capacity(orders.len());
    for order in orders {
        let within = |at: u128| order.cut(at.saturating_sub(before).min(u128::from(order.bytes)), share_bytes);
        runs.push(within(from)..within(to));
        before += u128::from(order.bytes);
    }
    runs
}

/// Whether chunks of `source` can be decoded from their middle on.
fn can_be_entered(source: &SourceArray) -> bool {
    let is_blosc = |codec: &String| {
        let document: Option<serde_json::Value> = serde_json::from_str(codec).ok();
        document.is_some_and(|document| document["name"] == "blosc")
    };
    match &source.encoding {
        Encoding::Linear { bytes_to_bytes, .. } => bytes_to_bytes.len() <= 1 && bytes_to_bytes.iter().all(is_blosc),
        Encoding::Opaque { .. } | Encoding::Variable { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn order() -> impl Strategy<Value = FileOrder> {
        let axis = (0u64..40, 1u64..12, 1u64..12);
        (prop::collection::vec(axis, 0..4), any::<bool>(), 1u64..9).prop_map(|(axes, turned, item_bytes)| {
            let shape: Vec<u64> = axes.iter().map(|axis| axis.0).collect();
            let mut order: Vec<usize> = (0..axes.len()).collect();
            if turned {
                order.reverse();
            }
            FileOrder {
                leaf_shape: axes.iter().map(|axis| axis.1).collect(),
                file_shape: axes.iter().map(|axis| axis.2).collect(),
                grid: axes.iter().map(|axis| axis.0.div_ceil(axis.2)).collect(),
                axes: order,
                bytes: shape.iter().product::<u64>() * item_bytes,
            }
        })
    }

    proptest! {
        #[test]
        fn shares_are_disjoint_even_and_all_there_is(orders in prop::collection::vec(order(), 1..4), n in 1u64..20) {
            let mut seen: Vec<Vec<u64>> = orders.iter().map(|order| vec![0; order.n_files() as usize]).collect();
            let total: u64 = orders.iter().map(|order| order.bytes).sum();
            // What is not cut: a file, or a group that is small against a share; at both ends.
            let grain = |order: &FileOrder| match order.n_files() {
                0 => 0.0,
                n_files => {
                    let file = order.bytes as f64 / n_files as f64;
                    let groups = (0..n_files).map(|position| order.group_of(position).0.n_elems());
                    let group = file * groups.max().unwrap_or(0) as f64;
                    file.max(group.min(total as f64 / n as f64 / GROUPS_PER_SHARE as f64))
                }
            };
            let grain = orders.iter().map(grain).fold(0.0, f64::max);
            for number in 1..=n {
                let share = Share::new(number, n).expect("a share");
                let runs = runs_of(&orders, share);
                prop_assert_eq!(&runs, &runs_of(&orders, share));
                let mut bytes = 0.0;
                for ((run, order), seen) in runs.iter().zip(&orders).zip(&mut seen) {
                    run.clone().for_each(|position| seen[order.file_at(position) as usize] += 1);
                    bytes += (run.end - run.start) as f64 * order.bytes as f64 / order.n_files().max(1) as f64;
                }
                prop_assert!((bytes - total as f64 / n as f64).abs() <= 2.0 * grain + 1e-6, "{} of {}", bytes, total);
            }
            prop_assert!(seen.iter().flatten().all(|&times| times == 1));
        }

        #[test]
        fn files_of_a_group_follow_each_other_and_a_hull_holds_its_run(order in order(), ends in any::<[u16; 2]>()) {
            let n_files = order.n_files();
            for position in 0..n_files {
                let (group, before) = order.group_of(position);
                prop_assert!(before <= position && before < group.n_elems());
                prop_assert_eq!(order.group_of(position - before), (group.clone(), 0));
                prop_assert!(group.contains(&crate::geometry::unravel(order.file_at(position), &order.grid)));
            }
            let at = |end: u16| u64::from(end) % (n_files + 1);
            let run = at(ends[0]).min(at(ends[1]))..at(ends[0]).max(at(ends[1]));
            if !run.is_empty() {
                let hull = order.hull(&run);
                for position in run {
                    prop_assert!(hull.contains(&crate::geometry::unravel(order.file_at(position), &order.grid)));
                }
            }
        }
    }

    #[test]
    fn shares_keep_to_source_chunks_where_these_are_many() {
        // 100 source chunks with 10 files each, four shares: each source chunk is of one share.
        let order = FileOrder {
            leaf_shape: vec![10, 10],
            file_shape: vec![1, 10],
            grid: vec![100, 10],
            axes: vec![0, 1],
            bytes: 10_000,
        };
        for number in 1..=4 {
            let runs = runs_of(std::slice::from_ref(&order), Share::new(number, 4).expect("a share"));
            assert_eq!((runs[0].start, runs[0].end), (250 * (number - 1), 250 * number));
        }
    }
}
