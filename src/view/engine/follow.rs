//! Building a tile from what it was at another version: only the source chunks that have changed are decoded.

use super::super::edition::Edition;
use super::super::tile::{ENTRY_BYTES, Seam, Tile, TilePlan};
use super::super::versions::Version;
use super::{Age, Engine, Entry, Key, TileKey, lock};
use crate::cache::Ticket;
use crate::geometry::{Region, TileId};
use crate::synthesis::fill_with;
use std::sync::Arc;

/// So many versions of a tile are looked for.
const MAX_CANDIDATES: usize = 64;

/// A piece on which several tiles have a part, and where it is kept.
pub(super) type PlacedSeam = (u64, Key, Arc<Seam>);

/// A tile at another version, from which it can be built.
#[derive(Debug)]
pub(super) struct Base {
    pub(super) tile: Arc<Tile>,
    /// The leaves in which the two versions differ.
    pub(super) changed: Vec<Region>,
}

impl Engine {
    /// What a tile is to be built from: another version of it, if that has all that is wanted, and the seams in which it is to
    /// place its parts, paid from `ticket`.
    pub(super) fn ground(
        &self,
        edition: &Edition,
        plan: &TilePlan,
        ticket: &mut Ticket,
    ) -> (Option<Base>, Vec<PlacedSeam>) {
        let base = self.base(edition, plan);
        let mut seams: Vec<PlacedSeam> = Vec::with_capacity(plan.seams.len());
        for (piece, needed) in &plan.seams {
            // What keeps the version from being told keeps the readers of this piece from it, too.
            if let Ok(key) = edition.seam_key(*piece) {
                let seam = self.seam(edition, &key, *piece, needed, ticket);
                seams.push((*piece, key, seam));
            }
        }
        let tile = plan.key.tile;
        let follows = |seam: &Seam, base: &Base| !seam.lacks(tile) || seam.follows(tile, &base.tile);
        let base = base.filter(|base| {
            let wanted = seams.iter().filter(|(piece, ..)| plan.wanted.contains(piece));
            wanted.into_iter().all(|(_, _, seam)| follows(seam, base))
        });
        if let Some(base) = &base {
            seams.retain(|(_, _, seam)| follows(seam, base));
        }
        (base, seams)
    }

    /// The nearest other version of a tile that is in memory, whole, and laid out alike, if most of it is still the same.
    pub(super) fn base(&self, edition: &Edition, plan: &TilePlan) -> Option<Base> {
        let array = &edition.array;
        if array.versions.now() == 0 {
            return None;
        }
        let changes = array.versions.changes(&array.reader, &edition.files_of_share(&plan.share));
        let ages = ages_around(plan.key.age, &changes, &array.shapes_since());
        let tile = ages.into_iter().find_map(|age| match self.held(&Key::Tile(TileKey { age, ..plan.key })) {
            Some(Entry::Tile(tile)) => Some(tile),
            _ => None,
        })?;
        // Slots differ where the shape does, and where something could not be read.
        let is_alike = tile.slots == plan.slots && tile.hull == plan.hull;
        let changed = if is_alike { self.changed(edition, plan, &tile) } else { None }?;
        Some(Base { tile, changed })
    }

    /// The leaves of a tile that are not what they were when `before` was built. `None` where that is most of them, or cannot
    /// be told.
    fn changed(&self, edition: &Edition, plan: &TilePlan, before: &Tile) -> Option<Vec<Region>> {
        let array = &edition.array;
        let (was, is) = (&before.extent.shape, &edition.extent.shape);
        if has_shrunk(was, is) {
            return None;
        }
        let leaf_shape = &array.array.source.leaf_shape;
        let mut changed = Vec::new();
        for leaf in plan.share.leaves.positions() {
            let cell = Region::of_cell(&leaf, leaf_shape);
            let number = array.reader.number_of(&array.reader.file_of(&leaf));
            if cell.clipped(was) != cell.clipped(is)
                || !array.versions.is_same(number, before.key.age.changed, edition.version)
            {
                let end = leaf.iter().map(|at| at + 1).collect();
                changed.push(Region { start: leaf, end });
            }
        }
        (changed.len() as u64 * 2 <= plan.share.leaves.n_elems()).then_some(changed)
    }

    /// The seam of a piece: the one that exists, else a new one paid from `ticket`.
    fn seam(&self, edition: &Edition, key: &Key, piece: u64, needed: &[TileId], ticket: &mut Ticket) -> Arc<Seam> {
        let _gate = lock(&self.seam_gate);
        if let Some(Entry::Seam(seam)) = self.held(key) {
            return seam;
        }
        let pieces = edition.pieces();
        let n_bytes = pieces.region_bytes(&pieces.piece_region(piece));
        let ticket = ticket.split(n_bytes + ENTRY_BYTES);
        // What its other tiles have placed may have left memory, but not the disk.
        let kept = self.disk.as_ref().and_then(|disk| disk.seam(edition, piece, needed));
        let extent = Arc::clone(&edition.extent);
        let seam = match (kept, self.seam_before(edition, key, piece, needed)) {
            (Some((done, bytes)), _) => Seam::new(extent, needed.to_vec(), done, bytes, ticket),
            (None, Some((changed, before))) => {
                let is_same = |tile: &&TileId| {
                    before.extent().shape == extent.shape && self.is_same_part(edition, **tile, piece, changed)
                };
                let same = needed.iter().filter(is_same).copied().collect();
                Seam::from_before(extent, &before, changed, same, ticket)
            }
            (None, None) => {
                let fill = filled(n_bytes as usize, edition.array.fill());
                Seam::new(extent, needed.to_vec(), Vec::new(), fill, ticket)
            }
        };
        let seam = Arc::new(seam);
        self.cache.insert(key.clone(), Entry::Seam(Arc::clone(&seam)));
        seam
    }

    /// The last complete state of a seam before the one that `key` is of.
    fn seam_before(&self, edition: &Edition, key: &Key, piece: u64, needed: &[TileId]) -> Option<(Version, Arc<Seam>)> {
        let Key::Seam(array, _, age) = *key else { return None };
        if edition.array.versions.now() == 0 {
            return None;
        }
        let changes = edition.array.versions.changes(&edition.array.reader, &edition.files_of_piece(piece));
        let ages = ages_around(age, &changes, &edition.array.shapes_since());
        let before = ages.into_iter().filter(|other| other.changed <= age.changed && other.shaped <= age.shaped);
        before.into_iter().find_map(|age| match self.held(&Key::Seam(array, piece, age)) {
            Some(Entry::Seam(seam)) if seam.bytes().is_some() && seam.needed() == needed => {
                (!has_shrunk(&seam.extent().shape, &edition.extent.shape)).then_some((age.changed, seam))
            }
            _ => None,
        })
    }

    /// Whether what a tile has of a piece is the same as at another version, of the same shape.
    fn is_same_part(&self, edition: &Edition, tile: TileId, piece: u64, version: Version) -> bool {
        let Some(tiling) = edition.known_tiling() else { return false };
        let files = edition.files_of_share(&tiling.share(tile)).intersect(&edition.files_of_piece(piece));
        let reader = &edition.array.reader;
        files.positions().all(|file| edition.array.versions.is_same(reader.number_of(&file), version, edition.version))
    }
}

/// Other ages than `age`, the nearest first.
fn ages_around(age: Age, changes: &[Version], shapes: &[Version]) -> Vec<Age> {
    let (before, after): (Vec<Version>, Vec<Version>) = changes.iter().partition(|&&at| at <= age.changed);
    let nearest: Vec<Version> = before.into_iter().rev().chain(after).take(MAX_CANDIDATES).collect();
    let shapes = [age.shaped].into_iter().chain(shapes.iter().rev().copied().filter(|&at| at != age.shaped));
    let ages = shapes.flat_map(|shaped| nearest.iter().map(move |&changed| Age { changed, shaped }));
    ages.filter(|other| *other != age).take(MAX_CANDIDATES).collect()
}

/// What lies beyond the array is fill value, and in a smaller one more does.
fn has_shrunk(was: &[u64], is: &[u64]) -> bool {
    was.iter().zip(is).any(|(was, is)| was > is)
}

/// `len` bytes of fill value.
fn filled(len: usize, fill: &[u8]) -> Box<[u8]> {
    let mut bytes = vec![0; len];
    if fill.iter().any(|&byte| byte != 0) {
        fill_with(&mut bytes, fill);
    }
    bytes.into_boxed_slice()
}
