//! On machines where nobody gives us rights: user namespaces, descriptors, and steps of a batch system that end.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

use super::is_root;
use crate::support::*;

const PROGRAM: &str = env!("CARGO_BIN_EXE_rechunkfs");
/// The user `nobody`, who has no rights.
const NOBODY: u32 = 65534;

fn give_to_nobody(store: &Store) {
    finish(Command::new("chown").args(["-R", "65534"]).arg(store.folder.path())).assert_success();
}

/// `exec` of our store with `script`, by a user without rights who is root of a user namespace, on a machine that opens
/// /dev/fuse to users and has no fusermount3. As root we can make that machine: a mount namespace with a device of its own.
fn exec_in_a_user_namespace(store: &Store, script: &str) -> Command {
    let tools = store.path("tools");
    fs::create_dir(&tools).unwrap();
    for tool in ["sh", "cat", "cp", "sleep"] {
        std::os::unix::fs::symlink(format!("/bin/{tool}"), tools.join(tool)).unwrap();
    }
    give_to_nobody(store);
    let machine = "mkdir device && mount -t tmpfs none device && mknod device/fuse c 10 229 && chmod 666 device/fuse && \
                   mount --bind device/fuse /dev/fuse && \
                   exec setpriv --reuid 65534 --regid 65534 --clear-groups unshare -Umr env PATH=\"$PWD/tools\" \
                   TMPDIR=\"$PWD\" \"$0\" exec epochs.zarr --along epoch -- sh -c \"$1\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", machine, PROGRAM, script]).current_dir(store.folder.path());
    command
}

/// The processes that see something of `store` mounted, in whatever mount namespace.
fn who_sees_a_mount(store: &Store) -> Vec<u32> {
    let folder = store.path("rechunkfs-").display().to_string();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let sees =
        |pid: &u32| fs::read_to_string(format!("/proc/{pid}/mountinfo")).is_ok_and(|table| table.contains(&folder));
    pids.filter(sees).collect()
}

#[test]
fn exec_in_a_user_namespace_needs_no_helper() {
    if cannot_mount() || !is_root() {
        return;
    }
    let store = Store::new();
    let script = "cat /proc/self/uid_map {}/lightcurves/zarr.json && cp {}/lightcurves/c.0.0 copied";
    let said = finish(&mut exec_in_a_user_namespace(&store, script)).assert_success();
    let users: Vec<&str> = said.stdout.split_whitespace().take(3).collect();
    assert_eq!(users, ["0", "65534", "1"], "not in a namespace of nobody's: {said:?}");
    assert!(said.stdout.contains("chunk_grid"), "{said:?}");
    let first: Vec<u8> = (0..N_EPOCHS - 1).flat_map(|epoch_idx| value(0, epoch_idx).to_le_bytes()).collect();
    assert!(fs::read(store.path("copied")).unwrap().starts_with(&first));
}

#[test]
fn in_a_user_namespace_nothing_stays_even_if_all_is_killed() {
    if cannot_mount() || !is_root() {
        return;
    }
    let store = Store::new();
    let mut command = exec_in_a_user_namespace(&store, "cat {}/zarr.json > seen; exec sleep 600");
    let child = Ended(command.process_group(0).stdout(Stdio::null()).spawn().unwrap());
    wait_until("the command has read", || fs::metadata(store.path("seen")).is_ok_and(|seen| seen.len() > 0));
    assert_eq!(who_sees_a_mount(&store).len(), 2, "the program and its command");
    kill_process_group(Pid::from_child(&child.0), Signal::KILL).unwrap();
    wait_until("nobody sees the mount", || who_sees_a_mount(&store).is_empty());
}

#[test]
fn a_descriptor_from_a_mounter_with_rights_serves_a_user_without() {
    if cannot_mount() || !is_root() {
        return;
    }
    let store = Store::new();
    give_to_nobody(&store);
    fs::create_dir(store.point()).unwrap();
    // As Apptainer's --fusemount does: root opens and mounts for the user, whose program gets the descriptor alone.
    let script = "exec 9<>/dev/fuse && \
                  mount -i -t fuse.rechunkfs -o fd=9,rootmode=40000,user_id=65534,group_id=65534 handed-over objects.zarr && \
                  exec setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs \
                  \"$0\" mount epochs.zarr /dev/fd/9 --along epoch --foreground";
    let mut shell = Command::new("sh");
    shell.args(["-c", script, PROGRAM]).current_dir(store.folder.path()).env("XDG_STATE_HOME", store.path("state"));
    let guard = Mount { store: &store };
    let mut server = Ended(shell.stdout(Stdio::null()).spawn().unwrap());
    let mut listed = Command::new("cat");
    listed.arg(store.point().join("lightcurves/zarr.json")).uid(NOBODY).gid(NOBODY);
    wait_until("the mount answers its user", || finish(&mut listed).stdout.contains("chunk_grid"));
    let owner = fs::read_to_string(format!("/proc/{}/status", server.0.id())).unwrap();
    assert!(
        owner.contains("Uid:\t65534\t65534\t65534\t65534") && owner.contains("CapEff:\t0000000000000000"),
        "{owner}"
    );
    finish(Command::new("umount").arg(store.point())).assert_success();
    assert_eq!(server.wait(), 0);
    drop(guard);
}

/// A batch script with `exec` below it, in a process group of its own, and the view's path.
fn step(store: &Store, environment: &str) -> (Ended, String) {
    // The command has a child of its own, and neither is the group's leader.
    let script = format!(
        "{environment} \"$0\" exec epochs.zarr --along epoch -- \
         sh -c 'sleep 600 & echo $! > child; echo $$ > command; echo {{}} > view; wait'; exit 7"
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, PROGRAM]).current_dir(store.folder.path()).env("TMPDIR", store.folder.path());
    let shell = Ended(shell.env_remove("SLURM_TASK_PID").process_group(0).spawn().unwrap());
    let mut view = String::new();
    wait_until("the command runs", || {
        view = fs::read_to_string(store.path("view")).unwrap_or_default().trim().to_owned();
        !view.is_empty()
    });
    assert!(is_mounted(view.as_ref()));
    (shell, view)
}

fn number_in(store: &Store, file: &str) -> u32 {
    fs::read_to_string(store.path(file)).unwrap().trim().parse().unwrap()
}

#[test]
fn exec_ends_with_its_step_when_all_of_it_is_told_to() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let (shell, view) = step(&store, "");
    kill_process_group(Pid::from_child(&shell.0), Signal::TERM).unwrap();
    wait_until("nothing is mounted", || !is_mounted(view.as_ref()));
    wait_until("no process is left", || !["child", "command"].iter().any(|file| runs(number_in(&store, file))));
    wait_until("no folder is left", || fs::symlink_metadata(&view).is_err());
}

#[test]
fn exec_ends_with_the_task_of_its_slurm_step() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let (mut shell, view) = step(&store, "SLURM_TASK_PID=$$");
    // Nobody tells the others: Slurm would kill them now.
    shell.0.kill().unwrap();
    shell.0.wait().unwrap();
    wait_until("nothing is mounted", || !is_mounted(view.as_ref()));
    wait_until("the command has ended", || !runs(number_in(&store, "command")));
    signal(number_in(&store, "child"), Signal::KILL);
}

#[test]
fn exec_does_not_end_with_any_other_process() {
    if cannot_mount() {
        return;
    }
    // Not with its parent where that is no step's task, and not with a number that is nobody of its own.
    let mut other = Ended(Command::new("sleep").arg("600").spawn().unwrap());
    for environment in [String::new(), format!("SLURM_TASK_PID={}", other.0.id())] {
        let store = Store::new();
        let (mut shell, view) = step(&store, &environment);
        let _ = other.0.kill();
        shell.0.kill().unwrap();
        shell.0.wait().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert!(is_mounted(view.as_ref()) && runs(number_in(&store, "command")));
        signal(number_in(&store, "child"), Signal::KILL);
        wait_until("nothing is mounted", || !is_mounted(view.as_ref()));
    }
    other.wait();
}

#[test]
fn processes_that_a_command_leaves_find_an_error_where_the_view_was() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let script = "sleep 600 > /dev/null 2>&1 & echo $! > child; echo {} > view";
    let arguments = ["exec", "epochs.zarr", "--along", "epoch", "--", "sh", "-c", script];
    let said = finish(store.rechunkfs(&arguments).env("TMPDIR", store.folder.path())).assert_success();
    signal(number_in(&store, "child"), Signal::KILL);
    let view = fs::read_to_string(store.path("view")).unwrap().trim().to_owned();
    assert!(said.stderr.contains("left processes running") && said.stderr.contains(&view), "{said:?}");
    assert!(!is_mounted(view.as_ref()));
    // Also to root, whom no mode keeps out; and not one that readers take for a chunk that is missing.
    let error = fs::read(format!("{view}/lightcurves/c.0.0")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ELOOP), "{error}");
}

#[test]
fn a_hangup_that_was_ignored_from_the_start_ends_nothing() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let script = "trap '' HUP; exec \"$0\" mount epochs.zarr objects.zarr --along epoch --foreground --quiet";
    let mut shell = Command::new("sh");
    shell.args(["-c", script, PROGRAM]).current_dir(store.folder.path()).env("XDG_STATE_HOME", store.path("state"));
    let guard = Mount { store: &store };
    let mut server = Ended(shell.stdout(Stdio::null()).spawn().unwrap());
    wait_until("the mount answers", || store.point().join("zarr.json").is_file());
    signal(server.0.id(), Signal::HUP);
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(store.point().join("zarr.json").is_file());
    signal(server.0.id(), Signal::TERM);
    assert_eq!(server.wait(), 0);
    drop(guard);
}

#[test]
fn a_mount_until_eof_goes_with_the_program_that_holds_its_stdin() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let arguments = ["mount", "epochs.zarr", "objects.zarr", "--along", "epoch", "--until-eof", "--json"];
    let mut command = store.rechunkfs(&arguments);
    let guard = Mount { store: &store };
    let mut server = Ended(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    let stdout = server.0.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
    let result: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(result["pid"], server.0.id());
    assert!(fs::metadata(result["log"].as_str().unwrap()).is_ok(), "it logs as a mount in the background does");
    assert!(store.point().join("zarr.json").is_file());
    drop(server.0.stdin.take());
    assert_eq!(server.wait(), 0);
    assert!(!is_mounted(&store.point()));
    drop(guard);
}
