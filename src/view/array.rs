//! One rechunked array: its virtual files, their sizes and presence, and how their bytes lie in pieces.

use super::ViewError;
use super::tile::SLOT_BYTES;
use crate::geometry::{EncodedOrder, Pieces, Region, TileId, Tiling, TilingRequest, n_elems, ravel, unravel};
use crate::source::{ArrayReader, Counters, FileState, SourceError, Stamp, Stamps};
use crate::zarr::VirtualArray;
use lru::LruCache;
use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Bytes of a shard index entry: offset and length.
const INDEX_ENTRY_BYTES: u64 = 16;
/// Footprints whose presence is remembered. Stamps are kept for good, so that forgetting one costs a second look only.
const MAX_FOOTPRINTS: NonZeroUsize = NonZeroUsize::new(1 << 16).unwrap();
/// Chunks of one array: as many as inode numbers have room for.
pub(super) const MAX_FILES: u64 = 1 << 48;
/// Rechunked arrays of one view: likewise.
pub(super) const MAX_ARRAYS: usize = 1 << 14;
/// Longest axis and longest chunk, elements.
const MAX_LENGTH: u64 = 1 << 60;
/// Tiles up to here are no larger than what a reader would not notice: about two milliseconds of decoding.
const SMALL_TILE_BYTES: u64 = 1 << 20;

/// Bounds on what is held in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) max_tile_bytes: u64,
    pub(super) max_piece_bytes: u64,
    /// Source shards that each array keeps open.
    pub(super) max_open_shards: usize,
}

/// A rechunked array of the view.
#[derive(Debug)]
pub(super) struct Rechunked {
    pub(super) array: VirtualArray,
    pub(super) reader: ArrayReader,
    pub(super) pieces: Pieces,
    limits: Limits,
    tiling: OnceLock<Tiling>,
    stamps: Stamps,
    /// Files that were young when their stamps were settled: what is built of them is not kept for other mounts.
    young: Mutex<HashSet<u64>>,
    footprints: Mutex<LruCache<Region, Footprint>>,
    looking: Mutex<()>,
    /// Virtual files (shards, or chunks) along each axis.
    file_grid: Vec<u64>,
    /// Virtual chunks per virtual file along each axis.
    inner_grid: Vec<u64>,
}

/// What is known of a set of source chunk files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Footprint {
    /// At least one of them exists.
    pub(super) is_present: bool,
    /// The latest modification among them, nanoseconds since 1970.
    pub(super) mtime_ns: i64,
}

/// A run of bytes of a virtual file, and where they come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Bytes of a piece.
    Piece(crate::geometry::Placement),
    /// Fill value; `phase` is the position of the first byte within an element.
    Fill { phase: u64, len_bytes: u64 },
    /// Bytes of the shard index of virtual file `file`.
    Index { file: u64, offset_bytes: u64, len_bytes: u64 },
}

impl Part {
    pub(super) fn len_bytes(&self) -> u64 {
        match *self {
            Part::Piece(placement) => placement.len_bytes,
            Part::Fill { len_bytes, .. } | Part::Index { len_bytes, .. } => len_bytes,
        }
    }
}

impl Rechunked {
    /// Prepares `array` of the store at `root`; reads nothing.
    pub(super) fn new(
        root: &Path,
        array: VirtualArray,
        limits: Limits,
        counters: Arc<Counters>,
    ) -> Result<Self, SourceError> {
        let source = &array.source;
        let reader = ArrayReader::new(root, source, limits.max_open_shards, counters)?;
        let too_many = |what: &str| SourceError::Unsupported {
            array: source.path.clone(),
            why: format!("more {what} than can be numbered; choose larger chunks"),
        };
        // Far beyond any store, and sums of two lengths still fit.
        if source.shape.iter().chain(&source.file_shape).chain(&array.chunk_shape).any(|&len| len > MAX_LENGTH) {
            return Err(too_many("elements along an axis"));
        }
        let pieces = Pieces::new(&source.shape, &array.chunk_shape, source.item_bytes as u64, limits.max_piece_bytes)
            .ok_or_else(|| too_many("virtual chunks"))?;
        let file_shape = array.shard_shape.as_ref().unwrap_or(&array.chunk_shape);
        let file_grid: Vec<u64> = source.shape.iter().zip(file_shape).map(|(len, file)| len.div_ceil(*file)).collect();
        let inner_grid: Vec<u64> =
            file_shape.iter().zip(&array.chunk_shape).map(|(file, chunk)| file / chunk).collect();
        n_elems(&file_grid).filter(|&n| n <= MAX_FILES).ok_or_else(|| too_many("virtual chunk files"))?;
        n_elems(&inner_grid)
            .and_then(|n| n.checked_mul(pieces.chunk_bytes() + INDEX_ENTRY_BYTES))
            .filter(|&bytes| bytes <= i64::MAX as u64)
            .ok_or_else(|| too_many("chunks per shard"))?;
        Ok(Rechunked {
            reader,
            pieces,
            limits,
            tiling: OnceLock::new(),
            stamps: Stamps::default(),
            young: Mutex::default(),
            footprints: Mutex::new(LruCache::new(MAX_FOOTPRINTS)),
            looking: Mutex::default(),
            file_grid,
            inner_grid,
            array,
        })
    }

    /// Path of the array in the store.
    pub(super) fn path(&self) -> &str {
        &self.array.source.path
    }

    /// One element of fill value.
    pub(super) fn fill(&self) -> &[u8] {
        &self.array.source.fill
    }

    /// Number of virtual files, present or not.
    pub(super) fn n_files(&self) -> u64 {
        self.file_grid.iter().product()
    }

    /// Bytes of every virtual file: arithmetic, nothing is read.
    pub(super) fn file_bytes(&self) -> u64 {
        let n_inner: u64 = self.inner_grid.iter().product();
        if self.array.shard_shape.is_some() {
            n_inner * (self.pieces.chunk_bytes() + INDEX_ENTRY_BYTES)
        } else {
            self.pieces.chunk_bytes()
        }
    }

    /// The name of virtual file `file`: its chunk key, with `.` between the indices.
    pub(super) fn file_name(&self, file: u64) -> String {
        let mut name = String::from("c");
        for idx in unravel(file, &self.file_grid) {
            name.push('.');
            name.push_str(&idx.to_string());
        }
        name
    }

    /// Inverse of [`Self::file_name`]; `None` for anything that is not exactly such a name.
    pub(super) fn parse_file_name(&self, name: &str) -> Option<u64> {
        let mut fields = name.strip_prefix("c.")?.split('.');
        let mut indices = Vec::with_capacity(self.file_grid.len());
        for &len in &self.file_grid {
            let field = fields.next()?;
            let is_plain = field.bytes().all(|byte| byte.is_ascii_digit()) && (field == "0" || !field.starts_with('0'));
            indices.push(field.parse::<u64>().ok().filter(|&idx| is_plain && idx < len)?);
        }
        fields.next().is_none().then(|| ravel(&indices, &self.file_grid))
    }

    /// Presence and modification time of virtual file `file`.
    pub(super) fn footprint_of_file(&self, file: u64) -> Result<Footprint, SourceError> {
        let shape = self.array.shard_shape.as_ref().unwrap_or(&self.array.chunk_shape);
        let region = Region::of_cell(&unravel(file, &self.file_grid), shape).clipped(&self.array.source.shape);
        self.footprint(&region)
    }

    /// Looks, once, at every source chunk file on which `region` draws.
    pub(super) fn footprint(&self, region: &Region) -> Result<Footprint, SourceError> {
        let files = self.reader.files_of(region);
        let known = || lock(&self.footprints).get(&files).copied();
        if let Some(known) = known() {
            return Ok(known);
        }
        // One look at a time: whoever else asks for the same footprint finds it here.
        let _gate = lock(&self.looking);
        if let Some(known) = known() {
            return Ok(known);
        }
        let mut footprint = Footprint { is_present: false, mtime_ns: 0 };
        self.reader.states(&files, |file, state| {
            let settled = self.settle(ravel(file, self.reader.file_grid()), &state);
            footprint.is_present |= settled.is_present();
            if settled.is_present() {
                footprint.mtime_ns = footprint.mtime_ns.max(state.mtime_ns);
            }
        })?;
        lock(&self.footprints).put(files, footprint);
        Ok(footprint)
    }

    /// The stamp of a source chunk file in the version that this view shows.
    pub(super) fn stamp_of(&self, file: &[u64]) -> Result<Stamp, SourceError> {
        let at = ravel(file, self.reader.file_grid());
        match self.stamps.get(at) {
            Some(stamp) => Ok(stamp),
            None => Ok(self.settle(at, &self.reader.state(file)?)),
        }
    }

    fn settle(&self, at: u64, state: &FileState) -> Stamp {
        if state.is_young {
            lock(&self.young).insert(at);
        }
        self.stamps.settle(at, state.stamp)
    }

    /// Whether one of these source chunk files was young when its stamp was settled.
    pub(super) fn any_young(&self, files: &Region) -> bool {
        let young = lock(&self.young);
        !young.is_empty() && files.positions().any(|file| young.contains(&ravel(&file, self.reader.file_grid())))
    }

    /// The tiles, if they have been chosen.
    pub(super) fn known_tiling(&self) -> Option<&Tiling> {
        self.tiling.get()
    }

    /// The tiles. Chosen when first needed, because the block length of the source stands in its chunks.
    pub(super) fn tiling(&self, near: &Region) -> Result<&Tiling, SourceError> {
        if let Some(tiling) = self.tiling.get() {
            return Ok(tiling);
        }
        let mut block_elems = None;
        for file in self.reader.files_of(near).positions() {
            if self.stamp_of(&file)?.is_present() {
                block_elems = self.reader.block_elems(&file)?;
                break;
            }
        }
        let source = &self.array.source;
        let item_bytes = source.item_bytes as u64;
        // Small pieces take more bookkeeping than bytes.
        let piece_bytes = n_elems(self.pieces.piece_shape()).map_or(u64::MAX, |n| n.saturating_mul(item_bytes));
        let held_bytes = u128::from(piece_bytes) + u128::from(SLOT_BYTES);
        let max_tile_bytes = u128::from(self.limits.max_tile_bytes) * u128::from(piece_bytes) / held_bytes;
        let tiling = Tiling::new(&TilingRequest {
            shape: &source.shape,
            leaf_shape: &source.leaf_shape,
            order: &EncodedOrder::new(&source.leaf_shape, &source.order()),
            chunk_shape: &self.array.chunk_shape,
            piece_shape: self.pieces.piece_shape(),
            item_bytes,
            block_elems,
            max_tile_bytes: max_tile_bytes as u64,
            small_tile_bytes: SMALL_TILE_BYTES,
        });
        let tiling = tiling.ok_or_else(|| SourceError::Unsupported {
            array: source.path.clone(),
            why: "more tiles than can be numbered; choose larger chunks".into(),
        })?;
        Ok(self.tiling.get_or_init(|| tiling))
    }

    /// What reading it takes, within the memory allowed. Reads one chunk's header where that tells the block length.
    pub(super) fn cost(&self) -> super::ArrayCost {
        let source = &self.array.source;
        let leaf_bytes = self.reader.leaf_bytes();
        let first = Region::of_cell(&vec![0; source.shape.len()], &self.array.chunk_shape).clipped(&source.shape);
        let leaves = first.cells(&source.leaf_shape).n_elems();
        // Where even the header cannot be read, reading will say so; here it only means an estimate without blocks.
        let tiling = if first.is_empty() { None } else { self.tiling(&first).ok() };
        let part_bytes = tiling.map_or(leaf_bytes, |tiling| tiling.most_leaf_elems() * source.item_bytes as u64);
        super::ArrayCost {
            path: source.path.clone(),
            first_read_files: self.reader.files_of(&first).n_elems(),
            first_read_decoded_bytes: leaves.saturating_mul(part_bytes),
            sweep_decoded_bytes: tiling.map_or(0, Tiling::leaf_visits).saturating_mul(leaf_bytes),
        }
    }

    /// Tiles on which a piece draws. Empty for a piece that is all padding.
    pub(super) fn tiles_of(&self, piece: u64) -> Result<Vec<TileId>, SourceError> {
        let region = self.pieces.piece_region(piece).clipped(&self.array.source.shape);
        if region.is_empty() { Ok(Vec::new()) } else { Ok(self.tiling(&region)?.tiles_of(&region)) }
    }

    /// Where the bytes `start..end` of virtual file `file` come from.
    pub(super) fn parts(&self, file: u64, start: u64, end: u64) -> Result<Vec<Part>, ViewError> {
        if self.array.shard_shape.is_none() {
            return Ok(self.pieces.placements(file, start, end).into_iter().map(|placed| self.part(placed)).collect());
        }
        let slot_bytes = self.pieces.chunk_bytes();
        let n_inner: u64 = self.inner_grid.iter().product();
        let index_start = n_inner * slot_bytes;
        let mut parts = Vec::new();
        let mut at = start;
        while at < end.min(index_start) {
            let slot = at / slot_bytes;
            let stop = end.min((slot + 1) * slot_bytes);
            let (from, to) = (at - slot * slot_bytes, stop - slot * slot_bytes);
            match self.chunk_of_slot(file, slot)? {
                Some(chunk) => {
                    parts.extend(self.pieces.placements(chunk, from, to).into_iter().map(|placed| self.part(placed)));
                }
                None => parts.push(Part::Fill { phase: from % self.fill().len() as u64, len_bytes: to - from }),
            }
            at = stop;
        }
        if end > index_start {
            let from = start.max(index_start);
            parts.push(Part::Index { file, offset_bytes: from - index_start, len_bytes: end - from });
        }
        Ok(parts)
    }

    /// A piece that is all padding needs no tile.
    fn part(&self, placed: crate::geometry::Placement) -> Part {
        let region = self.pieces.piece_region(placed.piece).clipped(&self.array.source.shape);
        if region.is_empty() {
            Part::Fill { phase: placed.offset_bytes % self.fill().len() as u64, len_bytes: placed.len_bytes }
        } else {
            Part::Piece(placed)
        }
    }

    /// The virtual chunk in a slot of a shard; `None` where it is absent or beyond the array.
    fn chunk_of_slot(&self, file: u64, slot: u64) -> Result<Option<u64>, SourceError> {
        let within = unravel(slot, &self.inner_grid);
        let file = unravel(file, &self.file_grid);
        let grid = self.pieces.chunk_grid();
        let indices: Vec<u64> = (0..grid.len()).map(|a| file[a] * self.inner_grid[a] + within[a]).collect();
        if indices.iter().zip(grid).any(|(idx, n)| idx >= n) {
            return Ok(None);
        }
        let chunk = ravel(&indices, grid);
        Ok(self.footprint(&self.pieces.chunk_region(chunk))?.is_present.then_some(chunk))
    }

    /// Bytes `offset..offset + len` of the index of shard `file`.
    ///
    /// Slot `i` lies at `i` times the chunk's bytes whether or not it is present, so that nothing that appears or
    /// vanishes in the source ever moves an offset.
    pub(super) fn index_bytes(&self, file: u64, offset: u64, len: u64) -> Result<Vec<u8>, SourceError> {
        let slot_bytes = self.pieces.chunk_bytes();
        let (first, last) = (offset / INDEX_ENTRY_BYTES, (offset + len).div_ceil(INDEX_ENTRY_BYTES));
        let mut bytes = Vec::with_capacity(((last - first) * INDEX_ENTRY_BYTES) as usize);
        for slot in first..last {
            let entry = match self.chunk_of_slot(file, slot)? {
                Some(_) => (slot * slot_bytes, slot_bytes),
                None => (u64::MAX, u64::MAX),
            };
            bytes.extend_from_slice(&entry.0.to_le_bytes());
            bytes.extend_from_slice(&entry.1.to_le_bytes());
        }
        let skip = (offset - first * INDEX_ENTRY_BYTES) as usize;
        Ok(bytes[skip..skip + len as usize].to_vec())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
