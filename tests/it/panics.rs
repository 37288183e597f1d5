//! A bug in any thread: whoever meets it has an error, and everybody else what they came for. Debug builds panic where
//! `RECHUNKFS_DRILL` says.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use crate::faults::open_direct;
use crate::support::*;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier};

/// One chunk, so that all readers wait for the same, and nothing is prepared that nobody waits for.
const LAYOUT: [&str; 2] = ["--chunks", "object=full,epoch=full"];
const N_READERS: usize = 8;

struct Drilled<'a> {
    mount: Mount<'a>,
    log: PathBuf,
}

impl<'a> Drilled<'a> {
    #[track_caller]
    fn new(store: &'a Store, drill: &str, flags: &[&str]) -> Self {
        let (mount, log) = (Mount { store }, store.path("log"));
        let arguments =
            [&["mount", "epochs.zarr", "objects.zarr", "--log-file", log.to_str().unwrap()], &LAYOUT[..], flags];
        finish(store.rechunkfs(&arguments.concat()).env("RECHUNKFS_DRILL", drill)).assert_success();
        Drilled { mount, log }
    }

    /// How often it has panicked.
    fn n_panics(&self) -> usize {
        fs::read_to_string(&self.log).unwrap_or_default().matches("a drill at").count()
    }

    /// No thread is missing, and nobody waits.
    #[track_caller]
    fn assert_well(&self, threads: &[&str]) {
        let status = self.mount.status();
        for (part, gauge) in [("view", "waiting"), ("view", "in_flight")] {
            assert_eq!(status[part][gauge], 0, "{gauge}: {status}");
        }
        assert_eq!(status["view"]["cache"]["waiting"], 0, "{status}");
        let tasks = fs::read_dir(format!("/proc/{}/task", self.mount.pid())).unwrap();
        let names: Vec<String> =
            tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("comm")).ok()).collect();
        for thread in threads {
            assert!(names.iter().any(|name| name.trim() == *thread), "no thread {thread}: {names:?}");
        }
        assert_eq!(read(&self.mount.store.point()).expect("reads"), truth());
    }
}

fn read(point: &Path) -> io::Result<Vec<u8>> {
    let file = open_direct(&point.join("lightcurves/c.0.0"))?;
    let mut bytes = vec![0; truth().len()];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

fn truth() -> Vec<u8> {
    let value = |object, epoch| if epoch < N_EPOCHS - 1 { value(object, epoch) } else { 0.0 };
    let all = (0..N_OBJECTS).flat_map(|object| (0..N_EPOCHS).map(move |epoch| (object, epoch)));
    all.flat_map(|(object, epoch)| value(object, epoch).to_le_bytes()).collect()
}

fn is_eio(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EIO)
}

#[test]
fn whoever_waits_for_what_panics_gets_eio_and_whoever_comes_then_the_bytes() {
    if cannot_mount() {
        return;
    }
    for place in ["read", "plan", "build", "decode", "land", "answer"] {
        let store = Store::new();
        let drilled = Drilled::new(&store, &format!("{place}:1"), &[]);
        let barrier = Arc::new(Barrier::new(N_READERS));
        // Not in a scope: one that waited for ever would hold up the test, too.
        let reader = |_| {
            let (point, barrier) = (store.point(), Arc::clone(&barrier));
            std::thread::spawn(move || {
                barrier.wait();
                read(&point)
            })
        };
        let readers: Vec<_> = (0..N_READERS).map(reader).collect();
        wait_until("all have an answer", || readers.iter().all(|reader| reader.is_finished()));
        let answers = readers.into_iter().map(|reader| reader.join().expect("no panic"));
        let (good, failed): (Vec<_>, Vec<_>) = answers.partition(Result::is_ok);
        assert!(good.into_iter().flatten().all(|bytes| bytes == truth()), "{place}: wrong values");
        assert!(failed.iter().all(|read| read.as_ref().is_err_and(is_eio)), "{place}: {failed:?}");
        // By the time it is to land, a tile is there for all.
        assert_eq!(failed.is_empty(), place == "land", "{place}: who has met it?");
        assert_eq!(drilled.n_panics(), 1, "{place}");
        drilled.assert_well(&["builder-0", "builder-1", "later", "watch", "signals"]);
        drilled.mount.unmount(&[]).assert_success();
    }
}

#[test]
fn requests_that_panic_are_eio_and_the_next_ones_are_answered() {
    if cannot_mount() {
        return;
    }
    type Ask = fn(&Path, usize) -> io::Result<()>;
    let asks: [(&str, Ask); 3] = [
        ("lookup", |root, nth| match fs::metadata(root.join(format!("nothing-{nth}"))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map(drop),
        }),
        ("readdirplus", |root, _| fs::read_dir(root)?.try_for_each(|entry| entry.map(drop))),
        ("access", |root, _| rustix::fs::access(root, rustix::fs::Access::EXEC_OK).map_err(io::Error::from)),
    ];
    for (place, ask) in asks {
        let store = Store::new();
        let drilled = Drilled::new(&store, &format!("{place}:3"), &["--refresh", "0"]);
        let (mut nth, mut n_failed) = (0, 0);
        wait_until("it has panicked three times", || {
            if let Err(error) = ask(&store.point(), nth) {
                assert!(is_eio(&error), "{place}: {error}");
                n_failed += 1;
            }
            nth += 1;
            drilled.n_panics() == 3
        });
        assert!(n_failed > 0, "{place}: nobody has met it");
        ask(&store.point(), nth).expect("answered again");
        drilled.assert_well(&[]);
        drilled.mount.unmount(&[]).assert_success();
    }
}

#[test]
fn threads_in_the_background_outlive_a_panic() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let cache = store.path("cache");
    let flags = ["--read-timeout", "1", "--cache-dir", cache.to_str().unwrap()];
    let drilled = Drilled::new(&store, "watch:2,disk-write:1", &flags);
    assert_eq!(read(&store.point()).expect("reads"), truth());
    wait_until("all have panicked", || drilled.n_panics() == 3);
    drilled.assert_well(&["watch", "disk-writer"]);
    let status = drilled.mount.status();
    assert!(status["view"]["errors"].to_string().contains("writing panicked"), "{status}");
    drilled.mount.unmount(&[]).assert_success();
}

#[test]
fn a_read_that_was_put_off_has_its_answer_too() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let chunk = store.source().join("lightcurves/c/0/2");
    let whole = fs::read(&chunk).unwrap();
    // Cut off a moment ago: somebody may be writing it.
    fs::write(&chunk, &whole[..5]).unwrap();
    let drilled = Drilled::new(&store, "again:1", &["--refresh", "0"]);
    assert!(is_eio(&read(&store.point()).expect_err("it has panicked")));
    assert_eq!(drilled.n_panics(), 1);
    fs::write(&chunk, &whole).unwrap();
    wait_until("it is readable", || read(&store.point()).is_ok());
    drilled.assert_well(&["later"]);
    drilled.mount.unmount(&[]).assert_success();
}

fn files(root: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
    let mut entries: Vec<_> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        match path.is_dir() {
            true => files(&path, found),
            false if path.file_name().unwrap().to_str().unwrap().starts_with(".rechunkfs") => {}
            false => found.push((path.clone(), fs::read(&path).unwrap())),
        }
    }
}

/// The files of a store, without what a copy knows of its source.
fn tree(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    files(root, &mut found);
    found.into_iter().map(|(path, bytes)| (path.strip_prefix(root).unwrap().to_owned(), bytes)).collect()
}

#[test]
fn a_copy_that_panics_fails_soon_and_goes_on_afterwards() {
    let store = Store::new();
    let copy = |target: &str, flags: &[&str], drill: &str| {
        let arguments = [&["materialize", "epochs.zarr", target], &LAYOUT[..], flags].concat();
        finish(store.rechunkfs(&arguments).env("RECHUNKFS_DRILL", drill))
    };
    copy("whole.zarr", &[], "").assert_success();
    let whole = tree(&store.path("whole.zarr"));
    for place in ["tile", "decode", "encode", "commit"] {
        let target = format!("{place}.zarr");
        let failed = copy(&target, &[], &format!("{place}:1"));
        assert_eq!(failed.code(), 1, "{failed:?}");
        assert!(failed.stderr.contains(&format!("a drill at {place}")), "{failed:?}");
        assert!(failed.stderr.contains("internal error; please report it"), "{failed:?}");
        assert!(!store.path(&target).exists(), "{place}: half a copy");
        copy(&target, &["--resume"], "").assert_success();
        assert!(tree(&store.path(&target)) == whole, "{place}: another copy");
        // What is brought to it is no less safe.
        fs::write(store.source().join("lightcurves/c/0/1"), [place.len() as u8; 16]).unwrap();
        let failed = copy(&target, &["--update"], &format!("{place}:1"));
        assert_eq!(failed.code(), 1, "{failed:?}");
        copy(&target, &["--update"], "").assert_success();
        copy("now.zarr", &["--overwrite"], "").assert_success();
        assert!(tree(&store.path(&target)) == tree(&store.path("now.zarr")), "{place}: not up to date");
        let before: Vec<u8> = (0..N_OBJECTS).flat_map(|object| value(object, 1).to_le_bytes()).collect();
        fs::write(store.source().join("lightcurves/c/0/1"), before).unwrap();
    }
}
