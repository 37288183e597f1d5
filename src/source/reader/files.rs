//! The chunk files of an array: what state they are in, and opening them.
//!
//! Files are found relative to the array's directory, so that the kernel need not walk the whole path to each, and a network
//! file system need not be asked for every part of it.

use super::decode::{HEAD_BYTES, SMALL_BYTES};
use super::opened::{Object, Opened};
use super::{ArrayReader, LeafCodec};
use crate::geometry::Region;
use crate::source::objects::{PAGE, WORTH_LISTING};
use crate::source::{Counters, FileState, Objects, Part, SourceError, Stamp, Store};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, fstat, openat, statat};
use rustix::io::{Errno, retry_on_intr};
use std::borrow::Cow;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Files looked at together: what is known of them takes some hundred KiB.
const BATCH: usize = 4096;
/// The first ones of a batch tell how long a look takes.
const PROBE: usize = 64;
/// With so much to wait for, a thread that takes its share of it pays.
const WORTH_A_THREAD: Duration = Duration::from_micros(500);
/// Most threads: for network file systems, which take as long for many looks as for one.
const MAX_THREADS: usize = 8;

/// An array's directory, as it was when this was made. Whoever keeps it does not notice that another directory has taken its
/// place: it is made for some looks or reads, and made again for the next.
#[derive(Debug, Default)]
pub struct Folder {
    /// Without it files are found by their whole path.
    directory: Option<OwnedFd>,
}

impl Folder {
    /// Where to begin, and the path from there.
    fn place<'a>(&'a self, directory: &Path, key: &'a str) -> (BorrowedFd<'a>, Cow<'a, Path>) {
        match &self.directory {
            Some(opened) => (opened.as_fd(), Path::new(key).into()),
            None => (CWD, directory.join(key).into()),
        }
    }
}

impl ArrayReader {
    /// The array's directory, for the looks and reads that follow now.
    pub fn folder(&self) -> Folder {
        if self.store.objects().is_some() {
            return Folder::default();
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // Whatever is wrong with it shows at the first file.
        let opened = self.counters.calls.during(|| openat(CWD, &self.directory, flags, Mode::empty()));
        Folder { directory: opened.ok() }
    }

    /// Whether looking at many files at once takes fewer requests than one by one.
    pub fn looks_together(&self) -> bool {
        self.store.objects().is_some()
    }

    /// Looks at a file without opening it.
    ///
    /// # Errors
    /// Any failure other than that there is no such file.
    pub fn state(&self, file: &[u64]) -> Result<FileState, SourceError> {
        self.look(&Folder::default(), file)
    }

    /// Looks at all of `files` without opening them, and hands them to `visit` in order.
    ///
    /// # Errors
    /// Any failure other than that there is no such file: that of the first one.
    pub fn states(
        &self,
        mut files: impl Iterator<Item = Vec<u64>>,
        mut visit: impl FnMut(&[u64], FileState),
    ) -> Result<(), SourceError> {
        let folder = self.folder();
        loop {
            let batch: Vec<Vec<u64>> = files.by_ref().take(BATCH).collect();
            if batch.is_empty() {
                return Ok(());
            }
            for (file, state) in batch.iter().zip(self.look_at_all(&folder, &batch)) {
                visit(file, state?);
            }
        }
    }

    /// The states of `files`, on several threads where that takes less time.
    fn look_at_all(&self, folder: &Folder, files: &[Vec<u64>]) -> Vec<Result<FileState, SourceError>> {
        if let Store::Objects(objects) = &self.store {
            let keys: Vec<String> = files.iter().map(|file| self.below(&self.key(file))).collect();
            let states = self.counters.calls.during(|| objects.states(&keys)).into_iter().zip(files);
            return states.map(|(state, file)| state.map_err(|error| self.io(file, "look at it", error))).collect();
        }
        let look = |file: &Vec<u64>| self.look(folder, file);
        let (probe, rest) = files.split_at(PROBE.min(files.len()));
        let began = Instant::now();
        let mut states: Vec<_> = probe.iter().map(look).collect();
        let wait = began.elapsed().mul_f64(rest.len() as f64 / probe.len().max(1) as f64);
        let n_parts = (wait.as_micros() / WORTH_A_THREAD.as_micros()).clamp(1, MAX_THREADS as u128) as usize;
        let mut parts = rest.chunks(rest.len().div_ceil(n_parts).max(1));
        let own = parts.next().unwrap_or_default();
        std::thread::scope(|scope| {
            let others: Vec<_> =
                parts.map(|part| scope.spawn(move || part.iter().map(look).collect::<Vec<_>>())).collect();
            states.extend(own.iter().map(look));
            for other in others {
                match other.join() {
                    Ok(found) => states.extend(found),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        });
        states
    }

    /// Whether chunks are files, which change little by little.
    pub fn is_on_disk(&self) -> bool {
        self.store.objects().is_none()
    }

    /// The files that one look tells of as well as of `files`: a listing gives a page of names at a time, so of objects those
    /// of the whole line, where it fits in a page. On disk each file is looked at for itself.
    pub fn looked_at_with(&self, files: &Region) -> Region {
        let mut around = files.clone();
        let is_listed = self.store.objects().is_some_and(|objects| objects.is_listed());
        let line = files.shape().iter().rposition(|&len| len > 1);
        if is_listed
            && files.n_elems() >= WORTH_LISTING as u64
            && let Some(axis) = line.filter(|&axis| self.file_grid[axis] <= PAGE as u64)
            && files.n_elems() == files.end[axis] - files.start[axis]
        {
            (around.start[axis], around.end[axis]) = (0, self.file_grid[axis]);
        }
        around
    }

    fn look(&self, folder: &Folder, file: &[u64]) -> Result<FileState, SourceError> {
        let key = self.key(file);
        if let Store::Objects(objects) = &self.store {
            let state = self.counters.calls.during(|| objects.state(&self.below(&key)));
            return state.map_err(|error| self.io(file, "look at it", error));
        }
        let (from, path) = folder.place(&self.directory, &key);
        match self.counters.calls.during(|| retry_on_intr(|| statat(from, &*path, AtFlags::empty()))) {
            Ok(stat) => Ok(FileState::from(&stat)),
            Err(error) if is_absent(error) => Ok(FileState::ABSENT),
            Err(error) => Err(self.io(file, "look at it", error.into())),
        }
    }

    /// Opens a file; `None` where there is no such file.
    pub(super) fn open(&self, folder: &Folder, file: &[u64]) -> Result<Option<Opened>, SourceError> {
        let key = self.key(file);
        if let Store::Objects(objects) = &self.store {
            return self.open_object(objects, self.below(&key), file);
        }
        let (from, path) = folder.place(&self.directory, &key);
        // Opening a named pipe would wait for a writer, for ever; the flag means nothing for regular files.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match self.counters.calls.during(|| retry_on_intr(|| openat(from, &*path, flags, Mode::empty()))) {
            Ok(opened) => {
                Counters::add(&self.counters.files_opened, 1);
                self.store.check(&opened).map_err(|error| self.io(file, "open it", error))?;
                Ok(Some(Opened::File(opened.into())))
            }
            Err(error) if is_absent(error) => Ok(None),
            Err(error) => Err(self.io(file, "open it", error.into())),
        }
    }

    /// Stamp and size of an open file.
    pub(super) fn opened_state(&self, opened: &Opened, file: &[u64]) -> Result<(Stamp, u64), SourceError> {
        let opened = match opened {
            Opened::File(opened) => opened,
            Opened::Object(object) => return Ok((object.state.stamp, object.state.size_bytes)),
        };
        let stat = self.counters.calls.during(|| fstat(opened));
        let stat = stat.map_err(|error| self.io(file, "look at it", error.into()))?;
        let state = FileState::from(&stat);
        Ok((state.stamp, state.size_bytes))
    }

    /// Reads the first bytes of an object that will be needed, which tells its state.
    fn open_object(&self, objects: &Arc<Objects>, key: String, file: &[u64]) -> Result<Option<Opened>, SourceError> {
        let part = match (&self.shards, &self.codec) {
            (Some(shards), _) if shards.index_at_end => Part::Last(shards.codec.encoded_bytes),
            (Some(shards), _) => Part::From(0, shards.codec.encoded_bytes),
            (None, LeafCodec::Blosc(_) | LeafCodec::Raw) if !self.is_small.load(Relaxed) => Part::From(0, HEAD_BYTES),
            _ => Part::From(0, SMALL_BYTES),
        };
        let began = Instant::now();
        let got = self.counters.calls.during(|| objects.get(&key, part));
        let got = got.map_err(|error| self.io(file, "read it", error))?;
        Counters::add(&self.counters.read_ns, began.elapsed().as_nanos() as u64);
        Counters::add(&self.counters.files_opened, u64::from(got.is_some()));
        Ok(got.map(|got| {
            Opened::Object(Object {
                objects: Arc::clone(objects),
                key,
                state: got.state,
                offset: got.offset,
                bytes: got.bytes,
            })
        }))
    }

    /// A key of the store, from one of the array.
    pub(super) fn below(&self, key: &str) -> String {
        if self.array.path.is_empty() { key.to_owned() } else { format!("{}/{key}", self.array.path) }
    }

    /// That a file could not be read to where its state says that it ends.
    pub(super) fn unread(&self, file: &[u64], error: io::Error) -> SourceError {
        match error.kind() {
            io::ErrorKind::StaleNetworkFileHandle if self.store.objects().is_some() => self.changed(file),
            _ => self.io(file, "read it", error),
        }
    }

    pub(super) fn check_unchanged(&self, opened: &Opened, file: &[u64], expected: Stamp) -> Result<(), SourceError> {
        let (stamp, _) = self.opened_state(opened, file)?;
        if stamp == expected { Ok(()) } else { Err(self.changed(file)) }
    }
}

/// Zarr readers take all of these for "no such chunk"; so does the source's own reader, so must the view.
fn is_absent(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::NOTDIR)
}
