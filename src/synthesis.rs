//! Runs a plan: decodes what a tile takes of its source chunks, and places it into pieces of virtual chunks.
//!
//! Source chunks are handled in groups along one axis, decoded into scratch one after the other and then placed
//! together: where the group runs along the fastest axis of the virtual chunks, each cache line of these is then
//! written once instead of once for each source chunk.

mod gather;
mod leaves;

use crate::geometry::{LeafShare, Pieces, Region, Tiling};
use crate::source::SourceError;
pub use gather::{CopyAxis, copy_strided};
pub use leaves::{FromSource, Lay, Leaves};
use rayon::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

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
    /// Adds up nanoseconds spent placing, over all threads.
    pub copy_ns: &'a AtomicU64,
}

/// Where the bytes of one piece go.
#[derive(Debug)]
pub enum Target<'a> {
    /// Into this part of a tile.
    Tile(Mutex<&'a mut [u8]>),
    /// Into a seam, that several tiles fill.
    Seam(&'a Mutex<Option<Box<[u8]>>>),
}

/// Source data that could not be had, and the part of the array that it would have filled.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Array coordinates.
    pub region: Region,
    /// Why.
    pub error: Arc<SourceError>,
}

/// Scratch memory, set aside when the view is opened. Whoever holds some only decodes and places, and never waits.
#[derive(Debug)]
pub struct Slots {
    total_bytes: u64,
    free: Mutex<Free>,
    freed: Condvar,
}

#[derive(Debug)]
struct Free {
    bytes: u64,
    /// Used before, and used again: fresh memory costs about as much as what is decoded into it. Part of `bytes`.
    buffers: Vec<Vec<u8>>,
}

impl Slots {
    /// `total_bytes` of scratch; must be enough for the largest group ([`most_scratch_bytes`]).
    pub fn new(total_bytes: u64) -> Self {
        let free = Free { bytes: total_bytes, buffers: Vec::new() };
        Slots { total_bytes, free: Mutex::new(free), freed: Condvar::new() }
    }

    /// Runs `work` with a buffer of `len` bytes of scratch, with anything in it, and the right to `more` bytes besides.
    pub fn with<T>(&self, len: usize, more: u64, work: impl FnOnce(&mut [u8]) -> T) -> T {
        let mut slot = self.take((len as u64).saturating_add(more), len);
        work(&mut slot.buffer[..len])
    }

    /// Waits for `bytes` of scratch, of which the first `buffer_len` are a buffer with anything in it.
    pub fn take(&self, bytes: u64, buffer_len: usize) -> Slot<'_> {
        let bytes = bytes.min(self.total_bytes);
        let mut free = lock(&self.free);
        while free.bytes < bytes {
            free = self.freed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        free.bytes -= bytes;
        let mut buffer = free.buffers.pop().unwrap_or_default();
        while free.buffers.iter().map(|kept| kept.len() as u64).sum::<u64>() > free.bytes {
            free.buffers.pop();
        }
        drop(free);
        if buffer.len() < buffer_len || buffer.len() as u64 > bytes {
            drop(buffer);
            buffer = vec![0; buffer_len];
        }
        Slot { slots: self, bytes, buffer }
    }
}

/// Scratch in use.
#[derive(Debug)]
pub struct Slot<'a> {
    slots: &'a Slots,
    bytes: u64,
    buffer: Vec<u8>,
}

impl Slot<'_> {
    /// The buffer, which may be longer than was asked for.
    pub fn buffer(&mut self) -> &mut [u8] {
        &mut self.buffer
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut free = lock(&self.slots.free);
        free.bytes += self.bytes;
        free.buffers.push(std::mem::take(&mut self.buffer));
        drop(free);
        self.slots.freed.notify_all();
    }
}

/// Most scratch that one group takes for source chunks of `leaf_bytes` each, where reading one takes `reading_bytes`
/// besides its result.
pub fn most_scratch_bytes(leaf_bytes: u64, reading_bytes: u64) -> u64 {
    GROUP_BYTES.max(leaf_bytes).saturating_add(reading_bytes)
}

/// Builds one tile: writes every element of the array that the tile holds into `targets`, which have an entry for each
/// piece of `hull` in C order (`None` where the piece is not wanted). Returns what could not be read; the elements there
/// hold anything.
pub fn build(ground: Ground<'_>, share: &LeafShare, hull: &Region, targets: &[Option<Target<'_>>]) -> Vec<Failure> {
    let groups = groups(ground, share);
    let failures = Mutex::new(Vec::new());
    groups.par_iter().for_each(|group| {
        let failed = build_group(ground, share, group, hull, targets);
        if !failed.is_empty() {
            lock(&failures).extend(failed);
        }
    });
    failures.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// A run of leaves along one axis that are placed together.
#[derive(Debug)]
struct Group {
    first_leaf: Vec<u64>,
    axis: usize,
    n_leaves: u64,
}

/// The leaves of a tile as groups. Only leaves of length 1 along the axis are grouped: their parts then differ in
/// nothing but the position on it.
fn groups(ground: Ground<'_>, share: &LeafShare) -> Vec<Group> {
    let extents = share.leaves.shape();
    let leaf_shape = ground.tiling.leaf_shape();
    let grouped = (0..extents.len()).rev().find(|&axis| leaf_shape[axis] == 1 && extents[axis] > 1);
    let Some(axis) = grouped else {
        return share.leaves.positions().map(|first_leaf| Group { first_leaf, axis: 0, n_leaves: 1 }).collect();
    };
    let (_, boxes) = ground.tiling.boxes(share, &share.leaves.start);
    let (low, high) = if boxes.is_empty() { (0, 1) } else { ground.tiling.hull(&boxes) };
    let part_bytes = ((high - low) * ground.fill.len() as u64).max(1);
    // As many groups for each thread, or the last ones keep one thread waiting.
    let threads = rayon::current_num_threads() as u64;
    let n_groups = extents[axis].div_ceil((GROUP_BYTES / part_bytes).max(1)).next_multiple_of(threads);
    let most = extents[axis].div_ceil(n_groups);
    let mut heads = share.leaves.clone();
    heads.end[axis] = heads.start[axis] + extents[axis].div_ceil(most);
    heads
        .positions()
        .map(|mut first_leaf| {
            let nth = first_leaf[axis] - share.leaves.start[axis];
            first_leaf[axis] = share.leaves.start[axis] + nth * most;
            let n_leaves = most.min(share.leaves.end[axis] - first_leaf[axis]);
            Group { first_leaf, axis, n_leaves }
        })
        .collect()
}

fn build_group(
    ground: Ground<'_>,
    share: &LeafShare,
    group: &Group,
    hull: &Region,
    targets: &[Option<Target<'_>>],
) -> Vec<Failure> {
    let (origin, boxes) = ground.tiling.boxes(share, &group.first_leaf);
    if boxes.is_empty() {
        return Vec::new();
    }
    let lay = ground.leaves.lay(ground.tiling, &boxes);
    let part_bytes = lay.n_elems as usize * ground.fill.len();
    let stride_bytes = scratch_stride(part_bytes);
    let scratch_bytes = stride_bytes as u64 * group.n_leaves + ground.leaves.scratch_bytes(part_bytes as u64);
    let group_bytes = stride_bytes * group.n_leaves as usize;
    let mut slot = ground.slots.take(scratch_bytes, group_bytes);
    let scratch = &mut slot.buffer[..group_bytes];
    let mut failures = Vec::new();
    for (nth, part) in scratch.chunks_exact_mut(stride_bytes).enumerate() {
        let part = &mut part[..part_bytes];
        let mut leaf = group.first_leaf.clone();
        // A scalar has one leaf and no axis.
        if nth > 0 {
            leaf[group.axis] += nth as u64;
        }
        match ground.leaves.read(share, &leaf, &lay, part) {
            Ok(true) => {}
            Ok(false) => fill_with(part, ground.fill),
            Err(error) => {
                let region = Region::of_cell(&leaf, ground.tiling.leaf_shape());
                failures.push(Failure { region, error: Arc::new(error) });
            }
        }
    }
    let began = Instant::now();
    for part in &boxes {
        let mut region = part.translated(&origin);
        if group.n_leaves > 1 {
            region.end[group.axis] = region.start[group.axis] + group.n_leaves;
        }
        place(ground, group, &origin, &lay, stride_bytes, scratch, &region, hull, targets);
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

/// Places `region` (array coordinates) of a decoded group into every piece that it touches.
#[expect(clippy::too_many_arguments, reason = "all of it is one group's state, used in this one place")]
fn place(
    ground: Ground<'_>,
    group: &Group,
    origin: &[u64],
    lay: &Lay,
    stride_bytes: usize,
    scratch: &[u8],
    region: &Region,
    hull: &Region,
    targets: &[Option<Target<'_>>],
) {
    let item_bytes = ground.fill.len();
    let mut source_strides: Vec<usize> = lay.strides.iter().map(|&stride| stride as usize * item_bytes).collect();
    if group.n_leaves > 1 {
        source_strides[group.axis] = stride_bytes;
    }
    let hull_shape = hull.shape();
    let rank = region.rank();
    let mut axes = Vec::with_capacity(rank);
    ground.pieces.touched(region).intersect(hull).for_each(|piece| {
        let nth = (0..rank).fold(0, |nth, axis| nth * hull_shape[axis] + piece[axis] - hull.start[axis]);
        let Some(Some(target)) = targets.get(nth as usize) else { return };
        let (mut from, mut to, mut target_stride) = (0, 0, item_bytes);
        axes.clear();
        for axis in (0..rank).rev() {
            let (start, end) = ground.pieces.interval(axis, piece[axis]);
            let (part_start, part_end) = (start.max(region.start[axis]), end.min(region.end[axis]));
            from += (part_start - origin[axis]) as usize * source_strides[axis];
            to += (part_start - start) as usize * target_stride;
            let n = part_end.saturating_sub(part_start) as usize;
            axes.push(CopyAxis { n, source: source_strides[axis], target: target_stride });
            target_stride *= (end - start) as usize;
        }
        from -= lay.first_elem as usize * item_bytes;
        match target {
            Target::Tile(bytes) => copy_strided(scratch, from, &mut lock(bytes)[..], to, &axes, item_bytes),
            Target::Seam(bytes) => {
                if let Some(bytes) = lock(bytes).as_mut() {
                    copy_strided(scratch, from, bytes, to, &axes, item_bytes);
                }
            }
        }
    });
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
