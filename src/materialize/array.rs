//! One rechunked array of a copy: its source, its target files, and the units in which these are made.

use super::CopyError;
use super::done::Done;
use super::encode::Encoder;
use super::{known, look};
use crate::geometry::{Pieces, Region, n_elems, ravel, unravel};
use crate::source::{ArrayReader, Counters, FileState, SourceError, Stamp, Stamps, Store};
use crate::zarr::{ChunkEncoding, CopiedArray, SourceArray, VirtualArray};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Source shards kept open.
const MAX_OPEN_SHARDS: usize = 128;

/// A rechunked array.
#[derive(Debug)]
pub(super) struct ArrayCopy {
    pub(super) copied: CopiedArray,
    pub(super) reader: ArrayReader,
    pub(super) encoder: Encoder,
    /// Memory for what becomes of units, on all threads together; `None` where they are encoded.
    unit_scratch_bytes: Option<u64>,
    /// Shape of a target file, cut off where one file reaches beyond the array: whole chunks that hold elements.
    pub(super) file_shape: Vec<u64>,
    /// Target files along each axis.
    pub(super) file_grid: Vec<u64>,
    pub(super) stamps: Stamps,
    /// Its files are written beside the copy, from where they go to their places.
    pub(super) is_staged: bool,
    /// They are written down, so that they must tell any two states apart.
    is_written_down: bool,
    /// Source files changed in the future, as it seems: their stamps do not tell any two states apart.
    unsure: Mutex<Done>,
    /// Stamps that no commit has yet.
    fresh: Mutex<Vec<(u64, u64)>>,
}

impl ArrayCopy {
    /// All arrays of a copy of the store at `root`.
    pub(super) fn all(
        store: &Store,
        copied: Vec<CopiedArray>,
        counters: &Arc<Counters>,
    ) -> Result<Vec<Self>, CopyError> {
        copied.into_iter().map(|copied| ArrayCopy::new(store, copied, Arc::clone(counters))).collect()
    }

    /// Prepares `copied` of the store at `root`; reads nothing.
    pub(super) fn new(store: &Store, copied: CopiedArray, counters: Arc<Counters>) -> Result<Self, CopyError> {
        let source = &copied.array.source;
        let reader = ArrayReader::new(store, source, MAX_OPEN_SHARDS, counters)?;
        let refuse = |why: String| CopyError::Codec { array: source.path.clone(), why };
        let encoder = Encoder::new(&copied.encoding).map_err(refuse)?;
        let chunk_shape = &copied.array.chunk_shape;
        let full_shape = copied.array.shard_shape.as_ref().unwrap_or(chunk_shape);
        let file_grid: Vec<u64> = source.shape.iter().zip(full_shape).map(|(len, file)| len.div_ceil(*file)).collect();
        let file_shape = (0..source.shape.len())
            .map(|a| full_shape[a].min(source.shape[a].div_ceil(chunk_shape[a]).max(1).saturating_mul(chunk_shape[a])))
            .collect();
        n_elems(&file_grid).ok_or_else(|| refuse("more chunks than can be numbered; choose larger ones".to_owned()))?;
        Ok(ArrayCopy {
            reader,
            encoder,
            unit_scratch_bytes: None,
            file_shape,
            file_grid,
            stamps: Stamps::default(),
            is_staged: false,
            is_written_down: true,
            unsure: Mutex::default(),
            fresh: Mutex::default(),
            copied,
        })
    }

    /// Prepares `array` to be held against the files that are cut as it is; that takes `unit_scratch_bytes` besides the
    /// units.
    pub(super) fn compared(
        store: &Store,
        array: VirtualArray,
        unit_scratch_bytes: u64,
        counters: Arc<Counters>,
    ) -> Result<Self, CopyError> {
        let order = (0..array.chunk_shape.len()).collect();
        let encoding = ChunkEncoding { order, bytes_to_bytes: Vec::new() };
        let copied = CopiedArray { key_encoding: array.source.key_encoding, array, encoding };
        let array = Self::new(store, copied, counters)?;
        Ok(ArrayCopy { unit_scratch_bytes: Some(unit_scratch_bytes), is_written_down: false, ..array })
    }

    /// Memory that `threads` take for what becomes of units, besides the units.
    pub(super) fn unit_scratch_bytes(&self, threads: u64) -> u64 {
        let encoding_bytes = || self.encoder.scratch_bytes(self.chunk_bytes()).saturating_mul(threads);
        self.unit_scratch_bytes.unwrap_or_else(encoding_bytes)
    }

    pub(super) fn source(&self) -> &SourceArray {
        &self.copied.array.source
    }

    pub(super) fn path(&self) -> &str {
        &self.source().path
    }

    pub(super) fn is_sharded(&self) -> bool {
        self.copied.array.shard_shape.is_some()
    }

    /// Shape of a chunk; of an inner chunk where there are shards.
    pub(super) fn chunk_shape(&self) -> &[u64] {
        &self.copied.array.chunk_shape
    }

    pub(super) fn item_bytes(&self) -> u64 {
        self.source().item_bytes as u64
    }

    /// Decoded bytes of a chunk.
    pub(super) fn chunk_bytes(&self) -> u64 {
        self.chunk_shape().iter().fold(self.item_bytes(), |bytes, &len| bytes.saturating_mul(len))
    }

    /// Decoded bytes of a target file.
    pub(super) fn file_bytes(&self) -> u64 {
        self.file_shape.iter().fold(self.item_bytes(), |bytes, &len| bytes.saturating_mul(len))
    }

    /// Decoded bytes of the array.
    pub(super) fn array_bytes(&self) -> u64 {
        self.source().shape.iter().fold(self.item_bytes(), |bytes, &len| bytes.saturating_mul(len))
    }

    /// Bytes of all source leaves, decoded: what reaches beyond the array included.
    pub(super) fn leaf_bytes(&self) -> u64 {
        self.n_leaves().saturating_mul(self.reader.leaf_bytes())
    }

    /// Source leaves.
    pub(super) fn n_leaves(&self) -> u64 {
        Region::whole(&self.source().shape).cells(&self.source().leaf_shape).n_elems()
    }

    /// Inner chunks of a shard along each axis, those beyond the array included.
    pub(super) fn inner_grid(&self) -> Vec<u64> {
        let shard = self.copied.array.shard_shape.as_deref().unwrap_or(self.chunk_shape());
        shard.iter().zip(self.chunk_shape()).map(|(shard, chunk)| shard / chunk).collect()
    }

    /// Cuts target files into units of at most `max_bytes`, in which they are made: a chunk is never cut, a shard into
    /// runs of inner chunks that follow each other in it. `None` where their number passes `u64`.
    pub(super) fn units(&self, max_bytes: u64) -> Option<Pieces> {
        let chunks: Vec<u64> =
            self.file_shape.iter().zip(self.chunk_shape()).map(|(file, chunk)| file / chunk).collect();
        let mut unit = chunks.clone();
        let mut bytes = self.file_bytes();
        for axis in 0..unit.len() {
            if bytes <= max_bytes {
                break;
            }
            let row_bytes = bytes / unit[axis].max(1);
            unit[axis] = (max_bytes / row_bytes.max(1)).clamp(1, chunks[axis]);
            bytes = row_bytes * unit[axis];
        }
        let unit = unit.iter().zip(self.chunk_shape()).map(|(n, chunk)| n * chunk).collect();
        Pieces::of_shape(&self.source().shape, &self.file_shape, unit, self.item_bytes())
    }

    /// The key of target file `file` below the array.
    pub(super) fn key(&self, file: u64) -> String {
        self.copied.key_encoding.key(&unravel(file, &self.file_grid))
    }

    /// What target file `file` is called where it is written: beside the copy it needs no folders.
    pub(super) fn written_name(&self, file: u64) -> String {
        if self.is_staged { file.to_string() } else { self.key(file) }
    }

    /// The stamp of a source file in the state of the source that is copied.
    pub(super) fn stamp_of(&self, file: &[u64]) -> Result<Stamp, SourceError> {
        let at = ravel(file, self.reader.file_grid());
        if let Some(stamp) = self.stamps.get(at) {
            return Ok(stamp);
        }
        let is_settling = |state: &FileState| self.is_written_down && state.is_settling();
        let found = look::settled(|| self.reader.state(file), is_settling)?;
        if is_settling(&found) {
            return Err(self.changed(file));
        }
        if !found.stamp.is_present() {
            // Absence tells something only while the array is there.
            self.reader.check_home()?;
        }
        let stamp = self.settle(at, &found);
        lock(&self.fresh).push((at, stamp.to_raw()));
        Ok(stamp)
    }

    /// Puts on record in which state a source file is found, unless there is one already; returns the one on record.
    pub(super) fn settle(&self, file: u64, state: &FileState) -> Stamp {
        if state.is_young() {
            lock(&self.unsure).insert(file);
        }
        self.stamps.settle(file, state.stamp)
    }

    /// The stamp by which an update is to know the state of a source file that was copied; `known::UNKNOWN` where none does.
    pub(super) fn lasting_stamp(&self, file: u64) -> u64 {
        match self.stamps.get(file) {
            Some(stamp) if !lock(&self.unsure).has(file) => stamp.to_raw(),
            _ => known::UNKNOWN,
        }
    }

    /// The error for a source file that is no longer what it was.
    pub(super) fn changed(&self, file: &[u64]) -> SourceError {
        SourceError::Changed { array: self.path().to_owned(), key: self.reader.key(file) }
    }

    /// Whether any source file exists on which `region` (within the array) draws.
    pub(super) fn is_any_present(&self, region: &Region) -> Result<bool, SourceError> {
        self.look_together(region)?;
        for file in self.reader.files_of(region).positions() {
            if self.stamp_of(&file)?.is_present() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Settles the states of all source files on which `region` draws, where looking at many takes fewer requests than one by
    /// one.
    fn look_together(&self, region: &Region) -> Result<(), SourceError> {
        if !self.reader.looks_together() {
            return Ok(());
        }
        let number = |file: &[u64]| ravel(file, self.reader.file_grid());
        let files = self.reader.files_of(region);
        let unknown = files.positions().filter(|file| self.stamps.get(number(file)).is_none());
        let (mut settled, mut is_any_absent) = (Vec::new(), false);
        self.reader.states(unknown, |file, state| {
            is_any_absent |= !state.stamp.is_present();
            settled.push((number(file), state));
        })?;
        if is_any_absent {
            // Absence tells something only while the array is there.
            self.reader.check_home()?;
        }
        let settled: Vec<_> = settled.into_iter().map(|(at, state)| (at, self.settle(at, &state).to_raw())).collect();
        lock(&self.fresh).extend(settled);
        Ok(())
    }

    /// Stamps settled since the last call.
    pub(super) fn fresh_stamps(&self) -> Vec<(u64, u64)> {
        std::mem::take(&mut *lock(&self.fresh))
    }

    /// Source files whose state is no longer the one that was copied: the key of the first.
    pub(super) fn first_changed(&self, stamps: &[(u64, Stamp)]) -> Result<Option<String>, SourceError> {
        let files = stamps.iter().map(|(at, _)| unravel(*at, self.reader.file_grid()));
        let (mut expected, mut changed) = (stamps.iter(), None);
        self.reader.states(files, |file, found| match expected.next() {
            Some((at, stamp)) if found.stamp == *stamp => {
                self.settle(*at, &found);
            }
            _ => {
                changed.get_or_insert_with(|| self.reader.key(file));
            }
        })?;
        Ok(changed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
