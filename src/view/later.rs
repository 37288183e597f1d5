//! Things to be done after a pause, on a thread of their own.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Something to be done.
pub(super) type Task = Box<dyn FnOnce() + Send>;

/// Where tasks wait. What still waits when this is dropped is dropped too.
#[derive(Debug)]
pub(super) struct Later {
    queue: Arc<Queue>,
}

#[derive(Default)]
struct Queue {
    tasks: Mutex<Tasks>,
    changed: Condvar,
}

#[derive(Default)]
struct Tasks {
    /// By time, and by order among those of the same time.
    waiting: BTreeMap<(Instant, u64), Task>,
    n: u64,
    is_closed: bool,
}

impl Later {
    pub(super) fn start() -> std::io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let taker = Arc::clone(&queue);
        std::thread::Builder::new().name("later".to_owned()).spawn(move || {
            while let Some(task) = taker.take() {
                if catch_unwind(AssertUnwindSafe(task)).is_err() {
                    tracing::error!("something put off panicked; this is a bug");
                }
            }
        })?;
        Ok(Later { queue })
    }

    /// Has `task` done after a pause.
    pub(super) fn after(&self, pause: Duration, task: Task) {
        let mut tasks = self.queue.lock();
        tasks.n += 1;
        let key = (Instant::now() + pause, tasks.n);
        tasks.waiting.insert(key, task);
        drop(tasks);
        self.queue.changed.notify_one();
    }
}

impl Drop for Later {
    fn drop(&mut self) {
        let mut tasks = self.queue.lock();
        tasks.is_closed = true;
        let dropped = std::mem::take(&mut tasks.waiting);
        drop(tasks);
        drop(dropped);
        self.queue.changed.notify_all();
    }
}

impl Queue {
    /// The next task, when its time has come; `None` at the end.
    fn take(&self) -> Option<Task> {
        let mut tasks = self.lock();
        loop {
            if tasks.is_closed {
                return None;
            }
            let wait = match tasks.waiting.first_entry() {
                Some(first) => match first.key().0.checked_duration_since(Instant::now()) {
                    Some(wait) if !wait.is_zero() => wait,
                    _ => return Some(first.remove()),
                },
                None => Duration::from_secs(3600),
            };
            tasks = self.changed.wait_timeout(tasks, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn tasks_are_done_in_the_order_of_their_times() {
        let later = Later::start().expect("threads can be started");
        let (send, receive) = mpsc::channel();
        let began = Instant::now();
        for (pause, name) in [(60, "last"), (5, "first"), (30, "second")] {
            let send = send.clone();
            later.after(Duration::from_millis(pause), Box::new(move || send.send(name).expect("it is waited for")));
        }
        let done = || receive.recv_timeout(Duration::from_secs(20)).expect("in time");
        assert_eq!([done(), done(), done()], ["first", "second", "last"]);
        assert!(began.elapsed() >= Duration::from_millis(60));
    }
}
