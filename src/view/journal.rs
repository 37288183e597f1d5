//! The last errors, each logged once and counted after that.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Distinct errors that `status` shows.
const MAX_ERRORS: usize = 20;

/// Errors by message, the most recent last.
#[derive(Debug, Default)]
pub(super) struct Journal {
    errors: Mutex<VecDeque<Recorded>>,
}

/// An error and how often it came.
#[derive(Debug, Clone, serde::Serialize)]
pub(super) struct Recorded {
    /// One line.
    pub(super) message: String,
    /// How often.
    pub(super) n: u64,
    /// When last, seconds since 1970.
    pub(super) last_unix_s: u64,
}

impl Journal {
    /// Counts an error; logs it the first time.
    pub(super) fn record(&self, message: String) {
        let last_unix_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        let known = errors.iter().position(|error| error.message == message);
        let n = known.and_then(|at| errors.remove(at)).map_or(0, |error| error.n) + 1;
        if n == 1 {
            tracing::error!("{message}");
        }
        if errors.len() == MAX_ERRORS {
            errors.pop_front();
        }
        errors.push_back(Recorded { message, n, last_unix_s });
    }

    /// A copy, the most recent last.
    pub(super) fn recorded(&self) -> Vec<Recorded> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}
