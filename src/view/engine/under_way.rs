//! What is under way: reads, the tiles at which they are parked, and what a build hands to them.

use super::super::ViewError;
use super::super::edition::{Edition, Part};
use super::super::tile::{Seam, Tile};
use super::answers::Answer;
use super::hung::Moved;
use super::{Engine, Key, TileKey, lock};
use crate::synthesis::Failure;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long what goes on being written is tried again,
const TORN_PATIENCE: Duration = Duration::from_secs(10);
/// at first after this pause, then after ones that double up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(800);

/// Running totals of the reads.
#[derive(Debug, Default)]
pub(in crate::view) struct Totals {
    pub(in crate::view) reads: AtomicU64,
    pub(in crate::view) hits: AtomicU64,
    pub(in crate::view) failed: AtomicU64,
    pub(in crate::view) waiting: AtomicU64,
    /// Reads that are not answered yet.
    pub(in crate::view) in_flight: AtomicU64,
    pub(in crate::view) slowest_read_ns: AtomicU64,
    /// Failed reads by the kind of their error.
    pub(in crate::view) failed_by_kind: Mutex<BTreeMap<&'static str, u64>>,
    pub(in crate::view) tiles: AtomicU64,
    pub(in crate::view) build_ns: AtomicU64,
    pub(in crate::view) copy_ns: AtomicU64,
    pub(in crate::view) reply_ns: AtomicU64,
    pub(in crate::view) reply_bytes: AtomicU64,
}

impl Totals {
    /// A copy of the numbers of failed reads.
    pub(in crate::view) fn failed_by_kind(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.failed_by_kind).clone()
    }
}

/// What is under way for each tile of each array.
pub(super) type Flights = HashMap<TileKey, Flight>;

#[derive(Debug, Default)]
pub(super) struct Flight {
    pub(super) parked: Vec<Arc<Read>>,
    /// It began before anybody asked for it.
    pub(super) is_ahead: bool,
    /// When a source chunk was last done with.
    pub(super) moved: Arc<Moved>,
}

pub(super) struct Read {
    pub(super) edition: Edition,
    /// The virtual file.
    pub(super) file: u64,
    pub(super) state: Mutex<Option<ReadState>>,
    /// Tiles at which it is parked.
    pub(super) outstanding: AtomicUsize,
    /// When it was parked, or something came of it.
    pub(super) moved: Moved,
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
    /// When it first failed for a reason that may pass, and the pause after that.
    torn: Option<(Instant, Duration)>,
    pub(super) answer: Answer,
}

impl ReadState {
    pub(super) fn new(parts: Vec<Part>, answer: Answer) -> Self {
        ReadState { parts, next: 0, out: Vec::new(), was_parked: false, fruitless: 0, torn: None, answer }
    }

    /// It has failed for a reason that might have passed.
    pub(super) fn is_torn(&self) -> bool {
        self.torn.is_some()
    }

    /// How long to wait before trying again; `None` where that is of no use.
    pub(super) fn pause(&mut self, error: &ViewError) -> Option<Duration> {
        if !matches!(error, ViewError::Source(source) if source.is_torn()) {
            return None;
        }
        let (since, pause) = self.torn.unwrap_or((Instant::now(), FIRST_PAUSE));
        self.torn = Some((since, (pause * 2).min(LONGEST_PAUSE)));
        (since.elapsed() < TORN_PATIENCE).then_some(pause)
    }
}

/// The duty to end a flight. Where it is dropped, because of a panic, the reads that are parked there have an error and do not
/// wait for ever.
pub(super) struct Landing {
    engine: Arc<Engine>,
    pub(super) key: TileKey,
    is_done: bool,
}

impl Landing {
    pub(super) fn new(engine: &Arc<Engine>, key: TileKey) -> Self {
        Landing { engine: Arc::clone(engine), key, is_done: false }
    }

    pub(super) fn land(mut self, outcome: &Outcome) {
        self.is_done = true;
        self.engine.land(outcome);
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        if !self.is_done {
            self.engine.land(&Outcome::of_panic(self.key));
        }
    }
}

/// What a finished build hands to the reads that were parked at it.
pub(super) struct Outcome {
    pub(super) key: TileKey,
    pub(super) built: Option<Arc<Tile>>,
    pub(super) seams: Vec<(Key, Arc<Seam>)>,
    pub(super) failures: Vec<Failure>,
    pub(super) panicked: bool,
}

impl Outcome {
    pub(super) fn of_nothing(key: TileKey) -> Self {
        Outcome { key, built: None, seams: Vec::new(), failures: Vec::new(), panicked: false }
    }

    pub(super) fn of_panic(key: TileKey) -> Self {
        Outcome { panicked: true, ..Outcome::of_nothing(key) }
    }
}

impl std::fmt::Debug for Read {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Read").field("array", &self.edition.array.path()).finish_non_exhaustive()
    }
}
