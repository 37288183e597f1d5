//! How much room the records take, over all processes that share the folder, and what makes way for more.
//!
//! Whoever writes holds the lock of the folder; so there is one temporary file, sums are exact, and a process that dies
//! lets go. The sum stands in the locked file. It may be too high, after a crash or where somebody removed records by
//! hand: before anything is evicted, the folder is counted again.

use super::record::Name;
use std::collections::BinaryHeap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

const LOCK: &str = "lock";
const TEMPORARY: &str = "writing";
const TAG: &str = "CACHEDIR.TAG";
/// By which backup programs know what they need not keep.
const TAG_TEXT: &str = "Signature: 8a477f597d28d172789f06886806bc55\n# Decoded chunks that rechunkfs keeps.\n";
/// Records weighed up at a time, of which the oldest go. Bounds the memory of an eviction.
const MAX_CANDIDATES: usize = 1 << 15;
/// How long the lock is waited for: writing a record takes less than a second.
const LOCK_PATIENCE: Duration = Duration::from_secs(8);
const LOCK_PAUSE: Duration = Duration::from_millis(2);
/// Files take whole pages.
const PAGE_BYTES: u64 = 4096;

/// The folder and its bound.
#[derive(Debug)]
pub(super) struct Space {
    folder: PathBuf,
    limit_bytes: u64,
}

/// The folder, locked.
#[derive(Debug)]
pub(super) struct Held<'a> {
    space: &'a Space,
    /// Unlocks when closed.
    lock: File,
    used_bytes: u64,
}

/// A record that may make way: the oldest use first, as a max-heap of the oldest wants it.
type Candidate = (i128, u64, u128, u64);

impl Space {
    /// The folder, created where it is missing; only its owner gets in.
    pub(super) fn open(folder: &Path, limit_bytes: u64) -> io::Result<Self> {
        let space = Space { folder: folder.to_owned(), limit_bytes };
        space.hold()?;
        // Checksums tell damage, not malice: whoever owns the folder could make up records.
        if fs::metadata(folder)?.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::new(ErrorKind::PermissionDenied, "it belongs to another user"));
        }
        Ok(space)
    }

    pub(super) fn record(&self, name: &Name) -> PathBuf {
        self.folder.join(format!("{:032x}/{:016x}", name.family, name.number))
    }

    /// Bytes that all records take, by the last word of whoever wrote.
    pub(super) fn used_bytes(&self) -> Option<u64> {
        sum(&fs::read_to_string(self.folder.join(LOCK)).ok()?)
    }

    /// The bound: what was asked for, and never more than nine tenths of what the disk could give.
    pub(super) fn limit_bytes(&self, used_bytes: u64) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(&self.folder)?;
        let could = disk.f_bavail.saturating_mul(disk.f_frsize).saturating_add(used_bytes);
        Ok(self.limit_bytes.min(could / 10 * 9))
    }

    /// Waits until no other process writes, some seconds at most. What one that died had begun is removed.
    pub(super) fn hold(&self) -> io::Result<Held<'_>> {
        // Each time anew: somebody may have removed it all, which is no reason to do without from then on.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let path = self.folder.join(LOCK);
        let mut lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        take(&lock)?;
        let tag = self.folder.join(TAG);
        if !tag.exists() {
            fs::write(tag, TAG_TEXT)?;
        }
        remove(&self.folder.join(TEMPORARY))?;
        let mut text = String::new();
        let known = lock.read_to_string(&mut text).ok().and_then(|_| sum(&text));
        let mut held = Held { space: self, lock, used_bytes: 0 };
        match known {
            Some(used_bytes) => held.used_bytes = used_bytes,
            None => drop(held.count()?),
        }
        Ok(held)
    }
}

impl Held<'_> {
    /// Where the record to come is written first.
    pub(super) fn temporary(&self) -> PathBuf {
        self.space.folder.join(TEMPORARY)
    }

    /// Evicts what was not used for longest until `bytes` more fit; `evicted` learns of each. Whether they fit at all.
    pub(super) fn make_room(&mut self, bytes: u64, evicted: &mut dyn FnMut(&Name)) -> io::Result<bool> {
        let limit_bytes = self.space.limit_bytes(self.used_bytes)?;
        let bytes = on_disk(bytes);
        if bytes > limit_bytes {
            return Ok(false);
        }
        while self.used_bytes + bytes > limit_bytes {
            let mut oldest = self.count()?;
            if self.used_bytes + bytes > limit_bytes && oldest.is_empty() {
                return Ok(false);
            }
            oldest.sort_unstable();
            // Some more than needed, so that not each record to come means counting again.
            let target = (limit_bytes - bytes).saturating_sub(limit_bytes / 16);
            for (_, size_bytes, family, number) in oldest {
                if self.used_bytes <= target {
                    break;
                }
                let name = Name { family, number };
                remove(&self.space.record(&name))?;
                self.used_bytes -= size_bytes;
                evicted(&name);
            }
            self.note(self.used_bytes)?;
        }
        Ok(true)
    }

    /// Puts the finished temporary file in the place of record `name`.
    pub(super) fn publish(&mut self, name: &Name, bytes: u64) -> io::Result<()> {
        let path = self.space.record(name);
        if let Some(family) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(family)?;
        }
        let replaced_bytes = fs::symlink_metadata(&path).map_or(0, |replaced| on_disk(replaced.len()));
        // First the sum, so that a crash in between leaves it too high, never too low.
        self.note(self.used_bytes + on_disk(bytes))?;
        fs::rename(self.temporary(), path)?;
        if replaced_bytes > 0 {
            self.note(self.used_bytes.saturating_sub(replaced_bytes))?;
        }
        Ok(())
    }

    fn note(&mut self, used_bytes: u64) -> io::Result<()> {
        use std::io::Write;
        self.used_bytes = used_bytes;
        self.lock.rewind()?;
        // Of fixed length: a shorter number must not leave digits of a longer one.
        writeln!(self.lock, "{used_bytes:020}")
    }

    /// Sums up what is there, and returns those records that were not used for longest.
    fn count(&mut self) -> io::Result<Vec<Candidate>> {
        let mut oldest: BinaryHeap<Candidate> = BinaryHeap::new();
        let mut used_bytes = 0;
        for (folder, family) in named(&self.space.folder, 32, |text| u128::from_str_radix(text, 16).ok())? {
            let mut any = false;
            for (path, number) in named(&folder, 16, |text| u64::from_str_radix(text, 16).ok())? {
                any = true;
                let Some(metadata) = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file) else { continue };
                let age = metadata.modified().ok().map_or(0, |time| match time.duration_since(UNIX_EPOCH) {
                    Ok(since) => since.as_nanos() as i128,
                    Err(_) => 0,
                });
                let size_bytes = on_disk(metadata.size());
                used_bytes += size_bytes;
                oldest.push((age, size_bytes, family, number));
                if oldest.len() > MAX_CANDIDATES {
                    oldest.pop();
                }
            }
            if !any {
                // Of an array that is no more; only where it is empty.
                let _ = fs::remove_dir(folder);
            }
        }
        self.note(used_bytes)?;
        Ok(oldest.into_vec())
    }
}

/// Locks. A process that is stopped while it holds the lock must not stop all others for good.
fn take(lock: &File) -> io::Result<()> {
    let end = Instant::now() + LOCK_PATIENCE;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < end => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(ErrorKind::TimedOut, "another process keeps it locked"));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// The entries of `folder` whose names are numbers of `n_digits` digits. Whatever else is there is not ours.
fn named<N>(
    folder: &Path,
    n_digits: usize,
    parse: impl Fn(&str) -> Option<N>,
) -> io::Result<impl Iterator<Item = (PathBuf, N)>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => Some(entries),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => None,
        Err(error) => return Err(error),
    };
    Ok(entries.into_iter().flatten().flatten().filter_map(move |entry| {
        let name = entry.file_name().into_string().ok().filter(|name| name.len() == n_digits)?;
        Some((entry.path(), parse(&name)?))
    }))
}

/// The sum in the locked file, if it is one; no disk holds what passes 2^60.
fn sum(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|&bytes| bytes < 1 << 60)
}

fn on_disk(bytes: u64) -> u64 {
    bytes.next_multiple_of(PAGE_BYTES)
}

/// Removes a file that may be gone already.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
