//! Reads of a source that does not answer: they are given up after a time, and others are built for meanwhile.
//!
//! A system call on a network disk that hangs may never return, and whoever makes it keeps a place among the builders and
//! in the crew, and scratch. For each such call there is one more of these, the scratch from the cache's memory, until it returns.

use super::under_way::Read;
use super::{Engine, ViewError, lock};
use crate::cache::Ticket;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Calls that hang and are made up for, at most: a disk that hangs altogether takes no more of the cache.
const MAX_LENT: usize = 8;
/// No more than this part of the cache is lent as scratch.
const MAX_LENT_PART: u64 = 4;
/// Looks within the time after which a read is given up, and the longest pause between two.
const N_LOOKS: u32 = 8;
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// When something last moved, on a clock that begins with the process's first use of it.
#[derive(Debug, Default)]
pub(in crate::view) struct Moved {
    ms: AtomicU64,
}

impl Moved {
    pub(in crate::view) fn now(&self) {
        self.ms.store(clock_ms(), Relaxed);
    }
}

fn clock_ms() -> u64 {
    static BEGAN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    BEGAN.get_or_init(Instant::now).elapsed().as_millis() as u64
}

impl Engine {
    /// Has reads given up that wait for `timeout` while nothing moves.
    pub(in crate::view) fn watch(self: &Arc<Self>, timeout: Duration, group_bytes: u64) -> std::io::Result<()> {
        let engine = Arc::downgrade(self);
        let pause = (timeout / N_LOOKS).min(LONGEST_PAUSE);
        std::thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || keep_watch(&engine, timeout, pause, group_bytes))?;
        Ok(())
    }

    /// Gives up those reads for which nothing has moved for `timeout`.
    fn give_up(&self, timeout: Duration) {
        let mut waiting: HashMap<*const Read, (Arc<Read>, u64)> = HashMap::new();
        for flight in lock(&self.flights).values() {
            for read in &flight.parked {
                let moved = flight.moved.ms.load(Relaxed).max(read.moved.ms.load(Relaxed));
                let (_, latest) = waiting.entry(Arc::as_ptr(read)).or_insert_with(|| (Arc::clone(read), moved));
                *latest = moved.max(*latest);
            }
        }
        let now = clock_ms();
        for (read, moved) in waiting.into_values() {
            if u128::from(now.saturating_sub(moved)) < timeout.as_millis() {
                continue;
            }
            // Whoever takes the state answers; the flights that land later find nothing.
            let Some(state) = lock(&read.state).take() else { continue };
            self.totals.waiting.fetch_sub(1, Relaxed);
            let array = read.edition.array.path().to_owned();
            let key = read.edition.file_name(read.file);
            let error = ViewError::TimedOut { array, key, seconds: timeout.as_secs() };
            self.journal.record(error.to_string());
            state.answer.give(Err(error));
        }
    }

    /// Makes up for calls that hang, and gives up the reads that wait for them.
    fn look_for_hung(&self, lent: &mut Vec<Ticket>, timeout: Duration, group_bytes: u64) {
        crate::drill::at("watch");
        // Sooner than reads are given up: those that only wait behind what hangs have the rest of the time to be served.
        let n_hung = self.counters.calls.n_longer_than(timeout / 2);
        let most = (self.cache.capacity_bytes() / MAX_LENT_PART / group_bytes.max(1)).min(MAX_LENT as u64) as usize;
        while lent.len() < n_hung.min(most)
            && let Some(ticket) = self.cache.try_request(group_bytes)
        {
            lent.push(ticket);
        }
        let n = lent.len().min(n_hung);
        self.crew.set_extra(n);
        self.slots.set_extra_bytes(n as u64 * group_bytes);
        if let Err(error) = self.builders.set_extra(n) {
            self.journal.record(format!("no more threads in the place of those that hang: {error}"));
        }
        lent.truncate(n);
        // As long as every call returns, whatever takes its time is decoding, or waits for what does.
        if self.counters.calls.n_longer_than(timeout) > 0 {
            self.give_up(timeout);
        }
    }
}

fn keep_watch(engine: &Weak<Engine>, timeout: Duration, pause: Duration, group_bytes: u64) {
    let mut lent = Vec::new();
    loop {
        std::thread::sleep(pause);
        let Some(engine) = engine.upgrade() else { return };
        // Without a watch reads of a source that hangs would wait for ever.
        let look = AssertUnwindSafe(|| engine.look_for_hung(&mut lent, timeout, group_bytes));
        if catch_unwind(look).is_err() {
            engine.journal.record("looking for reads that hang panicked; this is a bug".to_owned());
        }
    }
}
