//! Tiles against a naive model: each element of the array lies in exactly one tile, and `tiles_of` finds it.

use super::*;
use crate::geometry::Pieces;
use proptest::prelude::*;
use std::collections::HashMap;

fn axis() -> impl Strategy<Value = (u64, u64, u64)> {
    (1u64..9, 1u64..9, 1u64..9)
}

proptest! {
    #[test]
    fn tiles_partition_the_array(
        axes in prop::collection::vec(axis(), 1..4),
        reverse in any::<bool>(),
        block_elems in prop::option::of(1u64..20),
        max_tile_bytes in 4u64..600,
    ) {
        let shape: Vec<u64> = axes.iter().map(|a| a.0).collect();
        let leaf_shape: Vec<u64> = axes.iter().map(|a| a.1).collect();
        let chunk_shape: Vec<u64> = axes.iter().map(|a| a.2).collect();
        let mut order: Vec<usize> = (0..axes.len()).collect();
        if reverse {
            order.reverse();
        }
        let order = EncodedOrder::new(&leaf_shape, &order);
        let pieces = Pieces::new(&shape, &shape, &chunk_shape, 2, max_tile_bytes / 3).expect("small");
        let tiling = Tiling::new(&TilingRequest {
            shape: &shape,
            room: &shape,
            leaf_shape: &leaf_shape,
            order: &order,
            chunk_shape: &chunk_shape,
            piece_shape: pieces.piece_shape(),
            item_bytes: 2,
            block_elems,
            max_tile_bytes,
            small_tile_bytes: 64,
        }).expect("small");

        let mut owner: HashMap<Vec<u64>, TileId> = HashMap::new();
        for tile in (0..tiling.n_tiles()).map(TileId) {
            let share = tiling.share(tile);
            for leaf in share.leaves.positions() {
                let (origin, boxes) = tiling.boxes(&share, &leaf);
                for part in &boxes {
                    for at in part.translated(&origin).positions() {
                        prop_assert!(at.iter().zip(&share.coverage.start).all(|(a, b)| a >= b));
                        prop_assert!(at.iter().zip(&share.coverage.end).all(|(a, b)| a < b));
                        prop_assert!(owner.insert(at, tile).is_none(), "an element lies in two tiles");
                    }
                }
            }
        }
        prop_assert_eq!(owner.len() as u64, shape.iter().product::<u64>());
        for piece in 0..pieces.piece_grid().iter().product() {
            let region = pieces.piece_region(piece).clipped(&shape);
            let mut truth: Vec<TileId> = region.positions().map(|at| owner[&at]).collect();
            truth.sort_unstable();
            truth.dedup();
            let mut found = tiling.tiles_of(&region);
            found.sort_unstable();
            prop_assert_eq!(found, truth);
        }
    }
}

#[test]
fn the_reference_store_is_entered_block_by_block() {
    let shape = [47_287, 40, 2, 100];
    let leaf = [47_287, 40, 2, 1];
    let order = EncodedOrder::new(&leaf, &[0, 1, 2, 3]);
    let tiling = Tiling::new(&TilingRequest {
        shape: &shape,
        room: &shape,
        leaf_shape: &leaf,
        order: &order,
        chunk_shape: &[15, 40, 2, 100],
        piece_shape: &[15, 40, 2, 100],
        item_bytes: 4,
        block_elems: Some(65_536),
        max_tile_bytes: 100 << 20,
        small_tile_bytes: 1 << 20,
    })
    .expect("fits");
    assert_eq!(tiling.n_tiles(), 58);
    let object_810 = Region { start: vec![810, 0, 0, 0], end: vec![825, 40, 2, 100] };
    assert_eq!(tiling.tiles_of(&object_810), [TileId(0), TileId(1)], "block 0 ends in object 819");
}

#[test]
fn padding_counts_as_memory() {
    // A column of a million rows in virtual chunks a thousand wide: 4 MB of elements, 4 GB as they are held.
    let (shape, leaf, chunk) = ([1_000_000, 1], [10_000, 1], [1_000_000, 1_000]);
    let max_tile_bytes = 8 << 20;
    let pieces = Pieces::new(&shape, &shape, &chunk, 4, max_tile_bytes / 4).expect("fits");
    for block_elems in [None, Some(1_000)] {
        let tiling = Tiling::new(&TilingRequest {
            shape: &shape,
            room: &shape,
            leaf_shape: &leaf,
            order: &EncodedOrder::new(&leaf, &[0, 1]),
            chunk_shape: &chunk,
            piece_shape: pieces.piece_shape(),
            item_bytes: 4,
            block_elems,
            max_tile_bytes,
            small_tile_bytes: 1 << 20,
        })
        .expect("fits");
        for tile in (0..tiling.n_tiles()).map(TileId) {
            let hull = pieces.touched(&tiling.share(tile).coverage);
            let held: u64 = hull.positions().map(|at| pieces.region_bytes(&pieces.piece_region_at(&at))).sum();
            // Seams at both ends included.
            assert!(held <= 2 * max_tile_bytes, "{tile:?} holds {held} bytes");
        }
    }
}

proptest! {
    #[test]
    fn tiles_keep_their_numbers_when_the_array_grows_or_shrinks(
        axes in prop::collection::vec((axis(), 0u64..14), 1..4),
        block_elems in prop::option::of(1u64..20),
        max_tile_bytes in 40u64..600,
    ) {
        let shape: Vec<u64> = axes.iter().map(|a| a.0.0).collect();
        let leaf_shape: Vec<u64> = axes.iter().map(|a| a.0.1).collect();
        let chunk_shape: Vec<u64> = axes.iter().map(|a| a.0.2).collect();
        let later: Vec<u64> = axes.iter().map(|a| a.1).collect();
        let room: Vec<u64> = later.iter().zip(&shape).map(|(a, b)| *a.max(b)).collect();
        let order = EncodedOrder::new(&leaf_shape, &(0..axes.len()).collect::<Vec<_>>());
        let pieces = Pieces::new(&shape, &room, &chunk_shape, 2, max_tile_bytes / 3).expect("small");
        let request = TilingRequest {
            shape: &shape,
            room: &room,
            leaf_shape: &leaf_shape,
            order: &order,
            chunk_shape: &chunk_shape,
            piece_shape: pieces.piece_shape(),
            item_bytes: 2,
            block_elems,
            max_tile_bytes,
            small_tile_bytes: 64,
        };
        let tiling = Tiling::new(&request).expect("small");
        let grown_pieces = pieces.resized(&later);
        let Some(grown) = tiling.resized(&TilingRequest { shape: &later, ..request }) else { return Ok(()) };
        let mut owners: HashMap<Vec<u64>, TileId> = HashMap::new();
        for position in Region::whole(&grown.grid()).positions() {
            let tile = grown.tile_at(&position);
            prop_assert_eq!(grown.position(tile), position);
            let share = grown.share(tile);
            for leaf in share.leaves.positions() {
                let (origin, boxes) = grown.boxes(&share, &leaf);
                for at in boxes.iter().flat_map(|part| part.translated(&origin).positions().collect::<Vec<_>>()) {
                    prop_assert!(owners.insert(at, tile).is_none(), "each element lies in one tile");
                }
            }
        }
        prop_assert_eq!(owners.len() as u64, later.iter().product::<u64>());
        for (at, tile) in owners {
            let cell = Region { start: at.clone(), end: at.iter().map(|i| i + 1).collect() };
            prop_assert_eq!(grown.tiles_of(&cell), [tile]);
            let piece = grown_pieces.touched(&cell).start;
            let number = grown_pieces.piece_at(&piece);
            prop_assert!(!grown_pieces.piece_region(number).intersect(&cell).is_empty());
            if at.iter().zip(&shape).all(|(at, len)| at < len) {
                prop_assert_eq!(tiling.tiles_of(&cell), [tile]);
                prop_assert_eq!(pieces.piece_at(&piece), number);
            }
        }
    }
}
