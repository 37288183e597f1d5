//! The sink of a comparison: each unit of the source is held against the target's chunks.

use super::runs::{Found, MOST_TOLD, Side, Unequal, differences};
use crate::geometry::{EncodedOrder, Pieces, Region, TileId, c_strides};
use crate::materialize::CopyError;
use crate::materialize::engine::Sink;
use crate::materialize::progress::Progress;
use crate::source::{self, ArrayReader, Counters, SourceError, Stamp};
use crate::synthesis::{CopyAxis, Slots, copy_strided};
use crate::zarr::codecs::Endian;
use crate::zarr::data_type::DataType;
use crate::zarr::{Readable, SourceArray};
use rayon::prelude::*;
use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Target shards kept open.
const MAX_OPEN_SHARDS: usize = 128;
/// Inner chunks that one thread compares in a row, at the least: small ones take less time than handing them out.
const RUN_OF_LEAVES: usize = 32;
/// Reasons why chunks could not be compared that are kept; beyond them they are counted.
const MOST_REASONS: usize = 100;

/// The array that is compared with the source's.
#[derive(Debug)]
pub(super) struct TargetArray {
    pub(super) array: SourceArray,
    pub(super) reader: ArrayReader,
    /// Elements have the other byte order than the source's.
    swapped: Option<DataType>,
    /// One element of fill value, in the source's byte order.
    fill: Vec<u8>,
    order: EncodedOrder,
    is_c_order: bool,
}

impl TargetArray {
    /// Prepares `theirs` of the store at `root`, for elements in the byte order `endian`. Reads nothing.
    pub(super) fn new(
        root: &Path,
        theirs: &Readable,
        endian: Option<Endian>,
        counters: Arc<Counters>,
    ) -> Result<Self, SourceError> {
        let array = theirs.source.clone();
        let reader = ArrayReader::new(root, &array, MAX_OPEN_SHARDS, counters)?;
        let swapped = (theirs.endian != endian).then(|| theirs.data_type.clone());
        let mut fill = array.fill.clone();
        if let Some(data_type) = &swapped {
            data_type.swap(&mut fill);
        }
        let order = array.order();
        let is_c_order = order.iter().copied().eq(0..order.len());
        let order = EncodedOrder::new(&array.leaf_shape, &order);
        Ok(TargetArray { reader, swapped, fill, order, is_c_order, array })
    }

    /// Decoded leaves held at a time, and bytes of one.
    fn buffers(&self) -> (u64, u64) {
        (if self.is_c_order { 1 } else { 2 }, self.reader.leaf_bytes())
    }

    /// Memory that comparing one leaf takes.
    pub(super) fn scratch_bytes(&self) -> u64 {
        let (n, leaf_bytes) = self.buffers();
        leaf_bytes.saturating_mul(n).saturating_add(source::most_scratch_bytes(&self.array))
    }

    /// Decodes `leaf` into the first part of `buffer`, in C order and in the source's byte order; `None` where it does
    /// not exist.
    fn read<'b>(&self, leaf: &[u64], stamp: Stamp, buffer: &'b mut [u8]) -> Result<Option<&'b [u8]>, SourceError> {
        let (n, leaf_bytes) = self.buffers();
        let (decoded, turned) = buffer[..(n * leaf_bytes) as usize].split_at_mut(leaf_bytes as usize);
        if !self.reader.read(leaf, (0, self.order.n_elems()), stamp, decoded)? {
            return Ok(None);
        }
        if let Some(data_type) = &self.swapped {
            decoded.chunks_exact_mut(self.array.item_bytes).for_each(|item| data_type.swap(item));
        }
        if self.is_c_order {
            return Ok(Some(decoded));
        }
        let bytes = |elems: u64| elems as usize * self.array.item_bytes;
        let shape = &self.array.leaf_shape;
        let strides = c_strides(shape);
        let axis = |a: usize| CopyAxis {
            n: shape[a] as usize,
            source: bytes(self.order.strides()[a]),
            target: bytes(strides[a]),
        };
        let axes: Vec<CopyAxis> = (0..shape.len()).map(axis).collect();
        copy_strided(decoded, 0, turned, 0, &axes, self.array.item_bytes);
        Ok(Some(turned))
    }
}

/// Chunk files of the target that are all that is compared, and the tiles that have them.
#[derive(Debug)]
pub(super) struct Few {
    pub(super) files: HashSet<u64>,
    pub(super) tiles: Vec<TileId>,
}

/// Compares one array.
#[derive(Debug)]
pub(super) struct Compare<'a> {
    pub(super) units: &'a Pieces,
    pub(super) source: &'a SourceArray,
    pub(super) target: &'a TargetArray,
    pub(super) slots: &'a Slots,
    pub(super) few: Option<Few>,
    pub(super) progress: &'a Progress,
    pub(super) tally: Mutex<Tally>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Elements compared.
    pub(super) elements: u64,
    /// Of them, those that differ.
    pub(super) differences: u64,
    /// The first of them in C order.
    pub(super) first: Vec<Unequal>,
    /// Why target chunks could not be compared: some of the reasons.
    pub(super) unread: BTreeSet<String>,
    /// Target chunks that could not be compared.
    pub(super) n_unread: u64,
}

impl Tally {
    /// Keeps the first differences of those known and `more`.
    pub(super) fn tell(&mut self, more: Vec<Unequal>) {
        if !more.is_empty() {
            self.first.extend(more);
            self.first.sort_unstable();
            self.first.truncate(MOST_TOLD);
        }
    }
}

impl Compare<'_> {
    /// Compares `unit`; without its bytes it is all fill value.
    fn compare(&self, unit: u64, bytes: Option<&[u8]>) {
        let padded = self.units.piece_region(unit);
        let region = padded.clipped(&self.source.shape);
        if region.is_empty() {
            return;
        }
        let leaves = region.cells(&self.target.array.leaf_shape);
        let file = self.target.reader.file_of(&leaves.start);
        match self.target.reader.state(&file).map(|state| state.stamp) {
            Err(error) => self.note_unread(&error),
            Ok(stamp) if !stamp.is_present() => {
                let strides = c_strides(&padded.shape());
                self.note(&region, self.differing(&region, &padded, &strides, bytes, Side::Fill(&self.target.fill)));
            }
            Ok(stamp) => {
                let strides = c_strides(&padded.shape());
                let leaves: Vec<Vec<u64>> = leaves.positions().collect();
                leaves.par_iter().with_min_len(RUN_OF_LEAVES).for_each(|leaf| {
                    self.compare_leaf(leaf, stamp, &padded, &strides, bytes);
                });
            }
        }
        Progress::add(&self.progress.done_bytes, self.units.region_bytes(&region));
    }

    fn compare_leaf(&self, leaf: &[u64], stamp: Stamp, unit: &Region, strides: &[u64], bytes: Option<&[u8]>) {
        let target = self.target;
        let cell = Region::of_cell(leaf, &target.array.leaf_shape);
        let region = cell.intersect(unit).clipped(&self.source.shape);
        let (n, leaf_bytes) = target.buffers();
        let mut slot = self.slots.take(target.scratch_bytes(), (n * leaf_bytes) as usize);
        let decoded = match target.read(leaf, stamp, slot.buffer()) {
            Ok(decoded) => decoded,
            Err(error) => return self.note_unread(&error),
        };
        let found = Progress::timed(&self.progress.place_ns, || {
            let leaf_strides = c_strides(&target.array.leaf_shape);
            let theirs = match decoded {
                Some(bytes) => {
                    Side::Bytes { bytes, first: first(&region, &cell, &leaf_strides), strides: &leaf_strides }
                }
                None => Side::Fill(&target.fill),
            };
            self.differing(&region, unit, strides, bytes, theirs)
        });
        drop(slot);
        self.note(&region, found);
    }

    fn differing(
        &self,
        region: &Region,
        unit: &Region,
        strides: &[u64],
        bytes: Option<&[u8]>,
        theirs: Side<'_>,
    ) -> Found {
        let ours = match bytes {
            Some(bytes) => Side::Bytes { bytes, first: first(region, unit, strides), strides },
            None => Side::Fill(&self.source.fill),
        };
        differences(region, self.source.item_bytes, ours, theirs)
    }

    fn note(&self, region: &Region, found: Found) {
        let mut tally = lock(&self.tally);
        tally.elements += region.n_elems();
        tally.differences += found.count;
        tally.tell(found.first);
    }

    fn note_unread(&self, error: &SourceError) {
        let mut tally = lock(&self.tally);
        tally.n_unread += 1;
        if tally.unread.len() < MOST_REASONS {
            tally.unread.insert(super::outcome::unread("target", error));
        }
    }
}

/// Where the first element of `region` lies among those of `around`, which has these strides.
fn first(region: &Region, around: &Region, strides: &[u64]) -> u64 {
    region.relative_to(&around.start).start.iter().zip(strides).map(|(at, stride)| at * stride).sum()
}

impl Sink for Compare<'_> {
    fn wants(&self, unit: u64) -> bool {
        self.few.as_ref().is_none_or(|few| few.files.contains(&self.units.chunk_of(unit).0))
    }

    fn tiles(&self) -> Option<&[TileId]> {
        self.few.as_ref().map(|few| few.tiles.as_slice())
    }

    fn put(&self, unit: u64, bytes: &[u8]) -> Result<(), CopyError> {
        self.compare(unit, Some(bytes));
        Ok(())
    }

    fn put_fill(&self, unit: u64) -> Result<(), CopyError> {
        self.compare(unit, None);
        Ok(())
    }

    fn put_nothing(&self, unit: u64) -> Result<(), CopyError> {
        let region = self.units.piece_region(unit).clipped(&self.source.shape);
        Progress::add(&self.progress.done_bytes, self.units.region_bytes(&region));
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
