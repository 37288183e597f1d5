//! Integers only: regions, cuts of an axis, tiles, and where each element of a source chunk lands.
//!
//! No I/O, no data bytes, no outside crate. Positions and extents are in elements (`u64`); all regions
//! are half-open. Nothing here panics on what a store can contain: sizes are checked once, in
//! [`Pieces::new`] and [`Tiling::new`].

mod cuts;
mod encoded;
mod numbering;
mod pieces;
mod region;
mod tiling;

pub use cuts::{AxisTiling, CutRun, Cuts};
pub use encoded::EncodedOrder;
pub use numbering::Numbering;
pub use pieces::{Pieces, Placement};
pub use region::Region;
pub use tiling::{Bundles, LeafShare, PiecePart, TileId, Tiling, TilingRequest};

/// `ceil(n / d)` for `d > 0`.
pub fn div_ceil(n: u64, d: u64) -> u64 {
    n.div_ceil(d.max(1))
}

/// Strides, in elements, of a C-ordered array of `shape`. Saturates instead of overflowing.
pub fn c_strides(shape: &[u64]) -> Vec<u64> {
    let mut strides = vec![1u64; shape.len()];
    for axis in (0..shape.len().saturating_sub(1)).rev() {
        strides[axis] = strides[axis + 1].saturating_mul(shape[axis + 1]);
    }
    strides
}

/// Number of elements of `shape`, or `None` where that passes `u64`.
pub fn n_elems(shape: &[u64]) -> Option<u64> {
    shape.iter().try_fold(1u64, |n, &len| n.checked_mul(len))
}

/// C-order position of `indices` in a grid of `shape`.
pub fn ravel(indices: &[u64], shape: &[u64]) -> u64 {
    indices.iter().zip(shape).fold(0, |linear, (&idx, &len)| linear * len + idx)
}

/// Inverse of [`ravel`].
pub fn unravel(mut linear: u64, shape: &[u64]) -> Vec<u64> {
    let mut indices = vec![0; shape.len()];
    for axis in (0..shape.len()).rev() {
        let len = shape[axis].max(1);
        indices[axis] = linear % len;
        linear /= len;
    }
    indices
}
