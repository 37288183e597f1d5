//! What a signal does, from start-up to the end.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Signal, getpid, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};

/// Called with the signal and whether it is the first.
type Action = Box<dyn FnMut(i32, bool) + Send>;

/// SIGINT, SIGTERM and SIGHUP, and SIGUSR1 where it is asked for, caught for the rest of the process's life.
///
/// Until [`Signals::arm`] a signal ends the process at once: there is nothing to clear up yet.
pub struct Signals {
    action: Arc<Mutex<Option<Action>>>,
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signals").finish_non_exhaustive()
    }
}

impl Signals {
    /// Starts to listen.
    pub fn install() -> io::Result<Self> {
        Self::listen(&[SIGINT, SIGTERM, SIGHUP])
    }

    /// The same, for work that batch systems end by SIGUSR1 some time before they kill it.
    pub fn install_for_batch() -> io::Result<Self> {
        Self::listen(&[SIGINT, SIGTERM, SIGHUP, SIGUSR1])
    }

    fn listen(signals: &[i32]) -> io::Result<Self> {
        // Who starts us under nohup wants us to outlive the terminal.
        let wanted = signals.iter().filter(|signal| **signal != SIGHUP || !is_ignored(SIGHUP));
        let mut caught = signal_hook::iterator::Signals::new(wanted)?;
        let action: Arc<Mutex<Option<Action>>> = Arc::default();
        let shared = Arc::clone(&action);
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let mut first = true;
            for signal in caught.forever() {
                let act = AssertUnwindSafe(|| match lock(&shared).as_mut() {
                    Some(action) => action(signal, first),
                    None => std::process::exit(exit_code(signal)),
                });
                // The second signal must find somebody who listens.
                let _ = catch_unwind(act);
                first = false;
            }
        })?;
        Ok(Self { action })
    }

    /// Runs `mount` with signals held back, then gives them something to do: between a mount and the
    /// knowledge of it no signal may end us, or the mount would be left behind.
    pub fn arm<T, E>(&self, mount: impl FnOnce() -> Result<T, E>, action: impl FnOnce(&T) -> Action) -> Result<T, E> {
        let mut slot = lock(&self.action);
        let mounted = mount()?;
        *slot = Some(action(&mounted));
        Ok(mounted)
    }
}

fn lock(action: &Mutex<Option<Action>>) -> MutexGuard<'_, Option<Action>> {
    action.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// From here on the end of standard input is a SIGTERM. Whoever started this process and holds the other end of the pipe
/// need not clear up after us: its own end, whatever way it comes, is ours.
pub fn terminate_at_eof() {
    std::thread::spawn(|| {
        // A pipe that cannot be read has nobody at its other end either.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        let _ = kill_process(getpid(), Signal::TERM);
    });
}

/// As a shell counts: 128 and the signal.
pub fn exit_code(signal: i32) -> i32 {
    128 + signal
}
