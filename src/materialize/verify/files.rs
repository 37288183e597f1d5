//! Arrays whose elements we cannot read, held against each other file by file: where both documents say the same of
//! how elements are stored, equal files hold equal elements.

use super::outcome::ArrayComparison;
use super::runs::MOST_TOLD;
use crate::materialize::CopyError;
use crate::materialize::progress::Progress;
use crate::source::{Contents, Objects, Store};
use crate::zarr::hierarchy::{DOCUMENT, V2_DOCUMENTS};
use rayon::prelude::*;
use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Files that are handed to the threads at a time.
const BATCH: usize = 4096;
/// Bytes of a file that are compared at a time.
const PART_BYTES: usize = 256 << 10;
/// Writers of Zarr stores call what is not yet complete so.
const INCOMPLETE: &str = ".partial";

/// The chunk files of one array in both stores.
#[derive(Debug, Clone, Copy)]
pub(super) struct Folders<'a> {
    pub(super) source: &'a Store,
    pub(super) target: &'a Store,
    /// The array.
    pub(super) path: &'a str,
    pub(super) progress: &'a Progress,
}

#[derive(Debug, Default)]
struct Tally {
    bytes: u64,
    differences: u64,
    /// The first by name.
    files: BTreeSet<String>,
    unread: Option<String>,
}

impl Folders<'_> {
    /// Compares every file of the source's folder, then looks for files that only the target's has; on this thread's
    /// pool.
    pub(super) fn compare(&self, found: &mut ArrayComparison) -> Result<(), CopyError> {
        let tally = Mutex::new(Tally::default());
        let one = |key: &str| match self.compare_file(key) {
            Ok((bytes, None)) => self.note(&tally, |tally| tally.bytes += bytes),
            Ok((bytes, Some(how))) => self.note(&tally, |tally| {
                tally.bytes += bytes;
                tally.differ(format!("{key}: {how}"));
            }),
            Err(why) => self.note(&tally, |tally| tally.fail(why)),
        };
        let extra = |key: &str| match self.source.state(&self.key(key)) {
            Ok(state) if !state.stamp.is_present() => {
                self.note(&tally, |tally| tally.differ(format!("{key}: only in the target")));
            }
            Ok(_) => {}
            Err(error) => self.note(&tally, |tally| tally.fail(failed("source", key, &error))),
        };
        for (side, store, visit) in [
            ("source", self.source, &one as &(dyn Fn(&str) + Sync)),
            ("target", self.target, &extra as &(dyn Fn(&str) + Sync)),
        ] {
            let folder = store.path(self.path);
            let mut walk =
                Walk { folder: &folder, visit, batch: Vec::new(), entered: HashSet::new(), progress: self.progress };
            let walked = match store {
                Store::Disk { .. } => walk.enter("").and_then(|()| walk.flush()),
                Store::Objects(objects) => walk.objects(objects, self.path),
            };
            match walked {
                Err(Failed::Stopped) => return Err(CopyError::Stopped),
                Err(Failed::Io(why)) => {
                    self.note(&tally, |tally| tally.fail(format!("{side}: {why}")));
                }
                Ok(()) => {}
            }
        }
        let tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.bytes = tally.bytes;
        found.differences = tally.differences;
        found.files = tally.files.into_iter().collect();
        found.error = tally.unread;
        Ok(())
    }

    /// The key in the stores, from one in the array.
    fn key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}/{key}", self.path) }
    }

    fn note(&self, tally: &Mutex<Tally>, what: impl FnOnce(&mut Tally)) {
        what(&mut tally.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Bytes of a file of the source that were compared, and how the target's differs.
    fn compare_file(&self, key: &str) -> Result<(u64, Option<&'static str>), String> {
        let opened = |store: &Store| store.contents(&self.key(key));
        let mut ours = opened(self.source)
            .and_then(|opened| opened.ok_or(io::ErrorKind::NotFound.into()))
            .map_err(|error| failed("source", key, &error))?;
        let Some(mut theirs) = opened(self.target).map_err(|error| failed("target", key, &error))? else {
            return Ok((0, Some("only in the source")));
        };
        let (mut left, mut right) = (vec![0; PART_BYTES], vec![0; PART_BYTES]);
        let mut bytes = 0;
        loop {
            let n = fill(&mut ours, &mut left).map_err(|error| failed("source", key, &error))?;
            let m = fill(&mut theirs, &mut right).map_err(|error| failed("target", key, &error))?;
            bytes += n as u64;
            Progress::add(&self.progress.total_bytes, n as u64);
            Progress::add(&self.progress.done_bytes, n as u64);
            if left[..n] != right[..m] {
                return Ok((bytes, Some("not the same bytes")));
            }
            if n < PART_BYTES {
                return Ok((bytes, None));
            }
        }
    }
}

impl Tally {
    fn fail(&mut self, why: String) {
        // The first by name, whichever thread came first.
        if self.unread.as_ref().is_none_or(|kept| why < *kept) {
            self.unread = Some(why);
        }
    }

    fn differ(&mut self, how: String) {
        self.differences += 1;
        self.files.insert(how);
        if self.files.len() > MOST_TOLD {
            self.files.pop_last();
        }
    }
}

enum Failed {
    Stopped,
    Io(String),
}

/// Goes through the files of one array.
struct Walk<'a> {
    folder: &'a Path,
    visit: &'a (dyn Fn(&str) + Sync),
    batch: Vec<String>,
    entered: HashSet<(u64, u64)>,
    progress: &'a Progress,
}

impl Walk<'_> {
    fn enter(&mut self, key: &str) -> Result<(), Failed> {
        let path = self.folder.join(key);
        let failed = |error: io::Error| Failed::Io(format!("cannot list {}: {error}", path.display()));
        let metadata = fs::metadata(&path).map_err(failed)?;
        if !self.entered.insert((metadata.dev(), metadata.ino())) {
            return Ok(());
        }
        for entry in fs::read_dir(&path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry
                .file_name()
                .into_string()
                .map_err(|name| Failed::Io(format!("{}: the name {} is not UTF-8", path.display(), name.display())))?;
            if (key.is_empty() && is_document(&name)) || name.ends_with(INCOMPLETE) {
                continue;
            }
            let below = if key.is_empty() { name } else { format!("{key}/{name}") };
            let file_type = entry.file_type().map_err(failed)?;
            let is_directory = if file_type.is_symlink() { entry.path().is_dir() } else { file_type.is_dir() };
            if is_directory {
                self.enter(&below)?;
                continue;
            }
            self.batch.push(below);
            if self.batch.len() >= BATCH {
                self.flush()?;
            }
        }
        // Only loops are left out, not a folder that is linked to twice.
        self.entered.remove(&(metadata.dev(), metadata.ino()));
        Ok(())
    }

    /// The same of the objects below `path`.
    fn objects(&mut self, objects: &Objects, path: &str) -> Result<(), Failed> {
        let mut outcome = Ok(());
        let walked = objects.walk_below(path, BATCH, &mut |page| {
            let is_chunk =
                |name: &String| !is_document(name) && !name.split('/').any(|part| part.ends_with(INCOMPLETE));
            self.batch.extend(page.into_iter().map(|(name, _)| name).filter(is_chunk));
            outcome = self.flush();
            outcome.is_ok()
        });
        outcome?;
        walked.map_err(|error| Failed::Io(format!("cannot list {}: {error}", objects.url(path))))
    }

    fn flush(&mut self) -> Result<(), Failed> {
        let visit = |key: String| {
            if self.progress.is_stopping() {
                return Err(Failed::Stopped);
            }
            (self.visit)(&key);
            Ok(())
        };
        std::mem::take(&mut self.batch).into_par_iter().try_for_each(visit)
    }
}

fn is_document(name: &str) -> bool {
    name == DOCUMENT || V2_DOCUMENTS.contains(&name)
}

fn failed(side: &str, key: &str, error: &io::Error) -> String {
    format!("{side}: chunk file {key}: cannot read it: {error}")
}

/// Reads until `buffer` is full or the file ends.
fn fill(file: &mut Contents, buffer: &mut [u8]) -> io::Result<usize> {
    let mut n = 0;
    while n < buffer.len() {
        match file.read(&mut buffer[n..]) {
            Ok(0) => break,
            Ok(read) => n += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(n)
}
