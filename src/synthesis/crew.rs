//! The threads that build a tile: the one that asks for it, and helpers.
//!
//! Helpers are new threads for each tile. The kernel starts those on idle processors, within 30 microseconds or so. Threads that wait
//! for the next tile instead, and look for it again and again, are often left on one processor together, while others are
//! idle: tiles that come every millisecond are then built at half the speed.

use super::lock;
use rayon::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::{Builder, Scope};

/// Runs independent parts of work at once.
pub trait Threads: Sync + std::fmt::Debug {
    /// How many at a time, at most.
    fn most(&self) -> usize;

    /// Calls `work` with each number below `n`.
    fn for_each(&self, n: usize, work: &(dyn Fn(usize) + Sync));
}

/// A number of threads, shared by all that build at the same time.
#[derive(Debug)]
pub struct Crew {
    total: usize,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug)]
struct State {
    free: usize,
    /// Those who cannot even begin.
    n_waiting: usize,
}

/// One of the crew, at work.
struct Place<'a>(&'a Crew);

/// What the threads that build one tile share.
struct Job<'a> {
    crew: &'a Crew,
    n: usize,
    next: AtomicUsize,
    work: &'a (dyn Fn(usize) + Sync),
}

impl Crew {
    /// Of `total` threads, one at the least.
    pub fn new(total: usize) -> Self {
        let total = total.max(1);
        Crew { total, state: Mutex::new(State { free: total, n_waiting: 0 }), freed: Condvar::new() }
    }

    /// Waits for a place.
    fn enter(&self) -> Place<'_> {
        let mut state = lock(&self.state);
        state.n_waiting += 1;
        while state.free == 0 {
            state = self.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.n_waiting -= 1;
        state.free -= 1;
        Place(self)
    }

    /// A place that nobody waits for.
    fn try_enter(&self) -> Option<Place<'_>> {
        let mut state = lock(&self.state);
        if state.free <= state.n_waiting {
            return None;
        }
        state.free -= 1;
        Some(Place(self))
    }

    fn is_waited_for(&self) -> bool {
        lock(&self.state).n_waiting > 0
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).free += 1;
        self.0.freed.notify_one();
    }
}

impl Threads for Crew {
    fn most(&self) -> usize {
        self.total
    }

    fn for_each(&self, n: usize, work: &(dyn Fn(usize) + Sync)) {
        let _place = self.enter();
        let job = Job { crew: self, n, next: AtomicUsize::new(0), work };
        std::thread::scope(|scope| {
            job.call_helpers(scope);
            while job.do_one() {
                // Others may have left meanwhile.
                job.call_helpers(scope);
            }
        });
    }
}

impl Job<'_> {
    /// Starts up to two helpers, which start others: many are there soon, whoever calls first.
    fn call_helpers<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        for _ in 0..2 {
            // One part is for whoever calls.
            if self.next.load(Relaxed) + 1 >= self.n {
                return;
            }
            let Some(place) = self.crew.try_enter() else { return };
            let help = move || {
                let _place = place;
                self.call_helpers(scope);
                // Whoever waits for a place has nobody at all.
                while self.do_one() && !self.crew.is_waited_for() {}
            };
            // Where no more threads can be had the work takes longer.
            if Builder::new().name("helper".to_owned()).spawn_scoped(scope, help).is_err() {
                return;
            }
        }
    }

    /// `false` where nothing is left to do.
    fn do_one(&self) -> bool {
        let nth = self.next.fetch_add(1, Relaxed);
        if nth < self.n {
            (self.work)(nth);
        }
        nth < self.n
    }
}

impl Threads for rayon::ThreadPool {
    fn most(&self) -> usize {
        self.current_num_threads()
    }

    fn for_each(&self, n: usize, work: &(dyn Fn(usize) + Sync)) {
        self.install(|| (0..n).into_par_iter().with_max_len(1).for_each(work));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn every_part_is_done_once_by_no_more_threads_than_there_are() {
        for total in [1, 2, 5] {
            let crew = Crew::new(total);
            let (at_work, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let done: Vec<AtomicUsize> = (0..100).map(|_| AtomicUsize::new(0)).collect();
            let build = |parts: std::ops::Range<usize>| {
                crew.for_each(parts.len(), &|nth| {
                    most.fetch_max(at_work.fetch_add(1, Relaxed) + 1, Relaxed);
                    std::thread::sleep(Duration::from_micros(200));
                    at_work.fetch_sub(1, Relaxed);
                    done[parts.start + nth].fetch_add(1, Relaxed);
                });
            };
            std::thread::scope(|scope| {
                for parts in [0..50, 50..99, 99..100, 100..100] {
                    scope.spawn(move || build(parts));
                }
            });
            assert!(done.iter().all(|done| done.load(Relaxed) == 1));
            assert!(most.load(Relaxed) <= total);
            assert_eq!(lock(&crew.state).free, total);
        }
    }

    #[test]
    fn helpers_leave_when_somebody_cannot_begin() {
        let crew = Crew::new(2);
        let took = std::thread::scope(|scope| {
            scope.spawn(|| crew.for_each(40, &|_| std::thread::sleep(Duration::from_millis(20))));
            std::thread::sleep(Duration::from_millis(30));
            let began = Instant::now();
            crew.for_each(1, &|_| ());
            began.elapsed()
        });
        assert!(took < Duration::from_millis(200), "it waited for a tile of others, {took:?}");
    }

    #[test]
    fn a_part_that_panics_frees_its_place() {
        let crew = Crew::new(3);
        let build = std::panic::AssertUnwindSafe(|| {
            crew.for_each(10, &|nth| assert!(nth != 4, "this part is meant to panic"));
        });
        assert!(std::panic::catch_unwind(build).is_err());
        assert_eq!(lock(&crew.state).free, 3);
    }
}
