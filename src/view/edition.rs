//! A rechunked array at one version: what its virtual files hold, and from which tiles they come.

use super::ViewError;
use super::array::{INDEX_ENTRY_BYTES, Rechunked};
use super::engine::{Age, Key, TileKey};
use super::extent::Extent;
use super::versions::{Footprint, Version};
use crate::geometry::{LeafShare, Pieces, Placement, Region, TileId, Tiling, unravel};
use crate::source::{SourceError, Stamp};
use std::sync::Arc;

/// An array as it is at one version. Whatever is asked of it gives the same answer for as long as it is held.
#[derive(Debug, Clone)]
pub(super) struct Edition {
    pub(super) array: Arc<Rechunked>,
    pub(super) extent: Arc<Extent>,
    pub(super) version: Version,
}

/// A run of bytes of a virtual file, and where they come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Bytes of a piece.
    Piece(Placement),
    /// Fill value; `phase` is the position of the first byte within an element.
    Fill { phase: u64, len_bytes: u64 },
    /// Bytes of the shard index of virtual file `file`.
    Index { file: u64, offset_bytes: u64, len_bytes: u64 },
}

impl Part {
    pub(super) fn len_bytes(&self) -> u64 {
        match *self {
            Part::Piece(placement) => placement.len_bytes,
            Part::Fill { len_bytes, .. } | Part::Index { len_bytes, .. } => len_bytes,
        }
    }
}

impl Edition {
    pub(super) fn pieces(&self) -> &Pieces {
        &self.extent.pieces
    }

    /// The numbers of its virtual files, present or not, from `from` on.
    pub(super) fn files_from(&self, from: u64) -> impl Iterator<Item = u64> {
        self.array.files_within(&self.extent.file_grid, from)
    }

    /// Bytes of every virtual file: arithmetic, nothing is read.
    pub(super) fn file_bytes(&self) -> u64 {
        let n_inner: u64 = self.array.inner_grid.iter().product();
        if self.array.array.shard_shape.is_some() {
            n_inner * (self.pieces().chunk_bytes() + INDEX_ENTRY_BYTES)
        } else {
            self.pieces().chunk_bytes()
        }
    }

    /// The name of virtual file `file`: its chunk key, with `.` between the indices.
    pub(super) fn file_name(&self, file: u64) -> String {
        let mut name = String::from("c");
        for idx in self.array.file_indices(file) {
            name.push('.');
            name.push_str(&idx.to_string());
        }
        name
    }

    /// Inverse of [`Self::file_name`]; `None` for anything that is not exactly such a name.
    pub(super) fn parse_file_name(&self, name: &str) -> Option<u64> {
        let mut fields = name.strip_prefix("c.")?.split('.');
        let mut indices = Vec::with_capacity(self.extent.file_grid.len());
        for &len in &self.extent.file_grid {
            let field = fields.next()?;
            let is_plain = field.bytes().all(|byte| byte.is_ascii_digit()) && (field == "0" || !field.starts_with('0'));
            indices.push(field.parse::<u64>().ok().filter(|&idx| is_plain && idx < len)?);
        }
        fields.next().is_none().then(|| self.array.file_at(&indices))
    }

    /// The region of a virtual file, padding included.
    fn file_region(&self, file: u64) -> Region {
        Region::of_cell(&self.array.file_indices(file), self.array.file_shape())
    }

    /// Presence, time and version of a virtual file as it is now; looks at its source chunk files where that is due.
    pub(super) fn footprint_now(&self, file: u64) -> Result<Footprint, SourceError> {
        let region = self.file_region(file);
        self.shaped(&region, |files| self.array.footprint(files))
    }

    /// Presence, time and version of a virtual file as it was at this version.
    pub(super) fn footprint_of_file(&self, file: u64) -> Result<Footprint, SourceError> {
        self.footprint(&self.file_region(file))
    }

    fn footprint(&self, region: &Region) -> Result<Footprint, SourceError> {
        self.shaped(region, |files| self.array.footprint_at(files, self.version))
    }

    /// What `find` knows of the source chunk files of `region`, and what the shape of the array adds to it.
    fn shaped(
        &self,
        region: &Region,
        find: impl FnOnce(&Region) -> Result<Footprint, SourceError>,
    ) -> Result<Footprint, SourceError> {
        let part = region.clipped(&self.extent.shape);
        let files =
            if part.is_empty() { Region::whole(&vec![0; part.rank()]) } else { self.array.reader.files_of(&part) };
        let mut footprint = find(&files)?;
        footprint.version = footprint.version.max(self.array.shaped_since(&self.extent, region));
        footprint.times.add(0, self.extent.identity(region));
        Ok(footprint)
    }

    /// The stamp of a source chunk file.
    pub(super) fn stamp_of(&self, file: &[u64]) -> Result<Stamp, SourceError> {
        self.array.stamp_at(file, self.version)
    }

    /// The tiles, if they have been chosen.
    pub(super) fn known_tiling(&self) -> Option<&Tiling> {
        self.array.tiling_of(&self.extent)
    }

    /// The tiles. Chosen when first needed, because the block length of the source stands in its chunks.
    pub(super) fn tiling(&self, near: &Region) -> Result<&Tiling, SourceError> {
        if let Some(tiling) = self.known_tiling() {
            return Ok(tiling);
        }
        let reader = &self.array.reader;
        let mut block_elems = None;
        for file in reader.files_of(near).positions() {
            if self.stamp_of(&file)?.is_present() {
                block_elems = reader.block_elems(&file)?;
                break;
            }
        }
        // For the shape that it has now: what is read first may be of an earlier one.
        self.array.choose_tiling(&self.array.newest().extent, block_elems)?;
        // An earlier shape may have been too large for these tiles.
        self.known_tiling().ok_or_else(|| reader.changed(&reader.files_of(near).start))
    }

    /// Tiles on which a piece draws. Empty for a piece that is all padding.
    pub(super) fn tiles_of(&self, piece: u64) -> Result<Vec<TileId>, SourceError> {
        let region = self.pieces().piece_region(piece).clipped(&self.extent.shape);
        if region.is_empty() { Ok(Vec::new()) } else { Ok(self.tiling(&region)?.tiles_of(&region)) }
    }

    /// A tile as it is in this edition: whatever is built under the same key has the same bytes.
    pub(super) fn tile_key(&self, tile: TileId) -> Result<TileKey, SourceError> {
        let mut key = TileKey { array: self.array.idx, tile, age: Age { changed: 0, shaped: 0 } };
        if self.array.versions.now() > 0
            && let Some(tiling) = self.known_tiling()
        {
            let share = tiling.share(tile);
            if !share.coverage.is_empty() {
                let hull = tiling.pieces_of(&share, self.pieces());
                key.age = self.age(&self.files_of_share(&share), &self.region_of_hull(&hull))?;
            }
        }
        Ok(key)
    }

    /// A piece on which several tiles have a part, likewise.
    pub(super) fn seam_key(&self, piece: u64) -> Result<Key, SourceError> {
        let mut age = Age { changed: 0, shaped: 0 };
        if self.array.versions.now() > 0 {
            age = self.age(&self.files_of_piece(piece), &self.pieces().piece_region(piece))?;
        }
        Ok(Key::Seam(self.array.idx, piece, age))
    }

    fn age(&self, files: &Region, region: &Region) -> Result<Age, SourceError> {
        let reader = &self.array.reader;
        let changed = self.array.versions.last_change(reader, files, self.version);
        let changed = changed.ok_or_else(|| reader.changed(&files.start))?;
        Ok(Age { changed, shaped: self.array.shaped_since(&self.extent, region) })
    }

    /// What the pieces of a region of the piece grid hold, padding included.
    fn region_of_hull(&self, hull: &Region) -> Region {
        let pieces = self.pieces();
        let axes = || 0..hull.rank();
        Region {
            start: axes().map(|axis| pieces.interval(axis, hull.start[axis]).0).collect(),
            end: axes().map(|axis| pieces.interval(axis, hull.end[axis] - 1).1).collect(),
        }
    }

    /// The source files that a tile draws on.
    pub(super) fn files_of_share(&self, share: &LeafShare) -> Region {
        if share.leaves.is_empty() {
            return share.leaves.clone();
        }
        let last: Vec<u64> = share.leaves.end.iter().map(|end| end - 1).collect();
        let end = self.array.reader.file_of(&last).iter().map(|at| at + 1).collect();
        Region { start: self.array.reader.file_of(&share.leaves.start), end }
    }

    /// The source files that a piece draws on.
    pub(super) fn files_of_piece(&self, piece: u64) -> Region {
        self.array.reader.files_of(&self.pieces().piece_region(piece).clipped(&self.extent.shape))
    }

    /// Where the bytes `start..end` of virtual file `file` come from.
    pub(super) fn parts(&self, file: u64, start: u64, end: u64) -> Result<Vec<Part>, ViewError> {
        let pieces = self.pieces();
        if self.array.array.shard_shape.is_none() {
            let chunk = pieces.chunk_at(&self.array.file_indices(file));
            return Ok(pieces.placements(chunk, start, end).into_iter().map(|placed| self.part(placed)).collect());
        }
        let slot_bytes = pieces.chunk_bytes();
        let n_inner: u64 = self.array.inner_grid.iter().product();
        let index_start = n_inner * slot_bytes;
        let fill_bytes = self.array.fill().len() as u64;
        let mut parts = Vec::new();
        let mut at = start;
        while at < end.min(index_start) {
            let slot = at / slot_bytes;
            let stop = end.min((slot + 1) * slot_bytes);
            let (from, to) = (at - slot * slot_bytes, stop - slot * slot_bytes);
            match self.chunk_of_slot(file, slot)? {
                Some(chunk) => {
                    parts.extend(pieces.placements(chunk, from, to).into_iter().map(|placed| self.part(placed)));
                }
                None => parts.push(Part::Fill { phase: from % fill_bytes, len_bytes: to - from }),
            }
            at = stop;
        }
        if end > index_start {
            let from = start.max(index_start);
            parts.push(Part::Index { file, offset_bytes: from - index_start, len_bytes: end - from });
        }
        Ok(parts)
    }

    /// A piece that is all padding needs no tile.
    fn part(&self, placed: Placement) -> Part {
        let region = self.pieces().piece_region(placed.piece).clipped(&self.extent.shape);
        if region.is_empty() {
            let phase = placed.offset_bytes % self.array.fill().len() as u64;
            Part::Fill { phase, len_bytes: placed.len_bytes }
        } else {
            Part::Piece(placed)
        }
    }

    /// The virtual chunk in a slot of a shard; `None` where it is absent or beyond the array.
    fn chunk_of_slot(&self, file: u64, slot: u64) -> Result<Option<u64>, SourceError> {
        let inner_grid = &self.array.inner_grid;
        let within = unravel(slot, inner_grid);
        let file = self.array.file_indices(file);
        let grid = self.pieces().chunk_grid();
        let indices: Vec<u64> = (0..grid.len()).map(|a| file[a] * inner_grid[a] + within[a]).collect();
        if indices.iter().zip(grid).any(|(idx, n)| idx >= n) {
            return Ok(None);
        }
        let region = Region::of_cell(&indices, &self.array.array.chunk_shape);
        Ok(self.footprint(&region)?.is_present.then(|| self.pieces().chunk_at(&indices)))
    }

    /// Bytes `offset..offset + len` of the index of shard `file`.
    ///
    /// Slot `i` lies at `i` times the chunk's bytes whether or not it is present, so that nothing that appears or
    /// vanishes in the source ever moves an offset.
    pub(super) fn index_bytes(&self, file: u64, offset: u64, len: u64) -> Result<Vec<u8>, SourceError> {
        let slot_bytes = self.pieces().chunk_bytes();
        let (first, last) = (offset / INDEX_ENTRY_BYTES, (offset + len).div_ceil(INDEX_ENTRY_BYTES));
        let mut bytes = Vec::with_capacity(((last - first) * INDEX_ENTRY_BYTES) as usize);
        for slot in first..last {
            let entry = match self.chunk_of_slot(file, slot)? {
                Some(_) => (slot * slot_bytes, slot_bytes),
                None => (u64::MAX, u64::MAX),
            };
            bytes.extend_from_slice(&entry.0.to_le_bytes());
            bytes.extend_from_slice(&entry.1.to_le_bytes());
        }
        let skip = (offset - first * INDEX_ENTRY_BYTES) as usize;
        Ok(bytes[skip..skip + len as usize].to_vec())
    }
}
