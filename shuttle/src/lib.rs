//! The cache and the builders as they are (links to the library's files), under a scheduler that tries many orders of their
//! threads' steps.

#![allow(dead_code, reason = "not all of them is tried")]

mod builders;
pub mod cache;

use builders::Builders;

/// In the place of the library's.
mod sync {
    pub(crate) use shuttle::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
    pub(crate) use shuttle::thread;
    pub(crate) use std::sync::PoisonError;
}

/// As many as there are where the source is a directory.
const N_BUILDERS: usize = 2;

/// The queue of jobs, as the view has it.
pub struct Queue(Builders);

impl Queue {
    pub fn start() -> Self {
        Queue(Builders::start(N_BUILDERS).expect("threads"))
    }

    pub fn submit(&self, job: impl FnOnce() + Send + 'static) {
        self.0.submit(Box::new(job));
    }

    pub fn submit_likely(&self, job: impl FnOnce() + Send + 'static) {
        self.0.submit_likely(Box::new(job));
    }

    pub fn set_extra(&self, n: usize) {
        self.0.set_extra(n).expect("threads");
    }
}
