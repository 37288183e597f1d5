//! Shards: inner chunks one behind the other in C order, then the index (Zarr v3, codec `sharding_indexed`, index at
//! the end, checked by CRC32C). A shard too large for memory is written in slabs, runs of its inner chunks.

use super::CopyError;
use super::array::ArrayCopy;
use super::files::Folder;
use crate::geometry::{Pieces, Region, ravel, unravel};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is not in a shard, in its index.
const MISSING: u64 = u64::MAX;
/// Small inner chunks are collected up to here before they are written.
const BUFFER_BYTES: usize = 1 << 20;

/// The encoded inner chunks of a unit, in the order of their shard; `None` where one is all fill value.
pub(super) type Slab<'a> = Vec<Option<Cow<'a, [u8]>>>;

/// The shards of one array that are being written.
#[derive(Debug)]
pub(super) struct Shards {
    /// Slabs per shard, those beyond the array included.
    n_slabs: u64,
    /// Of the array, in inner chunks.
    array_grid: Vec<u64>,
    /// Shards along each axis.
    file_grid: Vec<u64>,
    /// Inner chunks along each axis of a shard, and in a slab: all but the last are alike.
    inner_grid: Vec<u64>,
    /// Inner chunks along each axis of the part of a shard that is cut into slabs.
    cut_grid: Vec<u64>,
    slab_grid: Vec<u64>,
    open: Mutex<HashMap<u64, Arc<Mutex<Open>>>>,
}

/// A shard that is begun.
#[derive(Debug)]
struct Open {
    /// The slab that comes next.
    next: u64,
    /// Slabs that came before their turn.
    early: BTreeMap<u64, Slab<'static>>,
    end: u64,
    index: Vec<u64>,
    is_spoiled: bool,
}

impl Shards {
    pub(super) fn new(array: &ArrayCopy, units: &Pieces) -> Self {
        let in_chunks = |shape: &[u64]| shape.iter().zip(array.chunk_shape()).map(|(len, chunk)| len / chunk).collect();
        Shards {
            n_slabs: units.per_chunk(),
            array_grid: array
                .source()
                .shape
                .iter()
                .zip(array.chunk_shape())
                .map(|(n, chunk)| n.div_ceil(*chunk))
                .collect(),
            file_grid: array.file_grid.clone(),
            inner_grid: array.inner_grid(),
            cut_grid: in_chunks(&array.file_shape),
            slab_grid: in_chunks(units.piece_shape()),
            open: Mutex::default(),
        }
    }

    /// Takes slab `nth` of shard `file`. Once the shard is complete, its bytes on disk: `Some(None)` where it is empty, and
    /// so no file.
    pub(super) fn put(
        &self,
        folder: &Folder,
        file: u64,
        nth: u64,
        slab: Slab<'_>,
        key: &dyn Fn() -> String,
    ) -> Result<Option<Option<u64>>, CopyError> {
        if self.n_slabs == 1 {
            let mut shard = Open::new(&self.inner_grid);
            self.append(folder, &mut shard, (0, true), &slab, key)?;
            return Ok(Some((shard.end > 0).then_some(shard.end)));
        }
        let fresh = || Arc::new(Mutex::new(Open::new(&self.inner_grid)));
        let shard = Arc::clone(lock(&self.open).entry(file).or_insert_with(fresh));
        let mut shard = lock(&shard);
        if shard.is_spoiled {
            return Ok(None);
        }
        if nth != shard.next {
            let owned = |chunk: Option<Cow<'_, [u8]>>| chunk.map(|bytes| Cow::Owned(bytes.into_owned()));
            shard.early.insert(nth, slab.into_iter().map(owned).collect());
            return Ok(None);
        }
        let mut slab = slab;
        loop {
            let (nth, next) = (shard.next, self.following(file, shard.next));
            self.append(folder, &mut shard, (nth, next == self.n_slabs), &slab, key)?;
            shard.next = next;
            match shard.early.remove(&next) {
                Some(early) => slab = early,
                None => break,
            }
        }
        if shard.next < self.n_slabs {
            return Ok(None);
        }
        lock(&self.open).remove(&file);
        Ok(Some((shard.end > 0).then_some(shard.end)))
    }

    /// A slab of this shard cannot be had, so there will be no such shard.
    pub(super) fn spoil(&self, file: u64) {
        if self.n_slabs > 1 {
            let fresh = || Arc::new(Mutex::new(Open::new(&self.inner_grid)));
            let shard = Arc::clone(lock(&self.open).entry(file).or_insert_with(fresh));
            let mut shard = lock(&shard);
            shard.is_spoiled = true;
            shard.early.clear();
        }
    }

    /// The next slab of shard `file` that reaches into the array.
    fn following(&self, file: u64, nth: u64) -> u64 {
        let shard = unravel(file, &self.file_grid);
        let is_inside = |nth: &u64| {
            let start = self.slab_start(*nth);
            (0..start.len()).all(|a| shard[a] * self.cut_grid[a] + start[a] < self.array_grid[a])
        };
        (nth + 1..self.n_slabs).find(is_inside).unwrap_or(self.n_slabs)
    }

    /// Writes a slab, and the index behind the last one.
    fn append(
        &self,
        folder: &Folder,
        shard: &mut Open,
        (nth, is_last): (u64, bool),
        slab: &Slab<'_>,
        key: &dyn Fn() -> String,
    ) -> Result<(), CopyError> {
        let first_of_slab = self.slab_start(nth);
        let slab_end: Vec<u64> =
            (0..first_of_slab.len()).map(|a| (first_of_slab[a] + self.slab_grid[a]).min(self.cut_grid[a])).collect();
        let began_at = shard.end;
        let mut end = shard.end;
        for (cell, chunk) in (Region { start: first_of_slab, end: slab_end }).positions().zip(slab) {
            let at = 2 * ravel(&cell, &self.inner_grid) as usize;
            if let Some(chunk) = chunk {
                shard.index[at] = end;
                shard.index[at + 1] = chunk.len() as u64;
                end += chunk.len() as u64;
            }
        }
        if end == 0 || (end == began_at && !is_last) {
            return Ok(());
        }
        let key = key();
        let failed = |error| folder.failed(&key, error);
        let mut opened = if began_at == 0 { folder.create(&key)? } else { folder.reopen(&key)? };
        opened.seek(SeekFrom::Start(began_at)).map_err(failed)?;
        let mut out = BufWriter::with_capacity(BUFFER_BYTES.min(end as usize + 4096), opened);
        for chunk in slab.iter().flatten() {
            out.write_all(chunk).map_err(failed)?;
        }
        if is_last {
            let mut index: Vec<u8> = shard.index.iter().flat_map(|word| word.to_le_bytes()).collect();
            index.extend(crc32c::crc32c(&index).to_le_bytes());
            out.write_all(&index).map_err(failed)?;
            end += index.len() as u64;
        }
        out.flush().map_err(failed)?;
        shard.end = end;
        Ok(())
    }

    /// The first inner chunk of slab `nth`.
    fn slab_start(&self, nth: u64) -> Vec<u64> {
        let counts: Vec<u64> = self.cut_grid.iter().zip(&self.slab_grid).map(|(all, one)| all.div_ceil(*one)).collect();
        unravel(nth, &counts).iter().zip(&self.slab_grid).map(|(idx, len)| idx * len).collect()
    }
}

impl Open {
    fn new(inner_grid: &[u64]) -> Self {
        let n_inner = inner_grid.iter().product::<u64>() as usize;
        Open { next: 0, early: BTreeMap::new(), end: 0, index: vec![MISSING; 2 * n_inner], is_spoiled: false }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
