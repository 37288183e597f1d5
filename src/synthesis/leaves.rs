//! Where the source chunks of a tile come from, and how what was read of them lies in memory.

use crate::geometry::{LeafShare, Region, Tiling};
use crate::source::{ArrayReader, Folder, SourceError, Stamp, Workspace};

/// How the part of a leaf that a tile takes lies in memory once it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lay {
    /// Element stride of each array axis.
    pub strides: Vec<u64>,
    /// Where the first element that is read would lie if the leaf's own first element lay at 0.
    pub first_elem: u64,
    /// Elements that are read.
    pub n_elems: u64,
}

impl Lay {
    /// The part of a leaf with `boxes` as it is encoded: a run of the encoded order.
    pub fn encoded(tiling: &Tiling, boxes: &[Region]) -> Self {
        let (start, end) = tiling.hull(boxes);
        Lay { strides: tiling.order().strides().to_vec(), first_elem: start, n_elems: end - start }
    }
}

/// Hands out parts of leaves.
pub trait Leaves: Sync + std::fmt::Debug {
    /// Most memory that reading `part_bytes` of a leaf takes besides them.
    fn scratch_bytes(&self, part_bytes: u64) -> u64;

    /// How the part with `boxes` (leaf coordinates, at least one) lies once it is read; the same for every leaf.
    fn lay(&self, tiling: &Tiling, boxes: &[Region]) -> Lay;

    /// Reads the part of `leaf` that the tile of `share` takes, laid as `lay` says; `false` where there is no such leaf.
    ///
    /// # Errors
    /// Whatever keeps the leaf from being read.
    fn read(
        &self,
        share: &LeafShare,
        leaf: &[u64],
        lay: &Lay,
        workspace: &mut Workspace,
        out: &mut [u8],
    ) -> Result<bool, SourceError>;
}

/// Leaves as they are in the source: a run of the encoded order.
pub struct FromSource<'a> {
    reader: &'a ArrayReader,
    stamp_of: &'a (dyn Fn(&[u64]) -> Result<Stamp, SourceError> + Sync),
    folder: Folder,
}

impl<'a> FromSource<'a> {
    /// Those of `reader`, in the array's directory as it is now; `stamp_of` knows the version of each file that is to be
    /// read.
    pub fn new(reader: &'a ArrayReader, stamp_of: &'a (dyn Fn(&[u64]) -> Result<Stamp, SourceError> + Sync)) -> Self {
        FromSource { reader, stamp_of, folder: reader.folder() }
    }
}

impl std::fmt::Debug for FromSource<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FromSource").field("reader", self.reader).finish_non_exhaustive()
    }
}

impl Leaves for FromSource<'_> {
    fn scratch_bytes(&self, part_bytes: u64) -> u64 {
        self.reader.scratch_bytes(part_bytes)
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
        let stamp = (self.stamp_of)(&self.reader.file_of(leaf))?;
        let range = (lay.first_elem, lay.first_elem + lay.n_elems);
        self.reader.read_in(&self.folder, leaf, range, stamp, workspace, out)
    }
}
