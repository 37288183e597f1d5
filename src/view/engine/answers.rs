//! How a read ends: with its bytes, with an error, or once more after a pause.

use super::super::array::Rechunked;
use super::under_way::{Read, ReadState, Totals};
use super::{Engine, Reply, ViewError, lock};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

/// What a read is owed. It is given once: where it is dropped, because of a panic, an error is.
pub(super) struct Answer {
    totals: Arc<Totals>,
    array: Arc<Rechunked>,
    /// When the read came.
    began: Instant,
    reply: Option<Reply>,
}

impl Answer {
    /// To a read of `array` that has just come.
    pub(super) fn new(totals: &Arc<Totals>, array: &Arc<Rechunked>, reply: Reply) -> Self {
        totals.reads.fetch_add(1, Relaxed);
        totals.in_flight.fetch_add(1, Relaxed);
        Answer { totals: Arc::clone(totals), array: Arc::clone(array), began: Instant::now(), reply: Some(reply) }
    }

    pub(super) fn give(mut self, bytes: Result<&[u8], ViewError>) {
        self.finish(bytes);
    }

    fn finish(&mut self, bytes: Result<&[u8], ViewError>) {
        let Some(reply) = self.reply.take() else { return };
        let totals = &self.totals;
        match &bytes {
            Ok(bytes) => totals.reply_bytes.fetch_add(bytes.len() as u64, Relaxed),
            Err(error) => {
                *lock(&totals.failed_by_kind).entry(error.kind()).or_default() += 1;
                totals.failed.fetch_add(1, Relaxed)
            }
        };
        totals.in_flight.fetch_sub(1, Relaxed);
        let began = Instant::now();
        reply(bytes);
        totals.reply_ns.fetch_add(began.elapsed().as_nanos() as u64, Relaxed);
        totals.slowest_read_ns.fetch_max(self.began.elapsed().as_nanos() as u64, Relaxed);
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if self.reply.is_some() {
            let array = self.array.path().to_owned();
            self.finish(Err(ViewError::Panicked { array }));
        }
    }
}

impl Engine {
    /// Answers with an error; what may be in the middle of being written is tried again first.
    pub(super) fn fail(self: &Arc<Self>, read: &Arc<Read>, mut state: ReadState, error: ViewError) {
        match state.pause(&error) {
            Some(pause) => {
                self.totals.waiting.fetch_add(1, Relaxed);
                let (engine, read) = (Arc::clone(self), Arc::clone(read));
                let again = move || {
                    engine.totals.waiting.fetch_sub(1, Relaxed);
                    crate::drill::at("again");
                    engine.advance(&read, state, None);
                };
                self.later.after(pause, Box::new(again));
            }
            None => {
                if state.is_torn() {
                    self.journal.record(error.to_string());
                }
                state.answer.give(Err(error));
            }
        }
    }

    pub(super) fn answer_hit(&self, state: ReadState, bytes: Result<&[u8], ViewError>) {
        if !state.was_parked {
            self.totals.hits.fetch_add(1, Relaxed);
        }
        state.answer.give(bytes);
    }
}
