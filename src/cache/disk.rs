//! A cache on disk: records of byte sections, kept for other processes, within a bound. Knows no Zarr.
//!
//! A record is written to the side and renamed, and never synced: whatever a crash, a full disk or a failing one leaves
//! is found by its checksums, removed, and not served. So a record is there whole, or it is not there.

mod record;
mod space;

pub use record::{Name, Record, Sink};

use lru::LruCache;
use record::Fault;
use rustix::fs::OFlags;
use space::Space;
use std::collections::HashSet;
use std::fs::OpenOptions;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind};
use std::num::NonZeroUsize;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

/// Below the folder that the user names; another format has another name.
const FOLDER: &str = "rechunkfs-1";
/// Records kept open.
const MAX_OPEN: NonZeroUsize = NonZeroUsize::new(64).unwrap();
/// How often a record that is read again and again is marked as used.
const MARK_S: u64 = 60;
/// With so many damaged records that cannot be removed, nothing is read any more.
const MAX_AVOIDED: usize = 1000;

/// What went wrong. Never a reason not to answer: what is not on disk is built again.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The operating system refused.
    #[error("{}: {action}: {error}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system says.
        error: io::Error,
    },
    /// A record is not what was written.
    #[error("{}: {why}; it is not used, and removed", path.display())]
    Damaged {
        /// Which one.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
    /// One record is more than the bound.
    #[error("{}: no room for {} MiB; allow more with --cache-size, or free some of the disk", path.display(), needed_bytes.div_ceil(1 << 20))]
    NoRoom {
        /// The folder.
        path: PathBuf,
        /// For a record.
        needed_bytes: u64,
    },
}

/// Running totals.
#[derive(Debug, Default)]
pub struct DiskTotals {
    /// Ranges read from records.
    pub hits: AtomicU64,
    /// Their bytes.
    pub read_bytes: AtomicU64,
    /// Bytes of the records written.
    pub written_bytes: AtomicU64,
    /// Records damaged, and failures of the operating system.
    pub errors: AtomicU64,
}

/// Writes a section of a record, by its number.
pub type Sections<'a> = Box<dyn FnMut(usize, Sink<'_>) -> io::Result<()> + 'a>;

/// The cache.
#[derive(Debug)]
pub struct DiskCache {
    folder: PathBuf,
    space: Space,
    open: Mutex<LruCache<Name, Arc<Record>>>,
    /// Damaged records that could not be removed.
    avoided: Mutex<HashSet<Name>>,
    began: Instant,
    /// Running totals.
    pub totals: DiskTotals,
}

impl DiskCache {
    /// The cache in `folder`, which is created where it is missing.
    ///
    /// # Errors
    /// Where nothing can be written there.
    pub fn open(folder: &Path, limit_bytes: u64) -> Result<Self, DiskError> {
        let below = folder.join(FOLDER);
        let cannot = |error| DiskError::Io {
            path: folder.to_owned(),
            action: "decoded data cannot be kept there; name a folder of yours with --cache-dir",
            error,
        };
        let space = Space::open(&below, limit_bytes).map_err(cannot)?;
        Ok(DiskCache {
            folder: below,
            space,
            open: Mutex::new(LruCache::new(MAX_OPEN)),
            avoided: Mutex::default(),
            began: Instant::now(),
            totals: DiskTotals::default(),
        })
    }

    /// The folder of the records.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Bytes that the records of all processes take; 0 where that cannot be told.
    pub fn used_bytes(&self) -> u64 {
        self.space.used_bytes().unwrap_or(0)
    }

    /// The bound as it is now: the disk's free space counts, too.
    pub fn limit_bytes(&self) -> u64 {
        self.space.limit_bytes(self.used_bytes()).unwrap_or(0)
    }

    /// Record `name`, if there is one of the version that `version` tells. That is asked for only where a record is
    /// opened: one that is open was compared before, and versions are settled.
    ///
    /// # Errors
    /// Where the record is damaged, or cannot be looked at.
    pub fn find(&self, name: Name, version: impl FnOnce() -> Option<u128>) -> Result<Option<Arc<Record>>, DiskError> {
        let known = lock(&self.open).get(&name).cloned();
        if let Some(record) = known.filter(|record| self.is_still_there(record)) {
            return Ok(Some(record));
        }
        let path = self.space.record(&name);
        // A named pipe in a record's place must not keep anybody waiting.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed(path, "it cannot be opened", error)),
        };
        if self.is_avoided(&name) {
            return Ok(None);
        }
        let record = Record::open(file, name).map_err(|fault| self.fault(name, fault))?;
        if version() != Some(record.version) {
            return Ok(None);
        }
        let record = Arc::new(record);
        self.mark(&record);
        lock(&self.open).put(name, Arc::clone(&record));
        Ok(Some(record))
    }

    /// Length of section `nth` of a record; 0 where it has none.
    ///
    /// # Errors
    /// Where the record is damaged, or cannot be read.
    pub fn section_bytes(&self, record: &Record, nth: u64) -> Result<u64, DiskError> {
        record.section(nth).map(|(start, end)| end - start).map_err(|fault| self.fault(record.name, fault))
    }

    /// Appends `len` bytes of section `nth` from `offset` to `out`: all of them, or none where it is shorter.
    ///
    /// # Errors
    /// Where the record is damaged, or cannot be read.
    pub fn read(
        &self,
        record: &Record,
        nth: u64,
        (offset, len): (u64, u64),
        out: &mut Vec<u8>,
    ) -> Result<bool, DiskError> {
        let fault = |fault| self.fault(record.name, fault);
        let (start, end) = record.section(nth).map_err(fault)?;
        if offset.saturating_add(len) > end - start {
            return Ok(false);
        }
        record.read(start + offset, len, out).map_err(fault)?;
        Ok(true)
    }

    /// Writes record `name`, in the place of the one that is there. `plan` is called while nobody else writes, so that it
    /// may take over parts of that one; it tells the length of each section, and how to write it.
    ///
    /// # Errors
    /// Where it cannot be written, or takes more than the bound. What was there stays.
    pub fn write<'a>(
        &self,
        name: Name,
        version: u128,
        plan: impl FnOnce() -> (Vec<u64>, Sections<'a>),
    ) -> Result<(), DiskError> {
        let failed = |error| self.failed(self.folder.clone(), "a record cannot be written", error);
        let mut held = self.space.hold().map_err(failed)?;
        // Another process may have replaced what is open here.
        lock(&self.open).pop(&name);
        let (lens, mut section) = plan();
        let bytes = record::bytes_of(&lens);
        if !held.make_room(bytes, &mut |gone| drop(lock(&self.open).pop(gone))).map_err(failed)? {
            return Err(DiskError::NoRoom { path: self.folder.clone(), needed_bytes: bytes });
        }
        let temporary = held.temporary();
        let nonce = RandomState::new().hash_one((name, SystemTime::now()));
        let written =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).and_then(|mut file| {
                record::write(&mut file, (name, version, nonce), &lens, &mut *section)?;
                held.publish(&name, bytes)
            });
        if let Err(error) = written {
            let _ = space::remove(&temporary);
            return Err(failed(error));
        }
        drop(held);
        lock(&self.open).pop(&name);
        lock(&self.avoided).remove(&name);
        self.totals.written_bytes.fetch_add(bytes, Relaxed);
        Ok(())
    }

    /// Removes a damaged record, and sees to it that it is not read again even where that fails.
    fn fault(&self, name: Name, fault: Fault) -> DiskError {
        let path = self.space.record(&name);
        match fault {
            Fault::Io(error) => {
                self.avoid(name);
                self.failed(path, "it cannot be read", error)
            }
            Fault::Damaged(why) => {
                if space::remove(&path).is_err() {
                    self.avoid(name);
                }
                lock(&self.open).pop(&name);
                self.totals.errors.fetch_add(1, Relaxed);
                DiskError::Damaged { path, why }
            }
        }
    }

    fn avoid(&self, name: Name) {
        lock(&self.open).pop(&name);
        let mut avoided = lock(&self.avoided);
        if avoided.len() < MAX_AVOIDED {
            avoided.insert(name);
        }
    }

    fn is_avoided(&self, name: &Name) -> bool {
        let avoided = lock(&self.avoided);
        avoided.len() >= MAX_AVOIDED || avoided.contains(name)
    }

    fn failed(&self, path: PathBuf, action: &'static str, error: io::Error) -> DiskError {
        self.totals.errors.fetch_add(1, Relaxed);
        DiskError::Io { path, action, error }
    }

    /// Whether an open record may be used on. Now and then it is marked as used, which is also when one that another
    /// process has evicted is let go of, so that its room becomes free.
    fn is_still_there(&self, record: &Record) -> bool {
        if self.began.elapsed().as_secs() < record.marked_s.load(Relaxed) + MARK_S {
            return true;
        }
        self.mark(record);
        record.file.metadata().is_ok_and(|metadata| metadata.nlink() > 0)
    }

    /// The time of modification is that of the last use, about: it decides what is evicted first.
    fn mark(&self, record: &Record) {
        record.marked_s.store(self.began.elapsed().as_secs(), Relaxed);
        let marked = record.file.metadata().and_then(|metadata| metadata.modified());
        if marked.is_ok_and(|marked| marked.elapsed().is_ok_and(|age| age.as_secs() >= MARK_S)) {
            // A wrong time costs time only.
            let _ = record.file.set_modified(SystemTime::now());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
