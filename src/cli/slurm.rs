//! The end of a Slurm step, for what runs in it.
//!
//! A step ends with its task, the process that Slurm started. Others in it are killed when their time comes, which leaves
//! a mount behind; so we go with the task, while there is time to unmount.

use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, getpid, getppid, kill_process, pidfd_open};

/// From the first SIGTERM to the second, which is not to be refused. Slurm's own is 30 s (KillWait).
const PATIENCE: Duration = Duration::from_secs(10);

/// If this process runs in a Slurm step, below the step's task, the end of that task is a SIGTERM.
pub(crate) fn terminate_with_step() {
    let task = std::env::var("SLURM_TASK_PID").ok().and_then(|number| Pid::from_raw(number.parse().ok()?));
    // Without such a descriptor (before Linux 5.3) Slurm has to do without our help.
    let Some((task, end)) = task.and_then(|task| Some((task, pidfd_open(task, PidfdFlags::empty()).ok()?))) else {
        return;
    };
    // The variable may come from another host, container or time: then the number is nobody of ours. An ancestor has
    // had it since before we were, so the descriptor is the ancestor's.
    if !is_ancestor(task) {
        return;
    }
    std::thread::spawn(move || {
        while poll(&mut [PollFd::new(&end, PollFlags::IN)], None).is_err() {}
        for _ in 0..2 {
            let _ = kill_process(getpid(), Signal::TERM);
            std::thread::sleep(PATIENCE);
        }
    });
}

fn is_ancestor(pid: Pid) -> bool {
    let mut ancestors = std::iter::successors(getppid(), |pid| parent(*pid));
    ancestors.any(|ancestor| ancestor == pid)
}

fn parent(pid: Pid) -> Option<Pid> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Counted from behind the name, which may hold blanks: state, then parent.
    Pid::from_raw(stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?)
}
