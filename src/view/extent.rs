//! A rechunked array in one of its shapes: arrays grow and shrink while they are shown.

use super::versions::Version;
use crate::geometry::{Pieces, Region, Tiling};
use std::sync::OnceLock;

/// What depends on the shape of an array. Chunks, pieces, files and tiles have the same numbers in all shapes.
#[derive(Debug)]
pub(super) struct Extent {
    /// The first version that has this shape.
    pub(super) since: Version,
    pub(super) shape: Vec<u64>,
    pub(super) pieces: Pieces,
    /// Virtual files (shards, or chunks) along each axis.
    pub(super) file_grid: Vec<u64>,
    /// Chosen when first needed.
    pub(super) tiling: OnceLock<Tiling>,
    /// What records on disk of these tiles are called.
    pub(super) family: OnceLock<u128>,
}

impl Extent {
    /// The array in the shape that `pieces` are cut for, in virtual files of `file_shape`.
    pub(super) fn new(since: Version, shape: &[u64], pieces: Pieces, file_shape: &[u64]) -> Self {
        Extent {
            since,
            file_grid: shape.iter().zip(file_shape).map(|(len, file)| len.div_ceil(*file)).collect(),
            shape: shape.to_vec(),
            pieces,
            tiling: OnceLock::new(),
            family: OnceLock::new(),
        }
    }

    /// The same array in another shape, from version `since` on.
    pub(super) fn resized(&self, since: Version, shape: &[u64], file_shape: &[u64]) -> Self {
        Extent::new(since, shape, self.pieces.resized(shape), file_shape)
    }

    /// Tells the parts that two shapes have of a region apart. 0 where a shape has all of it.
    pub(super) fn identity(&self, region: &Region) -> u64 {
        let part = region.clipped(&self.shape);
        if part == *region {
            0
        } else {
            part.shape().iter().fold(1, |all: u64, len| all.wrapping_mul(31).wrapping_add(*len))
        }
    }
}
