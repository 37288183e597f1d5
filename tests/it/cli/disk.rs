//! `--cache-dir`, as a user meets it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::is_root;
use crate::support::*;

/// Reads every chunk and says what `status` says then.
fn read_all(mount: &Mount<'_>) -> Value {
    for name in ["c.0.0", "c.1.0", "c.2.0", "c.3.0"] {
        let object_idx = name[2..3].parse::<u64>().unwrap();
        let values = (0..N_EPOCHS).map(|epoch| if epoch < N_EPOCHS - 1 { value(object_idx, epoch) } else { 0.0 });
        let bytes = fs::read(mount.store.point().join("lightcurves").join(name)).unwrap();
        assert_eq!(bytes, values.flat_map(f32::to_le_bytes).collect::<Vec<_>>(), "{name}");
    }
    mount.status()["view"].clone()
}

const LAYOUT: [&str; 4] = ["--chunks", "object=1,epoch=full", "--cache-dir", "kept/here"];

#[test]
fn a_second_mount_decodes_nothing() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    std::thread::sleep(Duration::from_millis(60));
    let (mount, said) = store.mount_as(&LAYOUT);
    assert!(said.stdout.contains("kept/here/rechunkfs-1: 0 B of"), "{said:?}");
    let status = read_all(&mount);
    assert_ne!(status["source_counts"]["blocks"], 0, "{status}");
    mount.unmount(&[]).assert_success();
    assert_eq!(fs::metadata(store.path("kept/here/rechunkfs-1")).unwrap().mode() & 0o777, 0o700);
    let (mount, said) = store.mount_as(&LAYOUT);
    assert!(!said.stdout.contains(": 0 B of"), "{said:?}");
    let status = read_all(&mount);
    assert_eq!(status["source_counts"]["blocks"], 0, "{status}");
    assert_eq!((&status["disk_hits"], &status["disk_errors"]), (&4.into(), &0.into()), "{status}");
    assert!(status["disk_read_bytes"].as_u64() > Some(0) && status["disk_used_bytes"].as_u64() > Some(0), "{status}");
    let shown = store.run(&["status", "objects.zarr"]).assert_success().stdout;
    assert!(shown.contains("disk hits: 4"), "{shown}");
}

#[test]
fn exec_keeps_decoded_data_as_mount_does() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    std::thread::sleep(Duration::from_millis(60));
    let exec = [&["exec", "epochs.zarr"], &LAYOUT[..], &["--", "sh", "-c", "cat {}/lightcurves/c.* | wc -c"]].concat();
    assert_eq!(store.run(&exec).assert_success().stdout.trim(), (N_OBJECTS * N_EPOCHS * 4).to_string());
    let (mount, _) = store.mount_as(&LAYOUT);
    assert_eq!(read_all(&mount)["source_counts"]["blocks"], 0);
}

#[test]
fn a_disk_that_is_full_fails_no_read_and_is_told_once() {
    if cannot_mount() || !is_root() {
        return eprintln!("passed over: only root can mount a small disk");
    }
    let store = Store::new();
    fs::create_dir(store.path("kept")).unwrap();
    std::thread::sleep(Duration::from_millis(60));
    // Room for bytes, and none for one more file: what is free does not tell.
    let script = "mount -t tmpfs -o size=1M,nr_inodes=5 none kept && \"$0\" mount epochs.zarr objects.zarr --chunks \
                  object=1,epoch=full --cache-dir kept -q >/dev/null && cat objects.zarr/lightcurves/c.* | wc -c && sleep 0.3 \
                  && \"$0\" status objects.zarr --json && \"$0\" unmount objects.zarr";
    let mut unshare = Command::new("unshare");
    unshare.args(["-m", "sh", "-c", script, env!("CARGO_BIN_EXE_rechunkfs")]).current_dir(store.folder.path());
    let done = finish(unshare.env("XDG_STATE_HOME", store.path("state"))).assert_success();
    let (n_bytes, status) = done.stdout.split_once('\n').unwrap();
    assert_eq!(n_bytes.trim(), (N_OBJECTS * N_EPOCHS * 4).to_string());
    let status: Value = serde_json::from_str(status).unwrap();
    let view = &status["view"];
    assert_eq!((&view["disk_errors"], &view["failed"]), (&1.into(), &0.into()), "{view}");
    let errors = view["errors"].as_array().unwrap();
    assert!(errors.len() == 1 && errors[0]["message"].as_str().unwrap().contains("No space left"), "{view}");
}

#[test]
fn a_folder_that_will_not_do_is_refused() {
    let store = Store::new();
    let mount = |folder: &str, words: &[&str]| {
        let arguments = ["mount", "epochs.zarr", "objects.zarr", "--along", "epoch", "--cache-dir", folder];
        store.run(&arguments).assert_refused(1, words);
        assert!(!is_mounted(&store.point()));
    };
    let words = ["--cache-dir", "within each other", "name another folder"];
    mount("epochs.zarr/kept", &words);
    mount("epochs.zarr", &words);
    mount(".", &words);
    mount("objects.zarr/kept", &words);
    mount("objects.zarr", &words);
    fs::write(store.path("file"), "").unwrap();
    if !cannot_mount() {
        mount("file", &["file", "decoded data cannot be kept there"]);
    }
    let unused = ["mount", "epochs.zarr", "objects.zarr", "--along", "epoch", "--cache-size", "1GiB"];
    store.run(&unused).assert_refused(2, &["--cache-dir"]);
}
