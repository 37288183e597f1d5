//! How a read ends: with its bytes, with an error, or once more after a pause.

use super::under_way::{Read, ReadState};
use super::{Engine, Reply, ViewError, lock};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

impl Engine {
    /// Answers with an error; what may be in the middle of being written is tried again first.
    pub(super) fn fail(self: &Arc<Self>, read: &Arc<Read>, mut state: ReadState, error: ViewError) {
        match state.pause(&error) {
            Some(pause) => {
                self.totals.waiting.fetch_add(1, Relaxed);
                let (engine, read) = (Arc::clone(self), Arc::clone(read));
                let again = move || {
                    engine.totals.waiting.fetch_sub(1, Relaxed);
                    engine.advance(&read, state, None);
                };
                self.later.after(pause, Box::new(again));
            }
            None => {
                if state.is_torn() {
                    self.journal.record(error.to_string());
                }
                self.answer(state.began, state.reply, Err(error));
            }
        }
    }

    pub(super) fn answer_hit(&self, state: ReadState, bytes: Result<&[u8], ViewError>) {
        if !state.was_parked {
            self.totals.hits.fetch_add(1, Relaxed);
        }
        self.answer(state.began, state.reply, bytes);
    }

    /// Answers a read that came at `came`.
    pub(super) fn answer(&self, came: Instant, reply: Reply, bytes: Result<&[u8], ViewError>) {
        match &bytes {
            Ok(bytes) => self.totals.reply_bytes.fetch_add(bytes.len() as u64, Relaxed),
            Err(error) => {
                *lock(&self.totals.failed_by_kind).entry(error.kind()).or_default() += 1;
                self.totals.failed.fetch_add(1, Relaxed)
            }
        };
        let began = Instant::now();
        reply(bytes);
        self.totals.reply_ns.fetch_add(began.elapsed().as_nanos() as u64, Relaxed);
        self.totals.slowest_read_ns.fetch_max(came.elapsed().as_nanos() as u64, Relaxed);
        self.totals.in_flight.fetch_sub(1, Relaxed);
    }
}
