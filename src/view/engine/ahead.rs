//! Preparing tiles for readers that go through an array in order.
//!
//! Evidence is the order in which tiles are touched for the first time: three in a row along one axis of the tile
//! grid, in any order, as parallel readers come; of small tiles, two neighbours. Then tiles further along are prepared, more of them as readers catch
//! up with one that is still being built, fewer as prepared ones are evicted unread. A random read prepares nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// First touches that make evidence.
const EVIDENCE: usize = 3;
/// Most tiles ahead.
const MAX_DEPTH: u64 = 16;
/// Small tiles are prepared in such amounts from the start: a few milliseconds of decoding.
const START_BYTES: u64 = 8 << 20;

/// What the reads so far tell about those to come.
#[derive(Debug)]
pub(in crate::view) struct Ahead {
    /// By array.
    windows: Mutex<HashMap<u32, Window>>,
    /// Prepared tiles that nobody has read yet take no more than this.
    limit_bytes: u64,
    unread_bytes: AtomicU64,
    pub(in crate::view) used: AtomicU64,
    pub(in crate::view) wasted: AtomicU64,
}

/// The last first touches, where they lead, and how far ahead to go.
#[derive(Debug, Default)]
struct Window {
    /// Positions in the grid of tiles.
    touched: VecDeque<Vec<u64>>,
    course: Option<Course>,
    depth: u64,
    /// Somebody is about to prepare tiles, and will look here again.
    is_queued: bool,
}

/// A tile that was prepared, until it is read or given up.
#[derive(Debug)]
pub(in crate::view) struct Prepared {
    ahead: Arc<Ahead>,
    array: u32,
    bytes: u64,
    is_used: AtomicBool,
}

impl Ahead {
    pub(super) fn new(limit_bytes: u64) -> Arc<Self> {
        Arc::new(Ahead {
            windows: Mutex::default(),
            limit_bytes,
            unread_bytes: AtomicU64::new(0),
            used: AtomicU64::new(0),
            wasted: AtomicU64::new(0),
        })
    }

    /// Notes the first touch of the tile at a position of the grid of tiles. `true` where tiles are to be prepared now, and
    /// nobody is about to do that.
    pub(super) fn touched(&self, array: u32, tile: Vec<u64>, tile_bytes: u64) -> bool {
        let mut windows = self.lock();
        let window = windows.entry(array).or_default();
        if window.touched.contains(&tile) {
            return false;
        }
        window.touched.push_back(tile);
        if window.touched.len() > EVIDENCE {
            window.touched.pop_front();
        }
        let start_depth = (START_BYTES / tile_bytes.max(1)).clamp(1, MAX_DEPTH);
        window.depth = window.depth.max(start_depth);
        let touched = window.touched.make_contiguous();
        let in_a_row = if touched.len() < EVIDENCE { None } else { Course::of(touched) };
        window.course = in_a_row.or_else(|| {
            // Little is lost if it goes no further.
            let last = touched.last_chunk::<2>().filter(|_| start_depth > 1)?;
            Course::of(last).filter(|course| course.step == 1)
        });
        window.course.is_some() && !std::mem::replace(&mut window.is_queued, true)
    }

    /// The positions of the tiles to prepare, nearest first: of these, the first that is not there.
    pub(super) fn wanted(&self, array: u32, grid: &[u64]) -> Vec<Vec<u64>> {
        let mut windows = self.lock();
        let window = windows.entry(array).or_default();
        window.is_queued = false;
        let Some(course) = &window.course else { return Vec::new() };
        (1..=window.depth).map_while(|nth| course.ahead(nth, grid)).collect()
    }

    /// A tile was prepared: `true` where more may follow, and nobody is about to do that.
    pub(super) fn goes_on(&self, array: u32) -> bool {
        !std::mem::replace(&mut self.lock().entry(array).or_default().is_queued, true)
    }

    /// A reader waits for a tile that is being prepared.
    pub(super) fn is_late(&self, array: u32) {
        let mut windows = self.lock();
        let window = windows.entry(array).or_default();
        window.depth = (window.depth * 2).min(MAX_DEPTH);
    }

    /// Enters a tile to be prepared in the books; `None` where too much lies unread already.
    pub(super) fn prepare(self: &Arc<Self>, array: u32, bytes: u64) -> Option<Prepared> {
        if self.unread_bytes.fetch_add(bytes, Relaxed) + bytes > self.limit_bytes {
            self.unread_bytes.fetch_sub(bytes, Relaxed);
            return None;
        }
        Some(Prepared { ahead: Arc::clone(self), array, bytes, is_used: AtomicBool::new(false) })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Window>> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Prepared {
    /// Somebody reads it.
    pub(in crate::view) fn is_read(&self) {
        if !self.is_used.swap(true, Relaxed) {
            self.ahead.unread_bytes.fetch_sub(self.bytes, Relaxed);
            self.ahead.used.fetch_add(1, Relaxed);
        }
    }

    /// It is not prepared after all.
    pub(in crate::view) fn withdraw(self) {
        self.is_used.store(true, Relaxed);
        self.ahead.unread_bytes.fetch_sub(self.bytes, Relaxed);
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if !*self.is_used.get_mut() {
            self.ahead.unread_bytes.fetch_sub(self.bytes, Relaxed);
            self.ahead.wasted.fetch_add(1, Relaxed);
            let mut windows = self.ahead.lock();
            let window = windows.entry(self.array).or_default();
            window.depth /= 2;
            window.touched.clear();
            window.course = None;
        }
    }
}

/// Where a run of first touches leads.
#[derive(Debug)]
struct Course {
    front: Vec<u64>,
    axis: usize,
    step: u64,
    is_down: bool,
}

impl Course {
    /// The course of `touched`, if they are equally spaced along one axis.
    fn of(at: &[Vec<u64>]) -> Option<Self> {
        let (first, last) = (at.first()?, at.last()?);
        let axis = (0..first.len()).find(|&axis| first[axis] != last[axis])?;
        if at.iter().any(|one| (0..first.len()).any(|other| other != axis && one[other] != first[other])) {
            return None;
        }
        let mut along: Vec<u64> = at.iter().map(|one| one[axis]).collect();
        along.sort_unstable();
        let step = along[1] - along[0];
        if step == 0 || along.windows(2).any(|pair| pair[1] - pair[0] != step) {
            return None;
        }
        let is_down = last[axis] < first[axis];
        let mut front = first.clone();
        front[axis] = if is_down { *along.first()? } else { *along.last()? };
        Some(Course { front, axis, step, is_down })
    }

    /// The `nth` position ahead, if there is one.
    fn ahead(&self, nth: u64, grid: &[u64]) -> Option<Vec<u64>> {
        let mut at = self.front.clone();
        let way = self.step * nth;
        at[self.axis] = if self.is_down { at[self.axis].checked_sub(way)? } else { at[self.axis] + way };
        (at[self.axis] < grid[self.axis]).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::{ravel, unravel};

    const GRID: [u64; 2] = [4, 100];
    const LARGE: u64 = 1 << 30;
    const NONE: [u64; 0] = [];

    fn prepared(ahead: &Ahead, tiles: &[u64]) -> Vec<u64> {
        let mut found = Vec::new();
        for &tile in tiles {
            ahead.touched(0, unravel(tile, &GRID), LARGE);
            found = ahead.wanted(0, &GRID).iter().map(|tile| ravel(tile, &GRID)).collect();
        }
        found
    }

    #[test]
    fn three_in_a_row_lead_on_and_random_ones_do_not() {
        let fresh = || Ahead::new(u64::MAX);
        assert_eq!(prepared(&fresh(), &[7, 8]), NONE);
        assert_eq!(prepared(&fresh(), &[7, 8, 9]), [10]);
        assert_eq!(prepared(&fresh(), &[8, 7, 9]), [10], "parallel readers come out of order");
        assert_eq!(prepared(&fresh(), &[9, 8, 7]), [6]);
        assert_eq!(prepared(&fresh(), &[10, 20, 30]), [40]);
        assert_eq!(prepared(&fresh(), &[5, 105, 205]), [305], "along the slower axis");
        assert_eq!(prepared(&fresh(), &[97, 98, 99]), NONE, "the grid ends, its next row is somewhere else");
        assert_eq!(prepared(&fresh(), &[2, 1, 0]), NONE);
        assert_eq!(prepared(&fresh(), &[3, 50, 17, 120, 333]), NONE);
        assert_eq!(prepared(&fresh(), &[3, 4, 17, 5]), NONE, "not in a row");
    }

    #[test]
    fn depth_grows_when_readers_catch_up_and_halves_when_tiles_go_unread() {
        let ahead = Ahead::new(10);
        assert_eq!(prepared(&ahead, &[1, 2, 3]), [4]);
        ahead.is_late(0);
        ahead.is_late(0);
        assert_eq!(prepared(&ahead, &[4]), [5, 6, 7, 8]);
        let one = ahead.prepare(0, 6).expect("within the limit");
        assert!(ahead.prepare(0, 6).is_none(), "only so much lies unread");
        one.is_read();
        drop(ahead.prepare(0, 6).expect("the first is read"));
        assert_eq!(prepared(&ahead, &[5, 6]), NONE, "evidence starts anew");
        assert_eq!(prepared(&ahead, &[7]), [8, 9]);
        assert_eq!((ahead.used.load(Relaxed), ahead.wasted.load(Relaxed)), (1, 1));
    }

    #[test]
    fn small_tiles_are_prepared_by_the_amount() {
        let ahead = Ahead::new(u64::MAX);
        let touched = [0, 1, 2, 3].map(|tile| ahead.touched(0, unravel(tile, &GRID), 1 << 20));
        assert_eq!(touched, [false, true, false, false], "one is about to prepare them");
        assert_eq!(ahead.wanted(0, &GRID).len(), 8);
        assert!(ahead.goes_on(0) && !ahead.goes_on(0));
        let random = Ahead::new(u64::MAX);
        assert!([7, 3, 19, 12, 55].iter().all(|&tile| !random.touched(0, unravel(tile, &GRID), 1 << 20)));
    }
}
