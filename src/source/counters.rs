//! Counts of what the source was asked for: shown by `status`, asserted by tests.

use super::Calls;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Running totals. Relaxed: each is a statistic of its own.
#[derive(Debug, Default)]
pub struct Counters {
    /// Chunk files opened.
    pub files_opened: AtomicU64,
    /// Encoded bytes read.
    pub read_bytes: AtomicU64,
    /// Bytes that came out of codecs (or straight from uncompressed chunks).
    pub decoded_bytes: AtomicU64,
    /// Independently decodable blocks decoded; a chunk that can only be decoded whole counts as one.
    pub blocks: AtomicU64,
    /// Nanoseconds spent reading and decoding, summed over threads.
    pub decode_ns: AtomicU64,
    /// Of them: reading.
    pub read_ns: AtomicU64,
    /// System calls that are under way.
    pub calls: Calls,
}

/// One reading of [`Counters`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct CounterValues {
    /// Chunk files opened.
    pub files_opened: u64,
    /// Encoded bytes read.
    pub read_bytes: u64,
    /// Decoded bytes.
    pub decoded_bytes: u64,
    /// Blocks decoded.
    pub blocks: u64,
    /// Nanoseconds of reading and decoding, summed over threads.
    pub decode_ns: u64,
}

impl Counters {
    /// Adds `n` to a counter.
    pub(super) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Relaxed);
    }

    /// What they stand at.
    pub fn values(&self) -> CounterValues {
        CounterValues {
            files_opened: self.files_opened.load(Relaxed),
            read_bytes: self.read_bytes.load(Relaxed),
            decoded_bytes: self.decoded_bytes.load(Relaxed),
            blocks: self.blocks.load(Relaxed),
            decode_ns: self.decode_ns.load(Relaxed),
        }
    }
}
