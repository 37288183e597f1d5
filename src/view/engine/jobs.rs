//! Jobs: tiles that are built under one ticket, and how their reads learn of it.

use super::super::array::Rechunked;
use super::super::disk::Built;
use super::super::tile::{ENTRY_BYTES, Seam, Tile, TilePlan, is_held, place_in, strike_out};
use super::{Engine, Entry, Flight, Key, Outcome, Prepared, lock};
use crate::cache::{Ticket, rounded};
use crate::geometry::{Region, TileId, ravel};
use crate::synthesis::{Failure, FromSource, Ground, OpenPiece, Targets, build, fill_with};
use std::collections::hash_map;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{Ordering::AcqRel, Ordering::Relaxed};
use std::time::Instant;

/// Tiles up to here take one thread some milliseconds.
const MAX_BESIDE_BYTES: u64 = 2 << 20;

impl Engine {
    /// Asks for memory for `tiles`, in jobs that fit, and builds them when it is granted.
    pub(super) fn start(self: &Arc<Self>, array_idx: u32, tiles: Vec<(TileId, u64)>, wanted: &[u64]) {
        let array = &self.arrays[array_idx as usize];
        let max_job_bytes = self.cache.capacity_bytes() / 2;
        let mut job: Vec<TilePlan> = Vec::new();
        let mut job_bytes = 0;
        for (tile, piece) in tiles {
            let near = array.pieces.piece_region(piece).clipped(&array.array.source.shape);
            let plan = || TilePlan::new(array, tile, &near, wanted, max_job_bytes / 4);
            // The flight has begun: even a panic must end it, or its reads wait for ever.
            let Ok(plan) = catch_unwind(AssertUnwindSafe(plan)) else {
                self.land(array_idx, &Outcome::of_panic(tile));
                continue;
            };
            match plan {
                Ok(plan) => {
                    if job_bytes + plan.ticket_bytes() > max_job_bytes && !job.is_empty() {
                        self.submit(array_idx, std::mem::take(&mut job), job_bytes);
                        job_bytes = 0;
                    }
                    job_bytes += plan.ticket_bytes();
                    job.push(plan);
                }
                Err(error) => {
                    let failure = Failure { region: near, error: Arc::new(error) };
                    self.land(array_idx, &Outcome { failures: vec![failure], ..Outcome::of_nothing(tile) });
                }
            }
        }
        if !job.is_empty() {
            self.submit(array_idx, job, job_bytes);
        }
    }

    fn submit(self: &Arc<Self>, array: u32, job: Vec<TilePlan>, bytes: u64) {
        let engine = Arc::clone(self);
        self.cache.request(bytes, move |ticket| {
            let runner = Arc::clone(&engine);
            engine.builders.submit(Box::new(move || runner.run(array, job, ticket, None)));
        });
    }

    /// Prepares the tiles that the reader of `tile` is likely to ask for next, while nobody waits for anything else.
    pub(super) fn look_ahead(self: &Arc<Self>, array_idx: u32, tile: &Tile) {
        let Some(tiling) = self.arrays[array_idx as usize].known_tiling() else { return };
        if self.ahead.touched(array_idx, tile.id, tile.bytes.len() as u64, &tiling.grid()) {
            self.submit_prepare(array_idx);
        }
    }

    fn submit_prepare(self: &Arc<Self>, array_idx: u32) {
        let engine = Arc::clone(self);
        self.builders.submit_likely(Box::new(move || {
            let Some(tiling) = engine.arrays[array_idx as usize].known_tiling() else { return };
            let wanted = engine.ahead.wanted(array_idx, &tiling.grid());
            let Some(next) = wanted.into_iter().find(|tile| !engine.is_there(array_idx, *tile)) else { return };
            // One at a time, if they are not small: whoever waits for a tile goes first.
            if engine.prepare(array_idx, next).is_some() && engine.ahead.goes_on(array_idx) {
                engine.submit_prepare(array_idx);
            }
        }));
    }

    /// Whether a tile is in memory or on its way.
    fn is_there(&self, array: u32, tile: TileId) -> bool {
        self.held(&Key::Tile(array, tile)).is_some() || lock(&self.flights).contains_key(&(array, tile))
    }

    /// Builds a tile that nobody has asked for yet; only tries, for memory as for everything else. `None` where there
    /// is no room for it.
    fn prepare(self: &Arc<Self>, array_idx: u32, tile: TileId) -> Option<()> {
        let array = &self.arrays[array_idx as usize];
        let near = array.known_tiling()?.share(tile).coverage;
        // No reader comes to a tile that holds nothing; the grid may have some.
        if near.is_empty() {
            return None;
        }
        // The reader's look-up finds this done.
        array.footprint(&near).ok()?;
        let plan = TilePlan::new(array, tile, &near, &[], self.cache.capacity_bytes() / 8).ok()?;
        if self.is_on_disk(array_idx, &plan) {
            return None;
        }
        let prepared = self.ahead.prepare(array_idx, plan.ticket_bytes())?;
        let Some(ticket) = self.cache.try_request(plan.ticket_bytes()) else {
            prepared.withdraw();
            return None;
        };
        match lock(&self.flights).entry((array_idx, tile)) {
            // Somebody was faster.
            hash_map::Entry::Occupied(_) => {
                prepared.withdraw();
                return Some(());
            }
            hash_map::Entry::Vacant(flight) => drop(flight.insert(Flight { parked: Vec::new(), is_ahead: true })),
        };
        if self.held(&Key::Tile(array_idx, tile)).is_some() {
            // It came between the two looks; whoever has parked meanwhile finds it.
            prepared.withdraw();
            self.land(array_idx, &Outcome::of_nothing(tile));
        } else {
            // Small tiles side by side: a builder each, which spares the parting and meeting of threads.
            if plan.ticket_bytes() <= MAX_BESIDE_BYTES && self.ahead.goes_on(array_idx) {
                self.submit_prepare(array_idx);
            }
            self.run(array_idx, vec![plan], ticket, Some(prepared));
        }
        Some(())
    }

    /// Whether a record has the first piece of a tile, and so the others.
    fn is_on_disk(&self, array: u32, plan: &TilePlan) -> bool {
        let Some(disk) = &self.disk else { return false };
        let Some(first) = plan.slots.iter().position(|&slot| is_held(slot)) else { return false };
        let grid = self.arrays[array as usize].pieces.piece_grid();
        let piece = plan.hull.positions().nth(first).map(|indices| ravel(&indices, grid));
        piece.is_some_and(|piece| !disk.kept(array, piece, &[plan.tile]).is_empty())
    }

    /// Builds the tiles of a job one after the other, each on all threads, and answers the reads parked at them.
    fn run(self: &Arc<Self>, array: u32, job: Vec<TilePlan>, mut ticket: Ticket, mut prepared: Option<Prepared>) {
        // Kept to the end: what one tile of the job begins, another completes. Their memory is counted already.
        let mut seams = Vec::new();
        for plan in job {
            let tile = plan.tile;
            let began = Instant::now();
            let outcome = catch_unwind(AssertUnwindSafe(|| self.build_tile(array, plan, &mut ticket, prepared.take())))
                .unwrap_or_else(|_| {
                    self.journal.record("a build panicked; this is a bug".to_owned());
                    Outcome::of_panic(tile)
                });
            self.totals.tiles.fetch_add(1, Relaxed);
            self.totals.build_ns.fetch_add(began.elapsed().as_nanos() as u64, Relaxed);
            for failure in &outcome.failures {
                self.journal.record(failure.error.to_string());
            }
            // Before its readers go on, or one that comes just then might find it in neither place.
            self.keep(array, &outcome);
            self.land(array, &outcome);
            if let Some(disk) = &self.disk {
                disk.await_room();
            }
            seams.extend(outcome.seams);
        }
    }

    /// Has a tile that is whole written to disk.
    fn keep(&self, array: u32, outcome: &Outcome) {
        if let (Some(disk), Some(tile), []) = (&self.disk, &outcome.built, &outcome.failures[..]) {
            let (id, tile, seams) = (outcome.tile, Arc::clone(tile), outcome.seams.clone());
            disk.keep(Built { array, id, tile, seams });
        }
    }

    fn build_tile(
        self: &Arc<Self>,
        array_idx: u32,
        plan: TilePlan,
        ticket: &mut Ticket,
        prepared: Option<Prepared>,
    ) -> Outcome {
        let array = &self.arrays[array_idx as usize];
        let seams: Vec<(u64, Arc<Seam>)> =
            plan.seams.iter().map(|(piece, needed)| (*piece, self.seam(array_idx, *piece, needed, ticket))).collect();
        let mut bytes = ticket.buffer(plan.bytes as usize);
        let tile_ticket = ticket.split(plan.tile_bytes() - rounded(plan.bytes));
        let mut slots = plan.slots;
        let failures = {
            let Ok(tiling) = array.tiling(&plan.share.coverage) else { unreachable!("planning has chosen the tiling") };
            let stamp_of = |file: &[u64]| array.stamp_of(file);
            let leaves = FromSource::new(&array.reader, &stamp_of);
            let ground = Ground {
                leaves: &leaves,
                tiling,
                pieces: &array.pieces,
                fill: array.fill(),
                slots: &self.slots,
                threads: &self.crew,
                copy_ns: &self.totals.copy_ns,
            };
            let seams = open_seams(array, &plan.hull, plan.tile, &seams);
            let targets = Targets::new(ground.pieces, ground.fill, &plan.hull, &slots, &mut bytes, seams);
            build(ground, &plan.share, &targets)
        };
        let is_hit = |region: &Region| failures.iter().any(|failure| !failure.region.intersect(region).is_empty());
        if !failures.is_empty() {
            for (nth, indices) in plan.hull.positions().enumerate() {
                if is_held(slots[nth]) && is_hit(&array.pieces.piece_region_at(&indices)) {
                    strike_out(&mut slots, nth);
                }
            }
        }
        for (piece, seam) in &seams {
            if !is_hit(&array.pieces.piece_region(*piece)) {
                seam.contribute(plan.tile);
            }
        }
        let tile = Arc::new(Tile::new(plan.tile, plan.hull, slots, bytes, tile_ticket, prepared));
        self.cache.insert(Key::Tile(array_idx, plan.tile), Entry::Tile(Arc::clone(&tile)));
        Outcome { tile: plan.tile, built: Some(tile), seams, failures, panicked: false }
    }

    /// The seam of a piece: the one that exists, else a new one paid from `ticket`.
    fn seam(&self, array_idx: u32, piece: u64, needed: &[TileId], ticket: &mut Ticket) -> Arc<Seam> {
        let array = &self.arrays[array_idx as usize];
        let key = Key::Seam(array_idx, piece);
        let _gate = lock(&self.seam_gate);
        if let Some(Entry::Seam(seam)) = self.held(&key) {
            return seam;
        }
        let n_bytes = array.pieces.region_bytes(&array.pieces.piece_region(piece));
        // What its other tiles have placed may have left memory, but not the disk.
        let (done, bytes) = (self.disk.as_ref().and_then(|disk| disk.seam(array_idx, piece, needed)))
            .unwrap_or_else(|| (Vec::new(), filled(n_bytes as usize, array.fill()).into_boxed_slice()));
        let seam = Arc::new(Seam::new(needed.to_vec(), done, bytes, ticket.split(n_bytes + ENTRY_BYTES)));
        self.cache.insert(key, Entry::Seam(Arc::clone(&seam)));
        seam
    }

    /// Ends a flight, and lets the reads go on that waited for nothing else.
    pub(super) fn land(self: &Arc<Self>, array: u32, outcome: &Outcome) {
        let flight = lock(&self.flights).remove(&(array, outcome.tile)).unwrap_or_default();
        for read in flight.parked {
            if read.outstanding.fetch_sub(1, AcqRel) == 1 {
                self.totals.waiting.fetch_sub(1, Relaxed);
                let state = lock(&read.state).take();
                if let Some(state) = state {
                    self.advance(&read, state, Some(outcome));
                }
            }
        }
    }
}

/// The seams that still lack `tile`, by their places in its hull.
fn open_seams<'a>(
    array: &Rechunked,
    hull: &Region,
    tile: TileId,
    seams: &'a [(u64, Arc<Seam>)],
) -> Vec<(u64, &'a OpenPiece)> {
    let lacking = seams.iter().filter(|(_, seam)| seam.lacks(tile));
    let mut open: Vec<_> =
        lacking.filter_map(|(piece, seam)| Some((place_in(hull, array, *piece)?, &seam.open))).collect();
    open.sort_unstable_by_key(|(nth, _)| *nth);
    open
}

/// `len` bytes of fill value.
fn filled(len: usize, fill: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; len];
    if fill.iter().any(|&byte| byte != 0) {
        fill_with(&mut bytes, fill);
    }
    bytes
}
