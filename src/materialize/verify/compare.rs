//! The sink of a comparison: each unit of one array is held against the chunks of the other.

use super::runs::{Found, MOST_TOLD, Side, Unequal, differences};
use crate::geometry::{EncodedOrder, Pieces, Region, TileId, c_strides};
use crate::materialize::CopyError;
use crate::materialize::engine::Sink;
use crate::materialize::progress::Progress;
use crate::source::{self, ArrayReader, Counters, SourceError, Stamp, Store};
use crate::synthesis::{CopyAxis, Slots, copy_strided};
use crate::zarr::codecs::Endian;
use crate::zarr::data_type::DataType;
use crate::zarr::{Readable, SourceArray};
use rayon::prelude::*;
use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Target shards kept open.
const MAX_OPEN_SHARDS: usize = 128;
/// Inner chunks that one thread compares in a row, at the least: small ones take less time than handing them out.
const RUN_OF_LEAVES: usize = 32;
/// Reasons why chunks could not be compared that are kept; beyond them they are counted.
const MOST_REASONS: usize = 100;

/// The array that is compared with the source's.
#[derive(Debug)]
pub(in crate::materialize) struct TargetArray {
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
    /// Prepares `theirs` of `store`, for elements in the byte order `endian`. Reads nothing.
    pub(in crate::materialize) fn new(
        store: &Store,
        theirs: &Readable,
        endian: Option<Endian>,
        counters: Arc<Counters>,
    ) -> Result<Self, SourceError> {
        let array = theirs.source.clone();
        let reader = ArrayReader::new(store, &array, MAX_OPEN_SHARDS, counters)?;
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
    pub(in crate::materialize) fn scratch_bytes(&self) -> u64 {
        let (n, leaf_bytes) = self.buffers();
        leaf_bytes.saturating_mul(n).saturating_add(source::most_scratch_bytes(&self.array))
    }

    /// Holds what a unit of `source` has, C order with padding, or nothing but fill value, against the chunks that are there;
    /// hands on what came of each part of it, as long as `note` wants more.
    pub(in crate::materialize) fn compare(
        &self,
        source: &SourceArray,
        unit: &Region,
        bytes: Option<&[u8]>,
        means: CompareMeans<'_>,
        note: &(dyn Fn(&Region, Result<Found, SourceError>) -> bool + Sync),
    ) {
        let region = unit.clipped(&source.shape);
        if region.is_empty() {
            return;
        }
        let ours = Ours { source, unit, strides: &c_strides(&unit.shape()), bytes };
        let leaves = region.cells(&self.array.leaf_shape);
        let file = self.reader.file_of(&leaves.start);
        match self.reader.state(&file).map(|state| state.stamp) {
            Err(error) => {
                note(&region, Err(error));
            }
            Ok(stamp) if !stamp.is_present() => {
                note(&region, Ok(ours.differing(&region, Side::Fill(&self.fill))));
            }
            Ok(stamp) => {
                let leaves: Vec<Vec<u64>> = leaves.positions().collect();
                let one = |leaf: &Vec<u64>| {
                    let part = Region::of_cell(leaf, &self.array.leaf_shape).intersect(&region);
                    note(&part, self.compare_leaf(ours, leaf, stamp, &part, means)).then_some(())
                };
                // Whoever has enough does not want to know.
                let _ = leaves.par_iter().with_min_len(RUN_OF_LEAVES).try_for_each(one);
            }
        }
    }

    fn compare_leaf(
        &self,
        ours: Ours<'_>,
        leaf: &[u64],
        stamp: Stamp,
        part: &Region,
        means: CompareMeans<'_>,
    ) -> Result<Found, SourceError> {
        let (n, leaf_bytes) = self.buffers();
        let mut slot = means.slots.take(self.scratch_bytes(), (n * leaf_bytes) as usize);
        let decoded = self.read(leaf, stamp, slot.buffer())?;
        let cell = Region::of_cell(leaf, &self.array.leaf_shape);
        let strides = c_strides(&self.array.leaf_shape);
        let theirs = match decoded {
            Some(bytes) => Side::Bytes { bytes, first: first(part, &cell, &strides), strides: &strides },
            None => Side::Fill(&self.fill),
        };
        Ok(Progress::timed(means.place_ns, || ours.differing(part, theirs)))
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

/// What comparing takes.
#[derive(Debug, Clone, Copy)]
pub(in crate::materialize) struct CompareMeans<'a> {
    /// Scratch for decoding.
    pub(in crate::materialize) slots: &'a Slots,
    /// Adds up nanoseconds spent comparing, over all threads.
    pub(in crate::materialize) place_ns: &'a AtomicU64,
}

/// A unit of the source.
#[derive(Clone, Copy)]
struct Ours<'a> {
    source: &'a SourceArray,
    unit: &'a Region,
    strides: &'a [u64],
    bytes: Option<&'a [u8]>,
}

impl Ours<'_> {
    fn differing(&self, region: &Region, theirs: Side<'_>) -> Found {
        let ours = match self.bytes {
            Some(bytes) => Side::Bytes { bytes, first: first(region, self.unit, self.strides), strides: self.strides },
            None => Side::Fill(&self.source.fill),
        };
        differences(region, self.source.item_bytes, ours, theirs)
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
    /// The array that units are of, the one that they are held against, and what that is called.
    pub(super) swept: &'a SourceArray,
    pub(super) held: &'a TargetArray,
    pub(super) held_side: &'static str,
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
        let note = |region: &Region, found: Result<Found, SourceError>| {
            match found {
                Ok(found) => self.note(region, found),
                Err(error) => self.note_unread(&error),
            }
            true
        };
        let means = CompareMeans { slots: self.slots, place_ns: &self.progress.place_ns };
        self.held.compare(self.swept, &padded, bytes, means, &note);
        Progress::add(&self.progress.done_bytes, self.units.region_bytes(&padded.clipped(&self.swept.shape)));
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
            tally.unread.insert(super::outcome::unread(self.held_side, error));
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
        let region = self.units.piece_region(unit).clipped(&self.swept.shape);
        Progress::add(&self.progress.done_bytes, self.units.region_bytes(&region));
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
