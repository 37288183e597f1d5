//! How far a copy is, what its threads are busy with, and the wish to stop.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Counters that the threads of a copy or a comparison add to, for whoever shows progress.
#[derive(Debug, Default)]
pub struct Progress {
    /// Decoded bytes to be done in all; 0 until planned.
    pub total_bytes: AtomicU64,
    /// Decoded bytes done, of them those that an earlier run had done already.
    pub done_bytes: AtomicU64,
    /// Of `done_bytes`: found done.
    pub resumed_bytes: AtomicU64,
    /// Decoded bytes that go through temporary files.
    pub spool_bytes: AtomicU64,
    /// Of `spool_bytes`: written to a temporary file.
    pub spooled_bytes: AtomicU64,
    /// Bytes written to the target.
    pub written_bytes: AtomicU64,
    /// Files written to the target.
    pub files: AtomicU64,
    /// Nanoseconds of placing, summed over threads; reading and decoding are counted by the source.
    pub place_ns: AtomicU64,
    /// Nanoseconds of encoding, summed over threads.
    pub encode_ns: AtomicU64,
    /// Nanoseconds of writing, summed over threads.
    pub write_ns: AtomicU64,
    stop: AtomicBool,
    is_complete: AtomicBool,
}

impl Progress {
    /// Asks the copy to stop; it does after what it is at.
    pub fn stop(&self) {
        self.stop.store(true, Relaxed);
    }

    /// Whether it was asked to stop.
    pub fn is_stopping(&self) -> bool {
        self.stop.load(Relaxed)
    }

    /// Notes that the copy is in its place.
    pub(super) fn complete(&self) {
        self.is_complete.store(true, Relaxed);
    }

    /// Whether the copy is in its place: there is nothing to stop any more.
    pub fn is_complete(&self) -> bool {
        self.is_complete.load(Relaxed)
    }

    /// Runs `work` and adds its time to `counter`.
    pub(super) fn timed<T>(counter: &AtomicU64, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let result = work();
        counter.fetch_add(began.elapsed().as_nanos() as u64, Relaxed);
        result
    }

    /// Work that was taken to be of `expected` bytes was one of `bytes`.
    pub(super) fn came_to(&self, expected: u64, bytes: u64) {
        self.total_bytes.fetch_add(bytes, Relaxed);
        self.total_bytes.fetch_sub(expected, Relaxed);
        self.done_bytes.fetch_add(bytes, Relaxed);
    }

    pub(super) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Relaxed);
    }
}
