//! Jobs: tiles that are built under one ticket, and how their reads learn of it.

use super::super::disk::Built;
use super::super::edition::Edition;
use super::super::leaves::AtVersion;
use super::super::tile::{Tile, TilePlan, is_held, place_in, strike_out};
use super::follow::PlacedSeam;
use super::{Engine, Entry, Flight, Key, Landing, Outcome, Prepared, lock};
use crate::cache::{Ticket, rounded};
use crate::geometry::{Region, TileId};
use crate::synthesis::{Failure, Ground, OpenPiece, Targets, build_leaves};
use std::collections::hash_map;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{Ordering::AcqRel, Ordering::Relaxed};
use std::time::Instant;

/// Tiles up to here take one thread some milliseconds.
const MAX_BESIDE_BYTES: u64 = 2 << 20;

impl Engine {
    /// Asks for memory for `tiles`, in jobs that fit, and builds them when it is granted.
    pub(super) fn start(self: &Arc<Self>, edition: &Edition, tiles: Vec<(Landing, u64)>, wanted: &[u64]) {
        let max_job_bytes = self.cache.capacity_bytes() / 2;
        let mut job: Vec<(Landing, TilePlan)> = Vec::new();
        let mut job_bytes = 0;
        for (landing, piece) in tiles {
            crate::drill::at("plan");
            let (key, near) = (landing.key, edition.pieces().piece_region(piece).clipped(&edition.extent.shape));
            match TilePlan::new(edition, key, &near, wanted, max_job_bytes / 4) {
                Ok(plan) => {
                    // Looked up, it is the last to make room for what is built from it.
                    drop(self.base(edition, &plan));
                    if job_bytes + plan.ticket_bytes() > max_job_bytes && !job.is_empty() {
                        self.submit(edition, std::mem::take(&mut job), job_bytes);
                        job_bytes = 0;
                    }
                    job_bytes += plan.ticket_bytes();
                    job.push((landing, plan));
                }
                Err(error) => {
                    let failure = Failure { region: near, error: Arc::new(error) };
                    landing.land(&Outcome { failures: vec![failure], ..Outcome::of_nothing(key) });
                }
            }
        }
        if !job.is_empty() {
            self.submit(edition, job, job_bytes);
        }
    }

    fn submit(self: &Arc<Self>, edition: &Edition, job: Vec<(Landing, TilePlan)>, bytes: u64) {
        let (engine, edition) = (Arc::clone(self), edition.clone());
        self.cache.request(bytes, move |ticket| {
            let runner = Arc::clone(&engine);
            engine.builders.submit(Box::new(move || runner.run(&edition, job, ticket, None)));
        });
    }

    /// Prepares the tiles that the reader of `tile` is likely to ask for next, while nobody waits for anything else.
    pub(super) fn look_ahead(self: &Arc<Self>, edition: &Edition, tile: &Tile) {
        let Some(tiling) = edition.known_tiling() else { return };
        let (array, position) = (edition.array.idx, tiling.position(tile.key.tile));
        if self.ahead.touched(array, position, tile.bytes.len() as u64) {
            self.submit_prepare(array);
        }
    }

    fn submit_prepare(self: &Arc<Self>, array: u32) {
        let engine = Arc::clone(self);
        self.builders.submit_likely(Box::new(move || {
            let Some(edition) = engine.arrays.get(array).map(|array| array.newest()) else { return };
            let Some(tiling) = edition.known_tiling() else { return };
            let wanted = engine.ahead.wanted(array, &tiling.grid());
            let tiles = wanted.iter().map(|position| tiling.tile_at(position));
            let Some(next) = tiles.into_iter().find(|tile| !engine.is_there(&edition, *tile)) else { return };
            // One at a time, if they are not small: whoever waits for a tile goes first.
            if engine.prepare(&edition, next).is_some() && engine.ahead.goes_on(array) {
                engine.submit_prepare(array);
            }
        }));
    }

    /// Whether a tile is in memory or on its way.
    fn is_there(&self, edition: &Edition, tile: TileId) -> bool {
        let Ok(key) = edition.tile_key(tile) else { return false };
        self.held(&Key::Tile(key)).is_some() || lock(&self.flights).contains_key(&key)
    }

    /// Builds a tile that nobody has asked for yet; only tries, for memory as for everything else. `None` where there
    /// is no room for it.
    fn prepare(self: &Arc<Self>, edition: &Edition, tile: TileId) -> Option<()> {
        let near = edition.known_tiling()?.share(tile).coverage;
        // No reader comes to a tile that holds nothing; the grid may have some.
        if near.is_empty() {
            return None;
        }
        // The reader's look-up finds this done.
        edition.array.footprint(&edition.array.reader.files_of(&near)).ok()?;
        let edition = &edition.array.newest();
        let key = edition.tile_key(tile).ok()?;
        let plan = TilePlan::new(edition, key, &near, &[], self.cache.capacity_bytes() / 8).ok()?;
        if self.is_on_disk(edition, &plan) {
            return None;
        }
        let prepared = self.ahead.prepare(key.array, plan.ticket_bytes())?;
        let Some(ticket) = self.cache.try_request(plan.ticket_bytes()) else {
            prepared.withdraw();
            return None;
        };
        match lock(&self.flights).entry(key) {
            // Somebody was faster.
            hash_map::Entry::Occupied(_) => {
                prepared.withdraw();
                return Some(());
            }
            hash_map::Entry::Vacant(flight) => drop(flight.insert(Flight { is_ahead: true, ..Flight::default() })),
        };
        let landing = Landing::new(self, key);
        if self.held(&Key::Tile(key)).is_some() {
            // It came between the two looks; whoever has parked meanwhile finds it.
            prepared.withdraw();
            landing.land(&Outcome::of_nothing(key));
        } else {
            // Small tiles side by side: a builder each, which spares the parting and meeting of threads.
            if plan.ticket_bytes() <= MAX_BESIDE_BYTES && self.ahead.goes_on(key.array) {
                self.submit_prepare(key.array);
            }
            self.run(edition, vec![(landing, plan)], ticket, Some(prepared));
        }
        Some(())
    }

    /// Whether a record has the first piece of a tile, and so the others.
    fn is_on_disk(&self, edition: &Edition, plan: &TilePlan) -> bool {
        let Some(disk) = &self.disk else { return false };
        let Some(first) = plan.slots.iter().position(|&slot| is_held(slot)) else { return false };
        let piece = plan.hull.positions().nth(first).map(|indices| edition.pieces().piece_at(&indices));
        piece.is_some_and(|piece| !disk.kept(edition, piece, &[plan.key.tile]).is_empty())
    }

    /// Builds the tiles of a job one after the other, each on all threads, and answers the reads parked at them.
    fn run(
        self: &Arc<Self>,
        edition: &Edition,
        job: Vec<(Landing, TilePlan)>,
        mut ticket: Ticket,
        mut prepared: Option<Prepared>,
    ) {
        // Kept to the end: what one tile of the job begins, another completes. Their memory is counted already.
        let mut seams = Vec::new();
        for (landing, plan) in job {
            let key = plan.key;
            let began = Instant::now();
            let outcome =
                catch_unwind(AssertUnwindSafe(|| self.build_tile(edition, plan, &mut ticket, prepared.take())))
                    .unwrap_or_else(|_| {
                        self.journal.record("a build panicked; this is a bug".to_owned());
                        Outcome::of_panic(key)
                    });
            self.totals.tiles.fetch_add(1, Relaxed);
            self.totals.build_ns.fetch_add(began.elapsed().as_nanos() as u64, Relaxed);
            // What may pass is entered when its readers give up.
            let lasting = outcome.failures.iter().filter(|failure| !failure.error.is_torn());
            lasting.for_each(|failure| self.journal.record(failure.error.to_string()));
            // Before its readers go on, or one that comes just then might find it in neither place.
            self.keep(edition, &outcome);
            crate::drill::at("land");
            landing.land(&outcome);
            if let Some(disk) = &self.disk {
                disk.await_room();
            }
            seams.extend(outcome.seams);
        }
    }

    /// Has a tile that is whole written to disk.
    fn keep(&self, edition: &Edition, outcome: &Outcome) {
        if let (Some(disk), Some(tile), []) = (&self.disk, &outcome.built, &outcome.failures[..]) {
            disk.keep(Built { edition: edition.clone(), tile: Arc::clone(tile), seams: outcome.seams.clone() });
        }
    }

    fn build_tile(
        self: &Arc<Self>,
        edition: &Edition,
        plan: TilePlan,
        ticket: &mut Ticket,
        prepared: Option<Prepared>,
    ) -> Outcome {
        crate::drill::at("build");
        let array = &edition.array;
        let (base, seams) = self.ground(edition, &plan, ticket);
        let mut bytes = ticket.buffer(plan.bytes as usize);
        let tile_ticket = ticket.split(plan.tile_bytes() - rounded(plan.bytes));
        let mut slots = plan.slots;
        if let Some(base) = &base {
            bytes.copy_from_slice(&base.tile.bytes);
        }
        let moved = lock(&self.flights).get(&plan.key).map(|flight| Arc::clone(&flight.moved)).unwrap_or_default();
        let failures = {
            let Ok(tiling) = edition.tiling(&plan.share.coverage) else {
                unreachable!("planning has chosen the tiling")
            };
            let ground = Ground {
                leaves: &AtVersion::new(edition, &moved),
                tiling,
                pieces: edition.pieces(),
                fill: array.fill(),
                slots: &self.slots,
                threads: &self.crew,
                copy_ns: &self.totals.copy_ns,
            };
            let open = open_seams(edition, &plan.hull, plan.key.tile, &seams);
            let all = std::slice::from_ref(&plan.share.leaves);
            let (leaves, targets) = match &base {
                Some(base) => (&base.changed[..], Targets::over(&plan.hull, &slots, &mut bytes, open)),
                None => (all, Targets::new(ground.pieces, ground.fill, &plan.hull, &slots, &mut bytes, open)),
            };
            build_leaves(ground, &plan.share, leaves, &targets)
        };
        let is_hit = |region: &Region| failures.iter().any(|failure| !failure.region.intersect(region).is_empty());
        if !failures.is_empty() {
            for (nth, indices) in plan.hull.positions().enumerate() {
                if is_held(slots[nth]) && is_hit(&edition.pieces().piece_region_at(&indices)) {
                    strike_out(&mut slots, nth);
                }
            }
        }
        for (piece, _, seam) in &seams {
            if !is_hit(&edition.pieces().piece_region(*piece)) {
                seam.contribute(plan.key.tile);
            }
        }
        let tile =
            Arc::new(Tile::new(plan.key, Arc::clone(&edition.extent), plan.hull, slots, bytes, tile_ticket, prepared));
        self.cache.insert(Key::Tile(plan.key), Entry::Tile(Arc::clone(&tile)));
        if let Some(base) = base {
            self.cache.demote(&Key::Tile(base.tile.key));
        }
        let seams = seams.into_iter().map(|(_, key, seam)| (key, seam)).collect();
        Outcome { key: plan.key, built: Some(tile), seams, failures, panicked: false }
    }

    /// Ends a flight, and lets the reads go on that waited for nothing else.
    pub(super) fn land(self: &Arc<Self>, outcome: &Outcome) {
        let flight = lock(&self.flights).remove(&outcome.key).unwrap_or_default();
        for read in flight.parked {
            read.moved.now();
            if read.outstanding.fetch_sub(1, AcqRel) == 1 {
                // Given up meanwhile, it is gone.
                let state = lock(&read.state).take();
                if let Some(state) = state {
                    self.totals.waiting.fetch_sub(1, Relaxed);
                    // One that panics has its answer, and the others go on.
                    let advance = AssertUnwindSafe(|| self.advance(&read, state, Some(outcome)));
                    if catch_unwind(advance).is_err() {
                        self.journal.record("answering a read panicked; this is a bug".to_owned());
                    }
                }
            }
        }
    }
}

/// The seams that still lack `tile`, by their places in its hull.
fn open_seams<'a>(
    edition: &Edition,
    hull: &Region,
    tile: TileId,
    seams: &'a [PlacedSeam],
) -> Vec<(u64, &'a OpenPiece)> {
    let lacking = seams.iter().filter(|(_, _, seam)| seam.lacks(tile));
    let mut open: Vec<_> =
        lacking.filter_map(|(piece, _, seam)| Some((place_in(hull, edition.pieces(), *piece)?, &seam.open))).collect();
    open.sort_unstable_by_key(|(nth, _)| *nth);
    open
}
