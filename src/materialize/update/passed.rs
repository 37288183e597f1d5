//! What passes through a copy, file by file: those that changed are copied again, those that went go.

use crate::materialize::commits::sync_file_system;
use crate::materialize::disk;
use crate::materialize::known::{KnownPassed, PassedNotes, UNKNOWN};
use crate::materialize::passed::{Passing, copy_file, lasting_stamp};
use crate::materialize::place::Place;
use crate::materialize::progress::Progress;
use crate::materialize::{CopyError, look, record};
use crate::source::{FileState, Stamp, Store};
use crate::zarr::CopyUpdate;
use crate::zarr::hierarchy::{DOCUMENT, below};
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Bytes of a file that are compared at a time.
const PART_BYTES: usize = 256 << 10;

/// The files of a copy that pass through.
#[derive(Clone, Copy)]
pub(super) struct Passed<'a> {
    pub(super) passing: Passing<'a>,
    pub(super) update: &'a CopyUpdate,
    pub(super) target: &'a Path,
    /// What was copied; where that is not known, contents are compared.
    pub(super) known: Option<&'a KnownPassed>,
}

/// What there is to do.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Found {
    /// Files to be copied, or to be compared where `known` is missing, and their bytes.
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// Files to be removed.
    pub(super) gone: u64,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Brought {
    pub(super) notes: PassedNotes,
    /// Files that could not be copied, and why; and those that changed meanwhile.
    pub(super) failures: Vec<String>,
    pub(super) left: Vec<String>,
    /// Of these, some belong to an array of which the documents are to show more than before.
    pub(super) lacks: bool,
}

impl Passed<'_> {
    /// What there is to do; on this thread's pool.
    pub(super) fn look(&self) -> Result<Found, CopyError> {
        let found = Mutex::new(Found::default());
        self.passing.walk(&mut |_| Ok(()), &mut |batch| {
            batch.par_iter().for_each(|key| {
                // Of a file that somebody is writing nothing is known, and nothing is the same.
                let is_known = |stamp| self.known.is_some_and(|known| known.get(key) == Some(stamp));
                if self.stamp(key).is_some_and(is_known) && !self.is_fresh(key) {
                    return;
                }
                let bytes = self.passing.source.state(key).map_or(0, |state| state.size_bytes);
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                found.files += 1;
                found.bytes += bytes;
            });
            Ok(())
        })?;
        let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.gone(&mut |_| {
            found.gone += 1;
            Ok(())
        })?;
        Ok(found)
    }

    /// Copies what has changed to `staged` and puts it in its place, then removes what is gone; on this thread's pool.
    pub(super) fn bring(&self, staged: &Path, place: &Place, progress: &Progress) -> Result<Brought, CopyError> {
        let brought = Mutex::new(Brought::default());
        self.passing.walk(&mut |_| Ok(()), &mut |batch| {
            let copied: Vec<Option<&String>> =
                batch.par_iter().map(|key| self.copy(key, staged, &brought, progress)).collect::<Result<_, _>>()?;
            let in_place: Vec<&String> = copied.into_iter().flatten().filter(|key| !self.is_fresh(key)).collect();
            if !in_place.is_empty() {
                sync_file_system(staged)?;
            }
            in_place.iter().try_for_each(|key| place.put_passed(key))
        })?;
        self.gone(&mut |key| place.remove_key(Path::new(key)))?;
        Ok(brought.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Copies one file to `staged`, if that is to be; its key if it was.
    fn copy<'k>(
        &self,
        key: &'k String,
        staged: &Path,
        brought: &Mutex<Brought>,
        progress: &Progress,
    ) -> Result<Option<&'k String>, CopyError> {
        if progress.is_stopping() {
            return Err(CopyError::Stopped);
        }
        let note = |stamp: u64, left: Option<String>, failure: Option<String>| {
            let mut brought = brought.lock().unwrap_or_else(PoisonError::into_inner);
            brought.notes.file(key, stamp);
            let CopyUpdate { grown, fresh, .. } = self.update;
            let is_shown = || grown.iter().chain(fresh).any(|path| below(key, path).is_some());
            brought.lacks |= (left.is_some() || failure.is_some()) && is_shown();
            brought.left.extend(left);
            brought.failures.extend(failure);
        };
        if let Some(stamp) = self.stamp(key).filter(|stamp| self.is_there(key, *stamp)) {
            note(stamp.to_raw(), None, None);
            return Ok(None);
        }
        let folder = staged.join(key);
        let folder = folder.parent().unwrap_or(staged);
        disk::make_folders(folder).map_err(|error| CopyError::io(folder, "create it", error))?;
        match copy_file(self.passing.source, staged, key) {
            Ok((stamp, bytes)) => {
                Progress::add(&progress.files, 1);
                Progress::add(&progress.written_bytes, bytes);
                note(lasting_stamp(self.passing.source, key, stamp.to_raw()), None, None);
                Ok(Some(key))
            }
            Err(error @ CopyError::Full { .. }) => Err(error),
            Err(CopyError::Changed { what, .. }) => {
                note(UNKNOWN, Some(what), None);
                Ok(None)
            }
            Err(error) => {
                note(UNKNOWN, None, Some(error.to_string()));
                Ok(None)
            }
        }
    }

    fn is_fresh(&self, key: &str) -> bool {
        self.update.fresh.iter().any(|path| below(key, path).is_some())
    }

    /// The state of a file of the source, if that can be told from any other.
    fn stamp(&self, key: &str) -> Option<Stamp> {
        let found = look::settled(|| self.passing.source.state(key), FileState::is_settling).ok()?;
        (found.stamp.is_present() && !found.is_young()).then_some(found.stamp)
    }

    /// Whether the copy has a file of the source, which is in this state, as it is.
    fn is_there(&self, key: &str, stamp: Stamp) -> bool {
        let is_known = || self.known.is_some_and(|known| known.get(key) == Some(stamp));
        // Another file need not have other contents.
        let is_same = || is_same(self.passing.source, &self.target.into(), key).unwrap_or(false);
        !self.is_fresh(key) && (is_known() || is_same())
    }

    /// Calls `visit` with each file of the copy that the source does not have any more. Outside of arrays somebody else may
    /// have put files there: those stay.
    fn gone(&self, visit: &mut dyn FnMut(&str) -> Result<(), CopyError>) -> Result<(), CopyError> {
        let passed: BTreeSet<&str> =
            self.update.copy.projection.passed.iter().map(|array| array.path.as_str()).collect();
        if self.is_another("") {
            return Ok(());
        }
        self.gone_below("", passed.contains(""), &passed, visit)
    }

    fn gone_below(
        &self,
        key: &str,
        is_array: bool,
        passed: &BTreeSet<&str>,
        visit: &mut dyn FnMut(&str) -> Result<(), CopyError>,
    ) -> Result<(), CopyError> {
        let path = self.target.join(key);
        let failed = |error| CopyError::io(&path, "read it", error);
        for entry in fs::read_dir(&path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let below = if key.is_empty() { name.clone() } else { format!("{key}/{name}") };
            if entry.file_type().map_err(failed)?.is_dir() {
                let is_passed = passed.contains(below.as_str());
                if !self.is_another(&below) {
                    self.gone_below(&below, is_array || is_passed, passed, visit)?;
                }
                continue;
            }
            let is_ours = is_array || self.known.is_some_and(|known| known.has(&below));
            let is_document = name == DOCUMENT || [record::STAMPS, record::PASSED].contains(&name.as_str());
            if is_ours && !is_document && self.is_gone(&below) {
                visit(&below)?;
            }
        }
        Ok(())
    }

    /// Whether the source does not have a file any more: not even as a link that leads nowhere.
    fn is_gone(&self, key: &str) -> bool {
        match self.passing.source {
            Store::Disk { .. } => is_absent(&self.passing.source.path(key)),
            Store::Objects(objects) => objects.state(key).is_ok_and(|state| !state.stamp.is_present()),
        }
    }

    /// Whether a folder of the copy is an array of which the files are seen to otherwise, or somebody else's.
    fn is_another(&self, path: &str) -> bool {
        let CopyUpdate { copy, fresh, removed, kept, .. } = self.update;
        copy.projection.arrays.iter().any(|array| array.source.path == path)
            || fresh.contains(path)
            || removed.arrays.iter().chain(&kept.arrays).any(|node| node == path)
    }
}

fn is_absent(path: &Path) -> bool {
    matches!(fs::symlink_metadata(path), Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory))
}

/// Whether two stores hold the same in the file with this key.
fn is_same(ours: &Store, theirs: &Store, key: &str) -> io::Result<bool> {
    let (Some(mut ours), Some(mut theirs)) = (ours.contents(key)?, theirs.contents(key)?) else { return Ok(false) };
    if ours.state()?.size_bytes != theirs.state()?.size_bytes {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; PART_BYTES], vec![0; PART_BYTES]);
    loop {
        let n = ours.by_ref().take(PART_BYTES as u64).read(&mut left)?;
        if n == 0 {
            return Ok(theirs.read(&mut right[..1])? == 0);
        }
        theirs.read_exact(&mut right[..n])?;
        if left[..n] != right[..n] {
            return Ok(false);
        }
    }
}
