//! A source that fails in every way that a disk and a network can, under random reads of several threads through a real mount:
//! each read gives the true bytes, or an error. `RECHUNKFS_TEST_READS` says how many there are.

use crate::faulty::{Faulty, Served};
use crate::stores::{Codec, Model, positions};
use crate::support::{PATIENCE, cannot_mount};
use rechunkfs::source::hierarchy;
use rechunkfs::view::{Follow, Options, View};
use rechunkfs::zarr::{KeyEncoding, KeyStyle, Layout, project};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Source chunks that change meanwhile.
mod changing;
/// One that does not answer.
mod hanging;

const N_THREADS: u64 = 6;
const CHUNK: [u64; 3] = [7, 17, 23];

/// Arrays in which garbage shows, and others.
const CHECKED: [(&str, &[&str], bool); 4] = [
    ("checked-crc", &[r#"{"name":"crc32c"}"#], false),
    ("checked-zstd", &[r#"{"name":"zstd","configuration":{"level":1,"checksum":true}}"#], false),
    (
        "checked-blosc",
        &[
            r#"{"name":"blosc","configuration":{"cname":"lz4","clevel":5,"shuffle":"shuffle","typesize":4,"blocksize":512}}"#,
            r#"{"name":"crc32c"}"#,
        ],
        false,
    ),
    ("checked-shards", &[r#"{"name":"zstd","configuration":{"level":1,"checksum":true}}"#], true),
];
const OTHERS: [(&str, &[&str], bool); 3] = [
    ("raw", &[], false),
    (
        "blosc",
        &[
            r#"{"name":"blosc","configuration":{"cname":"zstd","clevel":5,"shuffle":"shuffle","typesize":4,"blocksize":512}}"#,
        ],
        false,
    ),
    ("shards", &[r#"{"name":"gzip","configuration":{"level":1}}"#], true),
];

/// Numbers that look random, the same in each run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n.max(1)
    }
}

/// How many reads, of all threads together.
pub(crate) fn n_reads(usual: u64) -> u64 {
    std::env::var("RECHUNKFS_TEST_READS").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

fn model(codecs: &'static [&'static str], is_sharded: bool) -> Model {
    let mut model = Model {
        shape: vec![301, 17, 23],
        file_shape: if is_sharded { vec![128, 17, 8] } else { vec![64, 17, 4] },
        inner_shape: is_sharded.then(|| vec![64, 17, 4]),
        order: vec![0, 1, 2],
        codec: Codec::Chain(codecs),
        item_bytes: 4,
        fill: vec![0, 0, 0xc0, 0x7f],
        key_encoding: KeyEncoding { style: KeyStyle::Default, separator: '/' },
        data: Vec::new(),
        missing: vec![3, 11],
    };
    let n_items = model.padded_shape().iter().product::<u64>();
    model.data = (0..n_items as u32).flat_map(|i| (i.wrapping_mul(2_654_435_761) >> (i % 9)).to_le_bytes()).collect();
    model
}

/// A group with an array for each of them.
fn store(arrays: &[(&str, &'static [&'static str], bool)]) -> (TempDir, Vec<(String, Model)>) {
    let folder = tempfile::tempdir().expect("a directory");
    std::fs::write(folder.path().join("zarr.json"), r#"{"zarr_format":3,"node_type":"group"}"#).expect("written");
    let models = arrays.iter().map(|(name, codecs, is_sharded)| {
        let (root, model) = (folder.path().join(name), model(codecs, *is_sharded));
        std::fs::create_dir(&root).expect("created");
        std::fs::write(root.join("zarr.json"), model.document()).expect("written");
        model.write(&root);
        ((*name).to_owned(), model)
    });
    let models = models.collect();
    (folder, models)
}

/// A view that keeps a few tiles, so that most reads go to the source.
pub(crate) fn open(source: &Path, chunks: &str, refresh: Option<Duration>) -> Arc<View> {
    let layout = Layout { chunks: vec![chunks.to_owned()], ..Layout::default() };
    let hierarchy = hierarchy::read(source).expect("readable");
    let projection = project(&hierarchy, &layout).expect("a projection");
    let follow = refresh.map(|refresh| Follow { layout, refresh });
    let options = Options { memory_bytes: 96 << 20, threads: 3, max_tile_bytes: Some(40_000), cache_dir: None, follow };
    View::open(source, projection, options).expect("opens")
}

struct Chunk {
    path: PathBuf,
    truth: Option<Vec<u8>>,
}

fn chunks(root: &Path, models: &[(String, Model)]) -> Vec<Chunk> {
    let of = |(name, model): &(String, Model)| {
        let grid: Vec<u64> = model.shape.iter().zip(CHUNK).map(|(n, chunk)| n.div_ceil(chunk)).collect();
        let chunk = |idx: Vec<u64>| {
            let truth = model.is_present(&idx, &CHUNK).then(|| model.virtual_chunk(&idx, &CHUNK));
            Chunk { path: root.join(name).join(format!("c.{}.{}.{}", idx[0], idx[1], idx[2])), truth }
        };
        positions(&grid).map(chunk).collect::<Vec<_>>()
    };
    models.iter().flat_map(of).collect()
}

/// What came of the reads: how often true bytes, and how often which error.
pub(crate) type Outcomes = BTreeMap<String, u64>;

/// Opens without the kernel's pages, so that each read arrives.
pub(crate) fn open_direct(path: &Path) -> std::io::Result<File> {
    File::options().read(true).custom_flags(libc::O_DIRECT).open(path)
}

/// Counts an error, which must not look like absence.
pub(crate) fn count_error(outcomes: &mut Outcomes, what: &Path, error: &std::io::Error) {
    let code = error.raw_os_error().expect("an errno");
    let known = [libc::EIO, libc::ESTALE, libc::EACCES, libc::EMFILE, libc::ENOMEM];
    assert!(known.contains(&code), "{}: {error}", what.display());
    *outcomes.entry(error.kind().to_string()).or_default() += 1;
}

fn read_one(chunk: &Chunk, random: &mut Random, outcomes: &mut Outcomes) {
    let Some(truth) = &chunk.truth else {
        match std::fs::metadata(&chunk.path) {
            Ok(_) => panic!("{} is there", chunk.path.display()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => return count_error(outcomes, &chunk.path, &error),
        }
    };
    let size = truth.len() as u64;
    let (start, len) = if random.below(3) == 0 { (0, size) } else { (random.below(size), 1 + random.below(size)) };
    let mut bytes = vec![0xa5; len as usize];
    match open_direct(&chunk.path).and_then(|file| file.read_at(&mut bytes, start)) {
        Ok(n) => {
            let stop = (start + len).min(size) as usize;
            assert!(
                bytes[..n] == truth[start as usize..stop],
                "wrong bytes of {}: {start}+{len}",
                chunk.path.display()
            );
            *outcomes.entry("true".to_owned()).or_default() += 1;
        }
        Err(error) => count_error(outcomes, &chunk.path, &error),
    }
}

/// A listing is whole, or an error.
fn list_one(folder: &Path, n_present: usize, outcomes: &mut Outcomes) {
    let listed = std::fs::read_dir(folder).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    match listed {
        Ok(entries) => assert_eq!(entries.len(), n_present + 1, "{}", folder.display()),
        Err(error) => count_error(outcomes, folder, &error),
    }
}

/// Reads through a mount of what `faulty` shows, with these things going wrong.
fn endure(models: &[(String, Model)], faulty: &Faulty, refresh: Option<Duration>, faults: &[&str], n_reads: u64) {
    let view = open(faulty.path(), "0=7,1=17,2=23", refresh);
    let served = Served::new(Arc::clone(&view));
    let chunks = chunks(&served.path(), models);
    let (is_over, total) = (AtomicBool::new(false), Mutex::new(Outcomes::new()));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Good times and bad ones.
            let mut random = Random(11);
            while !is_over.load(Relaxed) {
                faulty.say("clear");
                std::thread::sleep(Duration::from_millis(20));
                for fault in faults {
                    if random.below(2) == 0 {
                        faulty.say(fault);
                    }
                }
                std::thread::sleep(Duration::from_millis(150));
            }
            faulty.say("clear");
        });
        let readers: Vec<_> = (0..N_THREADS)
            .map(|thread| {
                let (chunks, total, root) = (&chunks, &total, served.path());
                scope.spawn(move || {
                    let (mut random, mut outcomes) = (Random(thread), Outcomes::new());
                    let mut slowest = Duration::ZERO;
                    for nth in 0..n_reads / N_THREADS {
                        let began = Instant::now();
                        if nth % 100 == 99 {
                            let (name, model) = &models[random.below(models.len() as u64) as usize];
                            let grid: Vec<u64> = model.shape.iter().zip(CHUNK).map(|(n, c)| n.div_ceil(c)).collect();
                            let n_present = positions(&grid).filter(|idx| model.is_present(idx, &CHUNK)).count();
                            list_one(&root.join(name), n_present, &mut outcomes);
                        } else {
                            read_one(&chunks[random.below(chunks.len() as u64) as usize], &mut random, &mut outcomes);
                        }
                        slowest = slowest.max(began.elapsed());
                    }
                    assert!(slowest < PATIENCE, "a read took {slowest:?}");
                    let mut total = total.lock().expect("no panic");
                    outcomes.into_iter().for_each(|(what, n)| *total.entry(what).or_default() += n);
                    let entry = total.entry("slowest ms".to_owned()).or_default();
                    *entry = (*entry).max(slowest.as_millis() as u64);
                })
            })
            .collect();
        let ended: Vec<_> = readers.into_iter().map(|reader| reader.join()).collect();
        is_over.store(true, Relaxed);
        ended.into_iter().for_each(|reader| reader.expect("a reader fails"));
    });
    let outcomes = total.into_inner().expect("no panic");
    eprintln!("{outcomes:?} with {:?}", faulty.counts());
    assert!(outcomes["true"] > n_reads / 10, "{outcomes:?}");
    let n_faults: u64 = faulty.counts().values().sum();
    assert!(n_faults > n_reads / 100, "only {n_faults} faults");
    for fault in faults {
        let kind = fault.split(' ').next().expect("a kind");
        assert!(faulty.counts().contains_key(kind), "{kind} never happened");
    }
    // When all is well again all is there.
    let good = |chunk: &Chunk| match &chunk.truth {
        Some(truth) => std::fs::read(&chunk.path).is_ok_and(|bytes| bytes == *truth),
        None => !chunk.path.exists(),
    };
    for chunk in &chunks {
        crate::support::wait_until(&format!("{} is readable again", chunk.path.display()), || good(chunk));
    }
    let status: serde_json::Value = serde_json::from_str(&view.status_json()).expect("JSON");
    assert_eq!((&status["waiting"], &status["cache"]["waiting"]), (&0.into(), &0.into()), "{status}");
}

const FAULTS: [&str; 9] = [
    "eio-read 0.02",
    "short-read 0.3",
    "cut-read 0.02",
    "slow-read 0.02",
    "eio-open 0.01",
    "gone-open 0.01",
    "denied-open 0.01",
    "emfile-open 0.01",
    "eio-stat 0.005",
];

#[test]
fn every_read_of_a_failing_source_gives_the_true_bytes_or_an_error() {
    if cannot_mount() {
        return;
    }
    let (folder, models) = store(&[&CHECKED[..], &OTHERS[..]].concat());
    let faulty = Faulty::new(folder.path());
    let faults = [&FAULTS[..], &["denied-stat 0.005", "garbage-read 0.02 checked"]].concat();
    endure(&models, &faulty, Some(Duration::from_millis(100)), &faults, n_reads(4_000));
}

#[test]
fn so_does_every_read_where_the_source_is_not_followed() {
    if cannot_mount() {
        return;
    }
    let (folder, models) = store(&[&CHECKED[1..], &OTHERS[..2]].concat());
    let faulty = Faulty::new(folder.path());
    let faults = [&FAULTS[..8], &["garbage-read 0.02 checked"]].concat();
    endure(&models, &faulty, None, &faults, n_reads(2_000));
}
