//! What the copy knows of its source, while it is brought up to date and afterwards.

use super::look::{Look, Share};
use super::passed::Brought;
use crate::geometry::{Region, ravel, unravel};
use crate::materialize::array::ArrayCopy;
use crate::materialize::disk::{self, Out};
use crate::materialize::done::Done;
use crate::materialize::known::{self, PassedNotes};
use crate::materialize::site::{self, sync_directory};
use crate::materialize::{CopyError, record};
use crate::zarr::{Came, CopyUpdate};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Writes the records of a copy.
pub(super) struct Records<'a> {
    /// What the source is called.
    pub(super) source: PathBuf,
    pub(super) look: &'a Look,
    /// A folder beside the copy.
    pub(super) beside: &'a Path,
}

impl Records<'_> {
    /// From here on nothing counts as known that is about to change, by the run with this journal.
    pub(super) fn announce(&self, array: &ArrayCopy, share: &Share, run: u64) -> Result<(), CopyError> {
        let mut cut_to = share.cut_to.clone();
        cut_to.push(array.source().shape.clone());
        self.write(array, (cut_to, Some(run)), &|file| share.scan.changed.has(file))
    }

    /// An array is up to date but for the files `unmade`: what draws on these is to be done again, as far as it is new.
    pub(super) fn settle(&self, array: &ArrayCopy, share: &Share, unmade: &[u64]) -> Result<(), CopyError> {
        let again = drawn_on(array, unmade);
        let mut cut_to = if unmade.is_empty() { Vec::new() } else { share.cut_to.clone() };
        cut_to.push(array.source().shape.clone());
        self.write(array, (cut_to, None), &|file| again.has(file) && share.scan.changed.has(file))
    }

    /// Writes down the states of the source files of an array that is in the copy, for good.
    fn write(
        &self,
        array: &ArrayCopy,
        (mut cut_to, run): (Vec<Vec<u64>>, Option<u64>),
        is_unknown: &dyn Fn(u64) -> bool,
    ) -> Result<(), CopyError> {
        let stamp = |file: u64| if is_unknown(file) { known::UNKNOWN } else { array.lasting_stamp(file) };
        cut_to.sort_unstable();
        cut_to.dedup();
        let file = known::write_array(&self.fresh(), array, &self.source, (&cut_to, run), stamp)?;
        self.put(&file, array.path(), record::STAMPS)
    }

    /// Writes the record of an array that is made as a whole into its folder.
    pub(super) fn write_fresh(&self, array: &ArrayCopy, folder: &Path) -> Result<(), CopyError> {
        let stamp = |file| array.lasting_stamp(file);
        let cut_to = [array.source().shape.clone()];
        known::write_array(&folder.join(record::STAMPS), array, &self.source, (&cut_to, None), stamp).map(drop)
    }

    /// Writes down what passes through, in the folder of the first array that is cut anew; arrays that are made as a whole are
    /// not there yet where they are `lacking`.
    pub(super) fn write_passed(&self, passed: &Brought, lacking: bool) -> Result<(), CopyError> {
        let CopyUpdate { fresh, documents, .. } = &self.look.update;
        let is_there = |path: &str| !(lacking && fresh.contains(path));
        let arrays = self.look.arrays.iter().map(ArrayCopy::path);
        let cut: BTreeSet<&str> = arrays.filter(|path| is_there(path)).collect();
        let Some(first) = cut.first() else { return Ok(()) };
        let mut notes: PassedNotes = passed.notes.clone();
        for path in documents.keys().filter(|path| is_there(path)) {
            notes.node(path, if cut.contains(path.as_str()) { Came::Cut } else { Came::Passed });
        }
        let file = notes.write(&self.fresh(), &self.source, &self.look.words)?;
        self.put(&file, first, record::PASSED)?;
        for path in cut.iter().skip(1) {
            site::remove(&self.look.target.join(path).join(record::PASSED))?;
        }
        Ok(())
    }

    /// Where records are written.
    fn fresh(&self) -> PathBuf {
        self.beside.join("record")
    }

    /// Puts the record that is written there in its place, for good.
    fn put(&self, file: &Out, array: &str, name: &str) -> Result<(), CopyError> {
        let folder = self.look.target.join(array);
        let path = folder.join(name);
        let placed =
            file.sync().and_then(|()| disk::make_folders(&folder)).and_then(|()| disk::rename(&self.fresh(), &path));
        placed.map_err(|error| CopyError::io(&path, "put it in its place", error))?;
        sync_directory(&folder)
    }
}

/// The source files on which these files of the copy draw.
fn drawn_on(array: &ArrayCopy, files: &[u64]) -> Done {
    let mut drawn_on = Done::default();
    for file in files {
        let region = Region::of_cell(&unravel(*file, &array.file_grid), &array.file_shape);
        let region = region.clipped(&array.source().shape);
        let files = array.reader.files_of(&region);
        files.for_each(|indices| drawn_on.insert(ravel(indices, array.reader.file_grid())));
    }
    drawn_on
}
