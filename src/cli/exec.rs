//! `exec`: a view for the length of one command.

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use rechunkfs::fuse::machine::Machine;
use rechunkfs::fuse::signals::Signals;
use rechunkfs::fuse::{mountpoint, session};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, waitpid};

use super::config::{Access, ExecConfig};
use super::daemon::Progress;
use super::open::open_view;
use super::place::{self, Place, Serving};
use super::private_folder::PrivateFolder;
use super::{cache_dir, logging, output, slurm};

/// A signal that ends all processes of a command does not end them all at the same moment.
const LEAVE_TIME: Duration = Duration::from_millis(500);

/// Runs `exec`.
pub(crate) fn run(config: &ExecConfig) -> anyhow::Result<ExitCode> {
    logging::start(&config.view.log, None)?;
    Machine::look().check(false)?;
    let signals = Signals::install()?;
    slurm::terminate_with_step();
    let (view, _) = open_view(&config.view, config.view.cache_dir.clone(), &Progress::silent())?;
    let folder = PrivateFolder::new()?;
    let name = config.view.source.file_name().unwrap_or(OsStr::new("view"));
    let checked = mountpoint::check(&folder.path.join(name), &config.view.source, false)?;
    cache_dir::refuse_within(config.view.cache_dir.as_ref(), checked.path())?;
    // 0 until the command runs; then its process id, for signals.
    let running = Arc::new(AtomicI32::new(0));
    let place = signals.arm(
        || Place::at(checked, &config.view.source, Access::Owner),
        |_| Box::new(on_signal(Arc::clone(&running))),
    )?;
    let options = session::Options { threads: config.view.threads, root_and_owner_only: false };
    let Serving { session: _session, mount, note: _ } = place.serve(Arc::clone(&view), options)?;
    let mount = mount.context("a mount of our own has an entry in the mount table")?;
    // What the command leaves running is then ours to know of.
    set_child_subreaper(Some(getpid())).context("processes that are left cannot be told")?;
    let result = run_command(&config.command, &mount.point, &running);
    // What the command has left running may finish with the files that it has open, and finds nothing else.
    let is_left_to_others = processes_are_left();
    place::clear_away(Some(&mount));
    if is_left_to_others {
        let view = mount.point.display();
        match folder.close(&mount.point) {
            Ok(()) => output::warning(&format!("the command has left processes running; {view} is closed to them")),
            Err(cause) => output::warning(&format!("the command has left processes running; {view}: {cause}")),
        }
    }
    view.finish(cache_dir::PATIENCE);
    result
}

fn run_command(command: &[OsString], view: &Path, running: &AtomicI32) -> anyhow::Result<ExitCode> {
    let words: Vec<OsString> = command.iter().map(|word| fill_in(word, view)).collect();
    let (program, arguments) = words.split_first().context("no command given")?;
    let child = Command::new(program).args(arguments).env("RECHUNKFS_VIEW", view).spawn();
    let child = match child {
        Ok(child) => child,
        Err(cause) => {
            output::error(&format!("{}: {cause}", program.display()));
            // As shells have it: not found, or found and not to be run.
            return Ok(ExitCode::from(if cause.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 }));
        }
    };
    let pid = child.id().cast_signed();
    let earlier = running.swap(pid, Ordering::SeqCst);
    if earlier < 0 {
        // A signal came while there was nobody to pass it on to.
        send(pid, -earlier);
    }
    let status = wait_for(pid);
    // From here the number may be somebody else's.
    running.store(0, Ordering::SeqCst);
    Ok(ExitCode::from(exit_code(status?)))
}

/// Waits for one child, and collects those others that it had left to us.
fn wait_for(pid: i32) -> std::io::Result<ExitStatus> {
    loop {
        match waitpid(None, WaitOptions::empty()) {
            Ok(Some((ended, status))) if ended.as_raw_pid() == pid => return Ok(ExitStatus::from_raw(status.as_raw())),
            Ok(_) | Err(Errno::INTR) => {}
            Err(cause) => return Err(cause.into()),
        }
    }
}

fn processes_are_left() -> bool {
    let end = Instant::now() + LEAVE_TIME;
    loop {
        match waitpid(None, WaitOptions::NOHANG) {
            Ok(None) if Instant::now() > end => return true,
            Ok(None) => std::thread::sleep(Duration::from_millis(5)),
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(1)
}

/// Signals are the command's: when it ends, so do we. The second one is not to be refused.
fn on_signal(running: Arc<AtomicI32>) -> impl FnMut(i32, bool) + Send + 'static {
    move |signal, first| match running.load(Ordering::SeqCst) {
        0 if running.compare_exchange(0, -signal, Ordering::SeqCst, Ordering::SeqCst).is_ok() => {}
        pid if pid <= 0 => {}
        // A terminal's Ctrl-C has gone to the command, too: it should not come twice.
        _ if first && signal == libc::SIGINT && std::io::stdin().is_terminal() => {}
        pid if first => send(pid, signal),
        pid => send(pid, libc::SIGKILL),
    }
}

fn send(pid: i32, signal: i32) {
    if let (Some(pid), Some(signal)) = (Pid::from_raw(pid), Signal::from_named_raw(signal)) {
        let _ = kill_process(pid, signal);
    }
}

/// Puts the view's path in the place of every `{}`.
fn fill_in(word: &OsStr, view: &Path) -> OsString {
    let mut filled = Vec::new();
    let mut rest = word.as_bytes();
    while let Some(at) = rest.windows(2).position(|two| two == b"{}") {
        filled.extend_from_slice(&rest[..at]);
        filled.extend_from_slice(view.as_os_str().as_bytes());
        rest = &rest[at + 2..];
    }
    filled.extend_from_slice(rest);
    OsString::from_vec(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_stand_for_the_view_wherever_they_are() {
        assert_eq!(fill_in(OsStr::new("--in={}/a,{}"), Path::new("/v")), "--in=/v/a,/v");
        assert_eq!(fill_in(OsStr::new("plain{"), Path::new("/v")), "plain{");
    }
}
