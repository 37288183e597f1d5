//! Goes through the tiles of an array: several are in the making at once, units that are whole go to a sink.

use super::CopyError;
use super::array::ArrayCopy;
use super::plan::{ArrayPlan, TILES_AT_ONCE};
use super::progress::Progress;
use crate::cache::{Cache, Ticket, rounded};
use crate::geometry::{LeafShare, PiecePart, Region, TileId, ravel};
use crate::source::SourceError;
use crate::synthesis::{Failure, Ground, Leaves, NOWHERE, OpenPiece, Slots, Targets, build, fill_with};
use rayon::prelude::*;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

/// How long a thread that waits for memory goes without a look at whether to stop.
const GLANCE: Duration = Duration::from_millis(100);

/// Where units go.
pub(super) trait Sink: Sync {
    /// Whether `unit` is still to be made.
    fn wants(&self, unit: u64) -> bool;

    /// The only tiles that have units which it wants, in order, where that is known; with a tile, all others that have a
    /// part of such a unit must be among them.
    fn tiles(&self) -> Option<&[TileId]> {
        None
    }

    /// Takes the bytes of `unit`: C order of its region, padding included.
    fn put(&self, unit: u64, bytes: &[u8]) -> Result<(), CopyError>;

    /// Takes note that all of `unit` is fill value.
    fn put_fill(&self, unit: u64) -> Result<(), CopyError>;

    /// Takes note that `unit` cannot be made.
    fn put_nothing(&self, unit: u64) -> Result<(), CopyError>;
}

/// All that copying an array takes.
#[derive(Clone, Copy)]
pub(super) struct Work<'a> {
    pub(super) array: &'a ArrayCopy,
    pub(super) plan: &'a ArrayPlan,
    pub(super) leaves: &'a dyn Leaves,
    pub(super) sink: &'a dyn Sink,
    pub(super) progress: &'a Progress,
    pub(super) pool: &'a rayon::ThreadPool,
    /// What cannot be read is left out, and noted.
    pub(super) keep_going: bool,
}

/// A unit that several tiles fill.
#[derive(Debug)]
struct Seam {
    open: Mutex<Option<Box<[u8]>>>,
    state: Mutex<SeamState>,
}

#[derive(Debug)]
struct SeamState {
    /// Tiles that have not placed their parts.
    left: usize,
    /// A part could not be read.
    is_spoiled: bool,
    /// A part was there at all.
    is_touched: bool,
}

/// A tile about to be built.
struct Job {
    share: LeafShare,
    hull: Region,
    /// For each piece of the hull, what becomes of it, and where in the tile's bytes it starts.
    fates: Vec<Fate>,
    starts: Vec<u64>,
    bytes: usize,
}

impl Job {
    /// What is filled together with other tiles, by its place in the hull.
    fn seams(&self) -> Vec<(u64, &OpenPiece)> {
        let shared = (0..).zip(&self.fates).filter_map(|(nth, fate)| match fate {
            Fate::Shared { seam, .. } => Some((nth, &seam.open)),
            _ => None,
        });
        shared.collect()
    }
}

#[derive(Debug, Clone)]
enum Fate {
    /// It lies in the tile's bytes from here on.
    Held { unit: u64, at: usize, len: usize },
    /// It is filled by several tiles.
    Shared { unit: u64, seam: Arc<Seam> },
    /// Nobody wants it.
    Left,
}

/// The tiles not yet taken, by their numbers, or by their places in [`Sink::tiles`]; and the memory for them.
struct Turn {
    left: Range<u64>,
    seams: HashMap<u64, Arc<Seam>>,
}

/// The threads of a copy or a comparison.
pub(super) fn pool(threads: usize) -> Result<rayon::ThreadPool, CopyError> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|nth| format!("copy-{nth}"))
        .build()
        .map_err(|error| CopyError::io(Path::new("threads"), "start them", std::io::Error::other(error)))
}

/// Makes every unit that the sink wants. Returns what could not be read, where that is to be left out.
pub(super) fn sweep(work: Work<'_>) -> Result<Vec<Arc<SourceError>>, CopyError> {
    sweep_tiles(work, 0..work.plan.tiling.n_tiles())
}

/// The same of some tiles only; units that draw on others as well are not made then.
pub(super) fn sweep_tiles(work: Work<'_>, tiles: Range<u64>) -> Result<Vec<Arc<SourceError>>, CopyError> {
    let slots = Slots::new(work.plan.scratch_bytes);
    let memory: Arc<Cache<(), ()>> = Cache::new(work.plan.tile_memory_bytes);
    let left = match work.sink.tiles() {
        None => tiles,
        Some(few) => {
            let before = |tile: u64| few.partition_point(|few| few.0 < tile) as u64;
            before(tiles.start)..before(tiles.end)
        }
    };
    let turn = Mutex::new(Turn { left, seams: HashMap::new() });
    let failures = Mutex::new(Vec::new());
    let ended: Mutex<Option<CopyError>> = Mutex::new(None);
    let drive = || {
        loop {
            if work.progress.is_stopping() {
                lock(&ended).get_or_insert(CopyError::Stopped);
            }
            if lock(&ended).is_some() {
                return;
            }
            match CopyError::of_panic(|| step(work, &slots, &memory, &turn, &failures)) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    lock(&ended).get_or_insert(error);
                    return;
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..TILES_AT_ONCE {
            scope.spawn(drive);
        }
        drive();
    });
    match ended.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(failures.into_inner().unwrap_or_else(PoisonError::into_inner)),
    }
}

/// Takes a tile and makes it; `false` where there are no more.
fn step(
    work: Work<'_>,
    slots: &Slots,
    memory: &Arc<Cache<(), ()>>,
    turn: &Mutex<Turn>,
    failures: &Mutex<Vec<Arc<SourceError>>>,
) -> Result<bool, CopyError> {
    let (job, mut ticket) = {
        // Memory is asked for in the order of the tiles, so that those which complete open units come first.
        let mut turn = lock(turn);
        let Some(job) = next_job(work, &mut turn) else { return Ok(false) };
        let bytes = rounded(job.bytes as u64).saturating_mul(work.plan.bytes_per_tile_byte);
        let Some(ticket) = wait_for(memory, bytes, work.progress) else { return Err(CopyError::Stopped) };
        (job, ticket)
    };
    crate::drill::at("tile");
    let present = match work.pool.install(|| work.array.is_any_present(&job.share.coverage)) {
        // Reading it says what is wrong.
        Err(_) if work.keep_going => true,
        present => present?,
    };
    let mut buffer = ticket.buffer(if present { job.bytes } else { 0 });
    let mut failed = Vec::new();
    if present {
        let ground = Ground {
            leaves: work.leaves,
            tiling: &work.plan.tiling,
            pieces: &work.plan.units,
            fill: &work.array.source().fill,
            slots,
            threads: work.pool,
            copy_ns: &work.progress.place_ns,
        };
        let targets = Targets::new(ground.pieces, ground.fill, &job.hull, &job.starts, &mut buffer, job.seams());
        failed = build(ground, &job.share, &targets);
    }
    if let Some(first) = failed.first() {
        if !work.keep_going {
            return Err(CopyError::source(Arc::clone(&first.error)));
        }
        lock(failures).extend(failed.iter().map(|failure| Arc::clone(&failure.error)));
    }
    finish(work, &job, present, &buffer, &failed, turn)?;
    Ok(true)
}

/// The next tile that has something to do.
fn next_job(work: Work<'_>, turn: &mut Turn) -> Option<Job> {
    let (tiling, units) = (&work.plan.tiling, &work.plan.units);
    let few = work.sink.tiles();
    while !work.progress.is_stopping() {
        let nth = turn.left.next()?;
        let tile = few.map_or(TileId(nth), |tiles| tiles[nth as usize]);
        let share = tiling.share(tile);
        if share.coverage.is_empty() {
            continue;
        }
        let hull = tiling.pieces_of(&share, units);
        let mut bytes = 0;
        let fates: Vec<Fate> = hull
            .positions()
            .map(|indices| {
                let unit = ravel(&indices, units.piece_grid());
                let len = units.region_bytes(&units.piece_region_at(&indices)) as usize;
                match tiling.part_of(&share, units, &indices) {
                    PiecePart::Nothing => Fate::Left,
                    _ if !work.sink.wants(unit) => Fate::Left,
                    PiecePart::Whole => {
                        bytes += len;
                        Fate::Held { unit, at: bytes - len, len }
                    }
                    PiecePart::Shared(tiles) => {
                        let fill = &work.array.source().fill;
                        let seam =
                            turn.seams.entry(unit).or_insert_with(|| Arc::new(Seam::new(len, tiles.len(), fill)));
                        Fate::Shared { unit, seam: Arc::clone(seam) }
                    }
                }
            })
            .collect();
        if fates.iter().any(|fate| !matches!(fate, Fate::Left)) {
            let starts = fates.iter().map(|fate| if let Fate::Held { at, .. } = fate { *at as u64 } else { NOWHERE });
            return Some(Job { share, hull, starts: starts.collect(), fates, bytes });
        }
    }
    None
}

/// Hands the units that are whole now to the sink.
fn finish(
    work: Work<'_>,
    job: &Job,
    present: bool,
    bytes: &[u8],
    failed: &[Failure],
    turn: &Mutex<Turn>,
) -> Result<(), CopyError> {
    let units = &work.plan.units;
    let is_hit = |unit: u64| {
        let region = units.piece_region(unit);
        failed.iter().any(|failure| !failure.region.intersect(&region).is_empty())
    };
    let one = |fate: &Fate| -> Result<(), CopyError> {
        if work.progress.is_stopping() {
            return Err(CopyError::Stopped);
        }
        match fate {
            Fate::Left => Ok(()),
            Fate::Held { unit, .. } if is_hit(*unit) => work.sink.put_nothing(*unit),
            Fate::Held { unit, .. } if !present => work.sink.put_fill(*unit),
            Fate::Held { unit, at, len } => work.sink.put(*unit, &bytes[*at..at + len]),
            Fate::Shared { unit, seam } => match seam.contribute(is_hit(*unit), present) {
                None => Ok(()),
                Some(completed) => {
                    lock(turn).seams.remove(unit);
                    match completed {
                        Completed::Spoiled => work.sink.put_nothing(*unit),
                        Completed::Fill => work.sink.put_fill(*unit),
                        Completed::Bytes(bytes) => work.sink.put(*unit, &bytes),
                    }
                }
            },
        }
    };
    work.pool.install(|| job.fates.par_iter().try_for_each(one))
}

/// What became of a seam.
enum Completed {
    Bytes(Box<[u8]>),
    Fill,
    Spoiled,
}

impl Seam {
    fn new(len: usize, n_tiles: usize, fill: &[u8]) -> Self {
        let mut bytes = vec![0; len];
        fill_with(&mut bytes, fill);
        let state = SeamState { left: n_tiles, is_spoiled: false, is_touched: false };
        Seam { open: Mutex::new(Some(bytes.into_boxed_slice())), state: Mutex::new(state) }
    }

    /// Notes that a tile has placed its part; what became of the seam if that was the last one.
    fn contribute(&self, is_spoiled: bool, is_touched: bool) -> Option<Completed> {
        let mut state = lock(&self.state);
        state.left -= 1;
        state.is_spoiled |= is_spoiled;
        state.is_touched |= is_touched;
        if state.left > 0 {
            return None;
        }
        let bytes = lock(&self.open).take();
        Some(match bytes {
            Some(bytes) if !state.is_spoiled && state.is_touched => Completed::Bytes(bytes),
            _ if state.is_spoiled => Completed::Spoiled,
            _ => Completed::Fill,
        })
    }
}

/// Waits for memory; `None` where the copy is to stop.
fn wait_for(memory: &Arc<Cache<(), ()>>, bytes: u64, progress: &Progress) -> Option<Ticket> {
    let (send, receive) = mpsc::channel();
    memory.request(bytes, move |ticket| drop(send.send(ticket)));
    loop {
        match receive.recv_timeout(GLANCE) {
            Ok(ticket) => return Some(ticket),
            Err(_) if progress.is_stopping() => return None,
            Err(_) => {}
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
