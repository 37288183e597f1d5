//! Runs a plan: decodes what a tile takes of its source chunks, and places it into pieces of virtual chunks.
//!
//! Source chunks are handled in groups along one axis, decoded into scratch one after the other and then placed
//! together: where the group runs along the fastest axis of the virtual chunks, each cache line of these is then
//! written once instead of once for each source chunk.

mod crew;
mod gather;
mod leaves;
mod place;
mod slots;
mod targets;

use crate::geometry::{LeafShare, Pieces, Region, Tiling};
use crate::source::SourceError;
pub use crew::{Crew, Threads};
pub use gather::{CopyAxis, copy_strided};
pub use leaves::{FromSource, Lay, Leaves};
use place::Decoded;
pub use slots::{Slot, Slots};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
pub use targets::{NOWHERE, OpenPiece, Targets};

/// Scratch in which a group of decoded source chunks waits to be placed, where one is smaller than that: within the
/// second-level cache of common machines when it counts, and enough for 16 epochs of a Blosc block each.
const GROUP_BYTES: u64 = 4 << 20;

/// Fill value that is copied at a time.
const FILL_BYTES: usize = 16 << 10;

/// Everything that building tiles of one array takes.
#[derive(Debug, Clone, Copy)]
pub struct Ground<'a> {
    /// Where the source chunks come from.
    pub leaves: &'a dyn Leaves,
    /// The array's tiles.
    pub tiling: &'a Tiling,
    /// The array's virtual chunks.
    pub pieces: &'a Pieces,
    /// One element of fill value.
    pub fill: &'a [u8],
    /// Scratch for the groups that are decoded at once.
    pub slots: &'a Slots,
    /// Who does it.
    pub threads: &'a dyn Threads,
    /// Adds up nanoseconds spent placing, over all threads.
    pub copy_ns: &'a AtomicU64,
}

/// Source data that could not be had, and the part of the array that it would have filled.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Array coordinates.
    pub region: Region,
    /// Why.
    pub error: Arc<SourceError>,
}

/// Most scratch that one group takes for source chunks of `leaf_bytes` each, where reading one takes `reading_bytes`
/// besides its result.
pub fn most_scratch_bytes(leaf_bytes: u64, reading_bytes: u64) -> u64 {
    GROUP_BYTES.max(leaf_bytes).saturating_add(reading_bytes)
}

/// Builds one tile: writes every element of the array that the tile holds into `targets`. Returns what could not be read;
/// the elements there hold anything.
pub fn build(ground: Ground<'_>, share: &LeafShare, targets: &Targets<'_>) -> Vec<Failure> {
    build_leaves(ground, share, std::slice::from_ref(&share.leaves), targets)
}

/// Likewise, but writes only what the tile has of some of its leaves: those in the regions `leaves`.
pub fn build_leaves(ground: Ground<'_>, share: &LeafShare, leaves: &[Region], targets: &Targets<'_>) -> Vec<Failure> {
    let groups = groups(ground, share, leaves);
    let failures = Mutex::new(Vec::new());
    ground.threads.for_each(groups.len(), &|nth| {
        let failed = build_group(ground, share, &groups[nth], targets);
        if !failed.is_empty() {
            lock(&failures).extend(failed);
        }
    });
    failures.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// A run of leaves along one axis that are placed together.
#[derive(Debug)]
struct Group {
    run: Run,
    /// Which of the groups it is, and how many there are.
    nth: u64,
    of: u64,
}

#[derive(Debug)]
struct Run {
    first_leaf: Vec<u64>,
    axis: usize,
    n_leaves: u64,
}

/// Leaves of a tile, those in the regions `leaves`, as groups.
fn groups(ground: Ground<'_>, share: &LeafShare, leaves: &[Region]) -> Vec<Group> {
    let runs: Vec<Run> = leaves.iter().flat_map(|leaves| runs(ground, share, leaves)).collect();
    let of = runs.len() as u64;
    (0..).zip(runs).map(|(nth, run)| Group { run, nth, of }).collect()
}

/// A box of leaves as runs. Only leaves of length 1 along the axis are grouped: their parts then differ in nothing but the
/// position on it.
fn runs(ground: Ground<'_>, share: &LeafShare, leaves: &Region) -> Vec<Run> {
    let extents = leaves.shape();
    let leaf_shape = ground.tiling.leaf_shape();
    let grouped = (0..extents.len()).rev().find(|&axis| leaf_shape[axis] == 1 && extents[axis] > 1);
    let Some(axis) = grouped else {
        let leaves = leaves.positions().map(|first_leaf| Run { first_leaf, axis: 0, n_leaves: 1 });
        return leaves.collect();
    };
    let (_, boxes) = ground.tiling.boxes(share, &leaves.start);
    let (low, high) = if boxes.is_empty() { (0, 1) } else { ground.tiling.hull(&boxes) };
    let part_bytes = ((high - low) * ground.fill.len() as u64).max(1);
    // As many groups for each thread, or the last ones keep one thread waiting.
    let threads = ground.threads.most() as u64;
    let n_groups = extents[axis].div_ceil((GROUP_BYTES / part_bytes).max(1)).next_multiple_of(threads);
    let most = extents[axis].div_ceil(n_groups);
    let mut heads = leaves.clone();
    heads.end[axis] = heads.start[axis] + extents[axis].div_ceil(most);
    heads
        .positions()
        .map(|mut first_leaf| {
            let nth = first_leaf[axis] - leaves.start[axis];
            first_leaf[axis] = leaves.start[axis] + nth * most;
            let n_leaves = most.min(leaves.end[axis] - first_leaf[axis]);
            Run { first_leaf, axis, n_leaves }
        })
        .collect()
}

fn build_group(ground: Ground<'_>, share: &LeafShare, group: &Group, targets: &Targets<'_>) -> Vec<Failure> {
    let run = &group.run;
    let (origin, boxes) = ground.tiling.boxes(share, &run.first_leaf);
    if boxes.is_empty() {
        return Vec::new();
    }
    let lay = ground.leaves.lay(ground.tiling, &boxes);
    let part_bytes = lay.n_elems as usize * ground.fill.len();
    let stride_bytes = scratch_stride(part_bytes);
    let scratch_bytes = stride_bytes as u64 * run.n_leaves + ground.leaves.scratch_bytes(part_bytes as u64);
    let group_bytes = stride_bytes * run.n_leaves as usize;
    let mut slot = ground.slots.take(scratch_bytes, group_bytes);
    let (scratch, workspace) = slot.parts();
    let scratch = &mut scratch[..group_bytes];
    let mut failures = Vec::new();
    for (nth, part) in scratch.chunks_exact_mut(stride_bytes).enumerate() {
        let part = &mut part[..part_bytes];
        let mut leaf = run.first_leaf.clone();
        // A scalar has one leaf and no axis.
        if nth > 0 {
            leaf[run.axis] += nth as u64;
        }
        crate::drill::at("decode");
        match ground.leaves.read(share, &leaf, &lay, workspace, part) {
            Ok(true) => {}
            Ok(false) => fill_with(part, ground.fill),
            Err(error) => {
                let region = Region::of_cell(&leaf, ground.tiling.leaf_shape());
                failures.push(Failure { region, error: Arc::new(error) });
            }
        }
    }
    let began = Instant::now();
    let decoded = Decoded { group, origin: &origin, lay: &lay, stride_bytes, bytes: scratch };
    for part in &boxes {
        let mut region = part.translated(&origin);
        if run.n_leaves > 1 {
            region.end[run.axis] = region.start[run.axis] + run.n_leaves;
        }
        decoded.place(ground.pieces, ground.fill.len(), &region, targets);
    }
    ground.copy_ns.fetch_add(began.elapsed().as_nanos() as u64, Relaxed);
    failures
}

/// Distance between the parts of a group in scratch. Parts are often a power of two long, and are then walked side by
/// side: at that distance all of them would compete for the same few lines of the processor's cache.
fn scratch_stride(part_bytes: usize) -> usize {
    const LINE_BYTES: usize = 64;
    if part_bytes < LINE_BYTES { part_bytes } else { part_bytes.next_multiple_of(LINE_BYTES) + LINE_BYTES }
}

/// Fills `bytes` (a whole number of elements) with the element `fill`.
pub fn fill_with(bytes: &mut [u8], fill: &[u8]) {
    match fill {
        [] => {}
        [first, rest @ ..] if rest.iter().all(|byte| byte == first) => bytes.fill(*first),
        _ => {
            // From itself, twice as much each time, up to what the first-level cache holds.
            let mut filled = fill.len().min(bytes.len());
            let most = (FILL_BYTES / fill.len()).max(1) * fill.len();
            bytes[..filled].copy_from_slice(&fill[..filled]);
            while filled < bytes.len() {
                let more = filled.min(most).min(bytes.len() - filled);
                bytes.copy_within(..more, filled);
                filled += more;
            }
        }
    }
}

/// A poisoned lock only says that another build panicked; its own read fails, the data here is overwritten or dropped.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_is_the_fill_value() {
        for (len, fill) in
            [(0, &[1, 2][..]), (1, &[7, 7]), (9, &[1, 2, 3]), (12_345, &[1, 2, 3, 4, 5]), (3, &[9; 20_000])]
        {
            let mut bytes = vec![0; len * fill.len()];
            fill_with(&mut bytes, fill);
            assert!(bytes.chunks_exact(fill.len()).all(|item| item == fill), "{len}");
        }
        fill_with(&mut [], &[]);
    }
}
