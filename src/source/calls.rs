//! Which system calls at the source are under way: one on a network disk that hangs may never return.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// When each call that is under way began.
#[derive(Debug, Default)]
pub struct Calls {
    began: Mutex<Vec<Option<Instant>>>,
}

impl Calls {
    /// Makes a call.
    pub(super) fn during<T>(&self, call: impl FnOnce() -> T) -> T {
        let now = Instant::now();
        let at = {
            let mut began = self.lock();
            let free = began.iter().position(Option::is_none).unwrap_or(began.len());
            if free == began.len() {
                began.push(None);
            }
            began[free] = Some(now);
            free
        };
        // Also where the call panics: else it would hang for ever.
        let _over = Over { calls: self, at };
        call()
    }

    /// How many have been under way for longer than `time`.
    pub fn n_longer_than(&self, time: Duration) -> usize {
        self.lock().iter().flatten().filter(|began| began.elapsed() > time).count()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<Instant>>> {
        self.began.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call, until it is over.
struct Over<'a> {
    calls: &'a Calls,
    at: usize,
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.calls.lock()[self.at] = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_counts_until_it_returns() {
        let calls = Calls::default();
        calls.during(|| {
            assert_eq!(calls.during(|| calls.n_longer_than(Duration::ZERO)), 2);
            assert_eq!(calls.n_longer_than(Duration::ZERO), 1);
            assert_eq!(calls.n_longer_than(Duration::from_secs(3600)), 0);
        });
        let panicking = std::panic::AssertUnwindSafe(|| calls.during(|| panic!("this call is meant to panic")));
        assert!(std::panic::catch_unwind(panicking).is_err());
        assert_eq!(calls.n_longer_than(Duration::ZERO), 0);
    }
}
