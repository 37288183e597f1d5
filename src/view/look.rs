//! Looking at the source chunk files of an array: what they are, and whether they have changed.

use super::array::Rechunked;
use super::looks::{Kind, Looks};
use super::times::Times;
use super::versions::{Footprint, Untold, Version};
use crate::geometry::Region;
use crate::source::{FileState, SourceError, Stamp, YOUNG};
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Footprints that are remembered. Stamps are kept for good, so that forgetting one costs a second look only.
const MAX_FOOTPRINTS: NonZeroUsize = NonZeroUsize::new(1 << 15).unwrap();
/// How often a look waits for a file to be left alone.
const MAX_WAITS: usize = 4;
/// Between two looks at a file that has changed.
const TWICE: Duration = Duration::from_millis(1);

/// What was looked at, and when.
#[derive(Debug)]
pub(super) struct Looked {
    footprints: Mutex<LruCache<Region, Seen>>,
    survey: Mutex<Option<Survey>>,
    /// The files of the last look that told of more than one footprint, and when that was.
    around: Mutex<Option<(Region, Instant)>>,
    /// Held by whoever looks: whoever asks for the same meanwhile finds it done.
    looking: Mutex<()>,
    looks: Arc<Looks>,
}

/// When a footprint was looked at, and what it was found to be.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// `None` where only computed, from what other looks have found.
    looked: Option<Instant>,
    edits: u64,
    footprint: Footprint,
}

/// When all known files were looked at, and what they were found to be.
#[derive(Debug, Clone, Copy)]
struct Survey {
    looked: Instant,
    edits: u64,
    times: Times,
}

impl Looked {
    pub(super) fn new(looks: Arc<Looks>) -> Self {
        let footprints = Mutex::new(LruCache::new(MAX_FOOTPRINTS));
        Looked { footprints, survey: Mutex::default(), around: Mutex::default(), looking: Mutex::default(), looks }
    }

    /// Whether the source is looked at again at all.
    pub(super) fn is_followed(&self) -> bool {
        self.looks.refresh().is_some()
    }

    /// Keeps others from looking, and so the array from changing.
    pub(super) fn gate(&self) -> MutexGuard<'_, ()> {
        lock(&self.looking)
    }
}

impl Rechunked {
    /// What is known of the source chunk files on which `region` (cut off at the newest shape) draws; looks at them where
    /// that was too long ago.
    pub(super) fn footprint(&self, files: &Region) -> Result<Footprint, SourceError> {
        if let Some(known) = self.seen(files) {
            return Ok(known);
        }
        // One look at a time: whoever else asks for the same footprint finds it here.
        let _gate = self.looked.gate();
        if let Some(known) = self.seen(files) {
            return Ok(known);
        }
        let looked = Instant::now();
        let is_first = lock(&self.looked.footprints).peek(files).is_none_or(|seen| seen.looked.is_none());
        let around = self.reader.looked_at_with(files);
        let waited = self.look(around.positions().map(|file| self.reader.number_of(&file)))?;
        if !is_first {
            self.looked.looks.spend(Kind::Footprints, looked + waited, around.n_elems());
        }
        if around != *files {
            *lock(&self.looked.around) = Some((around, looked));
        }
        self.remember(files, Some(looked))
    }

    /// A footprint that need not be looked at again yet.
    fn seen(&self, files: &Region) -> Option<Footprint> {
        let seen = lock(&self.looked.footprints).get(files).copied();
        let surveyed = (*lock(&self.looked.survey)).map(|survey| survey.looked);
        let own =
            seen.and_then(|seen| seen.looked).map(|looked| surveyed.map_or(looked, |surveyed| surveyed.max(looked)));
        let is_fresh = |looked: &Instant| !self.looked.looks.is_due(Kind::Footprints, *looked);
        let looked = own.filter(is_fresh).or_else(|| {
            let around = lock(&self.looked.around);
            let (_, looked) = around.as_ref().filter(|(around, _)| around.intersect(files) == *files)?;
            Some(*looked).filter(is_fresh)
        })?;
        let Some(seen) = seen else { return self.remember(files, Some(looked)).ok() };
        if seen.edits == self.versions.edits() { Some(seen.footprint) } else { self.remember(files, Some(looked)).ok() }
    }

    fn remember(&self, files: &Region, looked: Option<Instant>) -> Result<Footprint, SourceError> {
        let edits = self.versions.edits();
        let footprint = self.compute(files, self.versions.now())?;
        lock(&self.looked.footprints).put(files.clone(), Seen { looked, edits, footprint });
        Ok(footprint)
    }

    /// What these files were at a version; looks at those that were never looked at.
    pub(super) fn footprint_at(&self, files: &Region, version: Version) -> Result<Footprint, SourceError> {
        let edits = self.versions.edits();
        let seen = lock(&self.looked.footprints).get(files).copied();
        let newest = match seen {
            Some(seen) if seen.edits == edits => seen.footprint,
            _ => self.remember(files, seen.and_then(|seen| seen.looked))?,
        };
        if newest.version <= version { Ok(newest) } else { self.compute(files, version) }
    }

    fn compute(&self, files: &Region, version: Version) -> Result<Footprint, SourceError> {
        loop {
            match self.versions.footprint(&self.reader, files, version) {
                Ok(footprint) => return Ok(footprint),
                Err(Untold::Forgotten) => return Err(self.reader.changed(&files.start)),
                Err(Untold::Unseen) => {
                    let numbers = files.positions().map(|file| self.reader.number_of(&file));
                    self.look(numbers.filter(|number| self.versions.latest(*number).is_none()))?;
                }
            }
        }
    }

    /// The stamp of a source chunk file at a version.
    pub(super) fn stamp_at(&self, file: &[u64], version: Version) -> Result<Stamp, SourceError> {
        let number = self.reader.number_of(file);
        if let Some(stamp) = self.versions.stamp_at(number, version) {
            return Ok(stamp);
        }
        if self.versions.latest(number).is_none() {
            self.look(std::iter::once(number))?;
        }
        self.versions.stamp_at(number, version).ok_or_else(|| self.reader.changed(file))
    }

    /// Looks at source chunk files, and enters what they are. Returns how long it waited for their writers.
    fn look(&self, numbers: impl Iterator<Item = u64>) -> Result<Duration, SourceError> {
        let is_followed = self.looked.is_followed();
        let mut found = Vec::new();
        // Where the source is not followed, the first look is the last.
        let numbers = numbers.filter(|number| is_followed || self.versions.latest(*number).is_none());
        self.reader.states(numbers.map(|number| self.reader.file_at(number)), |file, state| {
            found.push((self.reader.number_of(file), state));
        })?;
        // An object is never in the middle of being written.
        let waits = is_followed && self.reader.is_on_disk();
        let waited = if waits { self.wait_for_writers(&mut found)? } else { Duration::ZERO };
        if found.iter().any(|(_, state)| !state.stamp.is_present()) {
            // Absence tells something only while the array is there: its disk may not be.
            self.reader.check_home()?;
        }
        let n_changed = self.versions.enter(&found);
        self.looked.looks.n_changes.fetch_add(n_changed as u64, Relaxed);
        Ok(waited)
    }

    /// Waits, a little, for files that somebody is writing: what is entered in the middle of it would be of no use to anybody.
    /// Those that are not left alone are taken out, and stay what they were; but for ones that were never looked at.
    fn wait_for_writers(&self, found: &mut Vec<(u64, FileState)>) -> Result<Duration, SourceError> {
        let began = Instant::now();
        let known: Vec<Option<Stamp>> = found.iter().map(|(number, _)| self.versions.latest(*number)).collect();
        // Size and times of a file do not change at once: what has changed is looked at twice.
        let is_unsure = |nth: usize, state: &FileState| {
            known[nth].is_some_and(|known| known != state.stamp) || (known[nth].is_none() && state.is_settling())
        };
        let mut unsure: Vec<usize> = (0..found.len()).filter(|&nth| is_unsure(nth, &found[nth].1)).collect();
        for _ in 0..MAX_WAITS {
            if unsure.is_empty() {
                break;
            }
            let is_any_settling = unsure.iter().any(|&nth| found[nth].1.is_settling());
            std::thread::sleep(if is_any_settling { YOUNG } else { TWICE });
            let mut left = Vec::new();
            for nth in unsure {
                let (number, before) = found[nth];
                let now = self.reader.state(&self.reader.file_at(number))?;
                found[nth].1 = now;
                if is_unsure(nth, &now) && (now != before || now.is_settling()) {
                    left.push(nth);
                }
            }
            unsure = left;
        }
        for nth in unsure.into_iter().rev().filter(|&nth| known[nth].is_some()) {
            found.swap_remove(nth);
        }
        Ok(began.elapsed())
    }

    /// The times of all source chunk files, which are looked at again where that was too long ago: of an array that has more
    /// than `left`, only of those that were asked for. Takes what it has from `left`.
    pub(super) fn survey(self: &Arc<Self>, left: &mut u64) -> Result<Times, SourceError> {
        let edition = self.newest();
        let all = self.reader.files_of(&Region::whole(&edition.extent.shape));
        let is_small = all.n_elems() <= *left;
        if is_small {
            *left -= all.n_elems();
        }
        let known = *lock(&self.looked.survey);
        if let Some(known) = known
            && !self.looked.looks.is_due(Kind::Surveys, known.looked)
            && known.edits == self.versions.edits()
        {
            return Ok(known.times);
        }
        let _gate = self.looked.gate();
        let began = Instant::now();
        let due = known.is_none_or(|known| self.looked.looks.is_due(Kind::Surveys, known.looked));
        if due && known.is_none() && is_small {
            self.look(all.positions().map(|file| self.reader.number_of(&file)))?;
        } else if due {
            self.look_again()?;
        }
        let mut times = Times::default();
        let edits = self.versions.edits();
        if is_small {
            let footprint = self.compute(&all, self.versions.now())?;
            times = footprint.times;
        } else {
            // Whatever is not looked at cannot have been shown otherwise.
            times.add(0, u64::from(self.versions.now()));
        }
        times.add(0, edition.extent.identity(&Region::whole(&edition.extent.shape)));
        if due {
            *lock(&self.looked.survey) = Some(Survey { looked: began, edits, times });
        }
        Ok(times)
    }

    /// Looks again at every file that was looked at before.
    fn look_again(&self) -> Result<(), SourceError> {
        let mut began = Instant::now();
        let mut from = 0;
        loop {
            let files = self.versions.known_from(from);
            let Some(last) = files.last() else { break };
            from = last + 1;
            began += self.look(files.iter().copied())?;
        }
        self.looked.looks.spend(Kind::Surveys, began, self.versions.n_known());
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
