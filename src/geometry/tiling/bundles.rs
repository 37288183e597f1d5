//! Tiles that follow each other, put together in bundles that are boxes again.

use super::{LeafShare, TileId, Tiling};
use crate::geometry::Region;
use std::ops::Range;

/// A cut of a tiling into bundles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bundles {
    n_tiles: u64,
    /// All tiles along one axis and the faster ones; no bundle goes beyond.
    row: u64,
    /// Tiles of a bundle: whole rows of the faster axes.
    step: u64,
}

impl Bundles {
    /// Bundles of at most `most` tiles, and of half as many at least where a row has no end there.
    pub fn new(tiling: &Tiling, most: u64) -> Self {
        let most = most.max(1);
        let (mut row, mut step) = (1u64, 1u64);
        for &count in tiling.grid().iter().rev() {
            step = row.saturating_mul((most / row).clamp(1, count.max(1)));
            row = row.saturating_mul(count);
            if row > most {
                break;
            }
        }
        Bundles { n_tiles: tiling.n_tiles(), row: row.max(1), step: step.max(1) }
    }

    /// Number of bundles.
    pub fn n(&self) -> u64 {
        self.n_tiles / self.row * self.row.div_ceil(self.step)
    }

    /// The bundle that holds a tile.
    pub fn of(&self, tile: TileId) -> u64 {
        tile.0 / self.row * self.row.div_ceil(self.step) + tile.0 % self.row / self.step
    }

    /// The tiles of a bundle.
    pub fn tiles(&self, bundle: u64) -> Range<u64> {
        let per_row = self.row.div_ceil(self.step);
        let row = bundle / per_row * self.row;
        let first = bundle % per_row * self.step;
        row + first..row + (first + self.step).min(self.row)
    }
}

impl Tiling {
    /// The elements of the array in tiles that follow each other and are a box together.
    pub fn region_of(&self, tiles: &Range<u64>) -> Region {
        let LeafShare { coverage: first, .. } = self.share(TileId(tiles.start));
        let LeafShare { coverage: last, .. } = self.share(TileId(tiles.end - 1));
        Region { start: first.start, end: last.end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::{EncodedOrder, Pieces, TilingRequest};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bundles_are_boxes_that_hold_their_tiles_and_nothing_else(
            axes in prop::collection::vec((1u64..12, 1u64..6, 1u64..6), 1..4),
            max_tile_bytes in 2u64..40,
            most in 1u64..30,
        ) {
            let shape: Vec<u64> = axes.iter().map(|axis| axis.0).collect();
            let leaf_shape: Vec<u64> = axes.iter().map(|axis| axis.1).collect();
            let chunk_shape: Vec<u64> = axes.iter().map(|axis| axis.2).collect();
            let order = EncodedOrder::new(&leaf_shape, &(0..axes.len()).collect::<Vec<_>>());
            let pieces = Pieces::new(&shape, &shape, &chunk_shape, 1, max_tile_bytes).expect("small");
            let tiling = Tiling::on_chunk_borders(&TilingRequest {
                shape: &shape,
                room: &shape,
                leaf_shape: &leaf_shape,
                order: &order,
                chunk_shape: &chunk_shape,
                piece_shape: pieces.piece_shape(),
                item_bytes: 1,
                block_elems: None,
                max_tile_bytes,
                small_tile_bytes: max_tile_bytes,
            })
            .expect("small");
            let bundles = Bundles::new(&tiling, most);
            let mut next = 0;
            for bundle in 0..bundles.n() {
                let tiles = bundles.tiles(bundle);
                prop_assert_eq!(tiles.start, next);
                prop_assert!((1..=most).contains(&(tiles.end - tiles.start)));
                next = tiles.end;
                let region = tiling.region_of(&tiles);
                let mut held = 0;
                for tile in tiles.map(TileId) {
                    prop_assert_eq!(bundles.of(tile), bundle);
                    let coverage = tiling.share(tile).coverage;
                    held += coverage.n_elems();
                    prop_assert!(coverage.is_empty() || coverage.intersect(&region) == coverage);
                }
                prop_assert_eq!(held, region.n_elems());
            }
            prop_assert_eq!(next, tiling.n_tiles());
        }
    }
}
