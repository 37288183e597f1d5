//! From a mount to its end: every way in, every way out.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::is_root;
use crate::support::*;

fn mode_underneath(store: &Store) -> u32 {
    assert!(!is_mounted(&store.point()));
    fs::symlink_metadata(store.point()).unwrap().mode() & 0o7777
}

#[test]
fn mount_returns_when_the_mount_answers_and_unmount_when_the_daemon_is_gone() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let mounted = store.run(&["mount", "epochs.zarr", "objects.zarr", "--along", "epoch"]).assert_success();
    let mount = Mount { store: &store };
    assert!(mounted.stdout.contains("lightcurves"), "{mounted:?}");
    assert!(mounted.stdout.contains("rechunkfs unmount"), "{mounted:?}");
    assert_eq!(mounted.stderr.matches("mode 000").count(), 1, "{mounted:?}");
    assert!(store.point().join("zarr.json").is_file());
    let pid = mount.pid();
    mount.unmount(&[]).assert_success();
    assert!(!is_mounted(&store.point()) && !runs(pid));
    assert_eq!(mode_underneath(&store), 0);
    mount.unmount(&[]).assert_refused(1, &["not mounted"]);
}

#[test]
fn a_closed_directory_left_by_an_earlier_run_is_mounted_again_without_a_word() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    store.mount(&[]).unmount(&[]).assert_success();
    let again = store.run(&["mount", "epochs.zarr", "objects.zarr", "--along", "epoch"]).assert_success();
    let mount = Mount { store: &store };
    assert_eq!(again.stderr, "");
    mount.unmount(&[]).assert_success();
}

#[test]
fn a_mounted_place_is_refused_and_left_alone() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let mount = store.mount(&[]);
    let second = store.run(&["mount", "epochs.zarr", "objects.zarr", "--along", "epoch"]);
    second.assert_refused(1, &["mounted already", "rechunkfs unmount"]);
    assert!(runs(mount.pid()));
}

#[test]
fn json_gives_what_a_script_needs() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let arguments = ["mount", "epochs.zarr", "objects.zarr", "--along", "epoch", "--json"];
    let mounted = store.run(&arguments).assert_success();
    let mount = Mount { store: &store };
    let result: serde_json::Value = serde_json::from_str(&mounted.stdout).unwrap();
    assert_eq!(result["rechunkfs"], "mount");
    assert_eq!(result["mountpoint"], store.point().to_str().unwrap());
    assert_eq!(result["rechunked"][0]["path"], "lightcurves");
    assert_eq!(result["passed"][0]["path"], "objid");
    assert_eq!(result["pid"], mount.pid());
    let log = fs::read_to_string(result["log"].as_str().unwrap()).unwrap();
    assert!(log.contains("serving"), "{log}");
}

#[test]
fn the_log_is_json_where_that_is_asked_for() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let log = store.path("log.json");
    store.mount(&["--log-format", "json", "--log-file", log.to_str().unwrap()]).unmount(&[]).assert_success();
    let text = fs::read_to_string(&log).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["fields"]["message"].as_str().unwrap().starts_with("serving")), "{text}");
}

#[test]
fn each_signal_unmounts_and_ends_the_process_in_time() {
    if cannot_mount() {
        return;
    }
    for signal_number in [Signal::INT, Signal::TERM, Signal::HUP] {
        let store = Store::new();
        let mount = store.mount(&[]);
        let pid = mount.pid();
        let start = Instant::now();
        signal(pid, signal_number);
        wait_until("the daemon ends", || !runs(pid));
        assert!(start.elapsed() < Duration::from_secs(5));
        assert_eq!(mode_underneath(&store), 0);
    }
}

#[test]
fn a_reader_may_finish_after_a_signal_but_not_hold_the_process_up() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let mount = store.mount(&[]);
    let pid = mount.pid();
    let mut held = File::open(store.point().join("zarr.json")).unwrap();
    let start = Instant::now();
    signal(pid, Signal::TERM);
    wait_until("the mount is gone", || !is_mounted(&store.point()));
    let mut text = String::new();
    held.read_to_string(&mut text).unwrap();
    assert!(text.contains("zarr_format"));
    wait_until("the daemon ends", || !runs(pid));
    assert!(start.elapsed() < Duration::from_millis(5_500), "{:?}", start.elapsed());
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let mut daemon = foreground(&store);
    let _held = File::open(store.point().join("zarr.json")).unwrap();
    signal(daemon.0.id(), Signal::TERM);
    wait_until("the mount is gone", || !is_mounted(&store.point()));
    let start = Instant::now();
    signal(daemon.0.id(), Signal::TERM);
    assert_eq!(daemon.wait(), 128 + 15);
    assert!(start.elapsed() < Duration::from_secs(2));
}

fn foreground(store: &Store) -> Ended {
    let arguments = ["mount", "epochs.zarr", "objects.zarr", "--along", "epoch", "--foreground"];
    let child = store.rechunkfs(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let child = Ended(child);
    wait_until("the mount answers", || store.point().join("zarr.json").is_file());
    child
}

#[test]
fn a_foreground_mount_ends_with_0_on_ctrl_c_and_when_others_unmount() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let mut daemon = foreground(&store);
    signal(daemon.0.id(), Signal::INT);
    assert_eq!(daemon.wait(), 0);
    let ways: &[&[&str]] = if is_root() { &[&["umount"], &["fusermount3", "-u"]] } else { &[&["fusermount3", "-u"]] };
    for way in ways {
        let mut daemon = foreground(&store);
        finish(Command::new(way[0]).args(&way[1..]).arg(store.point())).assert_success();
        assert_eq!(daemon.wait(), 0, "after {way:?}");
        assert_eq!(mode_underneath(&store), 0);
    }
}

#[test]
fn a_busy_mount_stays_and_names_who_holds_it() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let mount = store.mount(&[]);
    let pid = mount.pid();
    let held = File::open(store.point().join("zarr.json")).unwrap();
    let refused = mount.unmount(&[]);
    let own_id = format!("(process {})", std::process::id());
    refused.assert_refused(1, &["in use", &own_id, "objects.zarr/zarr.json", "--lazy"]);
    assert!(!refused.stderr.contains(&pid.to_string()), "the daemon counts itself: {refused:?}");
    mount.unmount(&["--lazy"]).assert_success();
    assert!(!is_mounted(&store.point()) && runs(pid), "a detached mount serves who has files open");
    drop(held);
    wait_until("the daemon ends", || !runs(pid));
}

#[test]
fn unmount_all_and_status_know_every_mount() {
    if cannot_mount() {
        return;
    }
    // Alone in a mount namespace, or other tests' mounts would go, too.
    if !is_root() {
        return eprintln!("passed over: only root has a mount namespace to itself");
    }
    let store = Store::new();
    let script = "\"$0\" mount epochs.zarr a --along epoch -q >/dev/null && \"$0\" mount epochs.zarr b --along epoch -q \
                  >/dev/null && \"$0\" status --json && \"$0\" unmount --all && \"$0\" status";
    let mut unshare = Command::new("unshare");
    unshare.args(["-m", "sh", "-c", script, env!("CARGO_BIN_EXE_rechunkfs")]).current_dir(store.folder.path());
    let done = finish(unshare.env("XDG_STATE_HOME", store.path("state"))).assert_success();
    for point in ["a", "b"] {
        let path = store.path(point).display().to_string();
        // Once by `status`, once by `unmount`, and not by the `status` after it.
        assert_eq!(done.stdout.matches(&path).count(), 2, "{done:?}");
    }
}

#[test]
fn a_stale_mount_is_named_and_cleared() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let mount = store.mount(&[]);
    let arguments = ["mount", "epochs.zarr", "objects.zarr", "--along", "epoch"];
    let kill = || {
        let pid = mount.pid();
        signal(pid, Signal::KILL);
        wait_until("the daemon is dead", || !runs(pid));
        wait_until("the mount is stale", || rechunkfs::fuse::mountpoint::is_stale(&store.point()));
    };
    kill();
    store.run(&arguments).assert_refused(1, &["stale", "rechunkfs unmount --lazy", "--replace-stale"]);
    let status = store.run(&["status", "objects.zarr"]).assert_success();
    assert!(status.stdout.contains("stale"), "{status:?}");
    mount.unmount(&["--lazy"]).assert_success();
    store.run(&arguments).assert_success();
    kill();
    store.run(&[&arguments[..], &["--replace-stale"]].concat()).assert_success();
    assert!(store.point().join("zarr.json").is_file());
}

#[test]
fn status_does_not_hang_on_a_daemon_that_does() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let mount = store.mount(&[]);
    let pid = mount.pid();
    signal(pid, Signal::STOP);
    // Its threads stop one by one, some after this one goes on.
    wait_until("all threads are stopped", || {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
        tasks.flatten().all(|task| {
            let stat = fs::read_to_string(task.path().join("stat")).expect("stopped threads do not end");
            stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T'))
        })
    });
    let status = store.run(&["status", "objects.zarr"]);
    signal(pid, Signal::CONT);
    assert!(status.assert_success().stdout.contains("no answer"));
}

#[test]
fn a_late_reader_gets_an_error_where_nothing_is_mounted() {
    if cannot_mount() || !is_root() {
        return;
    }
    let store = Store::new();
    fs::set_permissions(store.folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    store.mount(&[]).unmount(&[]).assert_success();
    let listed = finish(Command::new("ls").arg(store.point()).uid(65534));
    assert!(listed.stderr.contains("Permission denied"), "{listed:?}");
}

#[test]
fn a_user_who_is_not_root_mounts_through_the_helper() {
    if cannot_mount() || !is_root() {
        return;
    }
    let store = Store::new();
    finish(Command::new("chown").arg("-R").arg("65534").arg(store.folder.path())).assert_success();
    let as_nobody = |arguments: &[&str]| finish(store.rechunkfs(arguments).uid(65534).gid(65534));
    let mount = ["mount", "epochs.zarr", "objects.zarr", "--along", "epoch"];
    let guard = Mount { store: &store };
    for round in 0..2 {
        let mounted = as_nobody(&mount);
        if mounted.stderr.contains("Permission denied") && round == 0 {
            return eprintln!("passed over: this machine keeps its FUSE device from users: {mounted:?}");
        }
        mounted.assert_success();
        let listed = finish(Command::new("ls").arg(store.point()).uid(65534)).assert_success();
        assert!(listed.stdout.contains("zarr.json"));
        assert!(fs::read_dir(store.point()).is_err(), "root was let in");
        as_nobody(&["unmount", "objects.zarr"]).assert_success();
        assert_eq!(mode_underneath(&store), 0);
    }
    drop(guard);
}

#[test]
fn exec_unmounts_when_a_signal_ends_its_command() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let arguments = ["exec", "epochs.zarr", "--along", "epoch", "--", "sh", "-c", "echo {} > path; exec sleep 60"];
    let mut command = store.rechunkfs(&arguments);
    let mut exec = Ended(command.env("TMPDIR", store.folder.path()).spawn().unwrap());
    let mut view = String::new();
    wait_until("the command runs", || {
        view = fs::read_to_string(store.path("path")).unwrap_or_default().trim().to_owned();
        !view.is_empty()
    });
    assert!(is_mounted(view.as_ref()));
    signal(exec.0.id(), Signal::TERM);
    assert_eq!(exec.wait(), 128 + 15);
    assert!(!is_mounted(view.as_ref()) && fs::symlink_metadata(&view).is_err());
}

#[test]
fn a_descriptor_mounted_by_somebody_else_is_served() {
    if cannot_mount() || !is_root() {
        return;
    }
    let store = Store::new();
    fs::create_dir(store.point()).unwrap();
    // The shell opens and mounts, so that no other test's child inherits the descriptor.
    let options = "fd=9,rootmode=40000,user_id=0,group_id=0,allow_other";
    let script = format!(
        "exec 9<>/dev/fuse && mount -i -t fuse.rechunkfs -o {options} handed-over objects.zarr && \
         exec \"$0\" mount epochs.zarr /dev/fd/9 --along epoch"
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_rechunkfs")]).current_dir(store.folder.path());
    let guard = Mount { store: &store };
    finish(shell.env("XDG_STATE_HOME", store.path("state"))).assert_success();
    assert!(store.point().join("zarr.json").is_file());
    finish(Command::new("umount").arg(store.point())).assert_success();
    drop(guard);
}
