//! The thread that writes records, behind the reads that caused them.
//!
//! What waits to be written stays counted by its tickets, so the queue is short, and builders wait where it is full:
//! after they have answered their readers, and for a disk only, which needs nothing that they hold.

use super::shelf::{Built, Shelf};
use crate::cache::disk::DiskError;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long nothing is kept after a failure.
const PAUSE: Duration = Duration::from_secs(60);
/// How long builders wait for the disk; then it counts as failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// The queue's end at which tiles are handed in. What is in it is still written when this is dropped.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Arc<Queue>,
}

#[derive(Debug)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    max_bytes: u64,
    shelf: Arc<Shelf>,
}

#[derive(Debug, Default)]
struct State {
    /// The first is being written.
    waiting: VecDeque<Arc<Built>>,
    paused_until: Option<Instant>,
    is_closing: bool,
}

impl State {
    fn bytes(&self) -> u64 {
        self.waiting.iter().map(|built| built.tile.bytes.len() as u64).sum()
    }

    /// Gives up what waits, except what is being written.
    fn give_up(&mut self, shelf: &Shelf, why: &str) {
        self.waiting.truncate(1);
        self.paused_until = Some(Instant::now() + PAUSE);
        shelf.journal.record(format!("disk cache: {why}; nothing is kept for a minute"));
    }
}

impl Writer {
    pub(super) fn start(shelf: Arc<Shelf>, max_bytes: u64) -> std::io::Result<Self> {
        let queue = Arc::new(Queue { state: Mutex::default(), changed: Condvar::new(), max_bytes, shelf });
        let taker = Arc::clone(&queue);
        std::thread::Builder::new().name("disk-writer".to_owned()).spawn(move || taker.write_all())?;
        Ok(Writer { queue })
    }

    /// Hands a tile in. Never waits.
    pub(super) fn push(&self, built: Built) {
        let mut state = self.queue.lock();
        if state.paused_until.is_none_or(|until| Instant::now() >= until) {
            state.paused_until = None;
            state.waiting.push_back(Arc::new(built));
            self.queue.changed.notify_all();
        }
    }

    /// Waits until there is room for more.
    pub(super) fn await_room(&self) {
        let has_room = |state: &State| state.waiting.len() <= 1 || state.bytes() <= self.queue.max_bytes;
        self.queue.wait_until(PATIENCE, has_room);
    }

    /// Waits until all is written that was handed in; what is not by then is given up.
    pub(super) fn finish(&self, patience: Duration) {
        self.queue.wait_until(patience, |state| state.waiting.is_empty());
    }

    /// What waits to be written, as `pick` finds it.
    pub(super) fn find<T>(&self, pick: impl Fn(&Built) -> Option<T>) -> Option<T> {
        self.queue.lock().waiting.iter().rev().find_map(|built| pick(built))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.lock().is_closing = true;
        self.queue.changed.notify_all();
    }
}

impl Queue {
    fn write_all(&self) {
        let mut state = self.lock();
        loop {
            let Some(built) = state.waiting.front().cloned() else {
                if state.is_closing {
                    return;
                }
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(state);
            // A thread lost to a panic would be missing for the rest of the mount.
            let written = catch_unwind(AssertUnwindSafe(|| {
                crate::drill::at("disk-write");
                self.shelf.write(&built)
            }));
            state = self.lock();
            match written {
                Ok(Ok(())) => {}
                // A smaller one may fit.
                Ok(Err(error @ DiskError::NoRoom { .. })) => self.shelf.journal.record(format!("disk cache: {error}")),
                Ok(Err(error)) => state.give_up(&self.shelf, &error.to_string()),
                Err(_) => state.give_up(&self.shelf, "writing panicked; this is a bug"),
            }
            state.waiting.pop_front();
            self.changed.notify_all();
        }
    }

    /// Waits until it holds; what waits is given up where that takes too long.
    fn wait_until(&self, patience: Duration, holds: impl Fn(&State) -> bool) {
        let waited = self.changed.wait_timeout_while(self.lock(), patience, |state| !holds(state));
        let (mut state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            state.give_up(&self.shelf, "writing takes too long");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
