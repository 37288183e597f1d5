//! Where in a temporary file things lie.

use super::super::plan::ArrayPlan;
use crate::geometry::{Bundles, EncodedOrder, LeafShare, Region, TileId, Tiling};
use crate::synthesis::Lay;
use std::ops::Range;

/// Boxes of the array - tiles, or bundles of them - one after the other, and in each box leaf after leaf.
#[derive(Debug)]
pub(super) struct Places<'a> {
    tiling: &'a Tiling,
    /// Where there are some, all tiles have room.
    pub(super) bundles: Option<Bundles>,
    /// The only tiles that have room, in order; all of them where that is missing.
    only: Option<Vec<TileId>>,
    /// Where each of them begins, bytes. Where there are bundles: in their file.
    starts: Vec<u64>,
    item_bytes: u64,
}

/// What a box takes of a leaf, and where that lies.
#[derive(Debug)]
pub(super) struct Share {
    /// Position of the leaf among those that are handled together.
    pub(super) nth: usize,
    /// Leaf coordinates.
    pub(super) part: Region,
    pub(super) offset: u64,
    pub(super) len: usize,
}

impl<'a> Places<'a> {
    /// Room for all tiles, or for `only` these, in order; bundles are of all.
    pub(super) fn new(plan: &'a ArrayPlan, tiles_per_bundle: u64, item_bytes: u64, only: Option<Vec<TileId>>) -> Self {
        let tiling = &plan.tiling;
        let n_tiles = only.as_ref().map_or(tiling.n_tiles(), |only| only.len() as u64);
        let mut starts = Vec::with_capacity(n_tiles as usize + 1);
        let mut end = 0;
        for nth in 0..n_tiles {
            let tile = only.as_ref().map_or(TileId(nth), |only| only[nth as usize]);
            starts.push(end);
            end += tiling.share(tile).coverage.n_elems() * item_bytes;
        }
        starts.push(end);
        let bundles = (tiles_per_bundle > 0 && only.is_none()).then(|| Bundles::new(tiling, tiles_per_bundle));
        Places { tiling, bundles, only, starts, item_bytes }
    }

    /// Length of the file with all that has room.
    pub(super) fn all_bytes(&self) -> u64 {
        self.starts[self.starts.len() - 1]
    }

    /// Bytes of tiles that follow each other, of a bundle.
    pub(super) fn bytes_of(&self, tiles: &Range<u64>) -> u64 {
        self.starts[tiles.end as usize] - self.starts[tiles.start as usize]
    }

    /// Bytes of the largest portion.
    pub(super) fn most_bytes(&self) -> u64 {
        self.portions().map(|tiles| self.bytes_of(&tiles)).max().unwrap_or(0)
    }

    /// The bundles, or all tiles at once where there are none.
    pub(super) fn portions(&self) -> impl Iterator<Item = Range<u64>> {
        let (bundles, n_tiles) = (self.bundles, self.tiling.n_tiles());
        let n = bundles.map_or(1, |bundles| bundles.n());
        (0..n).map(move |nth| bundles.map_or(0..n_tiles, |bundles| bundles.tiles(nth)))
    }

    /// What the boxes of the file with all of the array take of the leaf at `cell`.
    pub(super) fn of_leaf(&self, nth: usize, cell: &Region) -> Vec<Share> {
        let Some(bundles) = self.bundles else { return self.of_tiles(nth, cell, cell, 0) };
        let mut touched: Vec<u64> = self.tiling.tiles_of(cell).into_iter().map(|tile| bundles.of(tile)).collect();
        touched.sort_unstable();
        touched.dedup();
        let share = |bundle: u64| self.of_bundle(nth, cell, &bundles.tiles(bundle));
        touched.into_iter().map(share).collect()
    }

    /// What a bundle takes of the leaf at `cell`.
    pub(super) fn of_bundle(&self, nth: usize, cell: &Region, bundle: &Range<u64>) -> Share {
        self.share(nth, cell, &self.tiling.region_of(bundle), self.starts[bundle.start as usize])
    }

    /// What each tile of a bundle takes of the leaf at `cell`, in a file of that bundle alone.
    pub(super) fn of_leaf_in(&self, nth: usize, cell: &Region, bundle: &Range<u64>) -> Vec<Share> {
        let within = cell.intersect(&self.tiling.region_of(bundle));
        self.of_tiles(nth, cell, &within, self.starts[bundle.start as usize])
    }

    /// What a tile takes of the leaf at `cell`, in the file from which it is made.
    pub(super) fn of_tile(&self, cell: &Region, tile: &LeafShare) -> Share {
        let base = self.bundles.map_or(0, |bundles| self.starts[bundles.tiles(bundles.of(tile.tile)).start as usize]);
        // Nobody asks for a tile that has no room.
        let start = self.start_of(tile.tile).unwrap_or(base);
        self.share(0, cell, &tile.coverage, start - base)
    }

    /// What the tiles of `within` that have room take of the leaf at `cell`, in a file that begins at `base`.
    fn of_tiles(&self, nth: usize, cell: &Region, within: &Region, base: u64) -> Vec<Share> {
        let share = |tile: TileId| {
            let start = self.start_of(tile)?;
            Some(self.share(nth, cell, &self.tiling.share(tile).coverage, start - base))
        };
        self.tiling.tiles_of(within).into_iter().filter_map(share).collect()
    }

    /// Where a tile begins; `None` where it has no room.
    fn start_of(&self, tile: TileId) -> Option<u64> {
        let nth = match &self.only {
            Some(only) => only.binary_search(&tile).ok()?,
            None => tile.0 as usize,
        };
        Some(self.starts[nth])
    }

    /// What the box `region` takes of the leaf at `cell`, and where that lies if the box begins at `start`.
    fn share(&self, nth: usize, cell: &Region, region: &Region, start: u64) -> Share {
        let part = cell.intersect(region);
        let (extent, lens) = (region.shape(), part.shape());
        // Leaves lie in C order: before this one lie whole layers of the box, and on each slower axis as many as this
        // leaf is long there.
        let before = |axis: usize| {
            let slower: u64 = lens[..axis].iter().product();
            let faster: u64 = extent[axis + 1..].iter().product();
            (part.start[axis] - region.start[axis]) * slower * faster
        };
        let n_before: u64 = (0..extent.len()).map(before).sum();
        let len = (part.n_elems() * self.item_bytes) as usize;
        Share { nth, part: part.relative_to(&cell.start), offset: start + n_before * self.item_bytes, len }
    }
}

/// How a part of a leaf lies by itself, its axes in the leaf's encoded order.
pub(super) fn lay_of(order: &EncodedOrder, part: &Region) -> Lay {
    let shape = part.shape();
    let mut axes: Vec<usize> = (0..shape.len()).collect();
    axes.sort_by_key(|&axis| (order.strides()[axis], std::cmp::Reverse(axis)));
    let mut strides = vec![0; shape.len()];
    let mut stride = 1;
    for axis in axes {
        strides[axis] = stride;
        stride *= shape[axis];
    }
    let first_elem = part.start.iter().zip(&strides).map(|(at, stride)| at * stride).sum();
    Lay { strides, first_elem, n_elems: part.n_elems() }
}

/// Shares that lie one behind the other in the file: offset there, start and end here.
pub(super) fn runs(shares: &[Share]) -> Vec<(u64, usize, usize)> {
    let mut runs: Vec<(u64, usize, usize)> = Vec::new();
    let mut at = 0;
    for share in shares {
        match runs.last_mut() {
            Some((offset, start, end)) if *offset + (*end - *start) as u64 == share.offset => *end += share.len,
            _ => runs.push((share.offset, at, at + share.len)),
        }
        at += share.len;
    }
    runs
}
