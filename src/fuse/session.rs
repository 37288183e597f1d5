//! Serving a mount, from the first request to the last.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use fuser::{Config, Filesystem, SessionACL};

use super::{device, unmount};
use crate::mounts::Mount;

/// How long readers may go on once we were asked to end. Whoever asks expects us gone within 5 s.
const DRAIN_TIME: Duration = Duration::from_millis(4_000);

/// A reply from a file system in memory takes well under a millisecond; one that reads a slow source's
/// directory may take long. Past this the mount is taken to be dead.
const ANSWER_TIME: Duration = Duration::from_secs(20);

/// How requests are taken.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// CPUs of this job.
    pub threads: usize,
    /// Let root in besides the owner. The kernel knows no such thing, so requests are filtered.
    pub root_and_owner_only: bool,
}

/// A mount being served by threads of its own.
#[derive(Debug)]
pub struct Session {
    mount: Option<Mount>,
    ended: mpsc::Receiver<io::Result<()>>,
}

impl Session {
    /// Shakes hands with the kernel and starts serving. `mount` is None where somebody else mounted.
    pub fn start<F: Filesystem + Send>(
        file_system: F,
        device: OwnedFd,
        mount: Option<Mount>,
        options: Options,
    ) -> io::Result<Self> {
        let mut config = Config::default();
        // Requests for what is not cached are parked, but small files of the source are read in place:
        // on a slow source that occupies a thread.
        config.n_threads = Some(options.threads.clamp(4, 16));
        // Who gets in is the kernel's to decide (allow_other or not). The filter compares with the user who
        // serves, which is wrong for a descriptor that another user mounted.
        config.acl = if options.root_and_owner_only { SessionACL::RootAndOwner } else { SessionACL::All };
        let acl = config.acl;
        let session = fuser::Session::from_fd(file_system, device, acl, config)?;
        let (send, ended) = mpsc::channel();
        thread::Builder::new().name("session".to_owned()).spawn(move || {
            // Nobody listening means that the process is ending already.
            let _ = send.send(session.run());
        })?;
        Ok(Self { mount, ended })
    }

    /// Waits until the mount answers a first question.
    pub fn await_answer(&self) -> io::Result<()> {
        let Some(mount) = &self.mount else {
            return Ok(());
        };
        let point = mount.point.clone();
        let (send, answer) = mpsc::channel();
        // On a thread of its own: a question that is never answered cannot be taken back.
        thread::spawn(move || send.send(std::fs::read_dir(point).map(|_| ())));
        answer.recv_timeout(ANSWER_TIME).unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
    }

    /// Waits for the end: an unmount by anybody, or a failure.
    ///
    /// fuser notices neither a mount that was aborted nor workers that died, so a mount which is still
    /// there is taken down: without us it could only give errors.
    pub fn wait(self) -> io::Result<()> {
        let result = self.ended.recv().unwrap_or_else(|_| Err(io::Error::other("the session thread is gone")));
        let Some(mount) = &self.mount else {
            return result;
        };
        let still_there = matches!(crate::mounts::at(&mount.point), Ok(Some(now)) if now.id == mount.id);
        if !still_there {
            if let Err(cause) = result {
                tracing::warn!("after unmounting: {cause}");
            }
            return Ok(());
        }
        if let Err(cause) = unmount::detach(mount) {
            tracing::error!("{cause}");
        }
        result.and(Err(io::Error::other("the connection was aborted")))
    }
}

/// Begins the end: new readers find no mount, those at work have a few seconds, then `last_words` are
/// said and the process ends.
pub fn stop(mount: Option<&Mount>, last_words: impl FnOnce() + Send + 'static) {
    let Some(mount) = mount else {
        // Mounted by somebody else, who alone can unmount. Ending the process ends the connection.
        last_words();
        end(0);
    };
    if let Err(cause) = unmount::detach(mount) {
        tracing::error!("{cause}");
    }
    thread::spawn(move || {
        thread::sleep(DRAIN_TIME);
        tracing::warn!("files were still open {} s after unmounting: their readers get errors", DRAIN_TIME.as_secs());
        last_words();
        end(0);
    });
}

/// Ends the process, and with it the connection, also where a thread is in a system call that does not return.
pub fn end(exit_code: i32) -> ! {
    device::let_go();
    std::process::exit(exit_code)
}
