//! A view that follows its source, against a model in memory: random writes, deletions, appends and resizes, with reads in
//! between of what is there now and of what was looked up before.

mod counts;

use crate::leaf::n_cases;
use crate::reference::read;
use crate::stores::{Codec, Model, positions, ravel};
use proptest::prelude::*;
use rechunkfs::source::hierarchy;
use rechunkfs::view::{Follow, Node, Options, View, ViewError};
use rechunkfs::zarr::{KeyEncoding, KeyStyle, Layout, project};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const FILL: [u8; 2] = [7, 9];

/// A source and what is in it.
struct Survey {
    folder: TempDir,
    /// How it is encoded, in its present shape.
    model: Model,
    /// The elements of each file that is there, padding included, and how often it was written.
    files: BTreeMap<Vec<u64>, (Vec<u8>, u64)>,
    n_writes: u64,
}

#[derive(Debug, Clone)]
enum Op {
    /// A source chunk is written, whether or not it is there already.
    Write {
        file: Vec<u64>,
        value: u8,
        by_rename: bool,
    },
    Delete {
        file: Vec<u64>,
    },
    /// An axis gets another length; what lies outside is left behind, as some writers do.
    Resize {
        axis: usize,
        len: u64,
    },
}

fn survey(shape: Vec<u64>, file_shape: Vec<u64>, codec: Codec) -> Survey {
    let model = Model {
        order: (0..shape.len()).collect(),
        inner_shape: None,
        codec,
        item_bytes: 2,
        fill: FILL.to_vec(),
        key_encoding: KeyEncoding { style: KeyStyle::Default, separator: '/' },
        data: Vec::new(),
        missing: Vec::new(),
        shape,
        file_shape,
    };
    let folder = tempfile::tempdir().expect("a directory");
    fs::write(folder.path().join("zarr.json"), model.document()).expect("writable");
    Survey { folder, model, files: BTreeMap::new(), n_writes: 0 }
}

impl Survey {
    fn root(&self) -> &Path {
        self.folder.path()
    }

    fn grid(&self) -> Vec<u64> {
        self.model.shape.iter().zip(&self.model.file_shape).map(|(n, file)| n.div_ceil(*file)).collect()
    }

    fn write(&mut self, file: &[u64], value: u8, by_rename: bool) {
        self.n_writes += 1;
        let n: u64 = self.model.file_shape.iter().product();
        // Whatever lies outside the array must never show.
        let bytes: Vec<u8> = (0..n).flat_map(|at| [value, (at + self.n_writes) as u8]).collect();
        if by_rename {
            let elsewhere = tempfile::tempdir_in(self.root()).expect("a directory");
            self.model.write_file(elsewhere.path(), file, bytes.clone());
            let path = self.root().join(self.model.key(file));
            fs::create_dir_all(path.parent().expect("below the root")).expect("a directory");
            fs::rename(elsewhere.path().join(self.model.key(file)), path).expect("renamed");
        } else {
            self.model.write_file(self.root(), file, bytes.clone());
        }
        self.files.insert(file.to_vec(), (bytes, self.n_writes));
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Write { file, value, by_rename } => {
                let file: Vec<u64> = file.iter().zip(self.grid()).map(|(at, n)| at % n.max(1)).collect();
                if self.grid().iter().all(|&n| n > 0) {
                    self.write(&file, *value, *by_rename);
                }
            }
            Op::Delete { file } => {
                let file: Vec<u64> = file.iter().zip(self.grid()).map(|(at, n)| at % n.max(1)).collect();
                if self.files.remove(&file).is_some() {
                    fs::remove_file(self.root().join(self.model.key(&file))).expect("it was there");
                }
            }
            Op::Resize { axis, len } => {
                let axis = axis % self.model.shape.len();
                self.model.shape[axis] = *len;
                let partial = self.root().join("zarr.json.partial");
                fs::write(&partial, self.model.document()).expect("writable");
                fs::rename(partial, self.root().join("zarr.json")).expect("renamed");
            }
        }
    }

    /// The files inside the array on which a virtual chunk draws, each with the write that it is of; absent ones without.
    fn footprint(&self, chunk: &[u64], chunk_shape: &[u64]) -> BTreeMap<Vec<u64>, Option<u64>> {
        let at = |within: Vec<u64>| -> Vec<u64> {
            (0..chunk.len()).map(|a| chunk[a] * chunk_shape[a] + within[a]).collect()
        };
        let inside = |at: &Vec<u64>| at.iter().zip(&self.model.shape).all(|(at, len)| at < len);
        let file = |at: Vec<u64>| -> Vec<u64> { at.iter().zip(&self.model.file_shape).map(|(at, n)| at / n).collect() };
        let files = positions(chunk_shape).map(at).filter(inside).map(file);
        files.map(|file| (file.clone(), self.files.get(&file).map(|(_, write)| *write))).collect()
    }

    /// The bytes of a virtual chunk, if there is one.
    fn truth(&self, chunk: &[u64], chunk_shape: &[u64]) -> Option<Vec<u8>> {
        if self.footprint(chunk, chunk_shape).values().all(Option::is_none) {
            return None;
        }
        let bytes = positions(chunk_shape).flat_map(|within| {
            let at: Vec<u64> = (0..chunk.len()).map(|a| chunk[a] * chunk_shape[a] + within[a]).collect();
            let file: Vec<u64> = at.iter().zip(&self.model.file_shape).map(|(at, n)| at / n).collect();
            let is_inside = at.iter().zip(&self.model.shape).all(|(at, len)| at < len);
            match self.files.get(&file).filter(|_| is_inside) {
                Some((bytes, _)) => {
                    let within: Vec<u64> = at.iter().zip(&self.model.file_shape).map(|(at, n)| at % n).collect();
                    let from = ravel(&within, &self.model.file_shape) as usize * 2;
                    [bytes[from], bytes[from + 1]]
                }
                None => FILL,
            }
        });
        Some(bytes.collect())
    }

    fn open(&self, chunk_shape: &[u64], max_tile_bytes: Option<u64>, refresh: Duration) -> Arc<View> {
        open(self.root(), chunk_shape, 96 << 20, max_tile_bytes, refresh)
    }
}

/// A view that follows the bare array at `root`.
fn open(
    root: &Path,
    chunk_shape: &[u64],
    memory_bytes: u64,
    max_tile_bytes: Option<u64>,
    refresh: Duration,
) -> Arc<View> {
    let spec: Vec<String> = chunk_shape.iter().enumerate().map(|(axis, len)| format!("{axis}={len}")).collect();
    let layout = Layout { chunks: vec![spec.join(",")], array_globs: vec!["**".to_owned()], ..Layout::default() };
    let projection = project(&hierarchy::read(root).expect("readable"), &layout).expect("can be shown");
    let follow = Some(Follow { layout, refresh });
    let options = Options { memory_bytes, threads: 2, max_tile_bytes, cache_dir: None, follow };
    View::open(root, projection, options).expect("opens")
}

/// What was looked up once: its bytes then, and what it drew on.
struct Kept {
    node: Node,
    chunk: Vec<u64>,
    bytes: Vec<u8>,
    footprint: BTreeMap<Vec<u64>, Option<u64>>,
}

fn array_of(node: &Node) -> Option<u32> {
    if let Node::Chunk { array, .. } = node { Some(*array) } else { None }
}

fn name(chunk: &[u64]) -> String {
    chunk.iter().fold("c".to_owned(), |name, i| format!("{name}.{i}"))
}

/// State of a virtual chunk as a program sees it: version and time.
type Seen = HashMap<Vec<u64>, (Node, i64, BTreeMap<Vec<u64>, Option<u64>>, Vec<u64>)>;

/// Compares everything that there is now with the model, and returns what was looked up. `is_small`, tiles are kept smaller
/// than arrays.
fn check_now(
    survey: &Survey,
    view: &Arc<View>,
    chunk_shape: &[u64],
    is_small: bool,
    before: &Seen,
) -> (Vec<Kept>, Seen) {
    let grid: Vec<u64> = survey.model.shape.iter().zip(chunk_shape).map(|(n, chunk)| n.div_ceil(*chunk)).collect();
    let (mut kept, mut seen, mut present) = (Vec::new(), Seen::new(), Vec::new());
    for chunk in positions(&grid) {
        let truth = survey.truth(&chunk, chunk_shape);
        match (view.lookup(&view.root(), OsStr::new(&name(&chunk))), truth) {
            (Err(ViewError::NotFound), None) => {}
            (Ok((node, stat)), Some(truth)) => {
                assert_eq!(stat.size_bytes, truth.len() as u64);
                assert_eq!(view.stat(&node).expect("known"), stat);
                assert_eq!(read(view, &node, 0, stat.size_bytes).expect("reads"), truth, "{}", name(&chunk));
                let footprint = survey.footprint(&chunk, chunk_shape);
                let part: Vec<u64> = (0..chunk.len())
                    .map(|a| survey.model.shape[a].saturating_sub(chunk[a] * chunk_shape[a]).min(chunk_shape[a]))
                    .collect();
                if let Some((old, old_time, old_footprint, old_part)) = before.get(&chunk) {
                    let is_same = (old_footprint, old_part) == (&footprint, &part);
                    // Where tiles would become too large, the array is planned anew, and is another one from then on.
                    let is_planned_anew = array_of(old) != array_of(&node);
                    assert!(!is_planned_anew || is_small, "{}: a small array has room", name(&chunk));
                    assert_eq!(
                        *old == node,
                        is_same && !is_planned_anew,
                        "{}: the inode moves with the content",
                        name(&chunk)
                    );
                    assert_eq!(*old_time == stat.mtime_ns, is_same, "{}: so does the time", name(&chunk));
                }
                seen.insert(chunk.clone(), (node.clone(), stat.mtime_ns, footprint.clone(), part));
                present.push(name(&chunk));
                kept.push(Kept { node, chunk, bytes: truth, footprint });
            }
            (found, truth) => panic!("{}: {found:?} where {:?} is true", name(&chunk), truth.map(|bytes| bytes.len())),
        }
    }
    let mut listed = Vec::new();
    let list = view.list(&view.root(), 0, &mut |entry| {
        listed.extend(entry.name.to_str().filter(|name| name.starts_with("c.")).map(str::to_owned));
        true
    });
    list.expect("lists");
    listed.sort();
    present.sort();
    assert_eq!(listed, present);
    let (document, stat) = view.lookup(&view.root(), OsStr::new("zarr.json")).expect("there");
    let text = String::from_utf8(read(view, &document, 0, stat.size_bytes).expect("reads")).expect("UTF-8");
    assert!(text.contains(&format!("\"shape\":{:?}", survey.model.shape)), "{text}");
    (kept, seen)
}

/// Who has looked something up before reads what it was then or, only where that is no longer there, an error.
fn check_kept(survey: &Survey, view: &Arc<View>, kept: &[Kept]) {
    for Kept { node, chunk, bytes, footprint } in kept {
        let is_left = footprint
            .iter()
            .all(|(file, write)| write.is_none() || survey.files.get(file).map(|(_, now)| *now) == *write);
        match read(view, node, 0, bytes.len() as u64) {
            Ok(now) => assert_eq!(&now, bytes, "{}: as it was when it was looked up", name(chunk)),
            Err(error) if is_left => panic!("{}: appends disturb no reader: {error}", name(chunk)),
            Err(ViewError::Stale) => {}
            Err(ViewError::Source(error)) => assert!(error.to_string().contains("changed since"), "{error}"),
            Err(error) => panic!("{}: {error}", name(chunk)),
        }
    }
}

fn op(rank: usize) -> impl Strategy<Value = Op> {
    let file = || prop::collection::vec(0u64..12, rank);
    prop_oneof![
        6 => (file(), any::<u8>(), any::<bool>()).prop_map(|(file, value, by_rename)| Op::Write { file, value, by_rename }),
        2 => file().prop_map(|file| Op::Delete { file }),
        2 => (0..rank, 0u64..14).prop_map(|(axis, len)| Op::Resize { axis, len }),
    ]
}

#[derive(Debug, Clone)]
struct Case {
    shape: Vec<u64>,
    file_shape: Vec<u64>,
    chunk_shape: Vec<u64>,
    codec: Codec,
    max_tile_bytes: Option<u64>,
    rounds: Vec<Vec<Op>>,
}

fn case() -> impl Strategy<Value = Case> {
    (2usize..4).prop_flat_map(|rank| {
        let axis = prop::collection::vec((0u64..10, 1u64..5, 1u64..8), rank);
        let codec = prop_oneof![Just(Codec::Raw), Just(Codec::Blosc { block_bytes: 16 }), Just(Codec::Zstd)];
        let rounds = prop::collection::vec(prop::collection::vec(op(rank), 1..6), 1..7);
        (axis, codec, prop::option::of(8u64..400), rounds).prop_map(|(axes, codec, max_tile_bytes, rounds)| Case {
            shape: axes.iter().map(|axis| axis.0).collect(),
            file_shape: axes.iter().map(|axis| axis.1).collect(),
            chunk_shape: axes.iter().map(|axis| axis.2).collect(),
            codec,
            max_tile_bytes,
            rounds,
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: n_cases(30), max_shrink_iters: 100, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_to_the_source_shows_and_what_was_looked_up_stays(case in case()) {
        let mut survey = survey(case.shape.clone(), case.file_shape.clone(), case.codec);
        let view = survey.open(&case.chunk_shape, case.max_tile_bytes, Duration::ZERO);
        let mut kept: Vec<Kept> = Vec::new();
        let mut seen = Seen::new();
        for ops in &case.rounds {
            ops.iter().for_each(|op| survey.apply(op));
            // Some old ones before anything is looked up again, and all after that.
            let half = kept.len() / 2;
            check_kept(&survey, &view, &kept[half..]);
            let (now, seen_now) = check_now(&survey, &view, &case.chunk_shape, case.max_tile_bytes.is_some(), &seen);
            check_kept(&survey, &view, &kept);
            kept.extend(now);
            seen = seen_now;
        }
    }
}

#[test]
fn a_chunk_found_torn_is_read_once_it_is_whole() {
    let mut survey = survey(vec![8, 40], vec![8, 1], Codec::Blosc { block_bytes: 16 });
    survey.write(&[0, 0], 1, false);
    let view = survey.open(&[2, 40], None, Duration::ZERO);
    view.lookup(&view.root(), OsStr::new("c.1.0")).expect("present");
    for (nth, pause_ms) in (0..120).step_by(7).enumerate() {
        // One that has just come, and one that is rewritten.
        for file in [[0, nth as u64 + 1], [0, 0]] {
            let key = survey.root().join(survey.model.key(&file));
            fs::create_dir_all(key.parent().expect("below the root")).expect("a directory");
            fs::write(&key, vec![2; 20 * (nth % 2)]).expect("writable");
            // Long enough for it to look as if it were left alone.
            std::thread::sleep(Duration::from_millis(50));
            let (node, stat) = view.lookup(&view.root(), OsStr::new("c.1.0")).expect("present");
            std::thread::scope(|scope| {
                let reader = scope.spawn(|| read(&view, &node, 0, stat.size_bytes));
                std::thread::sleep(Duration::from_millis(pause_ms));
                survey.write(&file, nth as u8, false);
                match reader.join().expect("ends") {
                    Ok(bytes) => assert_eq!(bytes, survey.truth(&[1, 0], &[2, 40]).expect("present")),
                    // Nobody had found that it was torn: then it is another state like any.
                    Err(error) if file[1] == 0 && pause_ms < 50 => {
                        assert!(error.to_string().contains("changed since"), "{error}");
                    }
                    Err(error) => panic!("{file:?} after {pause_ms} ms: {error}"),
                }
            });
        }
    }
}

#[test]
fn an_array_that_goes_and_comes_back_is_the_same_and_its_documents_have_numbers_of_their_own() {
    let mut survey = survey(vec![4, 2], vec![4, 1], Codec::Raw);
    survey.write(&[0, 0], 1, true);
    let (store, away) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let (root, array, away) = (store.path(), store.path().join("a"), away.path().join("a"));
    let group = r#"{"zarr_format":3,"node_type":"group","attributes":{}}"#;
    fs::write(root.join("zarr.json"), group).expect("writable");
    for name in ["a", "b"] {
        fs::create_dir_all(root.join(name).join("c/0")).expect("writable");
        fs::copy(survey.root().join("zarr.json"), root.join(name).join("zarr.json")).expect("writable");
        fs::copy(survey.root().join("c/0/0"), root.join(name).join("c/0/0")).expect("writable");
    }
    let view = open(root, &[1, 2], 96 << 20, None, Duration::ZERO);
    let find = |name: &str| {
        let (folder, _) = view.lookup(&view.root(), OsStr::new("a"))?;
        view.lookup(&folder, OsStr::new(name))
    };
    let text = |node: &Node, len: u64| read(&view, node, 0, len).expect("reads");
    let (document, stat) = find("zarr.json").expect("there");
    let (before, (chunk, _)) = (text(&document, stat.size_bytes), find("c.0.0").expect("there"));
    for nth in 0..3 {
        fs::rename(&array, &away).expect("movable");
        assert!(matches!(find("zarr.json"), Err(ViewError::NotFound)), "it is gone");
        fs::rename(&away, &array).expect("movable");
        let changed = fs::read_to_string(array.join("zarr.json")).expect("readable");
        let changed = changed.replacen('{', &format!("{{\"attributes\":{{\"nth\":{nth}}},"), usize::from(nth == 0));
        fs::write(array.join("zarr.json"), changed.replace(&format!("\"nth\":{}", nth - 1), &format!("\"nth\":{nth}")))
            .expect("writable");
        let (now, _) = find("zarr.json").expect("back again");
        assert_ne!(now, document, "another text, another number");
        assert_eq!(text(&document, stat.size_bytes), before, "who has it open reads what it was");
        assert_eq!(find("c.0.0").expect("back again").0, chunk, "nothing about it has changed");
        assert_eq!(view.n_arrays(), 2, "kept for ever, and so not made anew each time");
    }
}
