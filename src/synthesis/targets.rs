//! Where the pieces of a tile go: into the tile's bytes, or into seams.

use super::{fill_with, lock};
use crate::geometry::{Pieces, Region};
use std::sync::{Mutex, TryLockError};

/// Stands for a piece that does not lie in the tile's bytes.
pub const NOWHERE: u64 = u64::MAX;
/// Part of a tile that one thread writes at a time: pieces that follow each other, of so many bytes or a single longer one.
const BAND_BYTES: u64 = 64 << 10;

/// A piece that several tiles fill; `None` once it is complete, and elsewhere.
pub type OpenPiece = Mutex<Option<Box<[u8]>>>;

/// Where the bytes of each piece of a tile's hull go.
#[derive(Debug)]
pub struct Targets<'a> {
    pub(super) hull: &'a Region,
    starts: &'a [u64],
    bands: Vec<Band<'a>>,
    seams: Vec<(u64, &'a OpenPiece)>,
}

#[derive(Debug)]
struct Band<'a> {
    start: u64,
    bytes: Mutex<&'a mut [u8]>,
}

/// Where one piece goes, or several.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target<'a> {
    /// As many pieces as follow each other at equal distances in one part of the tile: from here on, so far apart.
    Tile {
        n: u64,
        start: u64,
        distance: u64,
    },
    Open(&'a OpenPiece),
    Nowhere,
}

impl<'a> Targets<'a> {
    /// For the pieces of `hull`, in C order: where each starts in the tile's `bytes`, in ascending order, or [`NOWHERE`].
    /// Those of `seams`, named by their positions in the hull, in order, go there; others that start nowhere are not wanted.
    ///
    /// Building writes every element of the array; what a piece of the tile holds beyond it is filled here.
    pub fn new(
        pieces: &Pieces,
        fill: &[u8],
        hull: &'a Region,
        starts: &'a [u64],
        bytes: &'a mut [u8],
        seams: Vec<(u64, &'a OpenPiece)>,
    ) -> Self {
        if pieces.are_padded(hull) {
            for (indices, &start) in hull.positions().zip(starts).filter(|(_, start)| **start != NOWHERE) {
                let end = indices.iter().map(|idx| idx + 1).collect();
                if pieces.are_padded(&Region { start: indices.clone(), end }) {
                    let region = pieces.piece_region_at(&indices);
                    fill_with(&mut bytes[start as usize..][..pieces.region_bytes(&region) as usize], fill);
                }
            }
        }
        Self::over(hull, starts, bytes, seams)
    }

    /// The same over bytes in which only some is written anew: what the pieces hold beyond the array stays.
    pub fn over(hull: &'a Region, starts: &'a [u64], bytes: &'a mut [u8], seams: Vec<(u64, &'a OpenPiece)>) -> Self {
        let mut bands = Vec::with_capacity(bytes.len() / BAND_BYTES as usize + 1);
        let (mut start, mut rest) = (0, bytes);
        for &next in starts.iter().filter(|&&next| next != NOWHERE) {
            if next - start >= BAND_BYTES {
                let (band, after) = rest.split_at_mut((next - start) as usize);
                bands.push(Band { start, bytes: Mutex::new(band) });
                (start, rest) = (next, after);
            }
        }
        bands.push(Band { start, bytes: Mutex::new(rest) });
        Targets { hull, starts, bands, seams }
    }

    /// The target of the piece at position `nth` of the hull; where it is the tile, with up to `most` pieces of which each
    /// lies `step` positions after the one before.
    pub(super) fn of(&self, nth: u64, step: u64, most: u64) -> Target<'a> {
        let at = |i: u64| self.starts.get((nth + i * step) as usize).copied().filter(|&start| start != NOWHERE);
        let Some(start) = at(0) else {
            return match self.seams.binary_search_by_key(&nth, |(nth, _)| *nth) {
                Ok(found) => Target::Open(self.seams[found].1),
                Err(_) => Target::Nowhere,
            };
        };
        let next_band = self.bands.get(self.band_of(start) + 1).map_or(u64::MAX, |band| band.start);
        let follows = |i: u64| if i < most { at(i).filter(|&at| start < at && at < next_band) } else { None };
        let Some(second) = follows(1) else { return Target::Tile { n: 1, start, distance: 0 } };
        let distance = second - start;
        let n = (2..).find(|&i| follows(i) != Some(start + i * distance)).unwrap_or(most);
        Target::Tile { n, start, distance }
    }

    /// Calls `write` with the part of the tile in which `start` lies, and where in it that is. `false` where somebody else
    /// writes there, and `waits` says not to wait.
    pub(super) fn with_band(&self, start: u64, waits: bool, write: impl FnOnce(&mut [u8], usize)) -> bool {
        let band = &self.bands[self.band_of(start)];
        let bytes = match band.bytes.try_lock() {
            Err(TryLockError::WouldBlock) if !waits => return false,
            Err(TryLockError::WouldBlock) => lock(&band.bytes),
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Ok(bytes) => bytes,
        };
        write(&mut { bytes }, (start - band.start) as usize);
        true
    }

    fn band_of(&self, start: u64) -> usize {
        // The first one starts at 0.
        self.bands.partition_point(|band| band.start <= start) - 1
    }
}
