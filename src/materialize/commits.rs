//! Group commits: what is written is synced every few seconds, then named in the journal.

use super::CopyError;
use super::array::ArrayCopy;
use super::journal::{ArrayCommit, Commit, Journal, Spool, runs};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A crash costs at most what was done in this time, or this many bytes, and in the commit under way. Short copies are
/// committed more often, at a fifth of the time that they have taken so far, but not so often that commits take more
/// than a sixth of it.
const AT_MOST_EVERY: Duration = Duration::from_secs(5);
const AT_LEAST_EVERY: Duration = Duration::from_millis(300);
const EVERY_BYTES: u64 = 256 << 20;
/// How soon a commit thread sees that there is nothing more to come.
const GLANCE: Duration = Duration::from_millis(50);

/// What is written and not yet in the journal.
#[derive(Debug, Default)]
struct Pending {
    files: BTreeMap<u32, Vec<u64>>,
    bands: BTreeMap<u32, Vec<u64>>,
    spools: BTreeMap<u32, Spool>,
    passed: Vec<(String, u64)>,
    bytes: u64,
    is_over: bool,
}

/// Collects what is written, and commits it.
#[derive(Debug)]
pub(super) struct Commits {
    pending: Mutex<Pending>,
    wake: Condvar,
    /// Folders on the file systems that are written to.
    folders: Vec<PathBuf>,
}

impl Commits {
    pub(super) fn new(folders: Vec<PathBuf>) -> Self {
        Commits { pending: Mutex::default(), wake: Condvar::new(), folders }
    }

    /// Target file `file` of an array is written, or need not be.
    pub(super) fn file(&self, array: u32, file: u64, bytes: u64) {
        self.note(bytes, |pending| pending.files.entry(array).or_default().push(file));
    }

    /// A file was copied as it is.
    pub(super) fn passed(&self, key: String, stamp: u64, bytes: u64) {
        self.note(bytes, |pending| pending.passed.push((key, stamp)));
    }

    /// An array goes through a temporary file that lies so.
    pub(super) fn spool(&self, array: u32, spool: Spool) {
        self.note(0, |pending| drop(pending.spools.insert(array, spool)));
    }

    /// A band of an array is in its temporary file.
    pub(super) fn band(&self, array: u32, band: u64, bytes: u64) {
        self.note(bytes, |pending| pending.bands.entry(array).or_default().push(band));
    }

    fn note(&self, bytes: u64, what: impl FnOnce(&mut Pending)) {
        let mut pending = self.lock();
        what(&mut pending);
        pending.bytes += bytes;
        if pending.bytes >= EVERY_BYTES {
            self.wake.notify_all();
        }
    }

    /// Commits until [`Self::end`]; what is noted after the last commit is left to [`Self::commit`].
    pub(super) fn run(&self, journal: &Mutex<Journal>, arrays: &[ArrayCopy]) -> Result<(), CopyError> {
        let start = Instant::now();
        let mut took = Duration::ZERO;
        loop {
            let began = Instant::now();
            let every = (start.elapsed() / 5).max(took * 5).clamp(AT_LEAST_EVERY, AT_MOST_EVERY);
            let mut pending = self.lock();
            while !pending.is_over && pending.bytes < EVERY_BYTES && began.elapsed() < every {
                pending = self.wake.wait_timeout(pending, GLANCE).unwrap_or_else(PoisonError::into_inner).0;
            }
            let is_over = pending.is_over;
            drop(pending);
            if is_over {
                return Ok(());
            }
            let began = Instant::now();
            self.commit(journal, arrays)?;
            took = began.elapsed();
        }
    }

    /// Lets [`Self::run`] end.
    pub(super) fn end(&self) {
        self.lock().is_over = true;
        self.wake.notify_all();
    }

    /// Makes what is noted last, and names it in the journal.
    pub(super) fn commit(&self, journal: &Mutex<Journal>, arrays: &[ArrayCopy]) -> Result<(), CopyError> {
        let Pending { files, bands, spools, passed, .. } = {
            let mut pending = self.lock();
            let is_over = pending.is_over;
            std::mem::replace(&mut *pending, Pending { is_over, ..Pending::default() })
        };
        let mut commit = Commit { arrays: BTreeMap::new(), passed };
        // Stamps last: those of every file that was read for what is named here are among them.
        for (at, array) in arrays.iter().enumerate() {
            let stamps = array.fresh_stamps();
            if !stamps.is_empty() {
                commit.arrays.entry(at as u32).or_default().stamps = stamps;
            }
        }
        let entry = |commit: &mut Commit, at: u32, set: &dyn Fn(&mut ArrayCommit)| {
            set(commit.arrays.entry(at).or_default());
        };
        for (at, files) in files {
            let files = runs(files);
            entry(&mut commit, at, &|array| array.files = files.clone());
        }
        for (at, bands) in bands {
            let bands = runs(bands);
            entry(&mut commit, at, &|array| array.bands = bands.clone());
        }
        for (at, spool) in spools {
            entry(&mut commit, at, &|array| array.spool = Some(spool.clone()));
        }
        if commit.is_empty() {
            return Ok(());
        }
        // One call for many files, and their directories' entries too.
        for folder in &self.folders {
            sync_file_system(folder)?;
        }
        journal.lock().unwrap_or_else(PoisonError::into_inner).append(&commit)
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes out all that the file system of `folder` still has in memory.
pub(super) fn sync_file_system(folder: &Path) -> Result<(), CopyError> {
    let opened = File::open(folder).map_err(|error| CopyError::io(folder, "open it", error))?;
    rustix::fs::syncfs(&opened).map_err(|error| CopyError::io(folder, "sync it", error))
}
