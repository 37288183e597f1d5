//! The threads that take granted jobs, one after the other.
//!
//! Jobs do not run as tasks of the decoding pool: a pool thread that waits for the rest of its tile would take up
//! the next job meanwhile, and that one the next, and the first reader would wait for all of them. Two builders keep the
//! pool busy while one of them answers its readers, and no reader waits behind more than one other job.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

/// Jobs built at once.
const N_BUILDERS: usize = 2;

/// A granted job.
pub(super) type Job = Box<dyn FnOnce() + Send>;

/// Where granted jobs wait for a builder, first come, first served. The builders end when this is dropped.
#[derive(Debug)]
pub(super) struct Builders {
    queue: mpsc::Sender<Job>,
}

impl Builders {
    /// Starts the builders.
    pub(super) fn start() -> std::io::Result<Self> {
        let (queue, jobs) = mpsc::channel::<Job>();
        let jobs = Arc::new(Mutex::new(jobs));
        for nth in 0..N_BUILDERS {
            let jobs = Arc::clone(&jobs);
            let take = move || jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            std::thread::Builder::new().name(format!("builder-{nth}")).spawn(move || {
                while let Ok(job) = take() {
                    // A builder lost to a panic would be missing for the rest of the mount.
                    if catch_unwind(AssertUnwindSafe(job)).is_err() {
                        tracing::error!("a job panicked while answering its readers; this is a bug");
                    }
                }
            })?;
        }
        Ok(Builders { queue })
    }

    /// Queues a job.
    pub(super) fn submit(&self, job: Job) {
        // The builders outlive this sender: they end when it is gone.
        let _ = self.queue.send(job);
    }
}
