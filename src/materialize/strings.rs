//! Copies of arrays whose elements are of any length: each target file is gathered element by element from the source
//! chunks that it touches. Simple rather than fast: such arrays are names and labels beside the data.
//!
//! Nobody knows how much memory a chunk takes before it is decoded. So all threads make target files with an equal share
//! each; what does not fit into one is made afterwards, one file at a time, with all the memory there is.

mod chunk;
mod leaves;

pub(super) use leaves::{Found, SourceLeaves};

use super::CopyError;
use super::array::ArrayCopy;
use super::commits::{Became, Commits};
use super::done::Done;
use super::files::Folder;
use super::plan::BASE_BYTES;
use super::progress::Progress;
use super::shards::Shards;
use crate::geometry::{Region, unravel};
use crate::source::SourceError;
use chunk::{Chunk, Gathered};
use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Copies one array.
#[derive(Debug)]
pub(super) struct StringsCopy<'a> {
    pub(super) at: u32,
    pub(super) array: &'a ArrayCopy,
    pub(super) folder: Folder,
    /// Files that an earlier run has written.
    pub(super) done: &'a Done,
    /// The only files that are to be written; all where it is missing.
    pub(super) only: Option<&'a Done>,
    /// An earlier run may have left files that no commit names.
    pub(super) is_resumed: bool,
    pub(super) commits: &'a Commits,
    pub(super) progress: &'a Progress,
    /// What cannot be read is left out, and noted.
    pub(super) keep_going: bool,
}

/// How memory is divided.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shares {
    /// For source chunks that are kept.
    pub(super) kept_bytes: u64,
    /// For all threads together.
    pub(super) work_bytes: u64,
}

impl Shares {
    pub(super) fn of(memory_bytes: u64) -> Self {
        let bytes = memory_bytes.saturating_sub(BASE_BYTES);
        Shares { kept_bytes: bytes / 4, work_bytes: bytes - bytes / 4 }
    }
}

/// Memory for one target file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Encoded or decoded bytes of a source chunk: twice as much is held while it is decoded.
    pub(super) leaf_bytes: u64,
    /// What becomes of the file.
    pub(super) file_bytes: u64,
    /// There is no more to be had.
    pub(super) is_all: bool,
}

impl Room {
    /// One of `n` equal parts of `bytes`.
    pub(super) fn share(bytes: u64, n: u64) -> Self {
        let bytes = bytes / n.max(1);
        Room { leaf_bytes: bytes / 4, file_bytes: bytes / 2, is_all: n <= 1 }
    }
}

/// What became of a target file.
enum Made {
    /// All of it is there, or need not be: bytes written, and bytes of its elements.
    Done { written: Option<u64>, bytes: u64 },
    /// It takes more memory than there was for it.
    Outgrown,
}

/// What became of a target chunk.
enum MadeChunk {
    /// Encoded, if it is not all fill value; and the bytes of its elements within the array.
    Done { encoded: Option<Vec<u8>>, bytes: u64 },
    /// It takes more memory than there was for it.
    Outgrown,
}

/// Writes every file that is still to be made. Returns what could not be read, where that is to be left out.
pub(super) fn copy(
    copy: &StringsCopy<'_>,
    memory_bytes: u64,
    pool: &rayon::ThreadPool,
) -> Result<Vec<Arc<SourceError>>, CopyError> {
    let array = copy.array;
    let shares = Shares::of(memory_bytes);
    let stamp_of = |file: &[u64]| array.stamp_of(file);
    let leaves = SourceLeaves::new(array.source(), &array.reader, &stamp_of, shares.kept_bytes);
    let run = Run { copy, leaves, memory_bytes, shards: shards(array)?, failures: Mutex::default() };
    each_file(Region::whole(&array.file_grid).n_elems(), shares, pool, copy.progress, &|file, room| {
        let is_wanted = copy.only.is_none_or(|only| only.has(file)) && !copy.done.has(file);
        if is_wanted { run.file(file, room) } else { Ok(true) }
    })?;
    Ok(run.failures.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Calls `make` for each file, on all threads in turn, so that those under way lie close together and draw on the same
/// source chunks; those for which it says `false` again at the end, with all the memory.
pub(super) fn each_file(
    n_files: u64,
    shares: Shares,
    pool: &rayon::ThreadPool,
    progress: &Progress,
    make: &(dyn Fn(u64, Room) -> Result<bool, CopyError> + Sync),
) -> Result<(), CopyError> {
    let room = Room::share(shares.work_bytes, pool.current_num_threads() as u64);
    let (next, outgrown, ended) = (AtomicU64::new(0), Mutex::new(Vec::new()), Mutex::new(None));
    let one = |file: u64, room: Room| if progress.is_stopping() { Err(CopyError::Stopped) } else { make(file, room) };
    pool.broadcast(|_| {
        loop {
            let file = next.fetch_add(1, Relaxed);
            if file >= n_files || lock(&ended).is_some() {
                return;
            }
            match one(file, room) {
                Ok(true) => {}
                Ok(false) => lock(&outgrown).push(file),
                Err(error) => drop(lock(&ended).get_or_insert(error)),
            }
        }
    });
    if let Some(error) = ended.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let mut outgrown = outgrown.into_inner().unwrap_or_else(PoisonError::into_inner);
    outgrown.sort_unstable();
    outgrown.into_iter().try_for_each(|file| one(file, Room::share(shares.work_bytes, 1)).map(drop))
}

/// Shards, each of which is made in one go.
fn shards(array: &ArrayCopy) -> Result<Option<Shards>, CopyError> {
    if !array.is_sharded() {
        return Ok(None);
    }
    let why = || "more chunks than can be numbered; choose larger ones".to_owned();
    let units = array.units(u64::MAX).ok_or_else(|| CopyError::Codec { array: array.path().to_owned(), why: why() })?;
    Ok(Some(Shards::new(array, &units)))
}

struct Run<'a> {
    copy: &'a StringsCopy<'a>,
    leaves: SourceLeaves<'a>,
    memory_bytes: u64,
    shards: Option<Shards>,
    failures: Mutex<Vec<Arc<SourceError>>>,
}

impl Run<'_> {
    /// Makes a target file; `false` where there was not the memory for it.
    fn file(&self, file: u64, room: Room) -> Result<bool, CopyError> {
        let StringsCopy { at, array, folder, progress, commits, .. } = self.copy;
        match self.make(file, room) {
            Ok(Made::Outgrown) if room.is_all => Err(self.too_little()),
            Ok(Made::Outgrown) => Ok(false),
            Ok(Made::Done { written, bytes }) => {
                match written {
                    Some(written) => {
                        Progress::add(&progress.files, 1);
                        Progress::add(&progress.written_bytes, written);
                    }
                    None if self.copy.is_resumed => folder.remove(&array.written_name(file))?,
                    None => {}
                }
                self.count(file, bytes);
                commits.file(*at, file, written.map_or(Became::Nothing, Became::Written));
                Ok(true)
            }
            Err(error) if self.copy.keep_going && error.unread().is_some() => {
                lock(&self.failures).extend(error.unread());
                commits.left_out(*at, file);
                self.count(file, 0);
                // A run before this one may have left anything.
                folder.remove(&array.written_name(file))?;
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    fn make(&self, file: u64, room: Room) -> Result<Made, CopyError> {
        let array = self.copy.array;
        let region = Region::of_cell(&unravel(file, &array.file_grid), &array.file_shape);
        let progress = self.copy.progress;
        let key = || array.written_name(file);
        let Some(shards) = &self.shards else {
            return Ok(match self.chunk(&region, room)? {
                MadeChunk::Outgrown => Made::Outgrown,
                MadeChunk::Done { encoded: None, bytes } => Made::Done { written: None, bytes },
                MadeChunk::Done { encoded: Some(encoded), bytes } => {
                    Progress::timed(&progress.write_ns, || self.copy.folder.write(&key(), &encoded))?;
                    Made::Done { written: Some(encoded.len() as u64), bytes }
                }
            });
        };
        let (mut slab, mut left, mut all_bytes) = (Vec::new(), room, 0);
        for cell in region.cells(array.chunk_shape()).positions() {
            let chunk = self.chunk(&Region::of_cell(&cell, array.chunk_shape()), left)?;
            let MadeChunk::Done { encoded, bytes } = chunk else { return Ok(Made::Outgrown) };
            // Encoded chunks lie in memory until the shard is written.
            let held_bytes = encoded.as_ref().map_or(0, Vec::len) + size_of::<Option<Cow<'_, [u8]>>>();
            left.file_bytes = left.file_bytes.saturating_sub(held_bytes as u64);
            all_bytes += bytes;
            slab.push(encoded.map(Cow::Owned));
        }
        let write = || shards.put(&self.copy.folder, file, 0, slab, &key);
        let written = Progress::timed(&progress.write_ns, write)?;
        Ok(Made::Done { written: written.flatten(), bytes: all_bytes })
    }

    /// Makes the chunk at `region`.
    fn chunk(&self, region: &Region, room: Room) -> Result<MadeChunk, CopyError> {
        let StringsCopy { array, progress, .. } = self.copy;
        let inside = region.clipped(&array.source().shape);
        let fill = &array.source().fill;
        let fill_bytes = inside.n_elems().saturating_mul(fill.len() as u64);
        if inside.is_empty() || !array.is_any_present(&inside)? {
            return Ok(MadeChunk::Done { encoded: None, bytes: fill_bytes });
        }
        let order = &array.copied.encoding.order;
        let Some(mut chunk) = Chunk::new(region, order, fill, room.file_bytes) else {
            return Ok(MadeChunk::Outgrown);
        };
        for leaf in inside.cells(&array.source().leaf_shape).positions() {
            let found = match self.leaves.get(&leaf, room.leaf_bytes)? {
                Found::Absent => continue,
                Found::TooLarge if room.is_all => return Err(self.leaves.too_large(&leaf, self.memory_bytes).into()),
                Found::TooLarge => return Ok(MadeChunk::Outgrown),
                Found::Here(found) => found,
            };
            if !Progress::timed(&progress.place_ns, || chunk.place(&inside, &found)) {
                return Ok(MadeChunk::Outgrown);
            }
        }
        let bytes = fill_bytes + chunk.placed_bytes() - chunk.n_placed() * fill.len() as u64;
        let encoded = Progress::timed(&progress.encode_ns, || chunk.encode(&array.encoder));
        match encoded.map_err(|why| CopyError::Codec { array: array.path().to_owned(), why })? {
            Gathered::Fill => Ok(MadeChunk::Done { encoded: None, bytes }),
            Gathered::Encoded(encoded) => Ok(MadeChunk::Done { encoded: Some(encoded), bytes }),
            Gathered::TooLarge => Ok(MadeChunk::Outgrown),
        }
    }

    /// What was expected of a file is replaced by what it came to.
    fn count(&self, file: u64, bytes: u64) {
        let array = self.copy.array;
        let region = Region::of_cell(&unravel(file, &array.file_grid), &array.file_shape);
        let elems = region.clipped(&array.source().shape).n_elems();
        self.copy.progress.came_to(elems.saturating_mul(array.item_bytes()), bytes);
    }

    fn too_little(&self) -> CopyError {
        let mib = format!("{} MiB", self.memory_bytes >> 20);
        CopyError::TooLittleMemory {
            array: self.copy.array.path().to_owned(),
            needed: format!("more than {mib}"),
            given: mib,
            what: "one target chunk, or shard, of its strings at a time",
            remedy: "choose smaller chunks",
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
