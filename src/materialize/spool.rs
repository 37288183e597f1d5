//! Two passes through a temporary file, for arrays whose tiles do not fit into memory together with what they share.
//!
//! Where each tile would decode most source leaves anew, the first pass decodes every leaf once and puts what each tile
//! takes of it where that tile's bytes lie in the file: tile after tile, and within one leaf after leaf. What a band of
//! leaves that follow each other adds to a tile is one run. The second pass reads each tile's run of runs, once.

use super::CopyError;
use super::array::ArrayCopy;
use super::commits::Commits;
use super::done::Done;
use super::journal::Spool;
use super::plan::{ArrayPlan, TILES_AT_ONCE};
use super::progress::Progress;
use crate::geometry::{LeafShare, Region, TileId, Tiling, unravel};
use crate::source::{SourceError, Workspace};
use crate::synthesis::{CopyAxis, Lay, Leaves, Slots, copy_strided};
use rayon::prelude::*;
use rustix::fs::FallocateFlags;
use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The temporary file of one array.
#[derive(Debug)]
pub(super) struct SpoolFile<'a> {
    array: &'a ArrayCopy,
    plan: &'a ArrayPlan,
    file: File,
    spool: Spool,
    /// The only tiles that have room in it, in order; all of them where that is missing.
    only: Option<Vec<TileId>>,
    /// Where each of these begins, bytes.
    starts: Vec<u64>,
    leaf_grid: Vec<u64>,
    /// Leaves that could not be read, and are left out.
    failed: Mutex<HashSet<Vec<u64>>>,
}

/// What the first pass takes.
#[derive(Clone, Copy)]
pub(super) struct Filling<'a> {
    /// Position of the array.
    pub(super) at: u32,
    /// Bands that an earlier run has put there.
    pub(super) done: &'a Done,
    pub(super) commits: &'a Commits,
    pub(super) progress: &'a Progress,
    pub(super) pool: &'a rayon::ThreadPool,
    pub(super) keep_going: bool,
}

/// What a tile takes of a leaf, and where that lies in the file.
struct Share {
    /// Position of the leaf in its band.
    nth: usize,
    /// Leaf coordinates.
    part: Region,
    offset: u64,
    len: usize,
}

impl<'a> SpoolFile<'a> {
    /// Opens the file as an earlier run left it, or a new one, with its room on disk reserved. It has room for `only` these
    /// tiles, in order, where they are given.
    pub(super) fn open(
        array: &'a ArrayCopy,
        plan: &'a ArrayPlan,
        spool: Spool,
        only: Option<Vec<TileId>>,
    ) -> Result<Self, CopyError> {
        let path = spool.path.clone();
        let io = |error| CopyError::io(&path, "make room for it", error);
        let n_tiles = only.as_ref().map_or(plan.tiling.n_tiles(), |only| only.len() as u64);
        let mut starts = Vec::with_capacity(n_tiles as usize + 1);
        let mut end = 0;
        for nth in 0..n_tiles {
            let tile = only.as_ref().map_or(TileId(nth), |only| only[nth as usize]);
            starts.push(end);
            end += plan.tiling.share(tile).coverage.n_elems() * array.item_bytes();
        }
        starts.push(end);
        if !plan.is_spool_begun {
            super::site::remove(&path)?;
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder).map_err(io)?;
            }
        }
        let file = OpenOptions::new().create(!plan.is_spool_begun).truncate(false).read(true).write(true).open(&path);
        let file = file.map_err(io)?;
        if !plan.is_spool_begun {
            match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, end.max(1)) {
                Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
                reserved => reserved.map_err(|error| io(error.into()))?,
            }
            file.set_len(end).map_err(io)?;
        }
        let found = file.metadata().map_err(io)?;
        let spool = Spool { inode: found.ino(), len_bytes: found.len(), ..spool };
        let leaf_grid = Region::whole(&array.source().shape).cells(&array.source().leaf_shape).shape();
        Ok(SpoolFile { array, plan, file, spool, only, starts, leaf_grid, failed: Mutex::default() })
    }

    /// The file as the journal is to know it.
    pub(super) fn spool(&self) -> &Spool {
        &self.spool
    }

    /// Number of bands.
    pub(super) fn n_bands(&self) -> u64 {
        self.leaf_grid.iter().product::<u64>().div_ceil(self.spool.leaves_per_band)
    }

    /// Decoded bytes of a band, about: for showing progress.
    fn band_bytes(&self) -> u64 {
        self.array.array_bytes() / self.n_bands().max(1)
    }

    /// The first pass: puts every band into the file that `done` does not name.
    pub(super) fn fill(&self, work: Filling<'_>) -> Result<(), CopyError> {
        let Filling { at, done, commits, progress, .. } = work;
        Progress::add(&progress.spool_bytes, self.n_bands() * self.band_bytes());
        let slots = Slots::new(self.plan.scratch_bytes);
        let next = AtomicU64::new(0);
        let ended: Mutex<Option<CopyError>> = Mutex::new(None);
        let drive = || {
            loop {
                let band = next.fetch_add(1, Relaxed);
                if band >= self.n_bands() || lock(&ended).is_some() {
                    return;
                }
                let filled = match progress.is_stopping() {
                    true => Err(CopyError::Stopped),
                    false if done.has(band) => Ok(None),
                    false => self.fill_band(band, &slots, work),
                };
                Progress::add(&progress.spooled_bytes, self.band_bytes());
                match filled {
                    Ok(Some(bytes)) => commits.band(at, band, bytes),
                    Ok(None) => {}
                    Err(error) => drop(lock(&ended).get_or_insert(error)),
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..TILES_AT_ONCE {
                scope.spawn(drive);
            }
            drive();
        });
        ended.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    /// Decodes the leaves of a band, and writes what each tile takes of them. Returns the bytes written; `None` where
    /// something had to be left out.
    fn fill_band(&self, band: u64, slots: &Slots, work: Filling<'_>) -> Result<Option<u64>, CopyError> {
        let Filling { progress, pool, .. } = work;
        let n_leaves: u64 = self.leaf_grid.iter().product();
        let first = band * self.spool.leaves_per_band;
        let mut leaves = Vec::new();
        for nth in first..(first + self.spool.leaves_per_band).min(n_leaves) {
            let leaf = unravel(nth, &self.leaf_grid);
            if self.tiles_of(&leaf).next().is_none() {
                continue;
            }
            if self.array.stamp_of(&self.array.reader.file_of(&leaf))?.is_present() {
                leaves.push(leaf);
            }
        }
        let mut shares: Vec<Share> = leaves.iter().enumerate().flat_map(|(nth, leaf)| self.shares(nth, leaf)).collect();
        // In the order of the file, so that what lies together there lies together here.
        shares.sort_by_key(|share| share.offset);
        let total: usize = shares.iter().map(|share| share.len).sum();
        let mut bytes = vec![0; total];
        let mut of_leaf: Vec<Vec<(&Region, &mut [u8])>> = leaves.iter().map(|_| Vec::new()).collect();
        let mut rest = bytes.as_mut_slice();
        for share in &shares {
            let (slot, after) = rest.split_at_mut(share.len);
            of_leaf[share.nth].push((&share.part, slot));
            rest = after;
        }
        let is_whole = AtomicBool::new(true);
        pool.install(|| {
            let decode = |(leaf, parts): (&Vec<u64>, Vec<(&Region, &mut [u8])>)| {
                match self.decode(leaf, parts, slots, progress) {
                    // The second pass comes to it again, and says what is missing because of it.
                    Err(error) if work.keep_going && error.unread().is_some() => {
                        is_whole.store(false, Relaxed);
                        lock(&self.failed).insert(leaf.clone());
                        Ok(())
                    }
                    decoded => decoded,
                }
            };
            leaves.par_iter().zip(of_leaf).try_for_each(decode)
        })?;
        let runs = runs(&shares);
        let write = |&(offset, start, end): &(u64, usize, usize)| {
            let written = Progress::timed(&progress.write_ns, || self.file.write_all_at(&bytes[start..end], offset));
            written.map_err(|error| CopyError::io(&self.spool.path, "write it", error))
        };
        pool.install(|| runs.par_iter().try_for_each(write))?;
        Ok(is_whole.into_inner().then_some(total as u64))
    }

    /// What every tile takes of `leaf`.
    fn shares(&self, nth: usize, leaf: &[u64]) -> Vec<Share> {
        let share = |tile: TileId| {
            let (part, offset) = self.place(&self.plan.tiling.share(tile), leaf);
            let len = (part.n_elems() * self.array.item_bytes()) as usize;
            Share { nth, part, offset, len }
        };
        self.tiles_of(leaf).map(share).collect()
    }

    /// The tiles with room here that take something of `leaf`.
    fn tiles_of(&self, leaf: &[u64]) -> impl Iterator<Item = TileId> {
        let source = self.array.source();
        let cell = Region::of_cell(leaf, &source.leaf_shape).clipped(&source.shape);
        self.plan.tiling.tiles_of(&cell).into_iter().filter(|tile| self.nth(*tile).is_some())
    }

    /// Which of the tiles here it is.
    fn nth(&self, tile: TileId) -> Option<usize> {
        let Some(only) = &self.only else { return Some(tile.0 as usize) };
        only.binary_search(&tile).ok()
    }

    /// The part of a leaf (leaf coordinates) that the tile of `share` takes, and where it lies in the file.
    fn place(&self, share: &LeafShare, leaf: &[u64]) -> (Region, u64) {
        let cell = Region::of_cell(leaf, &self.array.source().leaf_shape);
        let (region, part) = (&share.coverage, cell.intersect(&share.coverage));
        let (extent, lens) = (region.shape(), part.shape());
        // Leaves lie in C order: before this one lie whole layers of the tile, and on each slower axis as many as this
        // leaf is long there.
        let before = |axis: usize| {
            let slower: u64 = lens[..axis].iter().product();
            let faster: u64 = extent[axis + 1..].iter().product();
            (part.start[axis] - region.start[axis]) * slower * faster
        };
        let offset: u64 = (0..extent.len()).map(before).sum();
        // Nobody asks for a tile that has no room here.
        let start = self.starts[self.nth(share.tile).unwrap_or(0)] + offset * self.array.item_bytes();
        (part.relative_to(&cell.start), start)
    }

    /// Decodes a leaf and takes its parts out.
    fn decode(
        &self,
        leaf: &[u64],
        parts: Vec<(&Region, &mut [u8])>,
        slots: &Slots,
        progress: &Progress,
    ) -> Result<(), CopyError> {
        if progress.is_stopping() {
            return Err(CopyError::Stopped);
        }
        let (array, order) = (self.array, self.plan.tiling.order());
        let item_bytes = array.item_bytes() as usize;
        let len = order.n_elems() as usize * item_bytes;
        slots.with(len, array.reader.scratch_bytes(len as u64), |decoded| {
            let stamp = array.stamp_of(&array.reader.file_of(leaf))?;
            if !array.reader.read(leaf, (0, order.n_elems()), stamp, decoded)? {
                crate::synthesis::fill_with(decoded, &array.source().fill);
            }
            Progress::timed(&progress.place_ns, || {
                for (part, out) in parts {
                    let strides = part_strides(order, part);
                    let axes: Vec<CopyAxis> = (0..part.rank())
                        .map(|a| CopyAxis {
                            n: (part.end[a] - part.start[a]) as usize,
                            source: order.strides()[a] as usize * item_bytes,
                            target: strides[a] as usize * item_bytes,
                        })
                        .collect();
                    let from: u64 = part.start.iter().zip(order.strides()).map(|(at, stride)| at * stride).sum();
                    copy_strided(decoded, from as usize * item_bytes, out, 0, &axes, item_bytes);
                }
            });
            Ok(())
        })
    }
}

impl Leaves for SpoolFile<'_> {
    fn scratch_bytes(&self, _part_bytes: u64) -> u64 {
        0
    }

    fn lay(&self, _tiling: &Tiling, boxes: &[Region]) -> Lay {
        // Tiles on chunk borders take one box of each leaf.
        let part = &boxes[0];
        let strides = part_strides(self.plan.tiling.order(), part);
        let first_elem = part.start.iter().zip(&strides).map(|(at, stride)| at * stride).sum();
        Lay { strides, first_elem, n_elems: part.n_elems() }
    }

    fn read(
        &self,
        share: &LeafShare,
        leaf: &[u64],
        _lay: &Lay,
        _workspace: &mut Workspace,
        out: &mut [u8],
    ) -> Result<bool, SourceError> {
        let file = self.array.reader.file_of(leaf);
        if !self.array.stamp_of(&file)?.is_present() {
            return Ok(false);
        }
        if lock(&self.failed).contains(leaf) {
            let mut decoded = vec![0; self.array.reader.leaf_bytes() as usize];
            let stamp = self.array.stamp_of(&file)?;
            self.array.reader.read(leaf, (0, self.plan.tiling.order().n_elems()), stamp, &mut decoded)?;
            // It can be read by now; what it is of then is another matter.
            return Err(self.array.changed(&file));
        }
        let (_, offset) = self.place(share, leaf);
        self.file.read_exact_at(out, offset).map_err(|error| SourceError::Io {
            array: self.array.path().to_owned(),
            key: self.array.reader.key(&file),
            action: "read it back from the temporary file",
            error,
        })?;
        Ok(true)
    }
}

/// Element strides of a part of a leaf that lies by itself, its axes in the leaf's encoded order.
fn part_strides(order: &crate::geometry::EncodedOrder, part: &Region) -> Vec<u64> {
    let shape = part.shape();
    let mut axes: Vec<usize> = (0..shape.len()).collect();
    axes.sort_by_key(|&axis| (order.strides()[axis], std::cmp::Reverse(axis)));
    let mut strides = vec![0; shape.len()];
    let mut stride = 1;
    for axis in axes {
        strides[axis] = stride;
        stride *= shape[axis];
    }
    strides
}

/// Shares that lie one behind the other in the file: offset there, start and end here.
fn runs(shares: &[Share]) -> Vec<(u64, usize, usize)> {
    let mut runs: Vec<(u64, usize, usize)> = Vec::new();
    let mut at = 0;
    for share in shares {
        match runs.last_mut() {
            Some((offset, start, end)) if *offset + (*end - *start) as u64 == share.offset => *end += share.len,
            _ => runs.push((share.offset, at, at + share.len)),
        }
        at += share.len;
    }
    runs
}

/// Bytes that the disk of `folder` takes a second, by writing some.
pub(super) fn disk_bytes_per_s(folder: &Path) -> Option<f64> {
    const PROBE_BYTES: usize = 64 << 20;
    let path = folder.join("probe");
    let probe = || -> std::io::Result<f64> {
        std::fs::create_dir_all(folder)?;
        let file = File::create(&path)?;
        let block = vec![0x5a; 1 << 20];
        let began = std::time::Instant::now();
        for nth in 0..PROBE_BYTES / block.len() {
            file.write_all_at(&block, (nth * block.len()) as u64)?;
        }
        file.sync_data()?;
        Ok(PROBE_BYTES as f64 / began.elapsed().as_secs_f64().max(1e-6))
    };
    let measured = probe().ok();
    drop(std::fs::remove_file(&path));
    measured
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
