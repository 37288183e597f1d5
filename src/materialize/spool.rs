//! Two passes through a temporary file, for arrays whose tiles do not fit into memory together with what they share.
//!
//! Where each tile would decode most source leaves anew, the first pass decodes every leaf once and puts what each tile
//! takes of it where that tile's bytes lie in the file: tile after tile, and within one leaf after leaf. What a band of
//! leaves that follow each other adds to a tile is one run. The second pass reads each tile's run of runs, once.
//!
//! Where there are so many tiles that runs would be short, the first pass writes bundles of tiles instead, which are boxes as
//! tiles are. Each bundle is then brought into the order of its tiles in a file of its own, and its tiles are made from there.

mod places;
mod probe;

use super::CopyError;
use super::array::ArrayCopy;
use super::commits::Commits;
use super::disk::{self, Out};
use super::done::Done;
use super::journal::Spool;
use super::partition::PartOf;
use super::plan::{ArrayPlan, TILES_AT_ONCE};
use super::progress::Progress;
use crate::geometry::{LeafShare, Region, TileId, Tiling, unravel};
use crate::source::{SourceError, Workspace};
use crate::synthesis::{CopyAxis, Lay, Leaves, Slots, copy_strided};
use places::{Places, lay_of, runs};
pub(super) use probe::disk_bytes_per_s;
use rayon::prelude::*;
use std::collections::HashSet;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The temporary file of one array.
#[derive(Debug)]
pub(super) struct SpoolFile<'a> {
    array: &'a ArrayCopy,
    plan: &'a ArrayPlan,
    /// All of the array.
    file: Out,
    spool: Spool,
    places: Places<'a>,
    /// The bundle at hand, in the order of its tiles.
    bundle: Option<(Out, PathBuf)>,
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

impl<'a> SpoolFile<'a> {
    /// Opens the file as an earlier run left it, or a new one, with its room on disk reserved; room for `only` these tiles, in
    /// order, where they are given.
    pub(super) fn open(
        array: &'a ArrayCopy,
        plan: &'a ArrayPlan,
        spool: Spool,
        only: Option<Vec<TileId>>,
    ) -> Result<Self, CopyError> {
        let places = Places::new(plan, spool.tiles_per_bundle, array.item_bytes(), only);
        let path = spool.path.clone();
        let file = if plan.is_spool_begun {
            disk::open(&path).map_err(|error| CopyError::io(&path, "open it", error))?
        } else {
            create(&path, places.all_bytes())?
        };
        let bundle = match places.bundles {
            Some(_) => {
                let path = path.with_extension("bundle");
                Some((create(&path, places.most_bytes())?, path))
            }
            None => None,
        };
        let found = file.file().metadata().map_err(|error| CopyError::io(&path, "look at it", error))?;
        let spool = Spool { inode: found.ino(), len_bytes: found.len(), ..spool };
        let leaf_grid = Region::whole(&array.source().shape).cells(&array.source().leaf_shape).shape();
        Ok(SpoolFile { array, plan, file, spool, places, bundle, leaf_grid, failed: Mutex::default() })
    }

    /// The file as the journal is to know it.
    pub(super) fn spool(&self) -> &Spool {
        &self.spool
    }

    /// Removes it.
    pub(super) fn remove(self) -> Result<(), CopyError> {
        if let Some((_, path)) = &self.bundle {
            super::site::remove(path)?;
        }
        super::site::remove(&self.spool.path)
    }

    /// Tiles that are made from what [`Self::bring`] has brought together, one portion after the other.
    pub(super) fn portions(&self) -> impl Iterator<Item = Range<u64>> {
        self.places.portions()
    }

    /// Number of bands.
    fn n_bands(&self) -> u64 {
        self.leaf_grid.iter().product::<u64>().div_ceil(self.spool.leaves_per_band)
    }

    /// Decoded bytes of a band, about: for showing progress.
    fn band_bytes(&self) -> u64 {
        self.array.array_bytes() / self.n_bands().max(1)
    }

    /// The first pass: puts every band into the file that `done` does not name.
    pub(super) fn fill(&self, work: Filling<'_>) -> Result<(), CopyError> {
        let Filling { at, done, commits, progress, .. } = work;
        let passes = if self.bundle.is_some() { 2 } else { 1 };
        Progress::add(&progress.spool_bytes, passes * self.n_bands() * self.band_bytes());
        let slots = Slots::new(self.plan.scratch_bytes);
        let n_leaves: u64 = self.leaf_grid.iter().product();
        in_turn(self.n_bands(), progress, |band| {
            if !done.has(band) {
                let first = band * self.spool.leaves_per_band;
                let numbers = first..(first + self.spool.leaves_per_band).min(n_leaves);
                let leaves = numbers.map(|nth| unravel(nth, &self.leaf_grid));
                if let Some(bytes) = self.scatter(leaves, None, &slots, work)? {
                    commits.band(at, band, bytes);
                }
            }
            Progress::add(&progress.spooled_bytes, self.band_bytes());
            Ok(())
        })
    }

    /// Brings a portion of the tiles together, if `is_wanted` says so of their region.
    pub(super) fn bring(
        &self,
        tiles: &Range<u64>,
        work: Filling<'_>,
        is_wanted: impl FnOnce(&Region) -> bool,
    ) -> Result<(), CopyError> {
        if self.bundle.is_none() {
            return Ok(());
        }
        let region = self.plan.tiling.region_of(tiles);
        if !region.is_empty() && is_wanted(&region) {
            let leaf_shape = &self.array.source().leaf_shape;
            let cells = region.cells(leaf_shape);
            let lens = region.shape().into_iter().zip(leaf_shape).map(|(len, leaf)| len.min(*leaf));
            let part_bytes = lens.fold(self.array.item_bytes(), u64::saturating_mul).max(1);
            let band_bytes = self.spool.leaves_per_band.saturating_mul(self.array.reader.leaf_bytes());
            let per_slice = (band_bytes / part_bytes).max(1);
            let slots = Slots::new(self.plan.scratch_bytes);
            in_turn(cells.n_elems().div_ceil(per_slice), work.progress, |slice| {
                let numbers = slice * per_slice..((slice + 1) * per_slice).min(cells.n_elems());
                let leaves = numbers.map(|nth| unravel(nth, &cells.shape()));
                let leaves = leaves.map(|leaf| leaf.iter().zip(&cells.start).map(|(at, start)| at + start).collect());
                self.scatter(leaves, Some(tiles), &slots, work).map(drop)
            })?;
        }
        Progress::add(&work.progress.spooled_bytes, self.places.bytes_of(tiles));
        Ok(())
    }

    /// Puts what each box takes of `leaves` where it belongs: into the file with all of the array or, of what lies there for
    /// `bundle`, into the bundle's own. Returns the bytes written; `None` where something had to be left out.
    fn scatter(
        &self,
        leaves: impl Iterator<Item = Vec<u64>>,
        bundle: Option<&Range<u64>>,
        slots: &Slots,
        work: Filling<'_>,
    ) -> Result<Option<u64>, CopyError> {
        let Filling { progress, pool, .. } = work;
        let shares_of = |nth: usize, leaf: &[u64]| match bundle {
            Some(bundle) => self.places.of_leaf_in(nth, &self.cell(leaf), bundle),
            None => self.places.of_leaf(nth, &self.cell(leaf)),
        };
        let (mut present, mut shares) = (Vec::new(), Vec::new());
        for leaf in leaves {
            let of_leaf = shares_of(present.len(), &leaf);
            if !of_leaf.is_empty() && self.array.stamp_of(&self.array.reader.file_of(&leaf))?.is_present() {
                shares.extend(of_leaf);
                present.push(leaf);
            }
        }
        // In the order of the file, so that what lies together there lies together here.
        shares.sort_by_key(|share| share.offset);
        let total: usize = shares.iter().map(|share| share.len).sum();
        let mut bytes = vec![0; total];
        let mut of_leaf: Vec<Vec<(&Region, &mut [u8])>> = present.iter().map(|_| Vec::new()).collect();
        let mut rest = bytes.as_mut_slice();
        for share in &shares {
            let (slot, after) = rest.split_at_mut(share.len);
            of_leaf[share.nth].push((&share.part, slot));
            rest = after;
        }
        let is_whole = AtomicBool::new(true);
        pool.install(|| {
            let take = |(leaf, parts): (&Vec<u64>, Vec<(&Region, &mut [u8])>)| {
                let taken = match bundle {
                    Some(bundle) => self.read_back(leaf, bundle, parts, slots, progress),
                    None => self.decode(leaf, parts, slots, progress),
                };
                match taken {
                    // The second pass comes to it again, and says what is missing because of it.
                    Err(error) if work.keep_going && error.unread().is_some() => {
                        is_whole.store(false, Relaxed);
                        lock(&self.failed).insert(leaf.clone());
                        Ok(())
                    }
                    taken => taken,
                }
            };
            present.par_iter().zip(of_leaf).try_for_each(take)
        })?;
        let (file, path) = match (&self.bundle, bundle) {
            (Some((file, path)), Some(_)) => (file, path),
            _ => (&self.file, &self.spool.path),
        };
        let write = |&(offset, start, end): &(u64, usize, usize)| {
            let written = Progress::timed(&progress.write_ns, || file.write_all_at(&bytes[start..end], offset));
            written.map_err(|error| CopyError::io(path, "write it", error))
        };
        pool.install(|| runs(&shares).par_iter().try_for_each(write))?;
        Ok(is_whole.into_inner().then_some(total as u64))
    }

    /// The elements of a leaf, within the array.
    fn cell(&self, leaf: &[u64]) -> Region {
        let source = self.array.source();
        Region::of_cell(leaf, &source.leaf_shape).clipped(&source.shape)
    }

    /// Decodes a leaf and takes its parts out.
    fn decode(
        &self,
        leaf: &[u64],
        parts: Vec<(&Region, &mut [u8])>,
        slots: &Slots,
        progress: &Progress,
    ) -> Result<(), CopyError> {
        let (array, order) = (self.array, self.plan.tiling.order());
        let lay = Lay { strides: order.strides().to_vec(), first_elem: 0, n_elems: order.n_elems() };
        let len = order.n_elems() as usize * array.item_bytes() as usize;
        slots.with(len, array.reader.scratch_bytes(len as u64), |decoded| {
            let stamp = array.stamp_of(&array.reader.file_of(leaf))?;
            if !array.reader.read(leaf, (0, order.n_elems()), stamp, decoded)? {
                crate::synthesis::fill_with(decoded, &array.source().fill);
            }
            self.take_out(decoded, &lay, parts, progress);
            Ok(())
        })
    }

    /// Reads what a bundle takes of a leaf, and takes its tiles' parts out.
    fn read_back(
        &self,
        leaf: &[u64],
        bundle: &Range<u64>,
        parts: Vec<(&Region, &mut [u8])>,
        slots: &Slots,
        progress: &Progress,
    ) -> Result<(), CopyError> {
        let share = self.places.of_bundle(0, &self.cell(leaf), bundle);
        let lay = lay_of(self.plan.tiling.order(), &share.part);
        slots.with(share.len, 0, |bytes| {
            let read = self.file.file().read_exact_at(bytes, share.offset);
            read.map_err(|error| CopyError::io(&self.spool.path, "read it back", error))?;
            self.take_out(bytes, &lay, parts, progress);
            Ok(())
        })
    }

    /// Copies parts of a leaf, of which `bytes` hold what `lay` says.
    fn take_out(&self, bytes: &[u8], lay: &Lay, parts: Vec<(&Region, &mut [u8])>, progress: &Progress) {
        let (order, item_bytes) = (self.plan.tiling.order(), self.array.item_bytes() as usize);
        Progress::timed(&progress.place_ns, || {
            for (part, out) in parts {
                let strides = lay_of(order, part).strides;
                let axes: Vec<CopyAxis> = (0..part.rank())
                    .map(|a| CopyAxis {
                        n: (part.end[a] - part.start[a]) as usize,
                        source: lay.strides[a] as usize * item_bytes,
                        target: strides[a] as usize * item_bytes,
                    })
                    .collect();
                let from: u64 = part.start.iter().zip(&lay.strides).map(|(at, stride)| at * stride).sum();
                copy_strided(bytes, (from - lay.first_elem) as usize * item_bytes, out, 0, &axes, item_bytes);
            }
        });
    }
}

impl Leaves for SpoolFile<'_> {
    fn scratch_bytes(&self, _part_bytes: u64) -> u64 {
        0
    }

    fn lay(&self, _tiling: &Tiling, boxes: &[Region]) -> Lay {
        // Tiles on chunk borders take one box of each leaf.
        lay_of(self.plan.tiling.order(), &boxes[0])
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
        let offset = self.places.of_tile(&self.cell(leaf), share).offset;
        let from = self.bundle.as_ref().map_or(&self.file, |(file, _)| file);
        from.file().read_exact_at(out, offset).map_err(|error| SourceError::Io {
            array: self.array.path().to_owned(),
            key: self.array.reader.key(&file),
            action: "read it back from the temporary file",
            error,
        })?;
        Ok(true)
    }
}

/// Bytes of the temporary files that `plan` makes, for `part` of the array if not for all of it.
pub(super) fn temp_bytes(array: &ArrayCopy, plan: &ArrayPlan, part: Option<PartOf>) -> u64 {
    match (&plan.spool, part) {
        (None, _) => 0,
        (Some(_), Some(part)) => part.bytes,
        (Some(spool), None) => {
            let places = Places::new(plan, spool.tiles_per_bundle, array.item_bytes(), None);
            places.all_bytes() + places.bundles.map_or(0, |_| places.most_bytes())
        }
    }
}

/// A new file of `len` bytes, its room on disk reserved.
fn create(path: &Path, len: u64) -> Result<Out, CopyError> {
    let io = |error| CopyError::io(path, "make room for it", error);
    super::site::remove(path)?;
    if let Some(folder) = path.parent() {
        disk::make_folders(folder).map_err(io)?;
    }
    let file = disk::create_new(path).map_err(io)?;
    file.reserve(len).map_err(io)?;
    file.set_len(len).map_err(io)?;
    Ok(file)
}

/// Does `work` for each of 0..n, in order, several at a time; ends with the first error, or when the copy is to stop.
fn in_turn(n: u64, progress: &Progress, work: impl Fn(u64) -> Result<(), CopyError> + Sync) -> Result<(), CopyError> {
    let next = AtomicU64::new(0);
    let ended: Mutex<Option<CopyError>> = Mutex::new(None);
    let drive = || {
        loop {
            let nth = next.fetch_add(1, Relaxed);
            if nth >= n || lock(&ended).is_some() {
                return;
            }
            let worked =
                if progress.is_stopping() { Err(CopyError::Stopped) } else { CopyError::of_panic(|| work(nth)) };
            if let Err(error) = worked {
                lock(&ended).get_or_insert(error);
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
