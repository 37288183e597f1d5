//! Going through all tiles of an array in order: what a tile has of each piece, and how much lies open between tiles.

use super::{AxisTiling, LeafShare, TileId, Tiling, TilingRequest};
use crate::geometry::{Pieces, Region};

/// What a tile has of a piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PiecePart {
    /// All of it.
    Whole,
    /// A part; these tiles, of which it is one, have the piece together.
    Shared(Vec<TileId>),
    /// Nothing.
    Nothing,
}

impl Tiling {
    /// The pieces that a tile touches, as a region of the piece grid.
    pub fn pieces_of(&self, share: &LeafShare, pieces: &Pieces) -> Region {
        if share.coverage.is_empty() {
            Region::whole(&vec![0; share.coverage.rank()])
        } else {
            pieces.touched(&share.coverage)
        }
    }

    /// What the tile of `share` has of the piece at `indices` of the piece grid.
    pub fn part_of(&self, share: &LeafShare, pieces: &Pieces, indices: &[u64]) -> PiecePart {
        if self.holds(share, pieces, indices) {
            return PiecePart::Whole;
        }
        let tiles = self.tiles_of(&pieces.piece_region_at(indices));
        if tiles == [share.tile] {
            PiecePart::Whole
        } else if tiles.contains(&share.tile) {
            PiecePart::Shared(tiles)
        } else {
            PiecePart::Nothing
        }
    }

    /// Whether tiles lie on source borders, so that each block of the source lies in one of them.
    pub fn is_on_source_borders(&self) -> bool {
        self.axes.iter().all(|axis| matches!(axis, AxisTiling::Source { .. }))
    }

    /// Bytes of pieces that lie open at most, begun by a tile and to be completed by a later one, while all tiles are
    /// built in the order of their numbers, three at a time. Saturates. An upper bound, never less than what it comes to.
    pub fn most_open_bytes(&self, request: &TilingRequest<'_>) -> u64 {
        let rank = self.axes.len();
        let piece = |axis: usize| request.piece_shape[axis];
        let padded = |axis: usize| self.shape[axis].div_ceil(piece(axis)).saturating_mul(piece(axis));
        // What pieces that a tile touches reach, along an axis.
        let reach = |axis: usize| match self.axes[axis] {
            AxisTiling::Source { chunk, group, .. } => {
                group.saturating_add(chunk).saturating_add(piece(axis).saturating_mul(2)).min(padded(axis))
            }
            AxisTiling::Virtual(cuts) => cuts.step,
        };
        let layer = |axis: usize, thickness: u64, extent: &dyn Fn(usize) -> u64| {
            let item_bytes = request.item_bytes.saturating_mul(thickness);
            (0..rank).filter(|&other| other != axis).fold(item_bytes, |bytes, a| bytes.saturating_mul(extent(a)))
        };
        let mut open: u64 = 0;
        for axis in 0..rank {
            let AxisTiling::Source { chunk, group, .. } = self.axes[axis] else { continue };
            let on_piece_borders = chunk % piece(axis) == 0 || (group % piece(axis) == 0 && group % chunk == 0);
            if self.counts[axis] > 1 && !on_piece_borders {
                // Of the slower axes one tile at a time, of the faster ones everything; both ends of a tile. And what the
                // tiles add that are built at the same time.
                let extent = |a: usize| if a < axis { reach(a) } else { padded(a) };
                let both_ends = piece(axis).saturating_mul(2);
                open =
                    open.saturating_add(layer(axis, both_ends, &extent)).saturating_add(layer(axis, both_ends, &reach));
            }
        }
        if self.n_segments > 1
            && let Some(slowest) = self.order.slowest_axis()
        {
            // Each leaf along that axis has a border of its own.
            let n_leaves = reach(slowest).div_ceil(self.leaf_shape[slowest]).saturating_add(1);
            let thickness = piece(slowest).saturating_mul(2).saturating_mul(n_leaves).min(reach(slowest));
            open = open.saturating_add(layer(slowest, thickness, &reach).saturating_mul(2));
        }
        open
    }
}
