//! Places a decoded group of source chunks: as few calls of the copy kernel as there are runs of equal pieces.

use super::targets::{Target, Targets};
use super::{CopyAxis, Group, Lay, copy_strided, lock};
use crate::geometry::{CutRun, Pieces, Region};

/// Decoded source chunks in scratch, and what they are of.
#[derive(Debug)]
pub(super) struct Decoded<'a> {
    pub(super) group: &'a Group,
    /// Array position of the first chunk's first element.
    pub(super) origin: &'a [u64],
    pub(super) lay: &'a Lay,
    /// From one chunk to the next.
    pub(super) stride_bytes: usize,
    pub(super) bytes: &'a [u8],
}

/// Pieces that are equal but for their position: along each axis a run, of which each has the same part of the region.
struct Block<'a> {
    runs: Vec<&'a CutRun>,
    /// Of the elements of a part.
    axes: Vec<CopyAxis>,
    /// Where the first piece's part begins in the source, and in the piece.
    from: usize,
    to: usize,
}

impl Decoded<'_> {
    /// Places `region` (array coordinates) into every piece of the hull that it touches.
    ///
    /// Threads that place at the same time begin at different pieces, and come back to where another one is at work: to wait
    /// for it would take longer than to write there.
    pub(super) fn place(&self, pieces: &Pieces, item_bytes: usize, region: &Region, targets: &Targets<'_>) {
        let mut strides: Vec<usize> = self.lay.strides.iter().map(|&stride| stride as usize * item_bytes).collect();
        if self.group.run.n_leaves > 1 {
            strides[self.group.run.axis] = self.stride_bytes;
        }
        let hull = targets.hull;
        if hull.is_empty() {
            return;
        }
        let runs: Vec<Vec<CutRun>> = (0..region.rank())
            .map(|axis| {
                let (low, _) = pieces.interval(axis, hull.start[axis]);
                let (_, high) = pieces.interval(axis, hull.end[axis] - 1);
                pieces.runs(axis, region.start[axis].max(low), region.end[axis].min(high))
            })
            .collect();
        let n_runs: Vec<u64> = runs.iter().map(|runs| runs.len() as u64).collect();
        Region::whole(&n_runs).for_each(|nth| {
            let runs = nth.iter().zip(&runs).map(|(&nth, runs)| &runs[nth as usize]).collect();
            let block = self.block(runs, &strides, item_bytes);
            self.place_block(block, &strides, item_bytes, targets);
        });
    }

    fn block<'r>(&self, runs: Vec<&'r CutRun>, strides: &[usize], item_bytes: usize) -> Block<'r> {
        let mut axes = vec![CopyAxis { n: 1, source: 0, target: 0 }; runs.len()];
        let (mut from, mut to, mut target_stride) = (0, 0, item_bytes);
        for axis in (0..runs.len()).rev() {
            let run = runs[axis];
            from += (run.at - self.origin[axis]) as usize * strides[axis];
            to += run.part_start as usize * target_stride;
            axes[axis] = CopyAxis { n: run.part_len as usize, source: strides[axis], target: target_stride };
            target_stride *= run.len as usize;
        }
        Block { runs, axes, from: from - self.lay.first_elem as usize * item_bytes, to }
    }

    fn place_block(&self, block: Block<'_>, strides: &[usize], item_bytes: usize, targets: &Targets<'_>) {
        let Block { runs, axes, from, to } = block;
        let hull_shape = targets.hull.shape();
        let rank = runs.len();
        let piece_bytes = |axis: usize| runs[axis].len as usize * strides[axis];
        // Along the axis with the most pieces they are placed together; a scalar is one piece, and has no axis.
        let together = (0..rank).max_by_key(|&axis| runs[axis].n);
        let (n, step, step_bytes) = together.map_or((1, 1, 0), |axis| {
            (runs[axis].n, hull_shape[axis + 1..].iter().product::<u64>(), piece_bytes(axis))
        });
        let others: Vec<u64> = (0..rank).map(|axis| if Some(axis) == together { 1 } else { runs[axis].n }).collect();
        let begin = n * self.group.nth / self.group.of.max(1);
        let mut axes_with_pieces = [&axes[..], &[CopyAxis { n: 1, source: 0, target: 0 }]].concat();
        let mut copy = |waits, from, start, pieces| {
            axes_with_pieces[rank] = pieces;
            targets.with_band(start, waits, |bytes, at| {
                copy_strided(self.bytes, from, bytes, at + to, &axes_with_pieces, item_bytes);
            })
        };
        let mut later = Vec::new();
        Region::whole(&others).for_each(|at| {
            let piece = |axis: usize| runs[axis].first + at[axis] - targets.hull.start[axis];
            let nth = (0..rank).fold(0, |nth, axis| nth * hull_shape[axis] + piece(axis));
            let from = from + (0..rank).map(|axis| at[axis] as usize * piece_bytes(axis)).sum::<usize>();
            for (start, end) in [(begin, n), (0, begin)] {
                let mut i = start;
                while i < end {
                    let from = from + i as usize * step_bytes;
                    match targets.of(nth + i * step, step, end - i) {
                        Target::Tile { n, start, distance } => {
                            let pieces = CopyAxis { n: n as usize, source: step_bytes, target: distance as usize };
                            if !copy(false, from, start, pieces) {
                                later.push((from, start, pieces));
                            }
                            i += n;
                        }
                        Target::Open(piece) => {
                            if let Some(bytes) = lock(piece).as_mut() {
                                copy_strided(self.bytes, from, bytes, to, &axes, item_bytes);
                            }
                            i += 1;
                        }
                        Target::Nowhere => i += 1,
                    }
                }
            }
        });
        for (from, start, pieces) in later {
            copy(true, from, start, pieces);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::{c_strides, n_elems, ravel};
    use crate::synthesis::{NOWHERE, OpenPiece, Run};
    use proptest::prelude::*;
    use std::sync::Mutex;

    const UNTOUCHED: u8 = 0xee;

    /// A case: an array cut into pieces, and a region of it that has been decoded.
    #[derive(Debug, Clone)]
    struct Case {
        shape: Vec<u64>,
        chunk_shape: Vec<u64>,
        max_piece_bytes: u64,
        item_bytes: usize,
        region: Region,
        /// The axis along which leaves of length 1 are grouped.
        grouped: Option<usize>,
        /// Where the group stands among others.
        nth: u64,
        /// What becomes of pieces, by turns: in the tile, shared, or not wanted.
        fates: Vec<u8>,
    }

    fn cases() -> impl Strategy<Value = Case> {
        let axis = (1u64..14).prop_flat_map(|len| (Just(len), 1..=len + 2, 0..len, any::<prop::sample::Index>()));
        let axes = prop::collection::vec(axis, 1..4);
        let items = prop::sample::select(vec![1usize, 3, 4, 8]);
        let fates = prop::collection::vec(prop::sample::select(vec![0u8, 0, 0, 0, 1, 2]), 1..9);
        (axes, 1u64..200, items, prop::option::of(0usize..3), 0u64..4, fates).prop_map(
            |(axes, max_piece_bytes, item_bytes, grouped, nth, fates)| {
                let start: Vec<u64> = axes.iter().map(|axis| axis.2).collect();
                let end =
                    axes.iter().map(|axis| axis.2 + 1 + axis.3.index((axis.0 - axis.2) as usize) as u64).collect();
                Case {
                    shape: axes.iter().map(|axis| axis.0).collect(),
                    chunk_shape: axes.iter().map(|axis| axis.1).collect(),
                    max_piece_bytes,
                    item_bytes,
                    region: Region { start, end },
                    grouped: grouped.filter(|&axis| axis < axes.len()),
                    nth,
                    fates,
                }
            },
        )
    }

    /// Different for each position, and in each of its bytes.
    fn element(at: &[u64], shape: &[u64], item_bytes: usize) -> Vec<u8> {
        (0..item_bytes).map(|byte| (ravel(at, shape) * 7 + byte as u64 * 31) as u8 % 251).collect()
    }

    fn check(case: &Case) {
        let Case { shape, chunk_shape, item_bytes, region, .. } = case;
        let item_bytes = *item_bytes;
        let pieces = Pieces::new(shape, shape, chunk_shape, item_bytes as u64, case.max_piece_bytes).expect("small");
        let hull = pieces.touched(&Region::whole(shape));
        let fate = |nth: usize| case.fates[nth % case.fates.len()];
        let len = |at: &[u64]| pieces.region_bytes(&pieces.piece_region_at(at)) as usize;
        let (mut n_bytes, mut starts, mut shared) = (0, Vec::new(), Vec::new());
        for (nth, at) in hull.positions().enumerate() {
            starts.push(if fate(nth) == 0 { n_bytes } else { NOWHERE });
            n_bytes += if fate(nth) == 0 { len(&at) as u64 } else { 0 };
            if fate(nth) == 1 {
                let piece: OpenPiece = Mutex::new(Some(vec![UNTOUCHED; len(&at)].into()));
                shared.push((nth as u64, piece));
            }
        }
        // What the reader would have left: each leaf for itself, or the region as a whole.
        let mut leaf_shape = region.shape();
        let n_leaves = case.grouped.map_or(1, |axis| std::mem::replace(&mut leaf_shape[axis], 1));
        let leaf_bytes = n_elems(&leaf_shape).expect("small") as usize * item_bytes;
        let stride_bytes = leaf_bytes + 5;
        let mut bytes = vec![0; stride_bytes * n_leaves as usize];
        let strides = c_strides(&leaf_shape);
        region.for_each(|at| {
            let mut within: Vec<u64> = at.iter().zip(&region.start).map(|(at, start)| at - start).collect();
            let leaf = case.grouped.map_or(0, |axis| std::mem::take(&mut within[axis]));
            let elem: u64 = within.iter().zip(&strides).map(|(at, stride)| at * stride).sum();
            let from = leaf as usize * stride_bytes + elem as usize * item_bytes;
            bytes[from..from + item_bytes].copy_from_slice(&element(at, shape, item_bytes));
        });
        let axis = case.grouped.unwrap_or(0);
        let group = Group { run: Run { first_leaf: Vec::new(), axis, n_leaves }, nth: case.nth, of: 4 };
        let lay = Lay { strides, first_elem: 0, n_elems: (leaf_bytes / item_bytes) as u64 };
        let decoded = Decoded { group: &group, origin: &region.start, lay: &lay, stride_bytes, bytes: &bytes };

        let mut tile = vec![UNTOUCHED; n_bytes as usize];
        let seams = shared.iter().map(|(nth, piece)| (*nth, piece)).collect();
        let padding = vec![UNTOUCHED; item_bytes];
        let targets = Targets::new(&pieces, &padding, &hull, &starts, &mut tile, seams);
        decoded.place(&pieces, item_bytes, region, &targets);
        drop(targets);

        for (nth, at) in hull.positions().enumerate() {
            let piece = pieces.piece_region_at(&at);
            let mut truth = Vec::new();
            piece.for_each(|at| {
                let is_placed = (0..at.len()).all(|axis| (region.start[axis]..region.end[axis]).contains(&at[axis]));
                truth.extend(if is_placed { element(at, shape, item_bytes) } else { vec![UNTOUCHED; item_bytes] });
            });
            match fate(nth) {
                0 => assert_eq!(tile[starts[nth] as usize..][..truth.len()], truth, "piece {at:?}"),
                1 => {
                    let (_, piece) = shared.iter().find(|(shared, _)| *shared == nth as u64).expect("shared");
                    assert_eq!(lock(piece).as_deref(), Some(&truth[..]), "piece {at:?}");
                }
                _ => {}
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

        #[test]
        fn every_element_lands_in_its_piece_and_nothing_else_is_touched(case in cases()) {
            check(&case);
        }
    }

    #[test]
    fn pieces_of_many_bands_are_placed() {
        check(&Case {
            shape: vec![400, 100, 2],
            chunk_shape: vec![1, 100, 2],
            max_piece_bytes: 1 << 20,
            item_bytes: 4,
            region: Region { start: vec![0, 50, 0], end: vec![400, 100, 2] },
            grouped: Some(1),
            nth: 1,
            fates: vec![0],
        });
    }
}
