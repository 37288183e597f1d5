//! The virtual chunks of an array, and the pieces into which large ones are cut.
//!
//! A piece is a run of whole rows of one virtual chunk, so its bytes are contiguous in the chunk's file.
//! Most chunks are one piece; a chunk of a gigabyte is many, so that it need never be held whole.

use super::{CutRun, Cuts, Numbering, Region, c_strides, n_elems, ravel, unravel};

/// Virtual chunks and pieces of one array. Sizes are checked once, here.
#[derive(Debug, Clone)]
pub struct Pieces {
    axes: Vec<Cuts>,
    shape: Vec<u64>,
    chunk_shape: Vec<u64>,
    piece_shape: Vec<u64>,
    chunk_grid: Vec<u64>,
    piece_grid: Vec<u64>,
    chunk_numbers: Numbering,
    piece_numbers: Numbering,
    item_bytes: u64,
    chunk_bytes: u64,
}

/// A byte range of one piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// The piece, by its number.
    pub piece: u64,
    /// First byte within the piece.
    pub offset_bytes: u64,
    /// Number of bytes.
    pub len_bytes: u64,
}

impl Pieces {
    /// Cuts chunks of `chunk_shape` (lengths at least 1) into pieces of at most `max_piece_bytes`. Chunks and pieces keep
    /// their numbers while the array grows to `room`, or shrinks ([`Self::resized`]).
    ///
    /// `None` where a number of chunks, pieces or bytes passes `u64`.
    pub fn new(
        shape: &[u64],
        room: &[u64],
        chunk_shape: &[u64],
        item_bytes: u64,
        max_piece_bytes: u64,
    ) -> Option<Self> {
        let piece_shape = slab_shape(chunk_shape, item_bytes, max_piece_bytes);
        Self::cut(shape, room, chunk_shape, piece_shape, item_bytes)
    }

    /// Cuts chunks of `chunk_shape` (lengths at least 1) into pieces of `piece_shape`: the rows of one axis, all of the
    /// faster ones, one position of the slower ones, so that a piece is contiguous in its chunk.
    ///
    /// `None` where a number of chunks, pieces or bytes passes `u64`.
    pub fn of_shape(shape: &[u64], chunk_shape: &[u64], piece_shape: Vec<u64>, item_bytes: u64) -> Option<Self> {
        Self::cut(shape, shape, chunk_shape, piece_shape, item_bytes)
    }

    fn cut(shape: &[u64], room: &[u64], chunk_shape: &[u64], piece_shape: Vec<u64>, item_bytes: u64) -> Option<Self> {
        let chunk_bytes = n_elems(chunk_shape)?.checked_mul(item_bytes)?;
        let axes = axes(shape, chunk_shape, &piece_shape);
        let (chunk_grid, piece_grid) = grids(&axes);
        let (chunk_room, piece_room) = grids(&self::axes(room, chunk_shape, &piece_shape));
        Some(Pieces {
            chunk_numbers: Numbering::new(&chunk_grid, &chunk_room)?,
            piece_numbers: Numbering::new(&piece_grid, &piece_room)?,
            axes,
            shape: shape.to_vec(),
            chunk_shape: chunk_shape.to_vec(),
            piece_shape,
            chunk_grid,
            piece_grid,
            item_bytes,
            chunk_bytes,
        })
    }

    /// The same chunks and pieces, under the same numbers, of an array of another shape within the room.
    pub fn resized(&self, shape: &[u64]) -> Self {
        let axes = axes(shape, &self.chunk_shape, &self.piece_shape);
        let (chunk_grid, piece_grid) = grids(&axes);
        Pieces { axes, shape: shape.to_vec(), chunk_grid, piece_grid, ..self.clone() }
    }

    /// Number of virtual chunks along each axis.
    pub fn chunk_grid(&self) -> &[u64] {
        &self.chunk_grid
    }

    /// Number of pieces along each axis.
    pub fn piece_grid(&self) -> &[u64] {
        &self.piece_grid
    }

    /// The number of the virtual chunk at `indices` of the chunk grid: its C-order position, while the array does not grow.
    pub fn chunk_at(&self, indices: &[u64]) -> u64 {
        self.chunk_numbers.number(indices)
    }

    /// The number of the piece at `indices` of the piece grid.
    pub fn piece_at(&self, indices: &[u64]) -> u64 {
        self.piece_numbers.number(indices)
    }

    /// Where a piece is in the piece grid: inverse of [`Self::piece_at`].
    pub fn piece_indices(&self, piece: u64) -> Vec<u64> {
        self.piece_numbers.indices(piece)
    }

    /// Bytes of every virtual chunk, padding included.
    pub fn chunk_bytes(&self) -> u64 {
        self.chunk_bytes
    }

    /// Extents of a piece; the last one of a chunk may be shorter.
    pub fn piece_shape(&self) -> &[u64] {
        &self.piece_shape
    }

    /// The region of virtual chunk `chunk` within the array (padding cut off).
    pub fn chunk_region(&self, chunk: u64) -> Region {
        Region::of_cell(&self.chunk_numbers.indices(chunk), &self.chunk_shape).clipped(&self.shape)
    }

    /// The chunk to which a piece belongs, and which of its pieces it is, in C order.
    pub fn chunk_of(&self, piece: u64) -> (u64, u64) {
        let indices = self.piece_indices(piece);
        let per_chunk: Vec<u64> = self.axes.iter().map(Cuts::per_outer).collect();
        let chunk: Vec<u64> = indices.iter().zip(&per_chunk).map(|(idx, n)| idx / n).collect();
        let nth: Vec<u64> = indices.iter().zip(&per_chunk).map(|(idx, n)| idx % n).collect();
        (self.chunk_at(&chunk), ravel(&nth, &per_chunk))
    }

    /// Pieces of each chunk.
    pub fn per_chunk(&self) -> u64 {
        self.axes.iter().map(Cuts::per_outer).product()
    }

    /// The region of a piece, padding included.
    pub fn piece_region(&self, piece: u64) -> Region {
        self.piece_region_at(&self.piece_indices(piece))
    }

    /// The region of the piece at `indices` of the piece grid, padding included.
    pub fn piece_region_at(&self, indices: &[u64]) -> Region {
        let (start, end) = self.axes.iter().zip(indices).map(|(cuts, &idx)| cuts.interval(idx)).unzip();
        Region { start, end }
    }

    /// Start and end of the pieces at `idx` of one axis of the piece grid, padding included.
    pub fn interval(&self, axis: usize, idx: u64) -> (u64, u64) {
        self.axes[axis].interval(idx)
    }

    /// Whether one of `pieces`, a region of the piece grid, reaches beyond the array.
    pub fn are_padded(&self, pieces: &Region) -> bool {
        let is_beyond = |axis: usize| self.axes[axis].interval(pieces.end[axis] - 1).1 > self.shape[axis];
        !pieces.is_empty() && (0..pieces.rank()).any(is_beyond)
    }

    /// What the positions `start..end` of one axis are of its pieces.
    pub fn runs(&self, axis: usize, start: u64, end: u64) -> Vec<CutRun> {
        self.axes[axis].runs(start, end)
    }

    /// Bytes of a piece of that (unclipped) region.
    pub fn region_bytes(&self, region: &Region) -> u64 {
        region.n_elems().saturating_mul(self.item_bytes)
    }

    /// Pieces that a non-empty region of the array touches, as a region of the piece grid.
    pub fn touched(&self, region: &Region) -> Region {
        Region {
            start: self.axes.iter().zip(&region.start).map(|(cuts, &at)| cuts.of(at)).collect(),
            end: self.axes.iter().zip(&region.end).map(|(cuts, &end)| cuts.of(end - 1) + 1).collect(),
        }
    }

    /// Where the bytes `start..end` of virtual chunk `chunk` lie, in order. `end` must not pass [`Self::chunk_bytes`].
    pub fn placements(&self, chunk: u64, start: u64, end: u64) -> Vec<Placement> {
        let chunk_idx = self.chunk_numbers.indices(chunk);
        let strides = c_strides(&self.chunk_shape);
        let mut placements = Vec::new();
        let mut at = start;
        while at < end {
            let within = unravel(at / self.item_bytes, &self.chunk_shape);
            let mut indices = vec![0; within.len()];
            let mut piece_start = 0;
            let mut piece_elems = 1;
            for axis in 0..within.len() {
                let (outer, step) = (self.chunk_shape[axis], self.piece_shape[axis]);
                let nth = within[axis] / step;
                indices[axis] = chunk_idx[axis] * self.axes[axis].per_outer() + nth;
                piece_start += nth * step * strides[axis];
                piece_elems *= step.min(outer - nth * step);
            }
            let piece_start = piece_start * self.item_bytes;
            let stop = end.min(piece_start + piece_elems * self.item_bytes);
            placements.push(Placement {
                piece: self.piece_at(&indices),
                offset_bytes: at - piece_start,
                len_bytes: stop - at,
            });
            at = stop;
        }
        placements
    }
}

fn axes(shape: &[u64], chunk_shape: &[u64], piece_shape: &[u64]) -> Vec<Cuts> {
    (0..shape.len()).map(|axis| Cuts { len: shape[axis], outer: chunk_shape[axis], step: piece_shape[axis] }).collect()
}

/// Chunks and pieces along each axis.
fn grids(axes: &[Cuts]) -> (Vec<u64>, Vec<u64>) {
    axes.iter().map(|cuts| (cuts.len.div_ceil(cuts.outer), cuts.n())).unzip()
}

/// The largest run of whole rows of `shape` that stays within `max_bytes` (one element at the least).
pub(super) fn slab_shape(shape: &[u64], item_bytes: u64, max_bytes: u64) -> Vec<u64> {
    let mut slab = shape.to_vec();
    for axis in 0..shape.len() {
        let row_bytes = slab[axis + 1..].iter().fold(item_bytes, |n, &len| n.saturating_mul(len)).max(1);
        slab[axis] = shape[axis].min((max_bytes / row_bytes).max(1));
        if slab[axis] > 1 || row_bytes <= max_bytes {
            break;
        }
    }
    slab
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_chunk_is_one_piece() {
        let pieces = Pieces::new(&[10, 7], &[10, 7], &[3, 7], 4, 1 << 20).expect("fits");
        assert_eq!((pieces.chunk_grid(), pieces.piece_grid(), pieces.chunk_bytes()), (&[4, 1][..], &[4, 1][..], 84));
        assert_eq!(pieces.placements(2, 10, 84), [Placement { piece: 2, offset_bytes: 10, len_bytes: 74 }]);
    }

    #[test]
    fn placements_walk_a_chunk_in_file_order() {
        for max_piece_bytes in [1, 2, 8, 20, 40, 1000] {
            let pieces = Pieces::new(&[10, 7, 3], &[10, 7, 3], &[4, 5, 3], 2, max_piece_bytes).expect("fits");
            let strides = c_strides(&[4, 5, 3]);
            for chunk in 0..6 {
                let origin = pieces.chunk_region(chunk).start;
                let mut at = 0;
                for placed in pieces.placements(chunk, 0, pieces.chunk_bytes()) {
                    let region = pieces.piece_region(placed.piece);
                    assert_eq!(placed.offset_bytes, 0);
                    assert_eq!(placed.len_bytes, pieces.region_bytes(&region));
                    let first: u64 = region.relative_to(&origin).start.iter().zip(&strides).map(|(a, s)| a * s).sum();
                    assert_eq!(at, first * 2, "a piece is contiguous in its chunk");
                    at += placed.len_bytes;
                }
                assert_eq!(at, pieces.chunk_bytes());
            }
        }
    }
}
