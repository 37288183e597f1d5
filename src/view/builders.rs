//! The threads that take granted jobs, one after the other.
//!
//! Jobs do not run as tasks of the decoding pool: a pool thread that waits for the rest of its tile would take up
//! the next job meanwhile, and that one the next, and the first reader would wait for all of them. Two builders keep the
//! pool busy while one of them answers its readers, and no reader waits behind more than one other job. There are more where
//! building is waiting for a server.

use crate::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, thread};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A granted job.
pub(super) type Job = Box<dyn FnOnce() + Send>;

/// Where jobs wait for a builder: those that readers wait for first, then those that are only likely to be wanted;
/// first come, first served. The builders end when this is dropped.
#[derive(Debug)]
pub(super) struct Builders {
    queue: Arc<Queue>,
    /// Jobs built at once.
    usual: usize,
}

#[derive(Default)]
struct Queue {
    jobs: Mutex<Jobs>,
    changed: Condvar,
}

#[derive(Default)]
struct Jobs {
    wanted: VecDeque<Job>,
    likely: VecDeque<Job>,
    is_closed: bool,
    /// Builders there are, and how many there are to be.
    n: usize,
    wanted_n: usize,
}

impl Builders {
    /// Starts `usual` builders.
    pub(super) fn start(usual: usize) -> std::io::Result<Self> {
        let builders = Builders { queue: Arc::default(), usual };
        builders.set_extra(0)?;
        Ok(builders)
    }

    /// Has `n` more build than is usual, in the place of as many who hang in a system call. Who is too many then ends after
    /// its job.
    pub(super) fn set_extra(&self, n: usize) -> std::io::Result<()> {
        let mut jobs = self.queue.lock();
        jobs.wanted_n = self.usual + n;
        while jobs.n < jobs.wanted_n {
            let queue = Arc::clone(&self.queue);
            thread::Builder::new().name(format!("builder-{}", jobs.n)).spawn(move || {
                while let Some(job) = queue.take() {
                    // A builder lost to a panic would be missing for the rest of the mount.
                    if catch_unwind(AssertUnwindSafe(job)).is_err() {
                        tracing::error!("a job panicked while answering its readers; this is a bug");
                    }
                }
            })?;
            jobs.n += 1;
        }
        drop(jobs);
        self.queue.changed.notify_all();
        Ok(())
    }

    /// Queues a job for which readers wait.
    pub(super) fn submit(&self, job: Job) {
        self.queue.lock().wanted.push_back(job);
        self.queue.changed.notify_one();
    }

    /// Queues a job for which nobody waits yet.
    pub(super) fn submit_likely(&self, job: Job) {
        self.queue.lock().likely.push_back(job);
        self.queue.changed.notify_one();
    }
}

impl Drop for Builders {
    fn drop(&mut self) {
        self.queue.lock().is_closed = true;
        self.queue.changed.notify_all();
    }
}

impl Queue {
    /// The next job; `None` at the end, and for a builder who is too many.
    fn take(&self) -> Option<Job> {
        let mut jobs = self.lock();
        loop {
            if jobs.is_closed {
                return None;
            }
            if jobs.n > jobs.wanted_n {
                jobs.n -= 1;
                return None;
            }
            let next = jobs.wanted.pop_front();
            if let Some(job) = next.or_else(|| jobs.likely.pop_front()) {
                return Some(job);
            }
            jobs = self.changed.wait(jobs).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}
