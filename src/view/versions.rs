//! Which state of its source files an array shows at which version.
//!
//! The first look at a file decides what it is at all versions so far. From then on, whenever looking finds files changed, the
//! version goes up by one, and it is kept what they were before: so what a version is of never changes, and a file that
//! appears is absent in all earlier versions. Files that nothing was read of may still be taken for what they have become
//! ([`Versions::amend`]): a chunk that was being written at the first look is not torn for good.

mod table;

use super::times::Times;
use crate::geometry::Region;
use crate::source::{ArrayReader, FileState, Stamp};
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use table::{Known, Table};

/// Counts the changes of an array since it is shown.
pub(super) type Version = u32;

/// Sets of files whose changes are kept at hand.
const MAX_MEMOS: NonZeroUsize = NonZeroUsize::new(1 << 12).unwrap();
/// What is known of a set of source chunk files at one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Footprint {
    /// At least one of them exists.
    pub(super) is_present: bool,
    /// Of those that exist.
    pub(super) times: Times,
    /// The last version at which one of them changed.
    pub(super) version: Version,
}

/// Why a version of some files cannot be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Untold {
    /// One of them was never looked at.
    Unseen,
    /// It is so long ago that it is forgotten.
    Forgotten,
}

/// The versions of one array.
#[derive(Debug)]
pub(super) struct Versions {
    table: Mutex<Table>,
    memos: Mutex<LruCache<Region, Memo>>,
    now: AtomicU32,
    /// Goes up whenever what the table says of a file that it knew has changed.
    edits: AtomicU64,
}

/// The versions at which a set of files changed.
#[derive(Debug)]
struct Memo {
    edits: u64,
    versions: Arc<[Version]>,
}

impl Default for Versions {
    fn default() -> Self {
        Versions {
            table: Mutex::default(),
            memos: Mutex::new(LruCache::new(MAX_MEMOS)),
            now: AtomicU32::new(0),
            edits: AtomicU64::new(0),
        }
    }
}

impl Versions {
    /// The newest version.
    pub(super) fn now(&self) -> Version {
        self.now.load(Ordering::Acquire)
    }

    /// As long as this stays what it is, so does all that is known of files looked at before.
    pub(super) fn edits(&self) -> u64 {
        self.edits.load(Ordering::Acquire)
    }

    /// The stamp of a file as it was when last looked at.
    pub(super) fn latest(&self, file: u64) -> Option<Stamp> {
        self.lock().get(file).map(|known| known.stamp)
    }

    /// The stamp of a file at a version; `None` where it was never looked at, or that version is forgotten.
    pub(super) fn stamp_at(&self, file: u64, version: Version) -> Option<Stamp> {
        self.lock().at(file, version).map(|known| known.stamp)
    }

    /// Whether `version` is not forgotten.
    pub(super) fn remembers(&self, version: Version) -> bool {
        version >= self.lock().floor()
    }

    /// Enters what looking has found. Files looked at for the first time are that at all versions; where others have
    /// changed, the version goes up. Returns how many those are.
    pub(super) fn enter(&self, found: &[(u64, FileState)]) -> usize {
        let mut table = self.lock();
        let version = self.now() + 1;
        let n_changed = found.iter().filter(|(file, state)| table.enter(*file, state, version)).count();
        if n_changed > 0 {
            table.bound(version);
            self.publish(version);
        }
        n_changed
    }

    /// Begins a version for another reason than a changed file; `first` is done before anyone sees it.
    pub(super) fn advance(&self, first: impl FnOnce(Version)) {
        let _table = self.lock();
        let version = self.now() + 1;
        first(version);
        self.publish(version);
    }

    /// Takes a file that nothing was read of, and that is not any more what `expected` says, for what it has become.
    /// `false` where that would change what somebody has read.
    pub(super) fn amend(&self, file: u64, expected: Stamp, state: &FileState) -> bool {
        let mut table = self.lock();
        let is_amended = state.stamp.is_present() && table.amend(file, expected, state);
        if is_amended {
            self.edits.fetch_add(1, Ordering::Release);
        }
        is_amended
    }

    /// Whether a file in this state may be amended.
    pub(super) fn may_amend(&self, file: u64, stamp: Stamp) -> bool {
        self.lock().may_amend(file, stamp)
    }

    /// Notes that a file makes no sense as it is; `true` as long as that may pass.
    pub(super) fn may_pass(&self, file: u64, state: &FileState) -> bool {
        self.lock().may_pass(file, state)
    }

    /// Something was read of a file in the state `stamp`: that it was so is settled now. `false` where it was amended
    /// meanwhile.
    pub(super) fn settle(&self, file: u64, stamp: Stamp) -> bool {
        self.lock().settle(file, stamp)
    }

    /// What these files are at a version.
    pub(super) fn footprint(
        &self,
        reader: &ArrayReader,
        files: &Region,
        version: Version,
    ) -> Result<Footprint, Untold> {
        let last = self.last_change(reader, files, version).ok_or(Untold::Forgotten)?;
        let table = self.lock();
        let mut footprint = Footprint { is_present: false, times: Times::default(), version: last };
        for file in files.positions() {
            let number = reader.number_of(&file);
            let Known { stamp, time_ns } = table.at(number, version).ok_or(Untold::Unseen)?;
            if stamp.is_present() {
                footprint.is_present = true;
                // Not by its number: that is another one when a grown array is mounted again.
                let place = file.iter().fold(1, |place: u64, at| (place ^ at).wrapping_mul(0x9e37_79b9_7f4a_7c15));
                footprint.times.add(time_ns, stamp.to_raw() ^ place);
            }
        }
        Ok(footprint)
    }

    /// The last version, not after `version`, at which one of these files changed. `None` where it is forgotten.
    pub(super) fn last_change(&self, reader: &ArrayReader, files: &Region, version: Version) -> Option<Version> {
        if self.now() == 0 {
            return Some(0);
        }
        self.changes(reader, files).iter().copied().take_while(|&change| change <= version).last()
    }

    /// The versions at which these files changed, in order; the first is the earliest that is remembered.
    pub(super) fn changes(&self, reader: &ArrayReader, files: &Region) -> Arc<[Version]> {
        let edits = self.edits();
        if let Some(memo) = lock(&self.memos).get(files)
            && memo.edits == edits
        {
            return Arc::clone(&memo.versions);
        }
        let versions = self.lock().changes(reader, files);
        lock(&self.memos).put(files.clone(), Memo { edits, versions: Arc::clone(&versions) });
        versions
    }

    /// Whether a file is the same at two versions.
    pub(super) fn is_same(&self, file: u64, one: Version, other: Version) -> bool {
        let table = self.lock();
        let stamp = |version| table.at(file, version).map(|known| known.stamp);
        stamp(one) == stamp(other)
    }

    /// Whether the stamp of one of these files does not tell its state from others to come.
    pub(super) fn any_young(&self, reader: &ArrayReader, files: &Region) -> bool {
        let table = self.lock();
        table.has_young() && files.positions().any(|file| table.is_young(reader.number_of(&file)))
    }

    /// Files looked at so far.
    pub(super) fn n_known(&self) -> u64 {
        self.lock().n_known()
    }

    /// The files looked at so far, from number `from` on, some at a time; none at the end.
    pub(super) fn known_from(&self, from: u64) -> Vec<u64> {
        self.lock().known_from(from)
    }

    fn publish(&self, version: Version) {
        self.now.store(version, Ordering::Release);
        self.edits.fetch_add(1, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }
}

/// Nothing that can panic halfway runs under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
