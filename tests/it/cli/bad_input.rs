//! Bad input gets one line that names the thing and the remedy, a non-zero exit, and leaves nothing mounted.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::is_root;
use crate::support::*;

/// Mounts `source` at `point`, which must be refused.
#[track_caller]
fn check_refused(store: &Store, source: &str, point: &str, flags: &[&str], words: &[&str]) {
    let mut arguments = vec!["mount", source, point, "--along", "epoch"];
    arguments.extend(flags);
    store.run(&arguments).assert_refused(1, words);
    let left = rechunkfs::mounts::list().unwrap().into_iter().find(|mount| mount.point.starts_with(store.path("")));
    assert_eq!(left, None);
}

#[test]
fn usage_errors_end_with_2() {
    let store = Store::new();
    store.run(&["mount", "epochs.zarr"]).assert_refused(2, &["MOUNTPOINT"]);
    store.run(&["mount", "a", "b", "--chunk-size", "4Q"]).assert_refused(2, &["4Q", "--chunk-size"]);
    store.run(&["mount", "a", "b", "--memory", "lots"]).assert_refused(2, &["lots", "512M"]);
    store.run(&["mount", "a", "b", "-j", "0"]).assert_refused(2, &["--threads"]);
    store.run(&["mount", "a", "b", "--refresh", "soon"]).assert_refused(2, &["--refresh", "never"]);
    store.run(&["frobnicate"]).assert_refused(2, &["frobnicate"]);
    store.run(&["unmount"]).assert_refused(2, &["MOUNTPOINT"]);
}

#[test]
fn a_source_that_is_missing_or_no_store() {
    let store = Store::new();
    check_refused(&store, "nowhere.zarr", "m", &[], &["nowhere.zarr", "No such file"]);
    fs::create_dir(store.path("empty")).unwrap();
    check_refused(&store, "empty", "m", &[], &["empty", "not a Zarr store"]);
    assert!(!store.path("m").exists(), "a mount point was left");
}

#[test]
fn a_mount_point_that_is_no_place_for_a_view() {
    let store = Store::new();
    fs::write(store.path("file"), "x").unwrap();
    check_refused(&store, "epochs.zarr", "file", &[], &["file", "not a directory"]);
    fs::create_dir(store.path("full")).unwrap();
    fs::write(store.path("full/x"), "x").unwrap();
    check_refused(&store, "epochs.zarr", "full", &[], &["full", "not empty"]);
    check_refused(&store, "epochs.zarr", "no/such", &[], &["no/such", "mkdir -p no"]);
    symlink("nowhere", store.path("dangling")).unwrap();
    check_refused(&store, "epochs.zarr", "dangling", &[], &["dangling"]);
    check_refused(&store, "epochs.zarr", "/proc", &[], &["/proc", "mounted already (proc)"]);
    let mode = fs::metadata(store.path("full")).unwrap().permissions().mode();
    assert_ne!(mode & 0o777, 0, "a refused directory was closed");
}

#[test]
fn a_mount_point_in_the_source_and_the_source_in_it() {
    let store = Store::new();
    let words = ["within each other", "outside the source"];
    check_refused(&store, "epochs.zarr", "epochs.zarr/view", &[], &words);
    check_refused(&store, "epochs.zarr", "epochs.zarr", &[], &words);
    check_refused(&store, "epochs.zarr", ".", &[], &words);
}

#[test]
fn too_little_memory_says_how_much_is_needed() {
    let store = Store::new();
    check_refused(&store, "epochs.zarr", "m", &["--memory", "1M"], &["--memory 1 MiB is too small", "64 MiB"]);
}

#[test]
fn a_descriptor_that_is_none() {
    let store = Store::new();
    check_refused(&store, "epochs.zarr", "/dev/fd/77", &[], &["/dev/fd/77", "not an open /dev/fuse"]);
}

#[test]
fn errors_are_json_where_json_was_asked_for() {
    let store = Store::new();
    let refused = store.run(&["inspect", "nowhere.zarr", "--json"]);
    refused.assert_refused(1, &["nowhere.zarr"]);
    let result: serde_json::Value = serde_json::from_str(&refused.stdout).unwrap();
    assert!(result["error"].as_str().unwrap().contains("nowhere.zarr"));
    fs::create_dir(store.path("empty")).unwrap();
    let refused = store.run(&["mount", "empty", "m", "--along", "epoch", "--json"]);
    refused.assert_refused(1, &["empty"]);
    let result: serde_json::Value = serde_json::from_str(&refused.stdout).unwrap();
    assert!(result["error"].as_str().unwrap().contains("empty"));
}

#[test]
fn unmounting_what_is_not_ours_does_nothing() {
    let store = Store::new();
    store.run(&["unmount", "epochs.zarr"]).assert_refused(1, &["not mounted"]);
    store.run(&["unmount", "/proc"]).assert_refused(1, &["/proc", "not a rechunkfs mount but proc"]);
    assert!(fs::metadata("/proc/self").is_ok());
    store.run(&["status", "/proc"]).assert_refused(1, &["not a rechunkfs mount"]);
}

#[test]
fn a_machine_without_dev_fuse() {
    if !is_root() {
        return eprintln!("passed over: only root can take /dev away");
    }
    let store = Store::new();
    // A mount namespace of its own, in which /dev is empty.
    let script = "mount -t tmpfs none /dev && exec \"$0\" mount epochs.zarr m --along epoch";
    let program = env!("CARGO_BIN_EXE_rechunkfs");
    let mut unshare = std::process::Command::new("unshare");
    unshare.args(["-m", "sh", "-c", script, program]).current_dir(store.folder.path());
    finish(&mut unshare).assert_refused(1, &["/dev/fuse is missing", "modprobe fuse", "materialize"]);
}

#[test]
fn a_user_without_fusermount3_or_user_allow_other() {
    if !is_root() {
        return eprintln!("passed over: only root can become another user");
    }
    let store = Store::new();
    let as_nobody = |arguments: &[&str], path: &str| {
        let mut command = store.rechunkfs(arguments);
        std::os::unix::process::CommandExt::uid(&mut command, 65534);
        finish(command.env("PATH", path))
    };
    fs::set_permissions(store.folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let mount = ["mount", "epochs.zarr", "m", "--along", "epoch"];
    as_nobody(&mount, "/nowhere").assert_refused(1, &["fusermount3 is missing", "apt install fuse3"]);
    if cannot_mount() || fs::read_to_string("/etc/fuse.conf").is_ok_and(|text| text.contains("\nuser_allow_other")) {
        return eprintln!("passed over: no fuse3 here, or one that allows all");
    }
    let others = [&mount[..], &["--allow-other"]].concat();
    as_nobody(&others, "/usr/bin:/bin").assert_refused(1, &["user_allow_other", "/etc/fuse.conf"]);
}
