//! The threads that build a tile: the one that asks for it, and helpers.
//!
//! Helpers are new threads for each tile, which takes 30 microseconds or so. All of the crew see to it that each begins on a
//! processor of its own: kernels leave threads that work for milliseconds and then wait on one processor together, while
//! others are idle, some of those for virtual machines on purpose, and tiles then take twice the time. Whoever starts a
//! helper waits until it has begun: it may stand in line behind that very thread.

use super::lock;
use rayon::prelude::*;
use rustix::thread::{sched_getaffinity, sched_getcpu, sched_setaffinity};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::sync_channel;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::{Builder, Scope};
use std::time::Duration;

/// Waiting longer for a helper costs more than having it helps.
const BEGINS_WITHIN: Duration = Duration::from_micros(300);

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
    /// Where those at work have begun.
    processors: Vec<usize>,
}

/// One of the crew, at work.
struct Place<'a> {
    crew: &'a Crew,
    processor: Option<usize>,
}

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
        Crew {
            total,
            state: Mutex::new(State { free: total, n_waiting: 0, processors: Vec::new() }),
            freed: Condvar::new(),
        }
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
        Place { crew: self, processor: None }
    }

    /// A place that nobody waits for.
    fn try_enter(&self) -> Option<Place<'_>> {
        let mut state = lock(&self.state);
        if state.free <= state.n_waiting {
            return None;
        }
        state.free -= 1;
        Some(Place { crew: self, processor: None })
    }

    fn is_waited_for(&self) -> bool {
        lock(&self.state).n_waiting > 0
    }
}

impl Place<'_> {
    /// Begins to work, on a processor on which nobody else of the crew has begun, if there is one.
    fn begin(&mut self) {
        let mut here = sched_getcpu();
        let mut state = lock(&self.crew.state);
        if state.processors.contains(&here)
            && let Ok(allowed) = sched_getaffinity(None)
        {
            let mut idle = allowed;
            state.processors.iter().for_each(|&busy| idle.unset(busy));
            // Moves this thread, which may then go wherever it might before.
            if idle.count() > 0 && sched_setaffinity(None, &idle).is_ok() {
                here = sched_getcpu();
                let _ = sched_setaffinity(None, &allowed);
            }
        }
        state.processors.push(here);
        self.processor = Some(here);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.crew.state);
        state.free += 1;
        if let Some(at) = state.processors.iter().position(|&processor| Some(processor) == self.processor) {
            state.processors.swap_remove(at);
        }
        drop(state);
        self.crew.freed.notify_one();
    }
}

impl Threads for Crew {
    fn most(&self) -> usize {
        self.total
    }

    fn for_each(&self, n: usize, work: &(dyn Fn(usize) + Sync)) {
        let mut place = self.enter();
        place.begin();
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
            let Some(mut place) = self.crew.try_enter() else { return };
            let (begun, begins) = sync_channel(1);
            let help = move || {
                place.begin();
                // Nobody listens where it came late.
                let _ = begun.try_send(());
                self.call_helpers(scope);
                // Whoever waits for a place has nobody at all.
                while self.do_one() && !self.crew.is_waited_for() {}
            };
            // Where no more threads can be had the work takes longer.
            if Builder::new().name("helper".to_owned()).spawn_scoped(scope, help).is_err() {
                return;
            }
            let _ = begins.recv_timeout(BEGINS_WITHIN);
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
