//! What has changed of one array of the source since it was copied, and which files of the copy draw on that.

use crate::geometry::{Region, ravel, unravel};
use crate::materialize::CopyError;
use crate::materialize::array::ArrayCopy;
use crate::materialize::done::Done;
use crate::materialize::known::{KnownArray, Was};
use crate::materialize::look;
use crate::materialize::progress::Progress;
use crate::source::{FileState, SourceError};
use rayon::prelude::*;

/// Source files that are looked at before the next are, and by one thread in a row.
const WINDOW: u64 = 1 << 16;
const RUN: usize = 256;

/// What was found of the source files of one array. Their stamps are settled from here on.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Files in another state than the one that was copied, or of which it is not known.
    pub(super) changed: Done,
    /// Files that were there when they were copied, and those that changed since.
    n_known: u64,
    n_known_changed: u64,
    /// Files of which nothing is known although the array was copied, and all files.
    n_unknown: u64,
    n_files: u64,
}

/// What was found of one file.
enum Found {
    Same,
    /// In which state, where it can be looked at.
    Changed(Option<FileState>),
}

impl Found {
    /// It went, or never was there.
    fn is_absent(&self) -> bool {
        matches!(self, Found::Changed(Some(state)) if !state.stamp.is_present())
    }
}

impl Scan {
    /// Looks at all source files of `array`, on this thread's pool.
    pub(super) fn new(array: &ArrayCopy, known: Option<&KnownArray>, progress: &Progress) -> Result<Self, CopyError> {
        let mut scan = Scan::default();
        let grid = array.reader.file_grid();
        let n_files = Region::whole(grid).n_elems();
        let judge = |was: Was, found: Result<FileState, SourceError>| match found {
            Ok(state) if was == Was::Copied(state.stamp) && !state.is_young() => Found::Same,
            Ok(state) => Found::Changed(Some(state)),
            // Whoever reads it will say so.
            Err(_) => Found::Changed(None),
        };
        let was = |indices: &[u64]| known.map_or(Was::Beyond, |known| known.get(indices));
        let one = |file: u64| {
            let indices = unravel(file, grid);
            let found = look::settled(|| array.reader.state(&indices), FileState::is_settling);
            (was(&indices), judge(was(&indices), found))
        };
        for first in (0..n_files).step_by(WINDOW as usize) {
            if progress.is_stopping() {
                return Err(CopyError::Stopped);
            }
            let files: Vec<u64> = (first..(first + WINDOW).min(n_files)).collect();
            let found: Vec<(Was, Found)> = if array.reader.looks_together() {
                let mut found = Vec::new();
                let files = files.iter().map(|file| unravel(*file, grid));
                let looked =
                    array.reader.states(files, |file, state| found.push((was(file), judge(was(file), Ok(state)))));
                looked.map_err(CopyError::from)?;
                found
            } else {
                files.par_iter().with_min_len(RUN).map(|file| one(*file)).collect()
            };
            if found.iter().any(|(_, found)| found.is_absent()) {
                // Absence tells something only while the array is there.
                array.reader.check_home().map_err(|error| CopyError::Store(error.to_string()))?;
            }
            for (file, (was, found)) in files.into_iter().zip(found) {
                scan.add(array, file, was, &found);
            }
        }
        Ok(scan)
    }

    fn add(&mut self, array: &ArrayCopy, file: u64, was: Was, found: &Found) {
        let was_there = matches!(was, Was::Copied(stamp) if stamp.is_present());
        self.n_files += 1;
        self.n_known += u64::from(was_there);
        self.n_unknown += u64::from(was == Was::Unknown);
        match (found, was) {
            (Found::Same, Was::Copied(stamp)) => {
                array.stamps.settle(file, stamp);
            }
            (Found::Same, _) => {}
            (Found::Changed(state), _) => {
                if let Some(state) = state {
                    array.settle(file, state);
                }
                self.changed.insert(file);
                self.n_known_changed += u64::from(was_there);
            }
        }
    }

    /// Why chunks that are there should be compared before they are made again, if so.
    pub(super) fn why_compare(&self) -> Option<&'static str> {
        if self.n_known_changed > 1 && self.n_known_changed > self.n_known / 2 {
            return Some(
                "most of its source chunks are other files than those that were copied (restored from a backup?)",
            );
        }
        // Of a comparison that did not come to its end.
        (self.n_unknown > self.n_files / 2).then_some("it was not brought up to date to the end")
    }
}

/// The files of the copy that hold another part of the array than of one of these shapes: at its edges.
pub(super) fn recut(array: &ArrayCopy, cut_to: &[Vec<u64>]) -> Done {
    let mut recut = Done::default();
    for files in cut_to.iter().flat_map(|shape| cut_otherwise(array, shape)) {
        files.for_each(|indices| recut.insert(ravel(indices, &array.file_grid)));
    }
    recut
}

/// Length of a whole target file along each axis.
fn full_file_shape(array: &ArrayCopy) -> &[u64] {
    array.copied.array.shard_shape.as_deref().unwrap_or(array.chunk_shape())
}

/// Files that hold another part of an array of `shape` than of the one that it is now, as regions of their grid.
fn cut_otherwise(array: &ArrayCopy, shape: &[u64]) -> Vec<Region> {
    let (now, file_shape) = (&array.source().shape, full_file_shape(array));
    let of_axis = |axis: usize| {
        let mut files = Region::whole(&array.file_grid);
        files.start[axis] = shape[axis].min(now[axis]) / file_shape[axis];
        files
    };
    (0..now.len()).filter(|axis| shape[*axis] != now[*axis]).map(of_axis).filter(|files| !files.is_empty()).collect()
}

/// Indices of files that an array of `shape` has and the one that it is now has not, as regions that have none in common.
pub(super) fn beyond(array: &ArrayCopy, shape: &[u64]) -> Vec<Region> {
    let file_shape = full_file_shape(array);
    let then: Vec<u64> = shape.iter().zip(file_shape).map(|(len, file)| len.div_ceil(*file)).collect();
    let now = &array.file_grid;
    let of_axis = |axis: usize| {
        let mut files = Region::whole(&then);
        files.start[axis] = now[axis];
        for slower in 0..axis {
            files.end[slower] = then[slower].min(now[slower]);
        }
        files
    };
    (0..now.len()).map(of_axis).filter(|files| !files.is_empty()).collect()
}
