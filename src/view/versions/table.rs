//! What is known of each source file of an array, now and before.

use super::Version;
use crate::geometry::Region;
use crate::source::{ArrayReader, FileState, Stamp};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Files per page; a page is allocated when one of its files is visited.
const PAGE: u64 = 512;
/// Changes that are remembered; beyond, all earlier versions are given up.
const MAX_CHANGES: usize = 1 << 17;
/// Files of which it is known that nothing was read; beyond, a look at a file is final.
const MAX_UNREAD: usize = 1 << 13;
/// A file that makes no sense is tried again for so long, if it was changed a short time ago: it may be in the middle of being
/// written.
const TORN_PATIENCE: Duration = Duration::from_millis(2500);
/// Else, if it was only just looked at: size and times of a file do not change at once, so that it may be younger than it seems.
const SHORT_PATIENCE: Duration = Duration::from_millis(300);
/// So many such files at a time.
const MAX_TORN: usize = 1 << 12;

/// What is kept of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) stamp: Stamp,
    /// When it was last modified, nanoseconds since 1970; 0 where absent.
    pub(super) time_ns: i64,
}

/// Files by number.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Stamp (0 where nothing is known) and time of each file.
    pages: BTreeMap<u64, Box<[(u64, i64)]>>,
    n_known: u64,
    /// Of files that have changed, in order.
    changed: HashMap<u64, Vec<Change>>,
    n_changes: usize,
    /// Earlier versions are forgotten.
    floor: Version,
    /// Files that nothing was read of as they are now; `true` where one came a short time ago where there was none.
    unread: HashMap<u64, bool>,
    /// Files that made no sense in a state, and since when.
    torn: HashMap<u64, (Stamp, Instant)>,
    /// Files whose stamps do not tell their states from others to come.
    young: HashSet<u64>,
}

/// A file was something else before a version.
#[derive(Debug, Clone, Copy)]
struct Change {
    version: Version,
    before: Known,
    /// As in [`Table::unread`], of what it was before.
    unread: Option<bool>,
}

impl Table {
    pub(super) fn get(&self, file: u64) -> Option<Known> {
        let (raw, time_ns) = *self.pages.get(&(file / PAGE))?.get((file % PAGE) as usize)?;
        Some(Known { stamp: Stamp::from_raw(raw)?, time_ns })
    }

    /// What a file was at a version that is not forgotten.
    pub(super) fn at(&self, file: u64, version: Version) -> Option<Known> {
        if version < self.floor {
            return None;
        }
        let changes = self.changed.get(&file).map_or(&[][..], Vec::as_slice);
        match changes.iter().find(|change| change.version > version) {
            Some(change) => Some(change.before),
            None => self.get(file),
        }
    }

    pub(super) fn floor(&self) -> Version {
        self.floor
    }

    /// Enters what a file is; `true` where it was something else, before `version`.
    pub(super) fn enter(&mut self, file: u64, state: &FileState, version: Version) -> bool {
        let before = self.get(file);
        if before.is_some_and(|before| before.stamp == state.stamp) {
            return false;
        }
        if let Some(before) = before {
            let unread = self.unread.get(&file).copied();
            self.changed.entry(file).or_default().push(Change { version, before, unread });
            self.n_changes += 1;
        }
        self.put(file, state);
        if state.is_young() {
            self.young.insert(file);
        } else {
            self.young.remove(&file);
        }
        self.unread.remove(&file);
        if state.stamp.is_present() && self.unread.len() < MAX_UNREAD {
            let is_new = before.is_some_and(|before| !before.stamp.is_present()) && state.is_recent();
            self.unread.insert(file, is_new);
        }
        before.is_some()
    }

    /// Gives up what came before `version` where that has become too much.
    pub(super) fn bound(&mut self, version: Version) {
        if self.n_changes > MAX_CHANGES {
            self.changed.clear();
            self.n_changes = 0;
            self.floor = version;
        }
    }

    /// What nothing was read of may be amended if it came just now, perhaps not whole, or is known to make no sense.
    pub(super) fn may_amend(&self, file: u64, stamp: Stamp) -> bool {
        let unread = if self.get(file).is_some_and(|known| known.stamp == stamp) {
            self.unread.get(&file).copied()
        } else {
            let changes = self.changed.get(&file).map_or(&[][..], Vec::as_slice);
            changes.iter().find(|change| change.before.stamp == stamp).and_then(|change| change.unread)
        };
        unread.is_some_and(|is_new| is_new || self.torn.get(&file).is_some_and(|torn| torn.0 == stamp))
    }

    pub(super) fn amend(&mut self, file: u64, expected: Stamp, state: &FileState) -> bool {
        let may = self.may_amend(file, expected);
        if may {
            match self.change_from(file, expected) {
                Some(change) => change.before = Known::of(state),
                None => self.put(file, state),
            }
        }
        may
    }

    /// Notes that a file makes no sense; `true` as long as that may pass.
    pub(super) fn may_pass(&mut self, file: u64, state: &FileState) -> bool {
        let patience = match self.unread.contains_key(&file) {
            _ if state.is_recent() => TORN_PATIENCE,
            true => SHORT_PATIENCE,
            false => return false,
        };
        if self.torn.len() >= MAX_TORN && !self.torn.contains_key(&file) {
            return false;
        }
        let now = Instant::now();
        let torn = self.torn.entry(file).or_insert((state.stamp, now));
        if torn.0 != state.stamp {
            *torn = (state.stamp, now);
        }
        now < torn.1 + patience
    }

    pub(super) fn settle(&mut self, file: u64, stamp: Stamp) -> bool {
        if self.get(file).is_some_and(|known| known.stamp == stamp) {
            self.unread.remove(&file);
            self.torn.remove(&file);
            return true;
        }
        let change = self.change_from(file, stamp);
        change.map(|change| change.unread = None).is_some()
    }

    /// The change before which a file had this stamp.
    fn change_from(&mut self, file: u64, stamp: Stamp) -> Option<&mut Change> {
        self.changed.get_mut(&file)?.iter_mut().find(|change| change.before.stamp == stamp)
    }

    pub(super) fn changes(&self, reader: &ArrayReader, files: &Region) -> Arc<[Version]> {
        let mut versions = vec![self.floor];
        if files.n_elems() <= self.changed.len() as u64 {
            files.for_each(|file| {
                let changes = self.changed.get(&reader.number_of(file));
                versions.extend(changes.into_iter().flatten().map(|change| change.version));
            });
        } else {
            let touched = self.changed.iter().filter(|(number, _)| files.contains(&reader.file_at(**number)));
            versions.extend(touched.flat_map(|(_, changes)| changes).map(|change| change.version));
        }
        versions.sort_unstable();
        versions.dedup();
        versions.into()
    }

    pub(super) fn has_young(&self) -> bool {
        !self.young.is_empty()
    }

    pub(super) fn is_young(&self, file: u64) -> bool {
        self.young.contains(&file)
    }

    pub(super) fn n_known(&self) -> u64 {
        self.n_known
    }

    /// The known files of the first page that has some from number `from` on.
    pub(super) fn known_from(&self, from: u64) -> Vec<u64> {
        let pages = self.pages.range(from / PAGE..);
        let known = |(number, page): (&u64, &[(u64, i64)])| {
            let files = (number * PAGE..).zip(page.iter()).filter(|(file, known)| *file >= from && known.0 != 0);
            files.map(|(file, _)| file).collect::<Vec<_>>()
        };
        pages.map(|(number, page)| known((number, page))).find(|files| !files.is_empty()).unwrap_or_default()
    }

    fn put(&mut self, file: u64, state: &FileState) {
        let page = self.pages.entry(file / PAGE).or_insert_with(|| vec![(0, 0); PAGE as usize].into());
        let slot = &mut page[(file % PAGE) as usize];
        self.n_known += u64::from(slot.0 == 0);
        let known = Known::of(state);
        *slot = (known.stamp.to_raw(), known.time_ns);
    }
}

impl Known {
    fn of(state: &FileState) -> Self {
        Known { stamp: state.stamp, time_ns: state.mtime_ns }
    }
}
