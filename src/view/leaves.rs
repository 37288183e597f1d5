//! The leaves of a source array as they were at one version.

use super::edition::Edition;
use super::engine::Moved;
use crate::geometry::{LeafShare, Region, Tiling};
use crate::source::{Folder, SourceError, Stamp, Workspace};
use crate::synthesis::{Lay, Leaves};

/// How often in a row a file may have become something else before anything could be read of it.
const MAX_ATTEMPTS: usize = 3;

/// Reads leaves in the state in which they were at a version.
#[derive(Debug)]
pub(super) struct AtVersion<'a> {
    edition: &'a Edition,
    folder: Folder,
    /// Told of each leaf that is done with.
    moved: &'a Moved,
}

impl<'a> AtVersion<'a> {
    /// Those of an edition, in the array's directory as it is now.
    pub(super) fn new(edition: &'a Edition, moved: &'a Moved) -> Self {
        AtVersion { edition, folder: edition.array.reader.folder(), moved }
    }

    /// Reads a leaf in the state that its file has at this version, by whatever `read` does.
    fn read_settled(
        &self,
        file: &[u64],
        mut read: impl FnMut(Stamp) -> Result<bool, SourceError>,
    ) -> Result<bool, SourceError> {
        let (reader, versions) = (&self.edition.array.reader, &self.edition.array.versions);
        let number = reader.number_of(file);
        for _ in 0..MAX_ATTEMPTS {
            let stamp = self.edition.stamp_of(file)?;
            let why = match read(stamp) {
                // Else it was taken for something newer while it was read: once more, then.
                Ok(found) if !stamp.is_present() || versions.settle(number, stamp) => return Ok(found),
                Ok(_) => continue,
                Err(SourceError::Corrupt { why, .. }) => Some(why),
                Err(SourceError::Changed { .. }) => None,
                Err(error) => return Err(error),
            };
            let state = reader.state(file)?;
            // In a source that is not followed nobody writes.
            let may_pass = self.edition.array.looked.is_followed();
            if may_pass && state.stamp != stamp && !state.is_settling() && versions.amend(number, stamp, &state) {
                continue;
            }
            return Err(match why {
                Some(why) if may_pass && versions.may_pass(number, &state) => reader.torn(file, why),
                Some(why) => reader.corrupt(file, why),
                None if may_pass && state.is_settling() && versions.may_amend(number, stamp) => {
                    reader.torn(file, "it is changing".to_owned())
                }
                None => reader.changed(file),
            });
        }
        Err(reader.torn(file, "it goes on changing".to_owned()))
    }
}

impl Leaves for AtVersion<'_> {
    fn scratch_bytes(&self, part_bytes: u64) -> u64 {
        self.edition.array.reader.scratch_bytes(part_bytes)
    }

    fn lay(&self, tiling: &Tiling, boxes: &[Region]) -> Lay {
        Lay::encoded(tiling, boxes)
    }

    fn read(
        &self,
        _share: &LeafShare,
        leaf: &[u64],
        lay: &Lay,
        workspace: &mut Workspace,
        out: &mut [u8],
    ) -> Result<bool, SourceError> {
        let reader = &self.edition.array.reader;
        let range = (lay.first_elem, lay.first_elem + lay.n_elems);
        let read = |stamp| reader.read_in(&self.folder, leaf, range, stamp, workspace, out);
        let found = self.read_settled(&reader.file_of(leaf), read);
        self.moved.now();
        found
    }
}
