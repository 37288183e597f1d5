//! One rechunked array: its virtual files, what is known of its source, and the shapes that it has had.

use super::ViewError;
use super::edition::Edition;
use super::extent::Extent;
use super::look::Looked;
use super::looks::Looks;
use super::open::Guards;
use super::tile::SLOT_BYTES;
use super::versions::{Version, Versions};
use crate::geometry::{EncodedOrder, Numbering, Pieces, Region, Tiling, TilingRequest, n_elems};
use crate::source::{ArrayReader, Counters, SourceError};
use crate::zarr::VirtualArray;
use std::path::Path;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

/// Bytes of a shard index entry: offset and length.
pub(super) const INDEX_ENTRY_BYTES: u64 = 16;
/// Chunks of one array: as many as inode numbers have room for, with some to spare for versions.
pub(super) const MAX_FILES: u64 = 1 << 44;
/// An array may grow until it has so many, if it has fewer at first.
const ROOMY_FILES: u64 = 1 << 32;
/// and at most this many times along each axis, as a power of two.
const MAX_DOUBLINGS: u32 = 16;
/// Rechunked arrays of one view: likewise.
pub(super) const MAX_ARRAYS: usize = 1 << 14;
/// Longest axis and longest chunk, elements.
const MAX_LENGTH: u64 = 1 << 60;
/// Tiles up to here are no larger than what a reader would not notice: about two milliseconds of decoding.
const SMALL_TILE_BYTES: u64 = 1 << 20;
/// Shapes that are remembered.
const MAX_EXTENTS: usize = 64;

/// Bounds on what is held in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) max_tile_bytes: u64,
    pub(super) max_piece_bytes: u64,
    /// Source shards that each array keeps open.
    pub(super) max_open_shards: usize,
}

/// The rechunked arrays of a view, by their position. Arrays may be added, and none goes away.
#[derive(Debug, Default)]
pub(super) struct Arrays(RwLock<Vec<Arc<Rechunked>>>);

impl Arrays {
    pub(super) fn get(&self, idx: u32) -> Option<Arc<Rechunked>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(idx as usize).map(Arc::clone)
    }

    pub(super) fn all(&self) -> Vec<Arc<Rechunked>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds an array, made for the position that it will have. Not for several threads at once.
    pub(super) fn add(
        &self,
        make: impl FnOnce(u32) -> Result<Rechunked, SourceError>,
    ) -> Result<Arc<Rechunked>, SourceError> {
        let idx = self.0.read().unwrap_or_else(PoisonError::into_inner).len() as u32;
        let array = Arc::new(make(idx)?);
        self.0.write().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&array));
        Ok(array)
    }
}

/// A rechunked array of the view.
#[derive(Debug)]
pub(super) struct Rechunked {
    /// Its position among the rechunked arrays of the view.
    pub(super) idx: u32,
    /// In the shape that it had at first.
    pub(super) array: VirtualArray,
    pub(super) reader: ArrayReader,
    pub(super) versions: Versions,
    /// Up to here virtual and source chunks keep their numbers.
    room: Vec<u64>,
    limits: Limits,
    /// Oldest first; the last is that of the newest version.
    extents: RwLock<Vec<Arc<Extent>>>,
    /// In the shape in which they were first needed.
    tiling: OnceLock<Tiling>,
    file_numbers: Numbering,
    /// Virtual chunks per virtual file along each axis.
    pub(super) inner_grid: Vec<u64>,
    pub(super) looked: Looked,
}

impl Rechunked {
    /// Prepares `array` of the store at `root`; reads nothing.
    pub(super) fn new(
        idx: u32,
        root: &Path,
        array: VirtualArray,
        limits: Limits,
        counters: Arc<Counters>,
        looks: Arc<Looks>,
        guards: &Guards,
    ) -> Result<Self, SourceError> {
        let source = &array.source;
        let too_many = |what: &str| SourceError::Unsupported {
            array: source.path.clone(),
            why: format!("more {what} than can be numbered; choose larger chunks"),
        };
        // Far beyond any store, and sums of two lengths still fit.
        if source.shape.iter().chain(&source.file_shape).chain(&array.chunk_shape).any(|&len| len > MAX_LENGTH) {
            return Err(too_many("elements along an axis"));
        }
        let reader = ArrayReader::new(root, source, limits.max_open_shards, counters)?;
        let reader = reader.within(guards.bounds.clone());
        let room = room(&array);
        let reader = reader.with_room(&room).ok_or_else(|| too_many("source chunks"))?;
        let item_bytes = source.item_bytes as u64;
        let pieces = Pieces::new(&source.shape, &room, &array.chunk_shape, item_bytes, limits.max_piece_bytes)
            .ok_or_else(|| too_many("virtual chunks"))?;
        let file_shape = array.shard_shape.as_ref().unwrap_or(&array.chunk_shape);
        let inner_grid: Vec<u64> =
            file_shape.iter().zip(&array.chunk_shape).map(|(file, chunk)| file / chunk).collect();
        let extent = Extent::new(0, &source.shape, pieces, file_shape);
        let file_numbers = Numbering::new(&extent.file_grid, &grid(&room, file_shape)).filter(|n| n.end() <= MAX_FILES);
        let file_numbers = file_numbers.ok_or_else(|| too_many("virtual chunk files"))?;
        n_elems(&inner_grid)
            .and_then(|n| n.checked_mul(extent.pieces.chunk_bytes() + INDEX_ENTRY_BYTES))
            .filter(|&bytes| bytes <= i64::MAX as u64)
            .ok_or_else(|| too_many("chunks per shard"))?;
        Ok(Rechunked {
            idx,
            reader,
            versions: Versions::default(),
            room,
            limits,
            extents: RwLock::new(vec![Arc::new(extent)]),
            tiling: OnceLock::new(),
            file_numbers,
            inner_grid,
            looked: Looked::new(looks),
            array,
        })
    }

    /// Whether `other` is this array, but perhaps for its shape.
    pub(super) fn is_like(&self, other: &VirtualArray) -> bool {
        let mut other = other.clone();
        other.source.shape.clone_from(&self.array.source.shape);
        other == self.array
    }

    /// Path of the array in the store.
    pub(super) fn path(&self) -> &str {
        &self.array.source.path
    }

    /// One element of fill value.
    pub(super) fn fill(&self) -> &[u8] {
        &self.array.source.fill
    }

    /// What one virtual file holds.
    pub(super) fn file_shape(&self) -> &[u64] {
        self.array.shard_shape.as_ref().unwrap_or(&self.array.chunk_shape)
    }

    /// Numbers of virtual files lie below this, however the array grows.
    pub(super) fn end_of_files(&self) -> u64 {
        self.file_numbers.end()
    }

    /// The number of the virtual file at `indices` of the grid of files.
    pub(super) fn file_at(&self, indices: &[u64]) -> u64 {
        self.file_numbers.number(indices)
    }

    /// The numbers, from `from` on, of the virtual files in a grid of them.
    pub(super) fn files_within(&self, file_grid: &[u64], from: u64) -> impl Iterator<Item = u64> {
        self.file_numbers.within(file_grid, from)
    }

    /// Inverse of [`Self::file_at`].
    pub(super) fn file_indices(&self, file: u64) -> Vec<u64> {
        self.file_numbers.indices(file)
    }

    /// The array as it was at `version`, as far as virtual file `file` is concerned.
    pub(super) fn edition_of(self: &Arc<Self>, file: u64, version: Version) -> Result<Edition, ViewError> {
        if !self.versions.remembers(version) {
            return Err(ViewError::Stale);
        }
        let region = Region::of_cell(&self.file_indices(file), self.file_shape());
        let extents = self.extents.read().unwrap_or_else(PoisonError::into_inner);
        let first = extents.iter().rposition(|extent| extent.since <= version).ok_or(ViewError::Stale)?;
        // Later shapes do as well where they have the same part of the file: the tiles are planned for the newest.
        let part = region.clipped(&extents[first].shape);
        let same = extents[first..].iter().take_while(|extent| region.clipped(&extent.shape) == part);
        let extent = Arc::clone(same.last().unwrap_or(&extents[first]));
        Ok(Edition { array: Arc::clone(self), extent, version })
    }

    /// The array as it is known to be now.
    pub(super) fn newest(self: &Arc<Self>) -> Edition {
        let extents = self.extents.read().unwrap_or_else(PoisonError::into_inner);
        let version = self.versions.now();
        // The first one is of version 0 until it is pushed out by 64 others, of which `version` is at least the last.
        let extent = extents.iter().rev().find(|extent| extent.since <= version).unwrap_or(&extents[0]);
        Edition { array: Arc::clone(self), extent: Arc::clone(extent), version }
    }

    /// The earliest version from which on the shapes, up to that of `extent`, all have the same part of `region`.
    pub(super) fn shaped_since(&self, extent: &Extent, region: &Region) -> Version {
        let extents = self.extents.read().unwrap_or_else(PoisonError::into_inner);
        if let [only] = &extents[..] {
            return only.since;
        }
        let part = region.clipped(&extent.shape);
        let until = extents.iter().rev().skip_while(|other| other.since > extent.since);
        let same = until.take_while(|other| region.clipped(&other.shape) == part);
        same.last().map_or(extent.since, |first| first.since)
    }

    /// The first versions of the shapes that the array has had.
    pub(super) fn shapes_since(&self) -> Vec<Version> {
        self.extents.read().unwrap_or_else(PoisonError::into_inner).iter().map(|extent| extent.since).collect()
    }

    /// Gives the array another shape. `false` where it does not fit into what was planned for it.
    pub(super) fn resize(self: &Arc<Self>, shape: &[u64]) -> bool {
        let _gate = self.looked.gate();
        let newest = self.newest();
        if newest.extent.shape == shape {
            return true;
        }
        if shape.iter().zip(&self.room).any(|(len, room)| len > room) {
            return false;
        }
        let mut resized = newest.extent.resized(0, shape, self.file_shape());
        if self.tiling.get().is_some() && self.tiling_of(&resized).is_none() {
            return false;
        }
        self.versions.advance(|version| {
            resized.since = version;
            let mut extents = self.extents.write().unwrap_or_else(PoisonError::into_inner);
            extents.push(Arc::new(resized));
            if extents.len() > MAX_EXTENTS {
                extents.remove(0);
            }
        });
        true
    }

    /// The tiles of the array in the shape of `extent`, if they have been chosen, and none of them is too large for it.
    pub(super) fn tiling_of<'a>(&self, extent: &'a Extent) -> Option<&'a Tiling> {
        if let Some(tiling) = extent.tiling.get() {
            return Some(tiling);
        }
        let chosen = self.tiling.get()?;
        let order = self.order();
        let tiling = chosen.resized(&self.request(&order, &extent.shape, extent, None))?;
        Some(extent.tiling.get_or_init(|| tiling))
    }

    /// Chooses the tiles, from the block length of the source (`None` where its chunks are decoded whole).
    pub(super) fn choose_tiling(&self, extent: &Extent, block_elems: Option<u64>) -> Result<(), SourceError> {
        let order = self.order();
        let tiling = Tiling::new(&self.request(&order, &extent.shape, extent, block_elems));
        let tiling = tiling.ok_or_else(|| SourceError::Unsupported {
            array: self.path().to_owned(),
            why: "more tiles than can be numbered; choose larger chunks".into(),
        })?;
        self.tiling.get_or_init(|| tiling);
        Ok(())
    }

    fn order(&self) -> EncodedOrder {
        EncodedOrder::new(&self.array.source.leaf_shape, &self.array.source.order())
    }

    fn request<'a>(
        &'a self,
        order: &'a EncodedOrder,
        shape: &'a [u64],
        extent: &'a Extent,
        block_elems: Option<u64>,
    ) -> TilingRequest<'a> {
        let item_bytes = self.array.source.item_bytes as u64;
        // Small pieces take more bookkeeping than bytes.
        let piece_shape = extent.pieces.piece_shape();
        let piece_bytes = n_elems(piece_shape).map_or(u64::MAX, |n| n.saturating_mul(item_bytes));
        let held_bytes = u128::from(piece_bytes) + u128::from(SLOT_BYTES);
        let max_tile_bytes = u128::from(self.limits.max_tile_bytes) * u128::from(piece_bytes) / held_bytes;
        TilingRequest {
            shape,
            room: &self.room,
            leaf_shape: &self.array.source.leaf_shape,
            order,
            chunk_shape: &self.array.chunk_shape,
            piece_shape,
            item_bytes,
            block_elems,
            max_tile_bytes: max_tile_bytes as u64,
            small_tile_bytes: SMALL_TILE_BYTES,
        }
    }

    /// What reading it takes, within the memory allowed. Reads one chunk's header where that tells the block length.
    pub(super) fn cost(self: &Arc<Self>) -> super::ArrayCost {
        let source = &self.array.source;
        let leaf_bytes = self.reader.leaf_bytes();
        let edition = self.newest();
        let first = Region::of_cell(&vec![0; source.shape.len()], &self.array.chunk_shape).clipped(&source.shape);
        let leaves = first.cells(&source.leaf_shape).n_elems();
        // Where even the header cannot be read, reading will say so; here it only means an estimate without blocks.
        let tiling = if first.is_empty() { None } else { edition.tiling(&first).ok() };
        let part_bytes = tiling.map_or(leaf_bytes, |tiling| tiling.most_leaf_elems() * source.item_bytes as u64);
        super::ArrayCost {
            path: source.path.clone(),
            first_read_files: self.reader.files_of(&first).n_elems(),
            first_read_decoded_bytes: leaves.saturating_mul(part_bytes),
            sweep_decoded_bytes: tiling.map_or(0, Tiling::leaf_visits).saturating_mul(leaf_bytes),
        }
    }
}

/// The shape up to which an array may grow while it is shown: as far as its chunks can well be numbered.
fn room(array: &VirtualArray) -> Vec<u64> {
    let (shape, source) = (&array.source.shape, &array.source);
    let file_shape = array.shard_shape.as_ref().unwrap_or(&array.chunk_shape);
    let roomy = |doublings: u32| -> Option<Vec<u64>> {
        let longest = |axis: usize| shape[axis].max(file_shape[axis]).max(source.file_shape[axis]);
        let room: Option<Vec<u64>> = (0..shape.len())
            .map(|axis| longest(axis).checked_mul(1 << doublings).filter(|&len| len <= MAX_LENGTH))
            .collect();
        let room = room?;
        let n_files = n_elems(&grid(&room, file_shape)).filter(|&n| n <= ROOMY_FILES);
        // Pieces, tiles and segments are more than chunks, and few are more than elements.
        let fits = |cell: &[u64]| n_elems(&grid(&room, cell)).is_some_and(|n| n <= MAX_LENGTH);
        (n_files.is_some() && fits(&source.leaf_shape) && fits(&vec![1; shape.len()])).then_some(room)
    };
    (1..=MAX_DOUBLINGS).rev().find_map(roomy).unwrap_or_else(|| shape.clone())
}

fn grid(shape: &[u64], cell: &[u64]) -> Vec<u64> {
    shape.iter().zip(cell).map(|(len, cell)| len.div_ceil(*cell)).collect()
}
