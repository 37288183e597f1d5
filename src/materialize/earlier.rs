//! What an earlier run has done, as far as it is of the source as it is now.

use super::array::ArrayCopy;
use super::done::Done;
use super::journal::{ArrayCommit, Commit, Journal, Spool, runs};
use super::{CopyError, Options, passed};
use crate::geometry::{Region, ravel, unravel};
use crate::source::Stamp;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// What an earlier run has done, by position of the array.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    pub(super) files: BTreeMap<u32, Done>,
    pub(super) spools: BTreeMap<u32, Spool>,
    pub(super) bands: BTreeMap<u32, Done>,
    pub(super) passed: Vec<(String, u64)>,
}

impl Earlier {
    /// What commits name, and the stamps of the source files looked at, in order.
    pub(super) fn of(commits: Vec<Commit>) -> (Self, BTreeMap<u32, Vec<(u64, Stamp)>>) {
        let mut earlier = Earlier::default();
        let mut stamps: BTreeMap<u32, Vec<(u64, Stamp)>> = BTreeMap::new();
        for commit in commits {
            for (at, done) in commit.arrays {
                let files = earlier.files.entry(at).or_default();
                files.remove(&done.files_again);
                files.extend(&done.files);
                if let Some(spool) = done.spool {
                    // Whatever lies in the file by another plan is of no use.
                    earlier.bands.remove(&at);
                    earlier.spools.insert(at, spool);
                }
                let bands = earlier.bands.entry(at).or_default();
                bands.remove(&done.bands_again);
                bands.extend(&done.bands);
                let known =
                    done.stamps.into_iter().map(|(file, raw)| (file, Stamp::from_raw(raw).unwrap_or(Stamp::ABSENT)));
                stamps.entry(at).or_default().extend(known);
            }
            earlier.passed.extend(commit.passed);
        }
        for stamps in stamps.values_mut() {
            // The last word counts.
            stamps.reverse();
            stamps.sort_by_key(|(file, _)| *file);
            stamps.dedup_by_key(|(file, _)| *file);
        }
        (earlier, stamps)
    }

    /// Takes back what draws on the source files `changed` of an array: the journal is to say so before it names anything else,
    /// or what was made of their earlier states would count as made of the later ones.
    pub(super) fn forget(&mut self, at: u32, array: &ArrayCopy, changed: &[u64]) -> Option<Commit> {
        let touched = touched(array, changed.iter().copied());
        let mut again = ArrayCommit::default();
        if let Some(files) = self.files.get_mut(&at) {
            again.files_again = files.common(&touched);
            files.remove(&again.files_again);
        }
        if let (Some(bands), Some(spool)) = (self.bands.get_mut(&at), self.spools.get(&at)) {
            again.bands_again = bands.common(&bands_of(array, changed, spool.leaves_per_band));
            bands.remove(&again.bands_again);
        }
        let is_any = !(again.files_again.is_empty() && again.bands_again.is_empty());
        is_any.then(|| Commit { arrays: [(at, again)].into(), ..Commit::default() })
    }

    /// Takes back all of an array, likewise.
    pub(super) fn forget_all(&mut self, at: u32) -> Option<Commit> {
        let all = |done: Option<Done>| done.map_or_else(Vec::new, |done| runs(done.iter().collect()));
        self.spools.remove(&at);
        let (files_again, bands_again) = (all(self.files.remove(&at)), all(self.bands.remove(&at)));
        let is_any = !(files_again.is_empty() && bands_again.is_empty());
        let again = ArrayCommit { files_again, bands_again, ..ArrayCommit::default() };
        is_any.then(|| Commit { arrays: [(at, again)].into(), ..Commit::default() })
    }
}

/// The target files that draw on any of these source files.
pub(super) fn touched(array: &ArrayCopy, changed: impl Iterator<Item = u64>) -> Done {
    let source = array.source();
    let mut touched = Done::default();
    // Source files that follow each other mostly touch the same.
    let mut last = None;
    for file in changed {
        let indices = unravel(file, array.reader.file_grid());
        let region = Region::of_cell(&indices, &source.file_shape).clipped(&source.shape);
        let files = region.cells(&array.file_shape);
        if last.as_ref() != Some(&files) {
            files.for_each(|indices| touched.insert(ravel(indices, &array.file_grid)));
            last = Some(files);
        }
    }
    touched
}

/// The bands of a temporary file that hold anything of these source files.
fn bands_of(array: &ArrayCopy, changed: &[u64], leaves_per_band: u64) -> Done {
    let source = array.source();
    let leaf_grid = Region::whole(&source.shape).cells(&source.leaf_shape).shape();
    let mut bands = Done::default();
    for file in changed {
        let indices = unravel(*file, array.reader.file_grid());
        let region = Region::of_cell(&indices, &source.file_shape).clipped(&source.shape);
        let leaves = region.cells(&source.leaf_shape);
        leaves.for_each(|leaf| bands.insert(ravel(leaf, &leaf_grid) / leaves_per_band.max(1)));
    }
    bands
}

/// Takes over what an earlier run of a copy has committed, if the source is still what it was then; of one that lives, what
/// does not draw on what has changed.
pub(super) fn recall(
    arrays: &[ArrayCopy],
    commits: Vec<Commit>,
    journal: &mut Journal,
    options: &Options,
) -> Result<Earlier, CopyError> {
    let (mut earlier, mut stamps) = Earlier::of(commits);
    for (at, array) in (0..).zip(arrays) {
        let stamps = stamps.remove(&at).unwrap_or_default();
        let changed = if options.lives { changed_of(array, &stamps)? } else { Vec::new() };
        earlier.forget(at, array, &changed).iter().try_for_each(|commit| journal.append(commit))?;
        // What has changed is looked at anew.
        for (file, stamp) in stamps.into_iter().filter(|(file, _)| changed.binary_search(file).is_err()) {
            array.stamps.settle(file, stamp);
        }
    }
    if options.lives {
        earlier.passed.retain(|(key, stamp)| passed::stamp_of(&options.source, key).to_raw() == *stamp);
        return Ok(earlier);
    }
    let changed = match first_changed(arrays)? {
        None => passed::first_changed(&options.source, &earlier.passed),
        changed => changed,
    };
    match changed {
        Some(CopyError::Changed { what, .. }) => {
            let what = format!("{what} has changed in the source since");
            Err(CopyError::CannotResume { partial: super::partial_of(&options.target), what })
        }
        _ => Ok(earlier),
    }
}

/// The first source chunk file that is no longer what was copied.
pub(super) fn first_changed(arrays: &[ArrayCopy]) -> Result<Option<CopyError>, CopyError> {
    for array in arrays {
        let stamps = array.stamps.all();
        let found: Result<Vec<_>, _> = stamps.par_chunks(1024).map(|stamps| array.first_changed(stamps)).collect();
        if let Some(key) = found?.into_iter().flatten().next() {
            return Ok(Some(CopyError::changed(format!("array '{}', chunk file {key}", array.path()))));
        }
    }
    Ok(None)
}

/// Source files that are no longer in the states given, in order.
pub(super) fn changed_of(array: &ArrayCopy, known: &[(u64, Stamp)]) -> Result<Vec<u64>, CopyError> {
    let is_changed = |(file, stamp): &(u64, Stamp)| -> Result<Option<u64>, CopyError> {
        let found = array.reader.state(&unravel(*file, array.reader.file_grid()))?.stamp;
        Ok((found != *stamp).then_some(*file))
    };
    let found: Result<Vec<_>, _> = known.par_iter().map(is_changed).collect();
    let mut changed: Vec<u64> = found?.into_iter().flatten().collect();
    changed.sort_unstable();
    Ok(changed)
}
