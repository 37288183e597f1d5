//! What is copied as it is: every file of the source that is not part of a rechunked array, byte for byte.

use super::CopyError;
use super::commits::Commits;
use super::disk;
use super::partition::Share;
use super::progress::Progress;
use super::record;
use super::{known, look};
use crate::geometry::unravel;
use crate::source::{FileState, Objects, Stamp, Store};
use crate::zarr::hierarchy::{DOCUMENT, V2_DOCUMENTS};
use crate::zarr::{Passed, Projection};
use rayon::prelude::*;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Files that are handed to the threads at a time.
const BATCH: usize = 4096;
/// Bytes of an object that are written at a time.
const PART_BYTES: usize = 256 << 10;
/// Writers of Zarr stores call what is not yet complete so.
const INCOMPLETE: &str = ".partial";

/// The files of a source that pass through.
#[derive(Debug, Clone, Copy)]
pub(super) struct Passing<'a> {
    pub(super) source: &'a Store,
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
        if let Store::Objects(objects) = self.source {
            return self.walk_objects(objects, enter, visit);
        }
        let mut batch = Vec::new();
        self.walk_folder("", &mut HashSet::new(), &mut batch, enter, visit)?;
        visit(&batch)
    }

    /// Goes through the objects of groups, and of arrays that pass through. Where none are listed: through those that there
    /// can be.
    fn walk_objects(
        &self,
        objects: &Objects,
        enter: &mut dyn FnMut(&str) -> Result<(), CopyError>,
        visit: Visit<'_>,
    ) -> Result<(), CopyError> {
        let failed = |key: &str, error| CopyError::io(Path::new(&objects.url(key)), "list it", error);
        for folder in self.projection.group_paths.iter().chain(self.projection.passed.iter().map(|array| &array.path)) {
            enter(folder)?;
            if !objects.is_listed() && !self.is_left(folder, DOCUMENT, &below(folder, DOCUMENT)) {
                visit(&[below(folder, DOCUMENT)])?;
            }
        }
        for group in self.projection.group_paths.iter().filter(|_| objects.is_listed()) {
            let names = objects.entries(group).map_err(|error| failed(group, error))?.objects.into_iter();
            let keys = names.map(|(name, _)| (below(group, &name), name));
            let keys: Vec<String> =
                keys.filter(|(key, name)| !self.is_left(group, name, key)).map(|(key, _)| key).collect();
            visit(&keys)?;
        }
        for array in &self.projection.passed {
            if !objects.is_listed() {
                self.visit_grid(objects, array, visit)?;
                continue;
            }
            let mut outcome = Ok(());
            let walked = objects.walk_below(&array.path, BATCH, &mut |page| {
                let keys = page.into_iter().map(|(name, _)| (below(&array.path, &name), name));
                let is_left = |key: &str, name: &str| {
                    let is_incomplete = name.split('/').any(|part| part.ends_with(INCOMPLETE));
                    is_incomplete || (!name.contains('/') && self.is_left(&array.path, name, key))
                };
                let keys = keys.filter(|(key, name)| {
                    !is_left(key, name) && !name.split('/').any(|part| part.ends_with(INCOMPLETE))
                });
                outcome = visit(&keys.map(|(key, _)| key).collect::<Vec<_>>());
                outcome.is_ok()
            });
            outcome?;
            walked.map_err(|error| failed(&array.path, error))?;
        }
        Ok(())
    }

    /// Visits the chunk files that an array can have and has.
    fn visit_grid(&self, objects: &Objects, array: &Passed, visit: Visit<'_>) -> Result<(), CopyError> {
        let Some(source) = &array.source else {
            let why = "the server does not list names, and how this array is cut cannot be read; copy from a server that lists";
            return Err(CopyError::io(Path::new(&objects.url(&array.path)), "copy it", io::Error::other(why)));
        };
        let grid: Vec<u64> = source.shape.iter().zip(&source.file_shape).map(|(n, file)| n.div_ceil(*file)).collect();
        let n_files = grid.iter().fold(1u64, |n, len| n.saturating_mul(*len));
        for first in (0..n_files).step_by(BATCH) {
            let key = |file| below(&array.path, &source.key_encoding.key(&unravel(file, &grid)));
            let keys: Vec<String> = (first..n_files.min(first + BATCH as u64)).map(key).collect();
            let mut present = Vec::new();
            for (key, state) in keys.iter().zip(objects.states(&keys)) {
                let state = state.map_err(|error| CopyError::io(Path::new(&objects.url(key)), "look at it", error))?;
                present.extend(state.stamp.is_present().then(|| key.clone()));
            }
            visit(&present)?;
        }
        Ok(())
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
        let path = self.source.path(key);
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
            let below = below(key, &name);
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

/// A key below another.
fn below(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// Copies one file. Returns the state of the source's of which the copy is, and its bytes.
pub(super) fn copy_file(source: &Store, store: &Path, key: &str) -> Result<(Stamp, u64), CopyError> {
    let (from, to) = (source.full_name(key), store.join(key));
    let reading = |error| CopyError::io(&from, "read it", error);
    let writing = |error| CopyError::io(&to, "write it", error);
    let mut original = source.contents(key).map_err(reading)?.ok_or_else(|| CopyError::changed(key))?;
    let state = look::settled(|| original.state(), FileState::is_settling).map_err(reading)?;
    if let (Store::Objects(_), Some(folder)) = (source, to.parent()) {
        disk::make_folders(folder).map_err(|error| CopyError::io(folder, "create it", error))?;
    }
    let mut copy = disk::create(&to).map_err(|error| CopyError::io(&to, "create it", error))?;
    let bytes = match original.file() {
        Some(file) => copy.copy(file).map_err(writing)?,
        None => {
            let (mut bytes, mut part) = (0, vec![0; PART_BYTES]);
            loop {
                match original.read(&mut part).map_err(reading)? {
                    0 => break bytes,
                    n => copy.write_all(&part[..n]).map_err(writing)?,
                }
                bytes = copy.stream_position().map_err(writing)?;
            }
        }
    };
    let is_as_it_was = original.state().map_err(reading)?.stamp == state.stamp && bytes == state.size_bytes;
    if !is_as_it_was || state.is_settling() {
        return Err(CopyError::changed(key));
    }
    Ok((state.stamp, bytes))
}
/// The state of a file of the source that passes through.
pub(super) fn stamp_of(source: &Store, key: &str) -> Stamp {
    source.state(key).map_or(Stamp::ABSENT, |state| state.stamp)
}

/// The stamp by which an update is to know the state `stamp` of a file that was copied; `UNKNOWN` where none does.
pub(super) fn lasting_stamp(source: &Store, key: &str, stamp: u64) -> u64 {
    let is_sure = || source.state(key).is_ok_and(|state| state.stamp.is_present() && !state.is_young());
    // Objects are never young.
    if source.objects().is_some() || is_sure() { stamp } else { known::UNKNOWN }
}

/// The first of `passed` (keys and stamps) that is no longer what was copied.
pub(super) fn first_changed(source: &Store, passed: &[(String, u64)]) -> Option<CopyError> {
    for passed in passed.chunks(BATCH) {
        let keys: Vec<String> = passed.iter().map(|(key, _)| key.clone()).collect();
        for ((key, stamp), state) in passed.iter().zip(source.states(&keys)) {
            if state.map_or(Stamp::ABSENT, |state| state.stamp).to_raw() != *stamp {
                return Some(CopyError::changed(key.clone()));
            }
        }
    }
    None
}
