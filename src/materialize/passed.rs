//! What is copied as it is: every file of the source that is not part of a rechunked array, byte for byte.

use super::CopyError;
use super::commits::Commits;
use super::disk;
use super::partition::Share;
use super::progress::Progress;
use super::record;
use super::{known, look};
use crate::source::Stamp;
use crate::zarr::Projection;
use crate::zarr::hierarchy::{DOCUMENT, V2_DOCUMENTS};
use rayon::prelude::*;
use std::collections::{BTreeMap, HashSet};
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Files that are handed to the threads at a time.
const BATCH: usize = 4096;
/// Writers of Zarr stores call what is not yet complete so.
const INCOMPLETE: &str = ".partial";

/// The files of a source that pass through.
#[derive(Debug, Clone, Copy)]
pub(super) struct Passing<'a> {
    pub(super) source: &'a Path,
    pub(super) projection: &'a Projection,
    /// Nodes whose documents are seen to otherwise, besides those of which the copy has others than the source.
    pub(super) documents: Option<&'a BTreeMap<String, String>>,
}

/// What is done with them, many at a time.
type Visit<'v> = &'v mut dyn FnMut(&[String]) -> Result<(), CopyError>;

impl Passing<'_> {
    /// Calls `enter` with the key of each folder, and `visit` with those of files; each file once.
    pub(super) fn walk(
        &self,
        enter: &mut dyn FnMut(&str) -> Result<(), CopyError>,
        visit: Visit<'_>,
    ) -> Result<(), CopyError> {
        let mut batch = Vec::new();
        self.walk_folder("", &mut HashSet::new(), &mut batch, enter, visit)?;
        visit(&batch)
    }

    /// Goes through the folder with this key.
    fn walk_folder(
        &self,
        key: &str,
        entered: &mut HashSet<(u64, u64)>,
        batch: &mut Vec<String>,
        enter: &mut dyn FnMut(&str) -> Result<(), CopyError>,
        visit: Visit<'_>,
    ) -> Result<(), CopyError> {
        let path = self.source.join(key);
        let failed = |error| CopyError::io(&path, "read it", error);
        let metadata = fs::metadata(&path).map_err(failed)?;
        if !entered.insert((metadata.dev(), metadata.ino())) {
            return Ok(());
        }
        enter(key)?;
        for entry in fs::read_dir(&path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().into_string() else {
                return Err(CopyError::io(&entry.path(), "copy it", io::Error::other("its name is not UTF-8")));
            };
            let below = if key.is_empty() { name.clone() } else { format!("{key}/{name}") };
            if self.is_left(key, &name, &below) {
                continue;
            }
            let file_type = entry.file_type().map_err(failed)?;
            let is_directory = if file_type.is_symlink() {
                fs::metadata(entry.path()).map_err(|error| CopyError::io(&entry.path(), "follow it", error))?.is_dir()
            } else {
                file_type.is_dir()
            };
            if is_directory {
                self.walk_folder(&below, entered, batch, enter, visit)?;
                continue;
            }
            batch.push(below);
            if batch.len() >= BATCH {
                visit(batch)?;
                batch.clear();
            }
        }
        // Only loops are left out, not a folder that is linked to twice.
        entered.remove(&(metadata.dev(), metadata.ino()));
        Ok(())
    }

    /// Whether an entry is written otherwise, or not part of the copy.
    fn is_left(&self, folder: &str, name: &str, below: &str) -> bool {
        let Projection { arrays, documents, left_out, .. } = self.projection;
        name.ends_with(INCOMPLETE)
            // Of a source that is a copy itself.
            || [record::STAMPS, record::PASSED].contains(&name)
            || (documents.contains_key(folder) && (name == DOCUMENT || V2_DOCUMENTS.contains(&name)))
            || (name == DOCUMENT && self.documents.is_some_and(|documents| documents.contains_key(folder)))
            || left_out.iter().any(|array| array.path == below)
            || arrays.iter().any(|array| array.source.path == folder || array.source.path == below)
    }
}

/// Copies what passes through.
#[derive(Debug)]
pub(super) struct Passage<'a> {
    pub(super) passing: Passing<'a>,
    pub(super) store: &'a Path,
    /// Keys that an earlier run has copied.
    pub(super) done: &'a HashSet<String>,
    /// The share that is made, where it is not all of them.
    pub(super) share: Option<Share>,
    pub(super) commits: &'a Commits,
    pub(super) progress: &'a Progress,
}

impl Passage<'_> {
    /// Copies all of it, on this thread's pool.
    pub(super) fn run(&self) -> Result<(), CopyError> {
        let mut enter = |key: &str| {
            let folder = self.store.join(key);
            disk::make_folders(&folder).map_err(|error| CopyError::io(&folder, "create it", error))
        };
        let one = |key: &String| {
            if self.progress.is_stopping() {
                return Err(CopyError::Stopped);
            }
            let (stamp, bytes) = copy_file(self.passing.source, self.store, key)?;
            Progress::add(&self.progress.files, 1);
            Progress::add(&self.progress.written_bytes, bytes);
            self.commits.passed(key.to_owned(), stamp.to_raw(), bytes);
            Ok(())
        };
        let is_ours = |key: &String| !self.done.contains(key) && self.share.is_none_or(|share| share.has_passed(key));
        self.passing.walk(&mut enter, &mut |batch| batch.par_iter().filter(|key| is_ours(key)).try_for_each(one))
    }
}

/// Copies one file, whose folder is there. Returns the state of the source's of which the copy is, and its bytes.
pub(super) fn copy_file(source: &Path, store: &Path, key: &str) -> Result<(Stamp, u64), CopyError> {
    let (from, to) = (source.join(key), store.join(key));
    let reading = |error| CopyError::io(&from, "read it", error);
    // Opening a named pipe would wait for a writer, for ever; the flag means nothing for regular files.
    let mut original = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&from).map_err(reading)?;
    let metadata = look::settled(|| original.metadata(), look::is_settling).map_err(reading)?;
    if !metadata.is_file() {
        return Err(reading(io::Error::other("it is no regular file")));
    }
    let stamp = Stamp::of(&metadata);
    let mut copy = disk::create(&to).map_err(|error| CopyError::io(&to, "create it", error))?;
    let bytes = copy.copy(&mut original).map_err(|error| CopyError::io(&to, "write it", error))?;
    let is_as_it_was = Stamp::of(&original.metadata().map_err(reading)?) == stamp && bytes == metadata.len();
    if !is_as_it_was || look::is_settling(&metadata) {
        return Err(CopyError::changed(key));
    }
    Ok((stamp, bytes))
}

/// The state of a file of the source that passes through.
pub(super) fn stamp_of(source: &Path, key: &str) -> Stamp {
    fs::metadata(source.join(key)).map_or(Stamp::ABSENT, |metadata| Stamp::of(&metadata))
}

/// The stamp by which an update is to know the state `stamp` of a file that was copied; `UNKNOWN` where none does.
pub(super) fn lasting_stamp(source: &Path, key: &str, stamp: u64) -> u64 {
    let is_sure = fs::metadata(source.join(key)).is_ok_and(|metadata| !look::is_young(&metadata));
    if is_sure { stamp } else { known::UNKNOWN }
}

/// The first of `passed` (keys and stamps) that is no longer what was copied.
pub(super) fn first_changed(source: &Path, passed: &[(String, u64)]) -> Option<CopyError> {
    let is_changed = |(key, stamp): &&(String, u64)| stamp_of(source, key).to_raw() != *stamp;
    passed.iter().find(is_changed).map(|(key, _)| CopyError::changed(key.clone()))
}
