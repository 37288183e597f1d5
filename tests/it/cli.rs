//! The program as a user meets it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;

use crate::support::*;

/// What is refused, and how.
mod bad_input;
/// Decoded data kept on disk.
mod disk;
/// The end of a mount under load.
mod ends;
/// From a mount to its end.
mod lifecycle;
/// Where nobody gives us rights.
mod rights;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn help_is_grouped_and_names_the_defaults() {
    let store = Store::new();
    let help = store.run(&["mount", "--help"]).assert_success().stdout;
    for word in [
        "Layout:",
        "Resources:",
        "Mount:",
        "Output:",
        "[default: 4MiB]",
        "[default: the CPUs of this job]",
        "[default: 2;",
    ] {
        assert!(help.contains(word), "no `{word}` in {help}");
    }
    for later in ["materialize", "--daemon-child"] {
        assert!(!help.contains(later), "`{later}` is offered");
    }
}

#[test]
fn help_of_copies_is_grouped_and_names_the_defaults() {
    let store = Store::new();
    let help = store.run(&["materialize", "--help"]).assert_success().stdout;
    for word in ["Layout:", "Copy:", "Resources:", "Output:", "--resume", "--verify", "[default: source, where"] {
        assert!(help.contains(word), "no `{word}` in {help}");
    }
    let help = store.run(&["verify", "--help"]).assert_success().stdout;
    for word in ["Comparison:", "Resources:", "Output:", "[default: everything]"] {
        assert!(help.contains(word), "no `{word}` in {help}");
    }
    let help = store.run(&["--help"]).assert_success().stdout;
    for word in ["materialize", "verify", "3 verify found differences", "4 stopped and resumable"] {
        assert!(help.contains(word), "no `{word}` in {help}");
    }
}

#[test]
fn the_manual_page_holds_every_command() {
    let store = Store::new();
    let page = store.run(&["man"]).assert_success().stdout;
    for section in ["INSPECT", "MOUNT", "EXEC", "MATERIALIZE", "VERIFY", "STATUS", "UNMOUNT", "COMPLETIONS"] {
        assert!(page.contains(&format!(".SH \"{section}\"")), "no {section}");
    }
    assert!(store.run(&["completions", "bash"]).assert_success().stdout.contains("rechunkfs"));
}

#[test]
fn inspect_counts_chunks_and_names_a_layout_that_mounts() {
    let store = Store::new();
    let text = store.run(&["inspect", "epochs.zarr"]).assert_success().stdout;
    assert!(text.contains("5 of 6 (83 %)"), "{text}");
    assert!(text.contains("--along epoch"), "{text}");
    let result = store.run(&["inspect", "epochs.zarr", "--json"]).assert_success().stdout;
    let result: serde_json::Value = serde_json::from_str(&result).unwrap();
    assert_eq!((&result["rechunkfs"], &result["version"]), (&"inspect".into(), &1.into()));
    assert_eq!(result["layout_to_try"]["flags"], "--along epoch");
    let lightcurves =
        &result["arrays"].as_array().unwrap().iter().find(|array| array["path"] == "lightcurves").unwrap();
    assert_eq!(lightcurves["shape"], serde_json::json!([N_OBJECTS, N_EPOCHS]));
    assert_eq!(lightcurves["dimensions"], serde_json::json!(["object", "epoch"]));
    assert_eq!(lightcurves["codecs"], serde_json::json!(["bytes"]));
}

#[test]
fn a_dry_run_mounts_nothing() {
    let store = Store::new();
    let arguments = ["mount", "epochs.zarr", "objects.zarr", "--along", "epoch", "--dry-run"];
    let text = store.run(&arguments).assert_success().stdout;
    assert!(text.contains("first read") && text.contains("nothing was mounted"), "{text}");
    assert!(!store.point().exists());
}

#[test]
fn status_says_whether_this_machine_can_mount() {
    let store = Store::new();
    let text = store.run(&["status"]).assert_success().stdout;
    assert!(text.contains("/dev/fuse") && text.contains("fusermount3"), "{text}");
}

#[test]
fn exec_ends_with_its_commands_exit_code() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let exec = |script: &str| {
        let arguments = ["exec", "epochs.zarr", "--along", "epoch", "--", "sh", "-c", script];
        finish(store.rechunkfs(&arguments).env("TMPDIR", store.folder.path()))
    };
    let listed = exec("ls {} && test -f \"$RECHUNKFS_VIEW/zarr.json\"").assert_success();
    assert!(listed.stdout.contains("zarr.json"));
    assert_eq!(exec("exit 7").code(), 7);
    assert_eq!(exec("kill -9 $$").code(), 128 + 9);
    let missing = store.run(&["exec", "epochs.zarr", "--along", "epoch", "--", "no-such-command"]);
    missing.assert_refused(127, &["no-such-command"]);
    let left: Vec<_> = fs::read_dir(store.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name.to_string_lossy().starts_with("rechunkfs-"))
        .collect();
    assert!(left.is_empty(), "{left:?} was left");
}
