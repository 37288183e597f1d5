//! A source that does not answer: its readers get an error after a while, and all others go on.

use super::{CHECKED, OTHERS, chunks, open_direct, store};
use crate::faulty::{Faulty, Served};
use crate::support::{PATIENCE, cannot_mount, wait_until};
use rechunkfs::source::hierarchy;
use rechunkfs::view::{Options, View};
use rechunkfs::zarr::{Layout, project};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Half of it is there for those who wait behind what hangs.
const TIMEOUT: Duration = Duration::from_secs(6);

#[test]
fn a_source_that_hangs_is_an_error_after_a_while_and_others_are_read_meanwhile() {
    if cannot_mount() {
        return;
    }
    let (folder, models) = store(&[&CHECKED[..1], &OTHERS[..]].concat());
    let faulty = Faulty::new(folder.path());
    let layout = Layout { chunks: vec!["0=7,1=17,2=23".to_owned()], ..Layout::default() };
    let projection = project(&hierarchy::read(faulty.path()).expect("readable"), &layout).expect("a projection");
    let options = Options { memory_bytes: 192 << 20, threads: 3, max_tile_bytes: None, cache_dir: None, follow: None };
    let view = View::open_guarded(faulty.path(), projection, options, TIMEOUT).expect("opens");
    let served = Served::new(Arc::clone(&view));
    let status = || serde_json::from_str::<serde_json::Value>(&view.status_json()).expect("JSON");

    faulty.say("hang-read 1 raw/");
    let chunks = chunks(&served.path(), &models);
    let present = || chunks.iter().filter(|chunk| chunk.truth.is_some());
    let (hanging, others): (Vec<_>, Vec<_>) =
        present().partition(|chunk| chunk.path.parent().is_some_and(|array| array.ends_with("raw")));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Whoever hangs all the same is let go, and is no error then.
        scope.spawn(|| {
            let end = Instant::now() + PATIENCE;
            while !is_over.load(Relaxed) && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(10));
            }
            faulty.say("clear");
        });
        // One reader for each chunk of the array that hangs: more of them than builders.
        let waiting: Vec<_> = hanging
            .iter()
            .map(|chunk| {
                scope.spawn(|| {
                    let began = Instant::now();
                    let read = open_direct(&chunk.path).and_then(|file| file.read_at(&mut [0; 64], 0));
                    (read, began.elapsed())
                })
            })
            .collect();
        for chunk in &others {
            let truth = chunk.truth.as_ref().expect("present");
            let mut bytes = vec![0; truth.len()];
            open_direct(&chunk.path).expect("opens").read_exact_at(&mut bytes, 0).expect("another array goes on");
            assert!(bytes == *truth, "{}", chunk.path.display());
        }
        for reader in waiting {
            let (read, took) = reader.join().expect("no panic");
            assert_eq!(read.expect_err("it hangs").raw_os_error(), Some(libc::EIO));
            assert!(took >= TIMEOUT, "given up after {took:?}");
        }
        is_over.store(true, Relaxed);
    });
    let given_up = status();
    assert_eq!(given_up["failed_by_kind"]["timed out"], hanging.len(), "{given_up}");
    assert!(given_up["errors"].to_string().contains("--read-timeout"), "{given_up}");
    assert!(given_up["slowest_read_ns"].as_u64() >= Some(TIMEOUT.as_nanos() as u64), "{given_up}");

    for chunk in &hanging {
        let good = || std::fs::read(&chunk.path).is_ok_and(|bytes| Some(&bytes) == chunk.truth.as_ref());
        wait_until(&format!("{} is readable again", chunk.path.display()), good);
    }
    // What hung has ended, and nothing is left of it.
    wait_until("nothing is under way", || {
        let status = status();
        (&status["waiting"], &status["in_flight"], &status["cache"]["waiting"]) == (&0.into(), &0.into(), &0.into())
    });
}
