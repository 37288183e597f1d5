//! What is under way: reads, the tiles at which they are parked, and what a build hands to them.

use super::super::array::Part;
use super::super::tile::{Seam, Tile};
use super::Reply;
use crate::geometry::TileId;
use crate::synthesis::Failure;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};

/// Running totals of the reads.
#[derive(Debug, Default)]
pub(in crate::view) struct Totals {
    pub(in crate::view) reads: AtomicU64,
    pub(in crate::view) hits: AtomicU64,
    pub(in crate::view) failed: AtomicU64,
    pub(in crate::view) waiting: AtomicU64,
    pub(in crate::view) tiles: AtomicU64,
    pub(in crate::view) build_ns: AtomicU64,
    pub(in crate::view) copy_ns: AtomicU64,
    pub(in crate::view) reply_ns: AtomicU64,
    pub(in crate::view) reply_bytes: AtomicU64,
}

/// What is under way for each tile of each array.
pub(super) type Flights = HashMap<(u32, TileId), Flight>;

#[derive(Debug, Default)]
pub(super) struct Flight {
    pub(super) parked: Vec<Arc<Read>>,
    /// It began before anybody asked for it.
    pub(super) is_ahead: bool,
}

pub(super) struct Read {
    pub(super) array: u32,
    pub(super) state: Mutex<Option<ReadState>>,
    /// Tiles at which it is parked.
    pub(super) outstanding: AtomicUsize,
}

pub(super) struct ReadState {
    pub(super) parts: Vec<Part>,
    /// The first part that is not in `out` yet.
    pub(super) next: usize,
    /// Bytes so far, where the read has several parts.
    pub(super) out: Vec<u8>,
    /// It was parked before.
    pub(super) was_parked: bool,
    /// Rounds since the last part came.
    pub(super) fruitless: u32,
    pub(super) reply: Reply,
}

/// What a finished build hands to the reads that were parked at it.
pub(super) struct Outcome {
    pub(super) tile: TileId,
    pub(super) built: Option<Arc<Tile>>,
    pub(super) seams: Vec<(u64, Arc<Seam>)>,
    pub(super) failures: Vec<Failure>,
    pub(super) panicked: bool,
}

impl Outcome {
    pub(super) fn of_nothing(tile: TileId) -> Self {
        Outcome { tile, built: None, seams: Vec::new(), failures: Vec::new(), panicked: false }
    }

    pub(super) fn of_panic(tile: TileId) -> Self {
        Outcome { panicked: true, ..Outcome::of_nothing(tile) }
    }
}

impl std::fmt::Debug for Read {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Read").field("array", &self.array).finish_non_exhaustive()
    }
}
