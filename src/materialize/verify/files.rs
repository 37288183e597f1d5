//! Arrays whose elements we cannot read, held against each other file by file: where both documents say the same of
//! how elements are stored, equal files hold equal elements.

use super::outcome::ArrayComparison;
use super::runs::MOST_TOLD;
use crate::materialize::CopyError;
use crate::materialize::progress::Progress;
use crate::zarr::hierarchy::{DOCUMENT, V2_DOCUMENTS};
use rayon::prelude::*;
use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
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
    pub(super) source: &'a Path,
    pub(super) target: &'a Path,
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
        let extra = |key: &str| match fs::symlink_metadata(self.source.join(key)) {
            Err(error) if is_absent(&error) => {
                self.note(&tally, |tally| tally.differ(format!("{key}: only in the target")));
            }
            _ => {}
        };
        for (side, folder, visit) in [
            ("source", self.source, &one as &(dyn Fn(&str) + Sync)),
            ("target", self.target, &extra as &(dyn Fn(&str) + Sync)),
        ] {
            let mut walk = Walk { folder, visit, batch: Vec::new(), entered: HashSet::new(), progress: self.progress };
            match walk.enter("").and_then(|()| walk.flush()) {
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

    fn note(&self, tally: &Mutex<Tally>, what: impl FnOnce(&mut Tally)) {
        what(&mut tally.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Bytes of a file of the source that were compared, and how the target's differs.
    fn compare_file(&self, key: &str) -> Result<(u64, Option<&'static str>), String> {
        let failed = |side: &str, error: &io::Error| format!("{side}: chunk file {key}: cannot read it: {error}");
        let mut ours = open(&self.source.join(key)).map_err(|error| failed("source", &error))?;
        let mut theirs = match open(&self.target.join(key)) {
            Err(error) if is_absent(&error) => return Ok((0, Some("only in the source"))),
            opened => opened.map_err(|error| failed("target", &error))?,
        };
        let (mut left, mut right) = (vec![0; PART_BYTES], vec![0; PART_BYTES]);
        let mut bytes = 0;
        loop {
            let n = fill(&mut ours, &mut left).map_err(|error| failed("source", &error))?;
            let m = fill(&mut theirs, &mut right).map_err(|error| failed("target", &error))?;
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
            let is_document = key.is_empty() && (name == DOCUMENT || V2_DOCUMENTS.contains(&name.as_str()));
            if is_document || name.ends_with(INCOMPLETE) {
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

fn open(path: &Path) -> io::Result<File> {
    // Opening a named pipe would wait for a writer, for ever; the flag means nothing for regular files.
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if opened.metadata()?.is_file() { Ok(opened) } else { Err(io::Error::other("it is no regular file")) }
}

/// Reads until `buffer` is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
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

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
