//! What is copied as it is: every file of the source that is not part of a rechunked array, byte for byte.

use super::CopyError;
use super::commits::Commits;
use super::progress::Progress;
use crate::source::Stamp;
use crate::zarr::Projection;
use crate::zarr::hierarchy::{DOCUMENT, V2_DOCUMENTS};
use rayon::prelude::*;
use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Files that are handed to the threads at a time.
const BATCH: usize = 4096;
/// Writers of Zarr stores call what is not yet complete so.
const INCOMPLETE: &str = ".partial";

/// Copies what passes through.
#[derive(Debug)]
pub(super) struct Passage<'a> {
    pub(super) source: &'a Path,
    pub(super) store: &'a Path,
    pub(super) projection: &'a Projection,
    /// Keys that an earlier run has copied.
    pub(super) done: &'a HashSet<String>,
    pub(super) commits: &'a Commits,
    pub(super) progress: &'a Progress,
}

impl Passage<'_> {
    /// Copies all of it, on this thread's pool.
    pub(super) fn run(&self) -> Result<(), CopyError> {
        let mut batch = Vec::new();
        let mut entered = HashSet::new();
        self.walk("", &mut entered, &mut batch)?;
        self.copy(&mut batch)
    }

    /// Goes through the folder with this key.
    fn walk(&self, key: &str, entered: &mut HashSet<(u64, u64)>, batch: &mut Vec<String>) -> Result<(), CopyError> {
        let path = self.source.join(key);
        let failed = |error| CopyError::io(&path, "read it", error);
        let metadata = fs::metadata(&path).map_err(failed)?;
        if !entered.insert((metadata.dev(), metadata.ino())) {
            return Ok(());
        }
        let target = self.store.join(key);
        fs::create_dir_all(&target).map_err(|error| CopyError::io(&target, "create it", error))?;
        for entry in fs::read_dir(&path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().into_string() else {
                return Err(CopyError::io(&entry.path(), "copy it", io::Error::other("its name is not UTF-8")));
            };
            let below = if key.is_empty() { name.clone() } else { format!("{key}/{name}") };
            if name.ends_with(INCOMPLETE) || self.is_ours(key, &name, &below) {
                continue;
            }
            let file_type = entry.file_type().map_err(failed)?;
            let is_directory = if file_type.is_symlink() {
                fs::metadata(entry.path()).map_err(|error| CopyError::io(&entry.path(), "follow it", error))?.is_dir()
            } else {
                file_type.is_dir()
            };
            if is_directory {
                self.walk(&below, entered, batch)?;
            } else if !self.done.contains(&below) {
                batch.push(below);
                if batch.len() >= BATCH {
                    self.copy(batch)?;
                }
            }
        }
        // Only loops are left out, not a folder that is linked to twice.
        entered.remove(&(metadata.dev(), metadata.ino()));
        Ok(())
    }

    /// Whether an entry is written otherwise, or not part of the copy.
    fn is_ours(&self, folder: &str, name: &str, below: &str) -> bool {
        let Projection { arrays, documents, left_out, .. } = self.projection;
        let has_document = documents.contains_key(folder);
        (has_document && (name == DOCUMENT || V2_DOCUMENTS.contains(&name)))
            || left_out.iter().any(|array| array.path == below)
            || arrays.iter().any(|array| array.source.path == folder || array.source.path == below)
    }

    fn copy(&self, batch: &mut Vec<String>) -> Result<(), CopyError> {
        let copied = batch.par_iter().try_for_each(|key| {
            if self.progress.is_stopping() {
                return Err(CopyError::Stopped);
            }
            self.copy_file(key)
        });
        batch.clear();
        copied
    }

    fn copy_file(&self, key: &str) -> Result<(), CopyError> {
        let (from, to) = (self.source.join(key), self.store.join(key));
        let reading = |error| CopyError::io(&from, "read it", error);
        // Opening a named pipe would wait for a writer, for ever; the flag means nothing for regular files.
        let mut original = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&from).map_err(reading)?;
        let metadata = original.metadata().map_err(reading)?;
        if !metadata.is_file() {
            return Err(reading(io::Error::other("it is no regular file")));
        }
        let stamp = Stamp::of(&metadata);
        let mut copy = File::create(&to).map_err(|error| CopyError::io(&to, "create it", error))?;
        let bytes = io::copy(&mut original, &mut copy).map_err(|error| CopyError::io(&to, "write it", error))?;
        if Stamp::of(&original.metadata().map_err(reading)?) != stamp || bytes != metadata.len() {
            return Err(CopyError::Changed { what: key.to_owned() });
        }
        Progress::add(&self.progress.files, 1);
        Progress::add(&self.progress.written_bytes, bytes);
        self.commits.passed(key.to_owned(), stamp.to_raw(), bytes);
        Ok(())
    }
}

/// The first of `passed` (keys and stamps) that is no longer what was copied.
pub(super) fn first_changed(source: &Path, passed: &[(String, u64)]) -> Option<CopyError> {
    let is_changed = |(key, stamp): &&(String, u64)| {
        !fs::metadata(source.join(key)).is_ok_and(|metadata| Stamp::of(&metadata).to_raw() == *stamp)
    };
    passed.iter().find(is_changed).map(|(key, _)| CopyError::Changed { what: key.clone() })
}
