//! The end of a mount while it is read from chunks that nobody has read before: its readers have the bytes, or an error.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::process::Stdio;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::faults::open_direct;
use crate::faulty::Faulty;
use crate::support::*;

const N_READERS: u64 = 16;
/// A signal's four seconds for readers, and what a busy machine takes.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// A mount, in the foreground, of a source that can be made to fail; it is at the point of `store`.
struct Busy<'a> {
    /// Goes first: while it hangs, nobody who reads it ends.
    faulty: Faulty,
    mount: Mount<'a>,
    daemon: Ended,
}

/// Nobody serves the mount any more.
const GONE: [i32; 2] = [libc::ENOTCONN, libc::ECONNABORTED];

type Reader = JoinHandle<(u64, io::Result<Vec<u8>>)>;

impl<'a> Busy<'a> {
    fn new(store: &'a Store) -> Self {
        let (mount, faulty) = (Mount { store }, Faulty::new(&store.source()));
        let source = faulty.path().to_str().unwrap();
        let arguments = ["mount", source, "objects.zarr", "--chunks", "object=1,epoch=1", "--foreground"];
        let mut command = store.rechunkfs(&arguments);
        let daemon = Ended(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        wait_until("the mount answers", || store.point().join("zarr.json").is_file());
        Busy { mount, daemon, faulty }
    }

    /// Readers that have opened a chunk each, and wait for it.
    fn readers(&self) -> Vec<Reader> {
        let point = self.mount.store.point();
        let files: Vec<File> = (0..N_READERS).map(|nth| open_direct(&chunk(&point, nth)).expect("opens")).collect();
        let read = |(nth, file): (u64, File)| {
            std::thread::spawn(move || {
                let mut bytes = vec![0; 4];
                (nth, file.read_exact_at(&mut bytes, 0).map(|()| bytes))
            })
        };
        let readers = (0..).zip(files).map(read).collect();
        wait_until("all of them wait", || self.mount.status()["view"]["in_flight"] == N_READERS);
        readers
    }
}

fn chunk(point: &std::path::Path, nth: u64) -> PathBuf {
    point.join(format!("lightcurves/c.{}.{}", nth % N_OBJECTS, nth / N_OBJECTS))
}

/// What they have read is right. Returns how many had an error, each of which is one of `errors`.
#[track_caller]
fn check(readers: Vec<Reader>, errors: &[i32]) -> usize {
    wait_until("all have an answer", || readers.iter().all(|reader| reader.is_finished()));
    let answers = readers.into_iter().map(|reader| reader.join().expect("no panic"));
    let is_failed = |(nth, answer): &(u64, io::Result<Vec<u8>>)| match answer {
        Ok(bytes) => {
            assert_eq!(*bytes, value(nth % N_OBJECTS, nth / N_OBJECTS).to_le_bytes());
            false
        }
        Err(error) => {
            assert!(error.raw_os_error().is_some_and(|code| errors.contains(&code)), "{error}");
            true
        }
    };
    answers.filter(is_failed).count()
}

fn mode_underneath(store: &Store) -> u32 {
    assert!(!is_mounted(&store.point()));
    fs::symlink_metadata(store.point()).unwrap().mode() & 0o7777
}

#[test]
fn a_signal_under_load_unmounts_and_ends_in_time_and_readers_finish_or_fail() {
    if cannot_mount() {
        return;
    }
    for (signal_number, answers_again) in [(Signal::TERM, true), (Signal::INT, true), (Signal::TERM, false)] {
        let store = Store::new();
        let mut busy = Busy::new(&store);
        busy.faulty.say("hang-read 1 lightcurves/c");
        let readers = busy.readers();
        let began = Instant::now();
        signal(busy.daemon.0.id(), signal_number);
        wait_until("it is unmounted", || !is_mounted(&store.point()));
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        if answers_again {
            busy.faulty.say("clear");
            // Within the time that readers are given.
            assert_eq!(check(readers, &GONE), 0);
        } else {
            // No reader waits for the source, nor does the process: but for the call that hangs.
            assert_eq!(check(readers, &GONE), N_READERS as usize);
            assert!(began.elapsed() < ENDS_WITHIN, "{:?}", began.elapsed());
            busy.faulty.say("clear");
        }
        assert_eq!(busy.daemon.wait(), 0);
        assert!(began.elapsed() < 2 * ENDS_WITHIN, "{:?}", began.elapsed());
        assert_eq!(mode_underneath(&store), 0);
        assert!(!runs(busy.daemon.0.id()));
    }
}

#[test]
fn where_the_server_is_killed_its_readers_get_errors_and_nobody_finds_an_empty_directory() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let mut busy = Busy::new(&store);
    let opened = File::open(store.point().join("lightcurves")).unwrap();
    // Once without a fault, so that the kernel knows what is there.
    let n_known = fs::read_dir(store.point().join("lightcurves")).unwrap().count() as u64;
    assert!(n_known > N_READERS);
    busy.faulty.say("hang-read 1 lightcurves/c");
    let readers = busy.readers();
    signal(busy.daemon.0.id(), Signal::KILL);
    // Not even this ends a process in a call that hangs.
    busy.faulty.say("clear");
    assert_eq!(busy.daemon.wait(), -9);
    assert_eq!(check(readers, &GONE), N_READERS as usize);
    let list = |path: PathBuf| fs::read_dir(path)?.try_for_each(|entry| entry.map(drop));
    for (what, result) in [
        ("listing", list(store.point())),
        ("listing what is open", list(format!("/proc/self/fd/{}", opened.as_raw_fd()).into())),
        ("reading", open_direct(&chunk(&store.point(), 5)).and_then(|file| file.read_at(&mut [0; 4], 0)).map(drop)),
        ("stat", fs::metadata(store.point()).map(drop)),
    ] {
        let error = result.expect_err(what);
        assert!(GONE.contains(&error.raw_os_error().unwrap_or(0)), "{what}: {error}");
    }
    drop(opened);
    busy.mount.unmount(&["--lazy"]).assert_success();
    assert_eq!(mode_underneath(&store), 0);
}
