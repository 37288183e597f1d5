//! Records of tiles: one section for each piece of the tile's hull, in C order.
//!
//! A piece that lies in the tile whole is the section. A seam is kept by each tile that has a part in it, in the state
//! in which it was then: its bytes, the tiles that had placed their parts, and the version of the source files of the
//! whole piece, since those are more than the tile's own.

use super::super::edition::Edition;
use super::super::engine::Key;
use super::super::journal::Journal;
use super::super::tile::{Seam, Tile, is_held, place_in};
use super::keys::{self, Keys};
use crate::cache::disk::{DiskCache, DiskError, Name, Record, Sections, Sink};
use crate::geometry::{Placement, Region, TileId};
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

const TILE_BYTES: u64 = size_of::<u64>() as u64;
const VERSION_BYTES: u64 = size_of::<u128>() as u64;
/// Copied at a time to a record.
const COPY_BYTES: u64 = 128 << 10;

/// The records of one view.
#[derive(Debug)]
pub(super) struct Shelf {
    pub(super) records: DiskCache,
    keys: Keys,
    pub(super) journal: Arc<Journal>,
}

/// A tile to be kept, with the seams that it has a part in.
#[derive(Debug)]
pub(in crate::view) struct Built {
    pub(in crate::view) edition: Edition,
    pub(in crate::view) tile: Arc<Tile>,
    pub(in crate::view) seams: Vec<(Key, Arc<Seam>)>,
}

/// A record, and the section of a piece in it.
struct Found {
    record: Arc<Record>,
    section: u64,
}

impl Shelf {
    pub(super) fn new(records: DiskCache, root: &Path, journal: Arc<Journal>) -> Self {
        Shelf { records, keys: Keys::new(root), journal }
    }

    /// Appends a part of a piece to `out`, if a record has it.
    pub(super) fn read(&self, edition: &Edition, placed: &Placement, out: &mut Vec<u8>) -> bool {
        let tiles = edition.tiles_of(placed.piece).unwrap_or_default();
        let is_seam = tiles.len() > 1;
        let has = tiles.iter().any(|&tile| {
            let Some(found) = self.find(edition, tile, placed.piece) else { return false };
            if is_seam && self.done(edition, placed.piece, &found).is_none_or(|done| !is_complete(&tiles, &done)) {
                return false;
            }
            let range = (placed.offset_bytes, placed.len_bytes);
            self.noted(self.records.read(&found.record, found.section, range, out)) == Some(true)
        });
        if has {
            self.records.totals.hits.fetch_add(1, Relaxed);
            self.records.totals.read_bytes.fetch_add(placed.len_bytes, Relaxed);
        }
        has
    }

    /// Those of the `tiles` that a piece draws on whose parts need not be built.
    pub(super) fn kept(&self, edition: &Edition, piece: u64, tiles: &[TileId]) -> Vec<TileId> {
        let [tile] = *tiles else { return self.best(edition, piece, tiles).map_or_else(Vec::new, |(done, _)| done) };
        let found = self.find(edition, tile, piece);
        let bytes = found.and_then(|found| self.noted(self.records.section_bytes(&found.record, found.section)));
        if bytes > Some(0) { vec![tile] } else { Vec::new() }
    }

    /// The furthest state of a seam: the tiles that have placed their parts, and the bytes.
    pub(super) fn seam(&self, edition: &Edition, piece: u64, tiles: &[TileId]) -> Option<(Vec<TileId>, Box<[u8]>)> {
        let (done, found) = self.best(edition, piece, tiles)?;
        let len = self.piece_bytes(edition, piece);
        let mut bytes = Vec::with_capacity(len as usize);
        let is_read = self.noted(self.records.read(&found.record, found.section, (0, len), &mut bytes)) == Some(true);
        is_read.then(|| (done, bytes.into_boxed_slice()))
    }

    fn best(&self, edition: &Edition, piece: u64, tiles: &[TileId]) -> Option<(Vec<TileId>, Found)> {
        let states = tiles.iter().filter_map(|&tile| {
            let found = self.find(edition, tile, piece)?;
            Some((self.done(edition, piece, &found)?, found))
        });
        states.max_by_key(|(done, _)| done.len())
    }

    /// The record of a tile, and where in it a piece is.
    fn find(&self, edition: &Edition, tile: TileId, piece: u64) -> Option<Found> {
        let tiling = edition.known_tiling()?;
        let share = tiling.share(tile);
        let section = place_in(&tiling.pieces_of(&share, edition.pieces()), edition.pieces(), piece)?;
        let name = self.keys.name(edition, tile)?;
        let version = || keys::version(edition, &edition.files_of_share(&share)).ok();
        let record = self.noted(self.records.find(name, version))??;
        Some(Found { record, section })
    }

    /// The tiles whose parts a seam on disk has; `None` where it is not there, or of another version.
    fn done(&self, edition: &Edition, piece: u64, found: &Found) -> Option<Vec<TileId>> {
        let from = self.piece_bytes(edition, piece);
        let section_bytes = self.noted(self.records.section_bytes(&found.record, found.section))?;
        let trailer_bytes = section_bytes.checked_sub(from).filter(|&bytes| bytes > VERSION_BYTES)?;
        let mut trailer = Vec::with_capacity(trailer_bytes as usize);
        self.noted(self.records.read(&found.record, found.section, (from, trailer_bytes), &mut trailer))?;
        let (tiles, version) = trailer.split_at((trailer_bytes - VERSION_BYTES) as usize);
        let expected = keys::version(edition, &edition.files_of_piece(piece)).ok()?;
        let (tiles, _) = tiles.as_chunks();
        (*version == expected.to_le_bytes())
            .then(|| tiles.iter().map(|tile| TileId(u64::from_le_bytes(*tile))).collect())
    }

    /// Writes the record of a tile. Nothing is written that this mount could not tell from a later state of the source.
    pub(super) fn write(&self, built: &Built) -> Result<(), DiskError> {
        let (edition, tile) = (&built.edition, built.tile.key.tile);
        let (Some(tiling), Some(name)) = (edition.known_tiling(), self.keys.name(edition, tile)) else {
            return Ok(());
        };
        let files = edition.files_of_share(&tiling.share(tile));
        let Some(version) = self.version_to_keep(edition, &files) else { return Ok(()) };
        self.records.write(name, version, || self.plan(built, name, version))
    }

    /// The sections of a tile's record. What this build left out, the record that it replaces may have; and a seam further
    /// on, where another mount has built the tile meanwhile.
    fn plan<'a>(&'a self, built: &'a Built, name: Name, version: u128) -> (Vec<u64>, Sections<'a>) {
        let (edition, pieces) = (&built.edition, built.edition.pieces());
        let Tile { hull, slots, bytes, .. } = &*built.tile;
        let old = self.noted(self.records.find(name, || Some(version))).flatten();
        let is_behind = |piece: u64, seam: &Seam| {
            let found = old.as_ref().zip(place_in(hull, pieces, piece));
            let done = found.and_then(|(record, section)| {
                self.done(edition, piece, &Found { record: Arc::clone(record), section })
            });
            done.is_some_and(|done| done.len() > seam.done().len())
        };
        let seams: HashMap<u64, (&Seam, Vec<u8>)> = built
            .seams
            .iter()
            .filter_map(|(key, seam)| match *key {
                Key::Seam(_, piece, _) if !is_behind(piece, seam) => Some((piece, seam)),
                _ => None,
            })
            .filter_map(|(piece, seam)| Some((piece, (&**seam, self.trailer(edition, piece, seam)?))))
            .collect();
        let mut by_section = HashMap::new();
        let mut lens = Vec::with_capacity(slots.len());
        for (section, indices) in hull.positions().enumerate() {
            let piece_bytes = pieces.region_bytes(&pieces.piece_region_at(&indices));
            let piece = pieces.piece_at(&indices);
            lens.push(if is_held(slots[section]) {
                piece_bytes
            } else if let Some((seam, trailer)) = seams.get(&piece) {
                by_section.insert(section, (*seam, trailer.clone()));
                piece_bytes + trailer.len() as u64
            } else if let Some(old) = &old {
                self.noted(self.records.section_bytes(old, section as u64)).unwrap_or(0)
            } else {
                0
            });
        }
        let lens_of = lens.clone();
        let write = move |section: usize, sink: Sink<'_>| {
            let len = lens_of[section];
            if is_held(slots[section]) {
                let start = slots[section] as usize;
                return sink(&bytes[start..start + len as usize]);
            }
            match (by_section.get(&section), &old) {
                (Some((seam, trailer)), _) => {
                    // In parts: a disk that hangs must not do so with a seam that builders wait for.
                    in_parts(len - trailer.len() as u64, sink, |from, len, part| {
                        seam.copy_now(from as usize..(from + len) as usize, part);
                        true
                    })?;
                    sink(trailer)
                }
                (None, Some(old)) => in_parts(len, sink, |from, len, part| {
                    self.noted(self.records.read(old, section as u64, (from, len), part)) == Some(true)
                }),
                (None, None) => Ok(()),
            }
        };
        (lens, Box::new(write))
    }

    /// What follows a seam's bytes in its section: the tiles that have placed their parts, and the version.
    fn trailer(&self, edition: &Edition, piece: u64, seam: &Seam) -> Option<Vec<u8>> {
        let done = seam.done();
        let version = self.version_to_keep(edition, &edition.files_of_piece(piece)).filter(|_| !done.is_empty())?;
        let mut trailer = Vec::with_capacity(done.len() * TILE_BYTES as usize + VERSION_BYTES as usize);
        trailer.extend(done.iter().flat_map(|tile| tile.0.to_le_bytes()));
        trailer.extend(version.to_le_bytes());
        Some(trailer)
    }

    /// The version of source files, where it tells their state from any to come.
    fn version_to_keep(&self, edition: &Edition, files: &Region) -> Option<u128> {
        let version = keys::version(edition, files).ok()?;
        let array = &edition.array;
        (!array.versions.any_young(&array.reader, files)).then_some(version)
    }

    fn piece_bytes(&self, edition: &Edition, piece: u64) -> u64 {
        let pieces = edition.pieces();
        pieces.region_bytes(&pieces.piece_region(piece))
    }

    /// Enters a failure in the journal: a reader does not learn of it, since what is not on disk is built.
    fn noted<T>(&self, result: Result<T, DiskError>) -> Option<T> {
        result.inspect_err(|error| self.journal.record(format!("disk cache: {error}"))).ok()
    }
}

/// Hands `len` bytes on, a part at a time; `get` appends a part, or says that it cannot.
fn in_parts(len: u64, sink: Sink<'_>, get: impl Fn(u64, u64, &mut Vec<u8>) -> bool) -> io::Result<()> {
    let mut part = Vec::new();
    for from in (0..len).step_by(COPY_BYTES as usize) {
        part.clear();
        if !get(from, COPY_BYTES.min(len - from), &mut part) {
            return Err(io::Error::other("the record to be replaced cannot be read"));
        }
        sink(&part)?;
    }
    Ok(())
}

fn is_complete(tiles: &[TileId], done: &[TileId]) -> bool {
    tiles.iter().all(|tile| done.contains(tile))
}
