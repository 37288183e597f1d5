//! A view follows its source: when documents have changed, the tree is made anew, and arrays take on their new shapes.

use super::array::Rechunked;
use super::host::HostStamp;
use super::looks::Kind;
use super::open::Maker;
use super::times::Times;
use super::tree::Tree;
use super::watch::{Watch, times_below};
use super::{Stat, View, ViewError};
use crate::source::{SourceError, Store, hierarchy};
use crate::zarr::{Layout, Projection, Settled, VirtualArray, project_again};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// One of these is in every store.
const DOCUMENTS: [&str; 3] = ["zarr.json", ".zgroup", ".zarray"];
/// With more source chunk files known than this, nobody waits until they have all been looked at again.
const MAX_WAITED_FOR: u64 = 10_000;

/// So many source chunk files are looked at although nobody has asked for them, so that the times of directories tell of them.
const MAX_SURVEYED: u64 = 4096;

/// How a view follows its source.
#[derive(Debug, Clone)]
pub struct Follow {
    /// What the view was made by.
    pub layout: Layout,
    /// A change shows after this time at the latest; at once where it is zero.
    pub refresh: Duration,
}

/// What the view shows now, and how it learns of changes.
#[derive(Debug)]
pub(super) struct Following {
    layout: Option<Layout>,
    maker: Maker,
    tree: RwLock<Arc<Tree>>,
    times: RwLock<DirectoryTimes>,
    state: Mutex<State>,
    /// When the times of directories were found out, if they were.
    timed: Mutex<Option<Instant>>,
    is_surveying: AtomicBool,
}

/// By directory, nanoseconds since 1970.
///
/// A time that has moved shows only when nobody finds by name any more what was there before: the kernel keeps names for as long
/// as `--refresh`. Who keeps data by the time of a directory would else keep old data by a new time, for good.
#[derive(Debug, Default)]
struct DirectoryTimes {
    shown_ns: Box<[i64]>,
    /// What was found since, and when.
    found: Option<(Instant, Box<[i64]>)>,
}

impl DirectoryTimes {
    fn of(&self, at: u32, names_last: Duration) -> i64 {
        let at = at as usize;
        let found = self.found.as_ref().and_then(|(since, times_ns)| Some((since, times_ns.get(at)?)));
        match (self.shown_ns.get(at), found) {
            (Some(&shown), Some((since, _))) if since.elapsed() < names_last => shown,
            (_, Some((_, &time_ns))) | (Some(&time_ns), None) => time_ns,
            // Made since: nobody has found anything in it.
            (None, None) => 0,
        }
    }

    /// Comes no sooner than names last after the one before.
    fn enter(&mut self, times_ns: Box<[i64]>) {
        if let Some((_, before)) = self.found.replace((Instant::now(), times_ns)) {
            self.shown_ns = before;
        }
    }
}

#[derive(Debug)]
struct State {
    watch: Watch,
    settled: Settled,
    /// When documents were looked at, and the digest of what was found; `None` where that could not be read.
    looked: Instant,
    seen: Option<u64>,
}

impl Following {
    pub(super) fn new(
        store: &Store,
        layout: Option<Layout>,
        projection: &Projection,
        tree: Tree,
        maker: Maker,
    ) -> Self {
        let watch = if layout.is_some() { Watch::new(store, projection) } else { Watch::default() };
        // The documents were read before: what has changed a short time ago may have done so in between.
        let seen = watch.look(store).ok().filter(|seen| !seen.is_recent).map(|seen| seen.digest);
        let settled = projection.settled.clone();
        let state = State { watch, settled, looked: Instant::now(), seen };
        Following {
            layout,
            maker,
            tree: RwLock::new(Arc::new(tree)),
            times: RwLock::default(),
            state: Mutex::new(state),
            timed: Mutex::new(None),
            is_surveying: AtomicBool::new(false),
        }
    }
}

impl View {
    pub(super) fn tree(&self) -> Arc<Tree> {
        Arc::clone(&self.following.tree.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Size and time of a directory; the time is as of the last [`Self::keep_up_times`].
    pub(super) fn stat_directory(&self, at: u32) -> Result<Stat, ViewError> {
        let tree = self.tree();
        let directory = tree.get(at).ok_or(ViewError::Stale)?;
        // A directory that is gone, or out of reach. Objects have none.
        if self.store.objects().is_none() {
            HostStamp::of(&self.store, &directory.path).map_err(|error| self.absence(error))?;
        }
        if self.following.layout.is_none() {
            self.keep_up_times();
        }
        let names_last = self.refresh().unwrap_or_default();
        let mtime_ns = self.following.times.read().unwrap_or_else(PoisonError::into_inner).of(at, names_last);
        Ok(Stat { is_directory: true, size_bytes: 0, mtime_ns })
    }

    /// What the absence of something in the source means: nothing, where the source itself is out of reach. A disk that is not
    /// mounted must not look like a store without chunks.
    pub(super) fn absence(&self, error: ViewError) -> ViewError {
        let is_there = || DOCUMENTS.iter().any(|name| HostStamp::of(&self.store, &self.store.path(name)).is_ok());
        match error {
            ViewError::NotFound if !is_there() => {
                let gone = format!("{}: the source is not there any more", self.store.name().display());
                self.engine.journal.record(gone.clone());
                ViewError::Io(Arc::new(std::io::Error::other(gone)))
            }
            other => other,
        }
    }

    /// Looks at what the view is made of, where that is due, and shows what it is now. What cannot be found out is shown as
    /// it was, and is in the journal.
    pub(super) fn keep_up(&self) {
        let Some(layout) = &self.following.layout else { return };
        let mut state = lock(&self.following.state);
        let looks = &self.engine.looks;
        if looks.is_due(Kind::Documents, state.looked) {
            let began = Instant::now();
            self.keep_up_documents(&mut state, layout);
            looks.spend(Kind::Documents, began, state.watch.len());
            state.looked = began;
        }
    }

    /// Looks at what the times of directories tell of, where that is due. Names can be looked up without: these are many files.
    pub(super) fn keep_up_times(&self) {
        let mut timed = lock(&self.following.timed);
        if timed.is_some_and(|timed| !self.engine.looks.is_due(Kind::Documents, timed)) {
            return;
        }
        let tree = self.tree();
        let n_known: u64 = tree.arrays().map(|array| array.versions.n_known()).sum();
        if n_known <= MAX_WAITED_FOR {
            self.time(&tree);
            *timed = Some(Instant::now());
        } else if let Some(this) = self.this.upgrade()
            && !self.following.is_surveying.swap(true, Ordering::AcqRel)
        {
            let survey = move || {
                // Also after a panic, or there would be no other survey.
                if catch_unwind(AssertUnwindSafe(|| this.time(&this.tree()))).is_err() {
                    this.engine.journal.record("a survey of the source panicked; this is a bug".to_owned());
                }
                *lock(&this.following.timed) = Some(Instant::now());
                this.following.is_surveying.store(false, Ordering::Release);
            };
            let started = std::thread::Builder::new().name("survey".to_owned()).spawn(survey);
            if let Err(error) = started {
                self.engine.journal.record(format!("cannot look at the source in the background: {error}"));
                self.following.is_surveying.store(false, Ordering::Release);
            }
        }
    }

    /// Makes the tree anew if documents have changed.
    fn keep_up_documents(&self, state: &mut State, layout: &Layout) {
        let seen = match state.watch.look(&self.store) {
            Ok(seen) => seen,
            Err(error) => return self.engine.journal.record(format!("cannot look for changes: {error}")),
        };
        if state.seen == Some(seen.digest) {
            return;
        }
        match self.read_again(layout, &state.settled) {
            Ok((projection, watch)) => {
                // What has changed while the documents were read is read at the next look.
                let is_settled = watch == state.watch && watch.look(&self.store).ok() == Some(seen);
                state.seen = is_settled.then_some(seen.digest);
                state.watch = watch;
                state.settled = projection.settled;
            }
            // In the middle of being written, most likely: the next look tells.
            Err(error) => {
                state.seen = None;
                self.engine.journal.record(format!("shown as it was before a change: {error}"));
            }
        }
    }

    fn read_again(&self, layout: &Layout, settled: &Settled) -> Result<(Projection, Watch), String> {
        let hierarchy = hierarchy::read(&self.store).map_err(|error| error.to_string())?;
        let projection = project_again(&hierarchy, layout, settled).map_err(|error| error.to_string())?;
        self.show(&projection).map_err(|error| error.to_string())?;
        let watch = Watch::new(&self.store, &projection);
        Ok((projection, watch))
    }

    /// Shows what `projection` says: arrays that are what they were keep all that is known of them.
    fn show(&self, projection: &Projection) -> Result<(), SourceError> {
        let before = self.tree();
        let shown = projection.arrays.iter().map(|array| self.array_for(&before, array));
        let arrays = shown.collect::<Result<Vec<_>, _>>()?;
        let tree = Tree::new(&self.store, projection, &arrays, &before);
        *self.following.tree.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tree);
        Ok(())
    }

    /// The array that shows `array`: one that did so before where only the shape is another one. Such a one may have been out
    /// of the tree meanwhile: arrays are kept for ever, and a store that is written anew each night must not add some each time.
    fn array_for(&self, before: &Tree, array: &VirtualArray) -> Result<Arc<Rechunked>, SourceError> {
        let shown = before.array_at(&array.source.path).filter(|shown| shown.is_like(array)).cloned();
        let earlier = || self.engine.arrays.all().into_iter().rfind(|earlier| earlier.is_like(array));
        if let Some(shown) = shown.or_else(earlier)
            && shown.resize(&array.source.shape)
        {
            return Ok(shown);
        }
        self.engine.arrays.add(|idx| self.following.maker.make(idx, array.clone()))
    }

    /// Computes the times of all directories: of each, those of everything below it.
    fn time(&self, tree: &Tree) {
        let mut times = vec![Times::default(); tree.directories.len()];
        // Where nothing is looked at again, nothing is looked at ahead of its readers.
        let is_cheap = self.store.objects().is_none_or(|objects| objects.is_listed());
        let mut left = if self.following.layout.is_some() && is_cheap { MAX_SURVEYED } else { 0 };
        for (times, directory) in times.iter_mut().zip(&tree.directories) {
            if let Some(document) = &directory.document {
                times.add(document.mtime_ns, document.mtime_ns.cast_unsigned());
            }
            match &directory.array {
                // Its files are all virtual.
                Some(array) => match array.survey(&mut left) {
                    Ok(survey) => times.merge(survey),
                    Err(error) => self.engine.journal.record(error.to_string()),
                },
                None => {
                    if self.store.objects().is_none()
                        && let Ok(stamp) = HostStamp::of(&self.store, &directory.path)
                    {
                        times.add(stamp.mtime_ns, stamp.identity());
                    }
                }
            }
        }
        let (passed, parents): (Vec<_>, Vec<_>) = tree.passed().unzip();
        for (below, parent) in times_below(&self.store, &passed).into_iter().zip(parents) {
            times[parent as usize].merge(below);
        }
        for (child, parent) in tree.upwards() {
            let below = times[child as usize];
            times[parent as usize].merge(below);
        }
        let times_ns = times.into_iter().map(Times::time_ns).collect();
        self.following.times.write().unwrap_or_else(PoisonError::into_inner).enter(times_ns);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_moves_shows_when_no_name_is_older() {
        let (soon, late) = (Duration::ZERO, Duration::from_secs(3600));
        let mut times = DirectoryTimes::default();
        assert_eq!(times.of(0, late), 0);
        times.enter(Box::new([5]));
        assert_eq!(times.of(0, late), 5, "the first one at once");
        times.enter(Box::new([6, 7]));
        assert_eq!((times.of(0, late), times.of(0, soon)), (5, 6));
        assert_eq!(times.of(1, late), 7, "that of a directory which was not there");
        times.enter(Box::new([8]));
        assert_eq!((times.of(0, late), times.of(0, soon)), (6, 8));
        assert_eq!(times.of(1, late), 7, "of the same length again, or not");
    }
}
