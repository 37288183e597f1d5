//! What the cache holds: tiles, and the seams between them.

use super::edition::Edition;
use super::engine::{Prepared, TileKey};
use super::extent::Extent;
use super::versions::Version;
use crate::cache::{Buffer, Ticket, rounded};
use crate::geometry::{LeafShare, PiecePart, Pieces, Region, TileId, ravel};
use crate::source::SourceError;
use crate::synthesis::NOWHERE;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Marks a piece of a tile's hull that the tile does not hold.
const NO_SLOT: u64 = NOWHERE;
/// Bytes of bookkeeping per piece of a tile's hull: its slot.
pub(super) const SLOT_BYTES: u64 = size_of::<u64>() as u64;
/// Bytes of bookkeeping per entry of the cache, allocations of a few bytes each included.
pub(super) const ENTRY_BYTES: u64 = 512;

/// Which pieces a tile holds whole, which it shares with others, and what memory that takes.
#[derive(Debug)]
pub(super) struct TilePlan {
    pub(super) key: TileKey,
    pub(super) share: LeafShare,
    /// Pieces touched, a region of the piece grid.
    pub(super) hull: Region,
    /// For each piece of the hull where it starts in the tile's bytes, or [`NO_SLOT`].
    pub(super) slots: Vec<u64>,
    /// Pieces that draw on other tiles too, with the tiles that they need.
    pub(super) seams: Vec<(u64, Vec<TileId>)>,
    /// The pieces that readers wait for.
    pub(super) wanted: Vec<u64>,
    pub(super) bytes: u64,
    pub(super) seam_bytes: u64,
}

impl TilePlan {
    /// Plans `tile`. Seams beyond `max_seam_bytes` are left out, except `wanted` ones: they are only a convenience.
    pub(super) fn new(
        edition: &Edition,
        key: TileKey,
        near: &Region,
        wanted: &[u64],
        max_seam_bytes: u64,
    ) -> Result<Self, SourceError> {
        let tiling = edition.tiling(near)?;
        let share = tiling.share(key.tile);
        let pieces = edition.pieces();
        let mut plan = TilePlan {
            key,
            hull: tiling.pieces_of(&share, pieces),
            share,
            slots: Vec::new(),
            seams: Vec::new(),
            wanted: wanted.to_vec(),
            bytes: 0,
            seam_bytes: 0,
        };
        plan.slots.reserve_exact(plan.hull.n_elems() as usize);
        for indices in plan.hull.positions() {
            let region = pieces.piece_region_at(&indices);
            let bytes = pieces.region_bytes(&region);
            let mut slot = NO_SLOT;
            match tiling.part_of(&plan.share, pieces, &indices) {
                PiecePart::Whole => {
                    slot = plan.bytes;
                    plan.bytes += bytes;
                }
                PiecePart::Shared(tiles) => {
                    let piece = pieces.piece_at(&indices);
                    let bytes = bytes + ENTRY_BYTES;
                    if plan.seam_bytes + bytes <= max_seam_bytes || wanted.contains(&piece) {
                        plan.seam_bytes += bytes;
                        plan.seams.push((piece, tiles));
                    }
                }
                PiecePart::Nothing => {}
            }
            plan.slots.push(slot);
        }
        Ok(plan)
    }

    /// Everything that must be asked for before building.
    pub(super) fn ticket_bytes(&self) -> u64 {
        self.tile_bytes() + self.seam_bytes
    }

    /// The tile's own memory.
    pub(super) fn tile_bytes(&self) -> u64 {
        rounded(self.bytes) + self.slots.len() as u64 * SLOT_BYTES + ENTRY_BYTES
    }
}

/// A built tile: the bytes of every piece that lies in it whole.
#[derive(Debug)]
pub(super) struct Tile {
    pub(super) key: TileKey,
    /// The shape in which the array was.
    pub(super) extent: Arc<Extent>,
    pub(super) hull: Region,
    pub(super) slots: Vec<u64>,
    pub(super) bytes: Buffer,
    delivered_bytes: AtomicU64,
    prepared: Option<Prepared>,
    /// Of its bookkeeping.
    _ticket: Ticket,
}

/// How much of a tile its readers have had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivered {
    /// The first part just now.
    First,
    /// Some of it.
    Some,
    /// As many bytes as it has; the kernel keeps them.
    All,
}

impl Tile {
    pub(super) fn new(
        key: TileKey,
        extent: Arc<Extent>,
        hull: Region,
        slots: Vec<u64>,
        bytes: Buffer,
        ticket: Ticket,
        prepared: Option<Prepared>,
    ) -> Self {
        Tile { key, extent, hull, slots, bytes, delivered_bytes: AtomicU64::new(0), prepared, _ticket: ticket }
    }

    /// Notes that `len` bytes went to a reader.
    pub(super) fn delivered(&self, len: u64) -> Delivered {
        let before = self.delivered_bytes.fetch_add(len, Relaxed);
        if before == 0 {
            if let Some(prepared) = &self.prepared {
                prepared.is_read();
            }
            Delivered::First
        } else if before + len >= self.bytes.len() as u64 {
            Delivered::All
        } else {
            Delivered::Some
        }
    }

    /// The bytes `offset..offset + len` of `piece`, if the tile holds it.
    pub(super) fn piece(&self, edition: &Edition, piece: u64, offset: u64, len: u64) -> Option<&[u8]> {
        let slot = *self.slots.get(place_in(&self.hull, edition.pieces(), piece)? as usize)?;
        if slot == NO_SLOT {
            return None;
        }
        let start = (slot + offset) as usize;
        self.bytes.get(start..start + len as usize)
    }
}

/// C-order position of a piece in a tile's hull, if it is there.
pub(super) fn place_in(hull: &Region, pieces: &Pieces, piece: u64) -> Option<u64> {
    let indices = pieces.piece_indices(piece);
    if !hull.contains(&indices) {
        return None;
    }
    let nth: Vec<u64> = indices.iter().zip(&hull.start).map(|(idx, start)| idx - start).collect();
    Some(ravel(&nth, &hull.shape()))
}

/// Takes a piece out of a tile's table: it could not be built.
pub(super) fn strike_out(slots: &mut [u64], nth: usize) {
    slots[nth] = NO_SLOT;
}

/// Whether a slot holds a piece.
pub(super) fn is_held(slot: u64) -> bool {
    slot != NO_SLOT
}

/// What a seam was made from.
#[derive(Debug)]
struct Stale {
    changed: Version,
    extent: Arc<Extent>,
    tiles: Vec<TileId>,
}

/// A piece that several tiles fill, each its part.
#[derive(Debug)]
pub(super) struct Seam {
    /// Every tile that must contribute.
    needed: Vec<TileId>,
    /// The shape in which the array was.
    extent: Arc<Extent>,
    /// Tiles whose parts are still those of an earlier state.
    stale: Option<Stale>,
    /// Until complete: the bytes, and who has contributed.
    pub(super) open: Mutex<Option<Box<[u8]>>>,
    done: Mutex<Vec<TileId>>,
    complete: OnceLock<Box<[u8]>>,
    _ticket: Ticket,
}

impl Seam {
    /// A seam in which the tiles `done` have placed their parts; the rest of `bytes` is fill value.
    pub(super) fn new(
        extent: Arc<Extent>,
        needed: Vec<TileId>,
        done: Vec<TileId>,
        bytes: Box<[u8]>,
        ticket: Ticket,
    ) -> Self {
        let (open, done) = (Mutex::new(Some(bytes)), Mutex::new(done));
        let seam = Seam { needed, extent, stale: None, open, done, complete: OnceLock::new(), _ticket: ticket };
        seam.complete_if_done(&lock(&seam.done));
        seam
    }

    /// A seam with the bytes of `before`, which was complete at version `changed`. The parts of the tiles `same` have not
    /// changed since.
    pub(super) fn from_before(
        extent: Arc<Extent>,
        before: &Seam,
        changed: Version,
        same: Vec<TileId>,
        ticket: Ticket,
    ) -> Self {
        let tiles = before.needed.iter().filter(|tile| !same.contains(tile)).copied().collect();
        let stale = Stale { changed, extent: Arc::clone(&before.extent), tiles };
        let bytes = before.bytes().unwrap_or(&[]).into();
        Seam { stale: Some(stale), ..Seam::new(extent, before.needed.clone(), same, bytes, ticket) }
    }

    /// Whether a tile that is built from `base` need only place what has changed since that.
    pub(super) fn follows(&self, tile: TileId, base: &Tile) -> bool {
        self.stale.as_ref().is_some_and(|stale| {
            let is_later = stale.changed >= base.key.age.changed && stale.extent.since >= base.extent.since;
            is_later && stale.tiles.contains(&tile)
        })
    }

    /// The tiles that have parts in it.
    pub(super) fn needed(&self) -> &[TileId] {
        &self.needed
    }

    /// The shape in which the array was.
    pub(super) fn extent(&self) -> &Extent {
        &self.extent
    }

    /// Whether `tile` still has to contribute.
    pub(super) fn lacks(&self, tile: TileId) -> bool {
        self.complete.get().is_none() && !lock(&self.done).contains(&tile)
    }

    /// Records that `tile` has placed its part.
    pub(super) fn contribute(&self, tile: TileId) {
        let mut done = lock(&self.done);
        if !done.contains(&tile) {
            done.push(tile);
        }
        self.complete_if_done(&done);
    }

    fn complete_if_done(&self, done: &[TileId]) {
        if self.needed.iter().all(|needed| done.contains(needed))
            && let Some(bytes) = lock(&self.open).take()
        {
            // Set once only: the bytes were there to take.
            drop(self.complete.set(bytes));
        }
    }

    /// The tiles that have placed their parts.
    pub(super) fn done(&self) -> Vec<TileId> {
        lock(&self.done).clone()
    }

    /// Appends a range of the bytes as they are now: at least what the tiles have placed that [`Self::done`] named before.
    pub(super) fn copy_now(&self, range: Range<usize>, out: &mut Vec<u8>) {
        let open = lock(&self.open);
        // Taken only when complete, and kept for good then.
        let bytes = open.as_deref().or(self.bytes()).unwrap_or(&[]);
        out.extend_from_slice(bytes.get(range).unwrap_or(&[]));
    }

    /// The bytes, once complete.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        self.complete.get().map(|bytes| &**bytes)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
