//! Turns reads into builds: one builder per missing tile, memory by ticket, replies parked until their data is there.
//!
//! A read that finds its pieces in the cache is answered on the spot. Otherwise it is parked at every tile that it
//! lacks and holds no memory while it waits; the job that builds such a tile answers it. Nothing here blocks a thread
//! on another read, so any number of reads may wait.

mod ahead;
mod answers;
mod follow;
mod hung;
mod jobs;
mod keys;
mod under_way;

use super::ViewError;
use super::array::Arrays;
use super::builders::Builders;
use super::disk::Disk;
use super::edition::{Edition, Part};
use super::journal::Journal;
use super::later::Later;
use super::looks::Looks;
use super::tile::{Delivered, Seam, Tile};
use crate::cache::Cache;
use crate::cache::disk::DiskCache;
use crate::source::{Counters, SourceError};
use crate::synthesis::{Crew, Slots};
use ahead::Ahead;
pub(super) use ahead::Prepared;
use answers::Answer;
pub(super) use hung::Moved;
pub(super) use keys::{Age, Entry, Key, TileKey};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use under_way::{Flight, Flights, Landing, Outcome, Read, ReadState, Totals};

/// How often in a row a read may find that what was built for it has been evicted before it could use any of it.
const MAX_FRUITLESS: u32 = 64;
/// Tiles that one read sets going at once.
const MAX_TILES_PER_ROUND: usize = 64;
/// What this part of the cache may hold of tiles that were prepared and are unread. A third is the largest tile.
const AHEAD_SHARE: u64 = 3;
/// This part of the cache may wait to be written to disk.
const MAX_WAITING_PART: u64 = 8;

/// Who builds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hands {
    /// Threads of all builds together.
    pub(super) threads: usize,
    /// Jobs at once.
    pub(super) builders: usize,
}

/// Answers a read. Called once, on any thread.
pub type Reply = Box<dyn FnOnce(Result<&[u8], ViewError>) + Send>;

/// The reads, the builds and the cache between them.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) arrays: Arrays,
    pub(super) cache: Arc<Cache<Key, Entry>>,
    /// Reads parked at each tile that is being built, or waits for memory.
    flights: Mutex<Flights>,
    pub(super) ahead: Arc<Ahead>,
    /// Held while a seam is looked up and created, so that two builders share it.
    seam_gate: Mutex<()>,
    builders: Builders,
    crew: Crew,
    slots: Slots,
    pub(super) counters: Arc<Counters>,
    pub(super) looks: Arc<Looks>,
    pub(super) totals: Arc<Totals>,
    pub(super) journal: Arc<Journal>,
    pub(super) disk: Option<Disk>,
    later: Later,
}

impl Engine {
    pub(super) fn new(
        arrays: Arrays,
        capacity_bytes: u64,
        scratch_bytes: u64,
        hands: Hands,
        counters: Arc<Counters>,
        looks: Arc<Looks>,
        disk: Option<(DiskCache, &Path)>,
    ) -> Result<Arc<Self>, ViewError> {
        let journal = Arc::new(Journal::default());
        let disk = disk.map(|(records, root)| {
            let max_waiting_bytes = capacity_bytes / MAX_WAITING_PART;
            Disk::start(records, root, Arc::clone(&journal), max_waiting_bytes)
        });
        Ok(Arc::new(Engine {
            ahead: Ahead::new(capacity_bytes / AHEAD_SHARE),
            arrays,
            cache: Cache::new(capacity_bytes),
            flights: Mutex::default(),
            seam_gate: Mutex::default(),
            builders: Builders::start(hands.builders).map_err(|error| ViewError::Io(Arc::new(error)))?,
            crew: Crew::new(hands.threads),
            slots: Slots::new(scratch_bytes),
            counters,
            looks,
            totals: Arc::default(),
            journal,
            disk: disk.transpose().map_err(|error| ViewError::Io(Arc::new(error)))?,
            later: Later::start().map_err(|error| ViewError::Io(Arc::new(error)))?,
        }))
    }

    /// Reads the bytes `start..end` of virtual file `file` of an array at a version; the range lies within the file.
    pub(super) fn read(self: &Arc<Self>, edition: Edition, file: u64, start: u64, end: u64, reply: Reply) {
        let answer = Answer::new(&self.totals, &edition.array, reply);
        match edition.parts(file, start, end) {
            Err(error) => answer.give(Err(error)),
            Ok(parts) => {
                let read = Arc::new(Read {
                    edition,
                    file,
                    state: Mutex::new(None),
                    outstanding: AtomicUsize::new(0),
                    moved: Moved::default(),
                });
                self.advance(&read, ReadState::new(parts, answer), None);
            }
        }
    }

    /// Answers `read` if all of its data is there, else parks it at the tiles that it lacks.
    fn advance(self: &Arc<Self>, read: &Arc<Read>, mut state: ReadState, outcome: Option<&Outcome>) {
        let edition = &read.edition;
        if outcome.is_some() {
            crate::drill::at("answer");
        }
        if let [Part::Piece(placed)] = state.parts[..] {
            // The common case: one piece, answered from the tile itself, without a copy.
            match self.find(edition, placed.piece, outcome) {
                Ok(Found::Tile(tile)) => {
                    if let Some(bytes) = tile.piece(edition, placed.piece, placed.offset_bytes, placed.len_bytes) {
                        self.answer_hit(state, Ok(bytes));
                        return self.delivered(edition, &tile, placed.len_bytes);
                    }
                }
                Ok(Found::Seam(seam)) => {
                    if let Some(bytes) = seam.bytes() {
                        let start = placed.offset_bytes as usize;
                        return self.answer_hit(state, Ok(&bytes[start..start + placed.len_bytes as usize]));
                    }
                }
                Ok(Found::Nothing) => {
                    let mut bytes = Vec::new();
                    if self.disk.as_ref().is_some_and(|disk| disk.read(edition, &placed, &mut bytes)) {
                        return self.answer_hit(state, Ok(&bytes));
                    }
                }
                Err(error) => return state.answer.give(Err(error.into())),
            }
        } else {
            let before = state.next;
            let collected = self.collect(edition, &mut state, outcome);
            if state.next > before {
                state.fruitless = 0;
            }
            match collected {
                Ok(()) if state.next == state.parts.len() => {
                    let out = std::mem::take(&mut state.out);
                    return self.answer_hit(state, Ok(&out));
                }
                Ok(()) => {}
                Err(error) => return state.answer.give(Err(error)),
            }
        }
        if let Some(error) = outcome.and_then(|outcome| self.failure(edition, &state, outcome)) {
            return self.fail(read, state, error);
        }
        state.fruitless += 1;
        if state.fruitless > MAX_FRUITLESS {
            let (array, key) = (edition.array.path().to_owned(), edition.file_name(read.file));
            return state.answer.give(Err(ViewError::Starved { array, key }));
        }
        self.park(read, state);
    }

    /// Copies the parts that are there, in order, up to the first that is not.
    fn collect(
        self: &Arc<Self>,
        edition: &Edition,
        state: &mut ReadState,
        outcome: Option<&Outcome>,
    ) -> Result<(), ViewError> {
        if state.out.capacity() == 0 {
            state.out.reserve_exact(state.parts.iter().map(Part::len_bytes).sum::<u64>() as usize);
        }
        while let Some(part) = state.parts.get(state.next) {
            match *part {
                Part::Fill { phase, len_bytes } => {
                    let fill = edition.array.fill().iter().cycle().skip(phase as usize);
                    state.out.extend(fill.take(len_bytes as usize));
                }
                Part::Index { file, offset_bytes, len_bytes } => {
                    state.out.extend(edition.index_bytes(file, offset_bytes, len_bytes)?);
                }
                Part::Piece(placed) => match self.find(edition, placed.piece, outcome)? {
                    Found::Tile(tile) => match tile.piece(edition, placed.piece, placed.offset_bytes, placed.len_bytes)
                    {
                        Some(bytes) => {
                            state.out.extend_from_slice(bytes);
                            self.delivered(edition, &tile, placed.len_bytes);
                        }
                        None => return Ok(()),
                    },
                    Found::Seam(seam) => match seam.bytes() {
                        Some(bytes) => {
                            let start = placed.offset_bytes as usize;
                            state.out.extend_from_slice(&bytes[start..start + placed.len_bytes as usize]);
                        }
                        None => return Ok(()),
                    },
                    Found::Nothing => match &self.disk {
                        Some(disk) if disk.read(edition, &placed, &mut state.out) => {}
                        _ => return Ok(()),
                    },
                },
            }
            state.next += 1;
        }
        Ok(())
    }

    /// Looks for a piece in what was just built, then in the cache.
    fn find(&self, edition: &Edition, piece: u64, outcome: Option<&Outcome>) -> Result<Found, SourceError> {
        let tiles = edition.tiles_of(piece)?;
        if let [tile] = tiles[..] {
            let key = edition.tile_key(tile)?;
            if let Some(built) = outcome.filter(|outcome| outcome.key == key).and_then(|outcome| outcome.built.as_ref())
            {
                return Ok(Found::Tile(Arc::clone(built)));
            }
            return Ok(match self.held(&Key::Tile(key)) {
                Some(Entry::Tile(tile)) => Found::Tile(tile),
                _ => Found::Nothing,
            });
        }
        let key = edition.seam_key(piece)?;
        let built = outcome.and_then(|outcome| outcome.seams.iter().find(|(built, _)| *built == key));
        if let Some((_, seam)) = built.filter(|(_, seam)| seam.bytes().is_some()) {
            return Ok(Found::Seam(Arc::clone(seam)));
        }
        Ok(match self.held(&key) {
            Some(Entry::Seam(seam)) => Found::Seam(seam),
            _ => Found::Nothing,
        })
    }

    /// What is in memory: in the cache, or about to be written to disk.
    fn held(&self, key: &Key) -> Option<Entry> {
        self.cache.get(key).or_else(|| self.disk.as_ref()?.waiting(key))
    }

    /// The reason why a part that is still missing will not come.
    fn failure(&self, edition: &Edition, state: &ReadState, outcome: &Outcome) -> Option<ViewError> {
        if outcome.panicked {
            return Some(ViewError::Panicked { array: edition.array.path().to_owned() });
        }
        state.parts[state.next..].iter().find_map(|part| {
            let Part::Piece(placed) = part else { return None };
            let region = edition.pieces().piece_region(placed.piece);
            let failure = outcome.failures.iter().find(|failure| !failure.region.intersect(&region).is_empty())?;
            Some(ViewError::Source(Arc::clone(&failure.error)))
        })
    }

    /// Parks a read at the tiles that it lacks, and sets those going that nobody builds yet.
    fn park(self: &Arc<Self>, read: &Arc<Read>, mut state: ReadState) {
        // Each tile with a piece for which it is lacking.
        let mut lacking: Vec<(TileKey, u64)> = Vec::new();
        let mut wanted = Vec::new();
        // What comes too early is evicted again: where that happened, ask for the tiles of one part at a time. Their
        // requests then follow each other, and nobody else's makes room in between.
        let max_tiles = if state.fruitless > 1 { 1 } else { MAX_TILES_PER_ROUND };
        for part in &state.parts[state.next..] {
            let Part::Piece(placed) = *part else { continue };
            if lacking.len() >= max_tiles {
                break;
            }
            wanted.push(placed.piece);
            match self.lacking(&read.edition, placed.piece) {
                Ok(tiles) => {
                    for tile in tiles {
                        if lacking.iter().all(|(known, _)| *known != tile) {
                            lacking.push((tile, placed.piece));
                        }
                    }
                }
                Err(error) => return state.answer.give(Err(error.into())),
            }
        }
        if lacking.is_empty() {
            // Completed between the two looks: look again.
            return self.advance(read, state, None);
        }
        self.totals.waiting.fetch_add(1, Relaxed);
        state.was_parked = true;
        read.moved.now();
        *lock(&read.state) = Some(state);
        let mut mine = Vec::new();
        let mut is_late = false;
        {
            let mut flights = lock(&self.flights);
            read.outstanding.store(lacking.len(), std::sync::atomic::Ordering::Release);
            for (tile, piece) in lacking {
                let flight = flights.entry(tile).or_insert_with(|| {
                    mine.push((Landing::new(self, tile), piece));
                    Flight::default()
                });
                flight.parked.push(Arc::clone(read));
                is_late |= std::mem::take(&mut flight.is_ahead);
            }
        }
        if is_late {
            self.ahead.is_late(read.edition.array.idx);
        }
        // Tiles are kept before their flights end: whatever landed between the first look and now is there.
        let still_lacking = |(landing, piece): &(Landing, u64)| {
            self.lacking(&read.edition, *piece).is_ok_and(|tiles| tiles.contains(&landing.key))
        };
        let (lacking, landed): (Vec<_>, Vec<_>) = mine.into_iter().partition(still_lacking);
        self.start(&read.edition, lacking, &wanted);
        for (landing, _) in landed {
            let outcome = Outcome::of_nothing(landing.key);
            landing.land(&outcome);
        }
    }

    /// Those of the tiles that a piece draws on which are neither in memory nor on disk.
    fn lacking(&self, edition: &Edition, piece: u64) -> Result<Vec<TileKey>, SourceError> {
        let (mut tiles, found) = (edition.tiles_of(piece)?, self.find(edition, piece, None)?);
        let kept = match (&found, &self.disk) {
            (Found::Nothing, Some(disk)) => disk.kept(edition, piece, &tiles),
            _ => Vec::new(),
        };
        tiles.retain(|tile| match &found {
            Found::Seam(seam) => seam.lacks(*tile),
            // A tile that lacks the piece was built while its source could not be read: try again.
            Found::Tile(built) => built.piece(edition, piece, 0, 0).is_none(),
            Found::Nothing => !kept.contains(tile),
        });
        tiles.into_iter().map(|tile| edition.tile_key(tile)).collect()
    }

    /// Notes that `len_bytes` of a tile went to a reader.
    fn delivered(self: &Arc<Self>, edition: &Edition, tile: &Tile, len_bytes: u64) {
        match tile.delivered(len_bytes) {
            Delivered::First => self.look_ahead(edition, tile),
            Delivered::Some => {}
            Delivered::All => self.cache.demote(&Key::Tile(tile.key)),
        }
    }
}

enum Found {
    Tile(Arc<Tile>),
    Seam(Arc<Seam>),
    Nothing,
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
