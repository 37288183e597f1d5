//! Source chunks that are rewritten, in place and by rename, deleted, and written again, while reading them fails now and then:
//! what is read of a source chunk is of one state that it was in, and of no earlier one than was read before.

use super::{Outcomes, Random, count_error, n_reads, open, open_direct};
use crate::faulty::{Faulty, Served};
use crate::support::{array_json, cannot_mount, wait_until};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const N_OBJECTS: u32 = 4096;
const N_EPOCHS: usize = 12;
/// Objects of a virtual chunk.
const N_ROWS: u32 = 64;
const N_THREADS: u64 = 4;

/// Of `object` in a state of its source chunk; 0 is the fill value, and no state.
fn value(object: u32, state: u32) -> u32 {
    state * N_OBJECTS + object
}

/// Writes an epoch in a state.
fn write(folder: &Path, epoch: usize, state: u32, by_rename: bool) {
    let bytes: Vec<u8> = (0..N_OBJECTS).flat_map(|object| value(object, state).to_le_bytes()).collect();
    let path = folder.join(format!("c/0/{epoch}"));
    if by_rename {
        let partial = folder.join(format!("{epoch}.partial"));
        fs::write(&partial, bytes).expect("written");
        fs::rename(partial, path).expect("renamed");
    } else {
        fs::write(path, bytes).expect("written");
    }
}

/// The states in which a read has found the epochs; `None` where the source chunk was absent.
fn states(bytes: &[u8], first_object: u32) -> Vec<Option<u32>> {
    let values: Vec<u32> = bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let state = |epoch: usize| {
        let column: Vec<u32> = values.iter().skip(epoch).step_by(N_EPOCHS).copied().collect();
        if column.iter().all(|&value| value == 0) {
            return None;
        }
        let state = column[0] / N_OBJECTS;
        for (row, found) in (0..).zip(&column) {
            assert_eq!(*found, value(first_object + row, state), "epoch {epoch}: a mixture, or nobody's value");
        }
        Some(state)
    };
    (0..N_EPOCHS).map(state).collect()
}

#[test]
fn a_source_that_changes_and_fails_is_read_in_states_that_it_was_in() {
    if cannot_mount() {
        return;
    }
    let source = tempfile::tempdir().expect("a directory");
    fs::write(source.path().join("zarr.json"), r#"{"zarr_format":3,"node_type":"group"}"#).expect("written");
    let array = source.path().join("a");
    fs::create_dir_all(array.join("c/0")).expect("created");
    let shape = [u64::from(N_OBJECTS), N_EPOCHS as u64];
    let json = array_json("uint32", &shape, &[u64::from(N_OBJECTS), 1], &["object", "epoch"]);
    fs::write(array.join("zarr.json"), json).expect("written");
    // Begun before it shows, done after it.
    let begun: Vec<AtomicU32> = (0..N_EPOCHS).map(|_| AtomicU32::new(1)).collect();
    (0..N_EPOCHS).for_each(|epoch| write(&array, epoch, 1, true));
    let faulty = Faulty::new(source.path());
    for fault in
        ["eio-read 0.01", "short-read 0.2", "cut-read 0.01", "slow-read 0.02", "eio-open 0.005", "eio-stat 0.002"]
    {
        faulty.say(fault);
    }
    let view = open(faulty.path(), &format!("object={N_ROWS},epoch=full"), Some(Duration::from_millis(30)));
    let served = Served::new(Arc::clone(&view));
    let (is_over, total) = (AtomicBool::new(false), Mutex::new(Outcomes::new()));
    let (began, n_true) = (Instant::now(), AtomicU32::new(0));
    // However fast the machine is: for so long that something has happened, and no longer than a minute.
    let is_enough = || {
        let n_states: u32 = begun.iter().map(|state| state.load(Ordering::SeqCst)).sum();
        let has_happened = n_true.load(Ordering::Relaxed) > 500 && n_states > 2 * N_EPOCHS as u32;
        has_happened || began.elapsed() > Duration::from_secs(60)
    };
    let (n_true, is_enough) = (&n_true, &is_enough);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random(5);
            while !is_over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(random.below(60)));
                let epoch = random.below(N_EPOCHS as u64) as usize;
                if random.below(5) == 0 {
                    let _ = fs::remove_file(array.join(format!("c/0/{epoch}")));
                } else {
                    let state = begun[epoch].fetch_add(1, Ordering::SeqCst) + 1;
                    write(&array, epoch, state, random.below(2) == 0);
                }
            }
        });
        let readers: Vec<_> = (0..N_THREADS)
            .map(|thread| {
                let (begun, total, folder) = (&begun, &total, served.path().join("a"));
                scope.spawn(move || {
                    let (mut random, mut outcomes) = (Random(100 + thread), Outcomes::new());
                    let n_chunks = u64::from(N_OBJECTS / N_ROWS);
                    // By chunk: what was read of another may be newer, or older.
                    let mut last = vec![[0u32; N_EPOCHS]; n_chunks as usize];
                    let mut n_left = n_reads(4_000) / N_THREADS;
                    while n_left > 0 || !is_enough() {
                        n_left = n_left.saturating_sub(1);
                        let chunk = random.below(n_chunks);
                        let path = folder.join(format!("c.{chunk}.0"));
                        let row_bytes = 4 * N_EPOCHS as u64;
                        let row = random.below(u64::from(N_ROWS));
                        let mut bytes = vec![0; ((u64::from(N_ROWS) - row) * row_bytes) as usize];
                        // In one request, and so of one version.
                        match open_direct(&path).and_then(|file| file.read_at(&mut bytes, row * row_bytes)) {
                            Ok(n) => {
                                assert_eq!(n, bytes.len());
                                let found = states(&bytes, chunk as u32 * N_ROWS + row as u32);
                                for (epoch, state) in found.into_iter().enumerate() {
                                    let Some(state) = state else { continue };
                                    let written = begun[epoch].load(Ordering::SeqCst);
                                    let before = &mut last[chunk as usize][epoch];
                                    assert!(*before <= state && state <= written, "{before} {state} {written}");
                                    *before = state;
                                }
                                n_true.fetch_add(1, Ordering::Relaxed);
                                *outcomes.entry("true".to_owned()).or_default() += 1;
                            }
                            // All of its epochs may be gone for a moment.
                            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                            Err(error) => count_error(&mut outcomes, &path, &error),
                        }
                    }
                    let mut total = total.lock().expect("no panic");
                    outcomes.into_iter().for_each(|(what, n)| *total.entry(what).or_default() += n);
                })
            })
            .collect();
        let ended: Vec<_> = readers.into_iter().map(|reader| reader.join()).collect();
        is_over.store(true, Ordering::Relaxed);
        ended.into_iter().for_each(|reader| reader.expect("a reader fails"));
    });
    faulty.say("clear");
    let outcomes = total.into_inner().expect("no panic");
    let n_states: u32 = begun.iter().map(|state| state.load(Ordering::SeqCst)).sum();
    eprintln!("{outcomes:?} in {n_states} states with {:?}", faulty.counts());
    assert!(outcomes["true"] > 500 && n_states > 2 * N_EPOCHS as u32, "{outcomes:?} {n_states}");
    // And what it is at last is what shows at last.
    (0..N_EPOCHS).for_each(|epoch| write(&array, epoch, begun[epoch].load(Ordering::SeqCst) + 1, true));
    wait_until("the last states show", || {
        let bytes = fs::read(served.path().join("a/c.1.0")).unwrap_or_default();
        let is_last = |(epoch, state): (usize, Option<u32>)| state == Some(begun[epoch].load(Ordering::SeqCst) + 1);
        !bytes.is_empty() && states(&bytes, N_ROWS).into_iter().enumerate().all(is_last)
    });
}
