//! Many readers, little memory, and a source that is damaged and vanishes under them: every read ends, with the true
//! bytes or with an error, and nothing is left over.

use crate::stores::{Codec, Model, positions};
use rechunkfs::view::{CacheDir, Node, Options, View, ViewError};
use rechunkfs::zarr::{KeyEncoding, KeyStyle};
use serde_json::Value;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const N_READERS: u64 = 12;
/// For each of the stores.
const RUN: Duration = Duration::from_millis(1_800);
/// No read may take longer, however many wait.
const PATIENCE: Duration = Duration::from_secs(30);

/// Numbers that look random, the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n.max(1)
    }
}

/// (object, value, epoch) in chunkings that do not fit each other, with stale data in the padding.
fn model(codec: Codec, is_sharded: bool, order: [usize; 3]) -> Model {
    let mut model = Model {
        shape: vec![301, 17, 23],
        file_shape: if is_sharded { vec![128, 18, 8] } else { vec![64, 9, 4] },
        inner_shape: is_sharded.then(|| vec![64, 9, 4]),
        order: order.to_vec(),
        codec,
        item_bytes: 4,
        fill: vec![0, 0, 0xc0, 0x7f],
        key_encoding: KeyEncoding { style: KeyStyle::Default, separator: '/' },
        data: Vec::new(),
        missing: vec![3, 11, 40],
    };
    let n_items = model.padded_shape().iter().product::<u64>();
    model.data = (0..n_items as u32).flat_map(|i| (i.wrapping_mul(2_654_435_761) >> (i % 9)).to_le_bytes()).collect();
    model
}

struct Chunk {
    node: Node,
    truth: Vec<u8>,
}

fn chunks(model: &Model, view: &View, chunk_shape: &[u64]) -> Vec<Chunk> {
    let grid: Vec<u64> = model.shape.iter().zip(chunk_shape).map(|(n, chunk)| n.div_ceil(*chunk)).collect();
    positions(&grid)
        .filter_map(|idx| {
            let name = idx.iter().fold("c".to_owned(), |name, i| format!("{name}.{i}"));
            let (node, _) = view.lookup(&view.root(), OsStr::new(&name)).ok()?;
            Some(Chunk { node, truth: model.virtual_chunk(&idx, chunk_shape) })
        })
        .collect()
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in folder.read_dir().expect("lists") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// Damages source files, a few at a time, and leaves them so.
fn spoil(root: &Path, is_over: &AtomicBool) {
    let mut found = Vec::new();
    files(root, &mut found);
    found.sort();
    let mut random = Random(7);
    let most = found.len() / 3;
    for nth in 0..most {
        std::thread::sleep(RUN / (most as u32 + 2));
        if is_over.load(Relaxed) {
            return;
        }
        let path = &found[random.below(found.len() as u64) as usize];
        let Ok(mut bytes) = std::fs::read(path) else { continue };
        match nth % 4 {
            0 => drop(std::fs::remove_file(path)),
            1 => drop(std::fs::write(path, &bytes[..bytes.len() / 2])),
            2 => {
                for _ in 0..8 {
                    let at = random.below(bytes.len() as u64) as usize;
                    bytes[at] ^= 1 << random.below(8);
                }
                drop(std::fs::write(path, bytes));
            }
            _ => {
                drop(std::fs::remove_file(path));
                drop(std::fs::create_dir(path));
            }
        }
    }
}

fn counts(view: &View) -> Value {
    serde_json::from_str(&view.status_json()).expect("JSON")
}

fn run(model: &Model, chunk_shape: &[u64], max_tile_bytes: u64, threads: usize) {
    run_with(model, chunk_shape, max_tile_bytes, threads, None);
}

fn run_with(model: &Model, chunk_shape: &[u64], max_tile_bytes: u64, threads: usize, cache_dir: Option<CacheDir>) {
    let store = tempfile::tempdir().expect("a directory");
    model.write(store.path());
    // Old enough to be kept on disk.
    std::thread::sleep(Duration::from_millis(60));
    // Tiles of a few kilobytes, and a cache of a few tiles: it turns over all the time.
    let options =
        Options { memory_bytes: 96 << 20, threads, max_tile_bytes: Some(max_tile_bytes), cache_dir, follow: None };
    let view = View::open(store.path(), model.projection(chunk_shape, None), options).expect("opens");
    let chunks = chunks(model, &view, chunk_shape);
    let is_over = AtomicBool::new(false);
    let (n_good, n_failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let errors = std::sync::Mutex::new(BTreeSet::new());
    std::thread::scope(|scope| {
        scope.spawn(|| spoil(store.path(), &is_over));
        let readers: Vec<_> = (0..N_READERS)
            .map(|reader| {
                let (view, chunks, n_good, n_failed, errors) = (&view, &chunks, &n_good, &n_failed, &errors);
                scope.spawn(move || {
                    let mut random = Random(reader);
                    let end = Instant::now() + RUN;
                    while Instant::now() < end {
                        // Several at once, as the kernel's read-ahead does.
                        let (send, receive) = mpsc::channel();
                        let n = 1 + random.below(16);
                        for _ in 0..n {
                            let chunk = &chunks[random.below(chunks.len() as u64) as usize];
                            let size = chunk.truth.len() as u64;
                            let (start, len) = match random.below(3) {
                                0 => (0, size),
                                _ => (random.below(size), 1 + random.below(size)),
                            };
                            let stop = (start + len).min(size);
                            let truth = chunk.truth[start as usize..stop as usize].to_vec();
                            let send = send.clone();
                            let reply = move |bytes: Result<&[u8], ViewError>| {
                                drop(send.send(bytes.map(|bytes| bytes == truth)));
                            };
                            view.read(&chunk.node, start, len, Box::new(reply));
                        }
                        for _ in 0..n {
                            let reply = receive.recv_timeout(PATIENCE);
                            match reply.unwrap_or_else(|_| panic!("a read is not answered: {}", counts(view))) {
                                Ok(is_true) => {
                                    assert!(is_true, "wrong bytes");
                                    n_good.fetch_add(1, Relaxed);
                                }
                                Err(error) => {
                                    assert!(
                                        matches!(error, ViewError::Source(_)),
                                        "neither bytes nor the source's fault: {error}"
                                    );
                                    errors.lock().expect("no panic").insert(error.to_string());
                                    n_failed.fetch_add(1, Relaxed);
                                }
                            }
                        }
                    }
                })
            })
            .collect();
        let ended: Vec<_> = readers.into_iter().map(|reader| reader.join()).collect();
        is_over.store(true, Relaxed);
        ended.into_iter().for_each(|reader| reader.expect("a reader fails"));
    });
    let after = counts(&view);
    assert_eq!(after["waiting"], 0, "{after}");
    assert_eq!(after["cache"]["waiting"], 0, "{after}");
    assert!(after["cache"]["used_bytes"].as_u64() <= after["cache"]["capacity_bytes"].as_u64(), "{after}");
    assert!(n_good.load(Relaxed) > 0, "{after}");
}

#[test]
fn readers_of_a_source_that_falls_apart_get_the_truth_or_an_error() {
    let blosc = Codec::Blosc { block_bytes: 512 };
    run(&model(blosc, false, [0, 1, 2]), &[7, 17, 23], 20_000, 2);
    run(&model(blosc, true, [2, 0, 1]), &[7, 5, 9], 9_000, 3);
    run(&model(Codec::Raw, false, [1, 2, 0]), &[50, 4, 23], 6_000, 4);
    run(&model(Codec::Zstd, false, [0, 1, 2]), &[7, 17, 6], 8_000, 2);
    run(&model(Codec::GzipThenCrc, true, [0, 1, 2]), &[301, 1, 5], 30_000, 1);
}

#[test]
fn with_a_cache_on_disk_that_falls_apart_too() {
    let cache = tempfile::tempdir().expect("a directory");
    // Room for a part of the data, so that records come and go.
    let cache_dir = || Some(CacheDir { path: cache.path().to_owned(), limit_bytes: 300_000 });
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random(3);
            while !is_over.load(Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
                let mut found = Vec::new();
                files_now(cache.path(), &mut found);
                let Some(path) = found.get(random.below(found.len() as u64) as usize) else { continue };
                let Ok(mut bytes) = std::fs::read(path) else { continue };
                match random.below(4) {
                    0 => drop(std::fs::remove_file(path)),
                    1 => drop(std::fs::write(path, &bytes[..bytes.len() / 2])),
                    _ if bytes.is_empty() => {}
                    _ => {
                        let at = random.below(bytes.len() as u64) as usize;
                        bytes[at] ^= 1 << random.below(8);
                        drop(std::fs::write(path, bytes));
                    }
                }
            }
        });
        let ended = std::panic::catch_unwind(|| {
            let blosc = Codec::Blosc { block_bytes: 512 };
            run_with(&model(blosc, false, [0, 1, 2]), &[7, 17, 23], 20_000, 2, cache_dir());
            run_with(&model(blosc, true, [2, 0, 1]), &[7, 5, 9], 9_000, 3, cache_dir());
            run_with(&model(Codec::Zstd, false, [0, 1, 2]), &[7, 17, 6], 8_000, 2, cache_dir());
        });
        is_over.store(true, Relaxed);
        ended.expect("a run fails");
    });
}

/// Files below `folder`, of which any may vanish meanwhile.
fn files_now(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in folder.read_dir().into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { files_now(&path, found) } else { found.push(path) }
    }
}

/// One uncompressed or compressed array of 64 x 64 float32 in a single source chunk, and a view of it by rows.
fn one_chunk(codec: Codec, root: &Path, spoil: impl Fn(&Path)) -> std::sync::Arc<View> {
    let mut model = model(codec, false, [0, 1, 2]);
    (model.shape, model.file_shape) = (vec![64, 64, 1], vec![64, 64, 1]);
    model.missing.clear();
    model.data.truncate(64 * 64 * 4);
    model.write(root);
    spoil(&root.join("c/0/0/0"));
    let options = Options { memory_bytes: 84 << 20, threads: 2, max_tile_bytes: None, cache_dir: None, follow: None };
    View::open(root, model.projection(&[1, 64, 1], None), options).expect("opens")
}

fn read(view: &View, name: &str) -> Result<Vec<u8>, ViewError> {
    let (node, stat) = view.lookup(&view.root(), OsStr::new(name))?;
    let (send, receive) = mpsc::channel();
    view.read(&node, 0, stat.size_bytes, Box::new(move |bytes| drop(send.send(bytes.map(<[u8]>::to_vec)))));
    receive.recv_timeout(Duration::from_secs(5)).expect("the read is answered")
}

#[test]
fn a_named_pipe_in_the_source_is_an_error_and_no_hang() {
    for codec in [Codec::Raw, Codec::Blosc { block_bytes: 512 }, Codec::Zstd] {
        let store = tempfile::tempdir().expect("a directory");
        let view = one_chunk(codec, store.path(), |file| {
            std::fs::remove_file(file).expect("removed");
            let made = std::process::Command::new("mkfifo").arg(file).status().expect("mkfifo runs");
            assert!(made.success());
        });
        assert!(matches!(read(&view, "c.3.0.0"), Err(ViewError::Source(_))), "{codec:?}");
    }
}

#[test]
fn a_blosc_chunk_that_claims_gigabytes_is_refused_before_they_are_held() {
    let store = tempfile::tempdir().expect("a directory");
    let view = one_chunk(Codec::Blosc { block_bytes: 512 }, store.path(), |file| {
        // A hole of 2 GiB between the first block and the others, by the header and the table.
        let mut chunk = std::fs::read(file).expect("a chunk");
        let claimed: u32 = 2 << 30;
        chunk[12..16].copy_from_slice(&claimed.to_le_bytes());
        for offset in chunk[20..16 + 4 * 32].chunks_exact_mut(4) {
            offset.copy_from_slice(&(claimed - 1).to_le_bytes());
        }
        std::fs::write(file, chunk).expect("written");
        let opened = std::fs::OpenOptions::new().write(true).open(file).expect("opens");
        opened.set_len(u64::from(claimed)).expect("grows");
    });
    assert!(matches!(read(&view, "c.0.0.0"), Err(ViewError::Source(_))));
    let peak_bytes = counts(&view)["memory"]["peak_rss_bytes"].as_u64().expect("a number");
    assert!(peak_bytes < 256 << 20, "{peak_bytes}");
}

#[test]
fn a_million_small_chunks_are_listed_and_read_within_the_memory_allowed() {
    // Two source chunks of a view of 10^9 virtual ones; the others are absent.
    let store = tempfile::tempdir().expect("a directory");
    let model = Model {
        shape: vec![1_000_000, 1_000, 10],
        file_shape: vec![1_000, 1_000, 10],
        order: vec![0, 1, 2],
        ..model(Codec::Raw, false, [0, 1, 2])
    };
    for file in ["c/0/0/0", "c/600/0/0"] {
        std::fs::create_dir_all(store.path().join(file).parent().expect("a folder")).expect("made");
        let chunk: Vec<u8> = (0..10_000_000u32).flat_map(u32::to_le_bytes).collect();
        std::fs::write(store.path().join(file), chunk).expect("written");
    }
    let began = Instant::now();
    let memory_bytes = 256 << 20;
    let options = Options { memory_bytes, threads: 2, max_tile_bytes: None, cache_dir: None, follow: None };
    let view = View::open(store.path(), model.projection(&[1, 1, 10], None), options).expect("opens");
    assert!(began.elapsed() < Duration::from_millis(200), "opening takes {:?}", began.elapsed());

    let rss = || counts(&view)["memory"]["rss_bytes"].as_u64().expect("a number");
    let (began, before) = (Instant::now(), rss());
    let mut from = 3 + 600_500_000;
    view.list(&view.root(), from, &mut |entry| {
        assert_eq!(entry.name, OsStr::new("c.600500.0.0"));
        from = entry.next;
        false
    })
    .expect("lists");
    assert!(began.elapsed() < Duration::from_millis(200), "listing from the middle takes {:?}", began.elapsed());
    let mut n = 0;
    view.list(&view.root(), 0, &mut |_| {
        n += 1;
        n < 1_000_000
    })
    .expect("lists");
    assert_eq!(n, 1_000_000);
    assert!(rss() < before + (8 << 20), "listing takes {} bytes", rss() - before);

    for (object, value) in (0..1_000).step_by(7).flat_map(|object| [(object, 0), (object, 500), (object, 999)]) {
        let bytes = read(&view, &format!("c.{object}.{value}.0")).expect("reads");
        let first = (object * 1_000 + value) * 10;
        let truth: Vec<u8> = (first..first + 10).flat_map(u32::to_le_bytes).collect();
        assert_eq!(bytes, truth);
    }
    let peak_bytes = counts(&view)["memory"]["peak_rss_bytes"].as_u64().expect("a number");
    assert!(peak_bytes < memory_bytes, "{}", counts(&view));
}

#[test]
fn the_bookkeeping_of_tiny_chunks_is_within_the_memory_allowed() {
    let store = tempfile::tempdir().expect("a directory");
    let model = Model {
        shape: vec![2_048, 2_048],
        file_shape: vec![2_048, 2_048],
        order: vec![0, 1],
        item_bytes: 1,
        fill: vec![0],
        data: (0..2_048 * 2_048u32).map(|i| (i / 7) as u8).collect(),
        missing: Vec::new(),
        ..model(Codec::Zstd, false, [0, 1, 2])
    };
    model.write(store.path());
    let memory_bytes = 96 << 20;
    let options = Options { memory_bytes, threads: 2, max_tile_bytes: None, cache_dir: None, follow: None };
    let view = View::open(store.path(), model.projection(&[1, 1], None), options).expect("opens");
    for at in (0..2_048).step_by(300) {
        assert_eq!(read(&view, &format!("c.{at}.{at}")).expect("reads"), model.virtual_chunk(&[at, at], &[1, 1]));
    }
    let after = counts(&view);
    assert!(after["memory"]["peak_rss_bytes"].as_u64() < Some(memory_bytes), "{after}");
}
