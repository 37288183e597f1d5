//! Group commits: what is written is synced every few seconds, then named in the journal.

use super::CopyError;
use super::array::ArrayCopy;
use super::disk;
use super::journal::{ArrayCommit, Commit, Journal, Spool, runs};
use super::place::Place;
use super::progress::Progress;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A crash costs at most what was done in this time, or this many bytes, and in the commit under way. Short copies are
/// committed more often, at a fifth of the time that they have taken so far, but not so often that commits take more
/// than a sixth of it.
const AT_MOST_EVERY: Duration = Duration::from_secs(5);
const AT_LEAST_EVERY: Duration = Duration::from_millis(300);
const EVERY_BYTES: u64 = 256 << 20;
/// How soon a commit thread sees that there is nothing more to come.
const GLANCE: Duration = Duration::from_millis(50);

/// What has become of a target file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Became {
    /// It is written: so many bytes.
    Written(u64),
    /// All of it is fill value, so that there is none.
    Nothing,
    /// The one that is in its place is as it is to be.
    AsItWas,
}

/// What is written and not yet in the journal.
#[derive(Debug, Default)]
struct Pending {
    files: BTreeMap<u32, Vec<(u64, Became)>>,
    bands: BTreeMap<u32, Vec<u64>>,
    spools: BTreeMap<u32, Spool>,
    passed: Vec<(String, u64)>,
    bytes: u64,
    is_over: bool,
}

/// Collects what is written, and commits it.
#[derive(Debug, Default)]
pub(super) struct Commits {
    pending: Mutex<Pending>,
    wake: Condvar,
    /// Folders on the file systems that are written to.
    folders: Vec<PathBuf>,
    /// Where files go once they are on disk, if they do not stay where they are written.
    place: Option<Arc<Place>>,
    /// One commit at a time.
    turn: Mutex<()>,
    /// Files that could not be made, by array.
    left_out: Mutex<BTreeMap<u32, Vec<u64>>>,
}

impl Commits {
    pub(super) fn new(folders: Vec<PathBuf>, place: Option<Arc<Place>>) -> Self {
        Commits { folders, place, ..Commits::default() }
    }

    /// Target file `file` of an array is made.
    pub(super) fn file(&self, array: u32, file: u64, became: Became) {
        let bytes = if let Became::Written(bytes) = became { bytes } else { 0 };
        self.note(bytes, |pending| pending.files.entry(array).or_default().push((file, became)));
    }

    /// Target file `file` of an array cannot be made.
    pub(super) fn left_out(&self, array: u32, file: u64) {
        self.left_out.lock().unwrap_or_else(PoisonError::into_inner).entry(array).or_default().push(file);
    }

    /// Files of an array that could not be made.
    pub(super) fn take_left_out(&self, array: u32) -> Vec<u64> {
        self.left_out.lock().unwrap_or_else(PoisonError::into_inner).remove(&array).unwrap_or_default()
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

    /// Commits what is noted while `work` is under way, and the rest when it has ended: also of work that was stopped, what
    /// is done is kept, but its own error is the one to tell.
    pub(super) fn during<T>(
        &self,
        journal: &Mutex<Journal>,
        arrays: &[ArrayCopy],
        progress: &Progress,
        work: impl FnOnce() -> Result<T, CopyError>,
    ) -> Result<T, CopyError> {
        let (committed, done) = std::thread::scope(|scope| {
            let committing = scope.spawn(|| {
                let result = CopyError::of_panic(|| self.run(journal, arrays));
                if result.is_err() {
                    // The copy ends where its progress cannot be kept.
                    progress.stop();
                }
                result
            });
            // Also where it panics, or nobody would see that: the scope waits for what it has spawned.
            let ending = Ending(self);
            let done = work();
            drop(ending);
            (committing.join().unwrap_or(Err(CopyError::Panicked)), done)
        });
        // What a commit that failed was to name is lost, and with it the stamps of what is named after it.
        committed?;
        let rest = self.commit(journal, arrays);
        let done = done?;
        rest?;
        Ok(done)
    }

    /// Commits until [`Ending`]; what is noted after the last commit is left to [`Self::commit`].
    fn run(&self, journal: &Mutex<Journal>, arrays: &[ArrayCopy]) -> Result<(), CopyError> {
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

    /// Makes what is noted last, puts it in its place, and names it in the journal.
    pub(super) fn commit(&self, journal: &Mutex<Journal>, arrays: &[ArrayCopy]) -> Result<(), CopyError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let Pending { files, bands, spools, passed, .. } = {
            let mut pending = self.lock();
            let is_over = pending.is_over;
            std::mem::replace(&mut *pending, Pending { is_over, ..Pending::default() })
        };
        let mut commit = Commit { passed, ..Commit::default() };
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
        for (at, files) in &files {
            let files = runs(files.iter().map(|(file, _)| *file).collect());
            entry(&mut commit, *at, &|array| array.files = files.clone());
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
        crate::drill::at("commit");
        // One call for many files, and their directories' entries too.
        let sync = || self.folders.iter().try_for_each(|folder| sync_file_system(folder));
        sync()?;
        if let Some(place) = &self.place {
            for (at, files) in &files {
                place.settle(*at, &arrays[*at as usize], files)?;
            }
            sync()?;
        }
        journal.lock().unwrap_or_else(PoisonError::into_inner).append(&commit)
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes out all that the file system of `folder` still has in memory.
pub(super) fn sync_file_system(folder: &Path) -> Result<(), CopyError> {
    disk::sync_all(folder).map_err(|error| CopyError::io(folder, "sync it", error))
}

/// Lets [`Commits::run`] end.
struct Ending<'a>(&'a Commits);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
        self.0.wake.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::materialize::journal::Header;
    use std::collections::BTreeSet;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn work_that_panics_ends() {
        let folder = tempfile::tempdir().expect("a folder");
        let header = Header::new(folder.path(), BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        let journal = Journal::create(&folder.path().join("journal"), &header).expect("created");
        let commits = Commits::new(vec![folder.path().to_owned()], None);
        let work = || -> Result<(), CopyError> { panic!("as a bug would") };
        let ended =
            catch_unwind(AssertUnwindSafe(|| commits.during(&Mutex::new(journal), &[], &Progress::default(), work)));
        assert!(ended.is_err());
    }
}
