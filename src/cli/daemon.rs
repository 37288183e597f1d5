//! Two processes for a background mount: the launcher, which waits and prints, and the daemon, which stays.
//!
//! The daemon is a fresh copy of the program, not a fork: no thread or lock of the launcher's comes along.
//! It keeps the launcher's stderr until it answers, so start-up errors need no translation. Its stdout is
//! a pipe to the launcher, with a line for every sign of progress and a last one with the report.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use anyhow::{Context, bail};
use rechunkfs::fuse::{mountpoint, unmount};
use rechunkfs::mounts;

use super::{FAILED, USAGE, output};

/// How long the launcher waits for a sign of progress.
const PATIENCE: Duration = Duration::from_secs(30);

const READY: &str = "ready ";

/// Starts the daemon and waits until its mount (at `point`, unless somebody else mounts) answers.
pub(crate) fn launch(point: Option<&Path>) -> anyhow::Result<ExitCode> {
    let mut arguments = std::env::args_os();
    let own_name = arguments.next().unwrap_or_default();
    // The path is gone if the program was replaced while running; then the kernel's link still leads to it.
    let program = std::env::current_exe().ok().filter(|path| path.is_file());
    let mut child = Command::new(program.unwrap_or_else(|| PathBuf::from("/proc/self/exe")))
        .arg0(own_name)
        .arg("--daemon-child")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("the background process cannot be started")?;
    let (send, lines) = mpsc::channel();
    let pipe = child.stdout.take().expect("stdout is piped");
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    let mut doing = "starting".to_owned();
    loop {
        match lines.recv_timeout(PATIENCE) {
            Ok(line) => match line.strip_prefix(READY) {
                Some(report) => {
                    output::text(&serde_json::from_str::<String>(report)?);
                    return Ok(ExitCode::SUCCESS);
                }
                // An empty line: at it still.
                None if line.is_empty() => {}
                None => doing = line,
            },
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let _ = child.kill();
                let _ = child.wait();
                clear_away(point);
                bail!("no progress for {} s while {doing}; gave up", PATIENCE.as_secs());
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => return died(&mut child, &doing),
        }
    }
}

/// A daemon that was killed may have mounted already.
fn clear_away(point: Option<&Path>) {
    let mount = point.and_then(|point| mounts::at(&mounts::resolve(point).ok()?).ok()?);
    if let Some(mount) = mount.filter(|mount| mount.is_ours() && mountpoint::is_stale(&mount.point)) {
        let _ = unmount::detach(&mount);
    }
}

fn died(child: &mut Child, doing: &str) -> anyhow::Result<ExitCode> {
    let status = child.wait()?;
    match status.code() {
        // It has said why.
        Some(code) if code == i32::from(FAILED) || code == i32::from(USAGE) => Ok(ExitCode::from(code as u8)),
        Some(code) => bail!("the background process ended (exit code {code}) while {doing}"),
        None => bail!("the background process was killed (signal {}) while {doing}", status.signal().unwrap_or(0)),
    }
}

/// The daemon's line to whoever waits for it; in the foreground there is nobody but the user.
#[derive(Clone)]
pub(crate) struct Progress {
    pipe: Option<Arc<Mutex<Option<File>>>>,
}

impl Progress {
    /// Nobody waits.
    pub(crate) fn silent() -> Self {
        Self { pipe: None }
    }

    /// Becomes a daemon: leaves the launcher's session, so that its Ctrl-C and its terminal's end are not ours.
    pub(crate) fn to_launcher() -> anyhow::Result<Self> {
        rustix::process::setsid()?;
        let pipe = File::from(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?);
        rustix::stdio::dup2_stdout(null()?)?;
        let progress = Self { pipe: Some(Arc::new(Mutex::new(Some(pipe)))) };
        progress.watch_work();
        Ok(progress)
    }

    /// What is being done now.
    pub(crate) fn doing(&self, what: &str) {
        tracing::debug!("{what}");
        // A launcher that is gone is noticed when it matters, in `ready`.
        let _ = self.say(what, false);
    }

    /// The mount answers: `report` is the launcher's to print, and stderr is let go of, or whoever reads the
    /// launcher's output would wait for us.
    pub(crate) fn ready(&self, report: &str) -> anyhow::Result<()> {
        if self.pipe.is_none() {
            output::text(report);
            return Ok(());
        }
        rustix::stdio::dup2_stderr(null()?)?;
        let _ = std::env::set_current_dir("/");
        let report = serde_json::to_string(report)?;
        self.say(&format!("{READY}{report}"), true).context("whoever asked for the mount is gone")
    }

    fn say(&self, line: &str, last: bool) -> std::io::Result<()> {
        let Some(pipe) = &self.pipe else {
            return Ok(());
        };
        let mut pipe = pipe.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = pipe.as_mut() else {
            return Ok(());
        };
        file.write_all(format!("{line}\n").as_bytes())?;
        if last {
            *pipe = None;
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.pipe.as_ref().is_none_or(|pipe| pipe.lock().unwrap_or_else(PoisonError::into_inner).is_none())
    }

    /// A large hierarchy may take minutes to read. As long as bytes are read or CPU is used, that is progress.
    fn watch_work(&self) {
        let progress = self.clone();
        std::thread::spawn(move || {
            let mut before = work_done();
            while !progress.is_over() {
                std::thread::sleep(Duration::from_secs(2));
                let now = work_done();
                // Looking costs some hundred bytes itself, and now and then a tick.
                if now.0 > before.0 + 8192 || now.1 > before.1 + 1 {
                    let _ = progress.say("", false);
                }
                before = now;
            }
        });
    }
}

fn null() -> std::io::Result<File> {
    File::options().read(true).write(true).open("/dev/null")
}

/// Bytes read, and clock ticks of CPU used, by this process so far.
fn work_done() -> (u64, u64) {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let read_bytes = io.lines().find_map(|line| line.strip_prefix("rchar: ")?.trim().parse().ok()).unwrap_or(0);
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Counted from behind the name, which may hold blanks: utime and stime are the 12th and 13th from there.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    (read_bytes, ticks)
}
