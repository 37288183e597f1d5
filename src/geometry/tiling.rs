//! Tiles: what is decoded together, so that each block of a source chunk is decoded once.
//!
//! A tile is a box of source chunks and, where chunks can be entered midway, one segment of each chunk's
//! encoded order. Tiles partition the array. Where tile borders are source borders ([`AxisTiling::Source`],
//! segments of whole blocks), a sweep decodes every block once, and a piece of a virtual chunk that straddles
//! a border draws on several tiles: a *seam*. Where memory does not allow such a tile, tiles are cut on virtual
//! chunk borders instead: no seams, but chunks decoded once for each tile that they touch.

use super::{AxisTiling, Cuts, EncodedOrder, Numbering, Region};

/// A tile of one array, by its number: its C-order position in the tile grid while the array does not grow, segments the
/// fastest axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TileId(pub u64);

/// What a tiling is chosen from. Extents in elements.
#[derive(Debug, Clone)]
pub struct TilingRequest<'a> {
    /// Array shape.
    pub shape: &'a [u64],
    /// The shape up to which tiles keep their numbers when the array grows.
    pub room: &'a [u64],
    /// Shape of a leaf source chunk.
    pub leaf_shape: &'a [u64],
    /// Order of a leaf's elements in its encoded stream.
    pub order: &'a EncodedOrder,
    /// Virtual chunk shape.
    pub chunk_shape: &'a [u64],
    /// Shape of a piece of a virtual chunk.
    pub piece_shape: &'a [u64],
    /// Bytes per element.
    pub item_bytes: u64,
    /// Elements per independently decodable block of a leaf; `None` where a leaf is decoded whole.
    pub block_elems: Option<u64>,
    /// No tile may be larger.
    pub max_tile_bytes: u64,
    /// Up to here a larger tile costs a random read nothing that it would notice.
    pub small_tile_bytes: u64,
}

/// The tiles of one array.
#[derive(Debug, Clone)]
pub struct Tiling {
    axes: Vec<AxisTiling>,
    counts: Vec<u64>,
    numbers: Numbering,
    /// Elements per segment of a leaf's encoded order; the whole leaf where it is not segmented.
    segment_elems: u64,
    n_segments: u64,
    shape: Vec<u64>,
    leaf_shape: Vec<u64>,
    order: EncodedOrder,
}

/// What one tile takes from its source chunks.
#[derive(Debug, Clone)]
pub struct LeafShare {
    /// The tile.
    pub tile: TileId,
    /// Source chunk grid indices of the leaves.
    pub leaves: Region,
    /// Elements of the array that the tile holds at most (a bounding box).
    pub coverage: Region,
    /// The segment of every leaf's encoded order, where leaves are segmented.
    segment: Option<(u64, u64)>,
}

impl Tiling {
    /// Chooses the tiles. `None` where their number passes `u64`.
    pub fn new(request: &TilingRequest<'_>) -> Option<Self> {
        let leaf_elems = request.order.n_elems();
        let mut axes = source_axes(request, &vec![1; request.shape.len()]);
        let natural_bytes = tile_bytes(&axes, request);
        let mut segment_elems = leaf_elems;
        if let Some(wanted) = segment_for(request, natural_bytes) {
            segment_elems = wanted;
        } else if natural_bytes <= u128::from(request.max_tile_bytes) {
            axes = grow_over_seams(axes, request);
        } else {
            axes = virtual_axes(request);
        }
        Self::of_axes(request, axes, segment_elems)
    }

    /// The tiles on virtual chunk borders that [`Self::new`] chooses where none on source borders fit: no seams.
    /// `None` where their number passes `u64`.
    pub fn on_chunk_borders(request: &TilingRequest<'_>) -> Option<Self> {
        Self::of_axes(request, virtual_axes(request), request.order.n_elems())
    }

    fn of_axes(request: &TilingRequest<'_>, axes: Vec<AxisTiling>, segment_elems: u64) -> Option<Self> {
        let leaf_elems = request.order.n_elems();
        let counts: Vec<u64> = axes.iter().map(AxisTiling::n).collect();
        let n_segments = leaf_elems.div_ceil(segment_elems.max(1)).max(1);
        let most: Vec<u64> = axes.iter().zip(request.room).map(|(axis, &len)| axis.resized(len).n()).collect();
        let numbers = Numbering::new(&counts, &most)?;
        numbers.end().checked_mul(n_segments)?;
        Some(Tiling {
            axes,
            counts,
            numbers,
            segment_elems,
            n_segments,
            shape: request.shape.to_vec(),
            leaf_shape: request.leaf_shape.to_vec(),
            order: request.order.clone(),
        })
    }

    /// Number of tiles.
    pub fn n_tiles(&self) -> u64 {
        self.counts.iter().product::<u64>() * self.n_segments
    }

    /// Number of tiles along each axis of the array, and segments last.
    pub fn grid(&self) -> Vec<u64> {
        self.counts.iter().copied().chain([self.n_segments]).collect()
    }

    /// Shape of a leaf source chunk.
    pub fn leaf_shape(&self) -> &[u64] {
        &self.leaf_shape
    }

    /// Most elements of one leaf that a tile takes, seen as a range of its encoded order.
    pub fn most_leaf_elems(&self) -> u64 {
        self.segment_elems
    }

    /// Order of a leaf's elements in its encoded stream.
    pub fn order(&self) -> &EncodedOrder {
        &self.order
    }

    /// How often a sweep over all tiles comes to a leaf, summed over leaves. With segments each visit takes one segment,
    /// so that a leaf counts once.
    pub fn leaf_visits(&self) -> u64 {
        let along = |axis: &AxisTiling, leaf: u64, len: u64| match *axis {
            AxisTiling::Source { .. } => len.div_ceil(leaf),
            AxisTiling::Virtual(cuts) => {
                let touched = |idx: u64| {
                    let (start, end) = cuts.interval(idx);
                    if start >= len { 0 } else { end.min(len).div_ceil(leaf) - start / leaf }
                };
                // The pattern repeats; a sample of it does for an axis of very many tiles.
                let n = cuts.n();
                let sample: u64 = (0..n.min(10_000)).map(touched).sum();
                (u128::from(sample) * u128::from(n) / u128::from(n.clamp(1, 10_000))) as u64
            }
        };
        (0..self.axes.len())
            .map(|a| along(&self.axes[a], self.leaf_shape[a], self.shape[a]))
            .fold(1, u64::saturating_mul)
    }

    /// Every tile that holds a part of `region` (array coordinates; cut off at the array first).
    pub fn tiles_of(&self, region: &Region) -> Vec<TileId> {
        let region = region.clipped(&self.shape);
        if region.is_empty() {
            return Vec::new();
        }
        let range = Region {
            start: self.axes.iter().zip(&region.start).map(|(axis, &at)| axis.of(at)).collect(),
            end: self.axes.iter().zip(&region.end).map(|(axis, &end)| axis.of(end - 1) + 1).collect(),
        };
        let mut tiles = Vec::new();
        for indices in range.positions() {
            let first = self.numbers.number(&indices) * self.n_segments;
            if self.n_segments == 1 {
                tiles.push(TileId(first));
            } else {
                let part = region.intersect(&self.tile_region(&indices));
                tiles.extend(self.segments_of(&part).into_iter().map(|segment| TileId(first + segment)));
            }
        }
        tiles
    }

    /// What `tile` takes from which source chunks.
    pub fn share(&self, tile: TileId) -> LeafShare {
        let indices = self.numbers.indices(tile.0 / self.n_segments);
        let region = self.tile_region(&indices);
        let leaves = region.cells(&self.leaf_shape);
        if self.n_segments == 1 || region.is_empty() {
            return LeafShare { tile, leaves, coverage: region, segment: None };
        }
        let start = (tile.0 % self.n_segments) * self.segment_elems;
        let end = (start + self.segment_elems).min(self.order.n_elems());
        let mut low = Region::whole(&self.leaf_shape).end;
        let mut high = vec![0; low.len()];
        for part in self.order.boxes(start, end) {
            for axis in 0..low.len() {
                low[axis] = low[axis].min(part.start[axis]);
                high[axis] = high[axis].max(part.end[axis]);
            }
        }
        let coverage = Region {
            start: (0..low.len()).map(|a| leaves.start[a] * self.leaf_shape[a] + low[a]).collect(),
            end: (0..low.len()).map(|a| (leaves.end[a] - 1) * self.leaf_shape[a] + high[a]).collect(),
        };
        LeafShare { tile, leaves, coverage: coverage.intersect(&region), segment: Some((start, end)) }
    }

    /// Whether the tile of `share` alone holds all of a piece at `indices`, as far as that can be told at a glance.
    pub(super) fn holds(&self, share: &LeafShare, pieces: &super::Pieces, indices: &[u64]) -> bool {
        share.segment.is_none()
            && indices.iter().enumerate().all(|(axis, &idx)| {
                let (start, end) = pieces.interval(axis, idx);
                start >= share.coverage.start[axis] && end.min(self.shape[axis]) <= share.coverage.end[axis]
            })
    }

    /// Origin of a leaf in the array, and the boxes (leaf coordinates, inside the array) that the tile takes of it.
    pub fn boxes(&self, share: &LeafShare, leaf: &[u64]) -> (Vec<u64>, Vec<Region>) {
        let cell = Region::of_cell(leaf, &self.leaf_shape);
        let inside = match share.segment {
            Some(_) => cell.clipped(&self.shape),
            None => cell.intersect(&share.coverage),
        };
        let inside = inside.relative_to(&cell.start);
        let boxes = match share.segment {
            Some((start, end)) => self.order.boxes(start, end).iter().map(|part| part.intersect(&inside)).collect(),
            None => vec![inside],
        };
        (cell.start, boxes.into_iter().filter(|part: &Region| !part.is_empty()).collect())
    }

    /// Encoded range (elements) that covers `boxes` of a leaf.
    pub fn hull(&self, boxes: &[Region]) -> (u64, u64) {
        boxes
            .iter()
            .map(|part| self.order.hull(part))
            .fold((u64::MAX, 0), |(low, high), (start, end)| (low.min(start), high.max(end)))
    }

    /// Region of the array below tile grid indices (all segments), cut off at the array.
    fn tile_region(&self, indices: &[u64]) -> Region {
        let (start, end) = self.axes.iter().zip(indices).map(|(axis, &idx)| axis.interval(idx)).unzip();
        Region { start, end }.clipped(&self.shape)
    }

    /// Segments that a region within one tile's source chunks touches.
    ///
    /// Segments are at least as long as the encoded hull of a piece's part of a leaf, so the hull's ends tell all.
    fn segments_of(&self, region: &Region) -> Vec<u64> {
        let per_axis: Vec<Vec<(u64, u64)>> =
            (0..region.rank()).map(|a| local_parts(region.start[a], region.end[a], self.leaf_shape[a])).collect();
        let choices: Vec<u64> = per_axis.iter().map(|parts| parts.len() as u64).collect();
        let mut segments: Vec<u64> = Vec::new();
        for choice in Region::whole(&choices).positions() {
            let (start, end) = choice.iter().zip(&per_axis).map(|(&nth, parts)| parts[nth as usize]).unzip();
            let (low, high) = self.order.hull(&Region { start, end });
            segments.extend(low / self.segment_elems..=(high - 1) / self.segment_elems);
        }
        segments.sort_unstable();
        segments.dedup();
        segments
    }
}

/// The distinct parts, in chunk coordinates, that `start..end` has of the chunks along one axis: first, inner, last.
fn local_parts(start: u64, end: u64, chunk: u64) -> Vec<(u64, u64)> {
    let (first, last) = (start / chunk, (end - 1) / chunk);
    if first == last {
        return vec![(start % chunk, (end - 1) % chunk + 1)];
    }
    let mut parts = vec![(start % chunk, chunk), (0, (end - 1) % chunk + 1)];
    if last - first > 1 {
        parts.push((0, chunk));
    }
    parts.sort_unstable();
    parts.dedup();
    parts
}

/// Tiles on source chunk borders, `multiples[axis]` times as long as a virtual (or source) chunk.
fn source_axes(request: &TilingRequest<'_>, multiples: &[u64]) -> Vec<AxisTiling> {
    (0..request.shape.len())
        .map(|a| {
            let (len, chunk) = (request.shape[a], request.leaf_shape[a]);
            let wanted = chunk.max(request.chunk_shape[a]).saturating_mul(multiples[a]);
            AxisTiling::Source { len, chunk, group: wanted }
        })
        .collect()
}

/// Tiles on virtual chunk borders, as large as memory allows; slabs of one virtual chunk where even that is too much.
fn virtual_axes(request: &TilingRequest<'_>) -> Vec<AxisTiling> {
    let rank = request.shape.len();
    let regular = |multiples: &[u64]| -> Vec<AxisTiling> {
        (0..rank)
            .map(|a| {
                let outer = request.chunk_shape[a].saturating_mul(multiples[a]);
                AxisTiling::Virtual(Cuts::regular(request.shape[a], outer))
            })
            .collect()
    };
    let one = vec![1; rank];
    if tile_bytes(&regular(&one), request) > u128::from(request.max_tile_bytes) {
        return slab_axes(request);
    }
    // Lengthen axis after axis, the one with the most source per virtual chunk first: there a source chunk is
    // shared by most virtual chunks, so there the fewest decodings are repeated.
    let mut multiples = one;
    let mut axes: Vec<usize> = (0..rank).collect();
    axes.sort_by_key(|&a| std::cmp::Reverse(request.leaf_shape[a] / request.chunk_shape[a]));
    for a in axes {
        let most = request.leaf_shape[a].max(request.chunk_shape[a]).div_ceil(request.chunk_shape[a]);
        let bytes = tile_bytes(&regular(&multiples), request).max(1);
        let fits = u64::try_from(u128::from(request.max_tile_bytes) / bytes).unwrap_or(u64::MAX);
        multiples[a] = most.min(fits.max(1));
    }
    regular(&multiples)
}

/// Slabs of one virtual chunk: as many pieces that follow each other in it as fit, one at the least.
fn slab_axes(request: &TilingRequest<'_>) -> Vec<AxisTiling> {
    let rank = request.shape.len();
    let mut steps = request.piece_shape.to_vec();
    let mut bytes = steps.iter().fold(request.item_bytes, |bytes, &len| bytes.saturating_mul(len)).max(1);
    for axis in (0..rank).rev() {
        let (chunk, piece) = (request.chunk_shape[axis], request.piece_shape[axis]);
        let n = (request.max_tile_bytes / bytes).clamp(1, chunk.div_ceil(piece));
        steps[axis] = (piece * n).min(chunk);
        bytes = bytes.saturating_mul(n);
        if n < chunk.div_ceil(piece) {
            break;
        }
    }
    let cuts = |a: usize| Cuts { len: request.shape[a], outer: request.chunk_shape[a], step: steps[a] };
    (0..rank).map(|a| AxisTiling::Virtual(cuts(a))).collect()
}

/// Elements per segment, where entering leaves midway pays and the tile fits.
fn segment_for(request: &TilingRequest<'_>, natural_bytes: u128) -> Option<u64> {
    let block = request.block_elems?.max(1);
    let leaf_elems = request.order.n_elems();
    let local: Vec<u64> = (0..request.shape.len()).map(|a| request.piece_shape[a].min(request.leaf_shape[a])).collect();
    let (_, hull) = request.order.hull(&Region::whole(&local));
    let fits = |elems: u64| {
        let bytes = natural_bytes.checked_mul(u128::from(elems)).map(|bytes| bytes / u128::from(leaf_elems));
        bytes.is_some_and(|bytes| bytes <= u128::from(request.max_tile_bytes))
    };
    // Twice the hull keeps most pieces out of the seams; once is the least that keeps a piece within two segments.
    [hull.saturating_mul(2), hull]
        .into_iter()
        .map(|least| least.div_ceil(block).saturating_mul(block))
        .find(|&elems| elems <= leaf_elems / 2 && fits(elems))
}

/// Joins neighbouring small tiles along the axes whose chunkings do not fit each other: fewer seams, fewer jobs.
fn grow_over_seams(mut axes: Vec<AxisTiling>, request: &TilingRequest<'_>) -> Vec<AxisTiling> {
    let mut multiples = vec![1u64; axes.len()];
    let seamed: Vec<usize> = (0..axes.len())
        .filter(|&a| {
            let (chunk, leaf) = (request.chunk_shape[a], request.leaf_shape[a]);
            chunk % leaf != 0 && leaf % chunk != 0
        })
        .collect();
    while let Some(&axis) = seamed.iter().filter(|&&a| axes[a].n() > 1).min_by_key(|&&a| multiples[a]) {
        multiples[axis] *= 2;
        let grown = source_axes(request, &multiples);
        if tile_bytes(&grown, request) > u128::from(request.small_tile_bytes) {
            break;
        }
        axes = grown;
    }
    axes
}

/// What the last virtual chunk of an axis reaches beyond it; held like the rest.
fn padding(len: u64, chunk: u64) -> u64 {
    len.div_ceil(chunk).saturating_mul(chunk).saturating_sub(len)
}

/// Bytes of the largest tile (all segments), padding included.
fn tile_bytes(axes: &[AxisTiling], request: &TilingRequest<'_>) -> u128 {
    axes.iter()
        .zip(request.chunk_shape)
        .map(|(axis, &wanted)| match *axis {
            AxisTiling::Source { len, chunk, group } => {
                let longest = if group % chunk == 0 { group } else { (group / chunk + 1).saturating_mul(chunk) };
                longest.min(len).saturating_add(padding(len, wanted))
            }
            AxisTiling::Virtual(cuts) => cuts.step.min(cuts.len.saturating_add(padding(cuts.len, wanted))),
        })
        .fold(u128::from(request.item_bytes), |bytes, len| bytes.saturating_mul(u128::from(len)))
}

mod bundles;
mod numbers;
mod sweep;
#[cfg(test)]
mod tests;

pub use bundles::Bundles;
pub use sweep::PiecePart;
