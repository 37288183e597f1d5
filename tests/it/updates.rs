//! Copies brought up to date, against copies made anew: whatever happens to the source, and whenever an update is stopped.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

/// A source that changes.
mod source;

use crate::copies::{RECORDS, files_below};
use crate::reference::{Case, case};
use proptest::prelude::*;
use rechunkfs::materialize::{
    CopyError, Options, Progress, Sources, Updated, VerifyOptions, Words, copy, plan_update, update, verify,
};
use rechunkfs::source::{Counters, hierarchy};
use rechunkfs::zarr::{Layout, project_copy};
use source::{Event, Source, event};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What happens to the copy.
#[derive(Debug, Clone)]
enum Mishap {
    None,
    /// The update is stopped after so many microseconds.
    Stopped(u64),
    /// What the copy knows of its source is lost, or damaged.
    Lost,
    Damaged(u16),
}

fn mishap() -> impl Strategy<Value = Mishap> {
    prop_oneof![
        5 => Just(Mishap::None),
        3 => (0u64..4000).prop_map(Mishap::Stopped),
        1 => Just(Mishap::Lost),
        1 => any::<u16>().prop_map(Mishap::Damaged),
    ]
}

/// How the copy is made.
struct Way {
    layout: Layout,
    max_tile_bytes: Option<u64>,
    always_spool: bool,
}

impl Way {
    fn new(case: &Case, always_spool: bool) -> Self {
        let lengths = |lengths: &[u64]| {
            let lengths: Vec<String> = lengths.iter().enumerate().map(|(axis, len)| format!("{axis}={len}")).collect();
            lengths.join(",")
        };
        let layout = Layout {
            chunks: vec![lengths(case.chunk_shape())],
            shards: if case.is_sharded() { vec![lengths(&case.file_shape())] } else { Vec::new() },
            array_globs: vec!["**".to_owned()],
            ..Layout::default()
        };
        Way { layout, max_tile_bytes: case.max_tile_bytes, always_spool }
    }

    fn options(&self, source: &Path, target: &Path) -> Options {
        Options {
            source: (&source.canonicalize().unwrap()).into(),
            target: target.to_owned(),
            memory_bytes: 96 << 20,
            threads: 2,
            temp: None,
            resume: false,
            overwrite: false,
            keep_going: false,
            verify: false,
            max_tile_bytes: self.max_tile_bytes,
            always_spool: self.always_spool,
            lives: false,
            words: Words { layout: self.layout.words(), codecs: String::new() },
        }
    }

    fn copy(&self, source: &Path, target: &Path) {
        let hierarchy = hierarchy::read(source).unwrap();
        let projection = project_copy(&hierarchy, &self.layout, &[]).unwrap();
        let options = self.options(source, target);
        copy(&hierarchy, projection, &options, &Progress::default(), &Arc::new(Counters::default())).unwrap();
    }

    fn update(&self, source: &Path, target: &Path, progress: &Progress) -> Result<Updated, CopyError> {
        let sources = Sources {
            hierarchy: &hierarchy::read(source).unwrap(),
            layout: &self.layout,
            codecs: &[],
            options: &self.options(source, target),
            counters: &Arc::new(Counters::default()),
        };
        update(&sources, progress, &mut |_| {})
    }
}

/// Where the records of a copy lie.
fn records(target: &Path) -> Vec<PathBuf> {
    let arrays = ["a", "column", "g/other"].map(|path| target.join(path));
    arrays.iter().flat_map(|array| RECORDS.map(|record| array.join(record))).filter(|path| path.exists()).collect()
}

fn assert_same_tree(got: &Path, want: &Path) {
    let (got, want) = (files_below(got), files_below(want));
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&got), names(&want));
    for (name, bytes) in &want {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(got[name] == *bytes, "{name}: {:?} is not {:?}", text(&got[name]), text(bytes));
    }
}

fn check(case: &Case, always_spool: bool, steps: &[(Vec<Event>, Mishap)]) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut source = Source::new(&at("source"), case);
    let (way, target) = (Way::new(case, always_spool), at("target"));
    way.copy(&source.root, &target);
    for (nth, (events, mishap)) in steps.iter().enumerate() {
        events.iter().for_each(|event| source.happen(event));
        match mishap {
            Mishap::None => {}
            Mishap::Lost => records(&target).iter().for_each(|path| std::fs::remove_file(path).unwrap()),
            Mishap::Damaged(byte) => {
                for path in records(&target) {
                    let mut bytes = std::fs::read(&path).unwrap();
                    let at = usize::from(*byte) % bytes.len();
                    bytes[at] ^= 1;
                    std::fs::write(&path, bytes).unwrap();
                }
            }
            Mishap::Stopped(micros) => {
                let progress = Progress::default();
                let stopped = std::thread::scope(|scope| {
                    scope.spawn(|| {
                        std::thread::sleep(Duration::from_micros(*micros));
                        progress.stop();
                    });
                    way.update(&source.root, &target, &progress)
                });
                assert!(matches!(stopped, Ok(_) | Err(CopyError::Stopped)), "{stopped:?}");
                // The source goes on before the next.
                if nth + 1 < steps.len() {
                    continue;
                }
            }
        }
        let is_known = matches!(mishap, Mishap::None | Mishap::Stopped(_));
        let updated = way.update(&source.root, &target, &Progress::default()).unwrap();
        assert!(updated.failures.is_empty() && updated.left.is_empty(), "{updated:?}");
        let again = way.update(&source.root, &target, &Progress::default()).unwrap();
        assert!(again.plan.is_empty() && !again.is_changed, "{again:?}");
        let fresh = at(&format!("fresh-{nth}"));
        way.copy(&source.root, &fresh);
        let options = VerifyOptions { memory_bytes: 96 << 20, threads: 2, sample: None, max_tile_bytes: None };
        let progress = Progress::default();
        let comparison = verify(&source.root, &target, &options, &progress, &Arc::new(Counters::default())).unwrap();
        if is_known {
            assert!(comparison.is_equal(), "{comparison:?}");
            assert_same_tree(&target, &fresh);
        } else {
            // What went from the source while nothing was known of the copy stays.
            let is_there = |path: &str| source.root.join(path).exists();
            let differing = comparison.arrays.iter().filter(|array| array.is_different() || array.error.is_some());
            assert!(differing.map(|array| &array.path).all(|path| !is_there(path)), "{comparison:?}");
            std::fs::remove_dir_all(&target).unwrap();
            way.copy(&source.root, &target);
        }
        assert_eq!(
            std::fs::read_dir(folder.path())
                .unwrap()
                .filter(|entry| { entry.as_ref().unwrap().file_name().to_string_lossy().contains("partial") })
                .count(),
            0,
            "nothing is left beside it"
        );
    }
}

fn steps() -> impl Strategy<Value = Vec<(Vec<Event>, Mishap)>> {
    prop::collection::vec((prop::collection::vec(event(), 0..5), mishap()), 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn an_update_gives_what_a_copy_made_anew_gives(case in case(), always_spool in any::<bool>(), steps in steps()) {
        prop_assume!(!case.model.shape.is_empty() && case.model.shape.len() <= 3);
        check(&case, always_spool, &steps);
    }
}

#[test]
fn an_array_that_is_out_of_reach_is_no_array_without_chunks() {
    let (folder, case) = (tempfile::tempdir().unwrap(), some_case());
    let at = |name: &str| folder.path().join(name);
    let source = Source::new(&at("source"), &case);
    let (way, target) = (Way::new(&case, false), at("target"));
    way.copy(&source.root, &target);
    let before = files_below(&target);
    // Its documents are read, and then its folder goes.
    let hierarchy = hierarchy::read(&source.root).unwrap();
    std::fs::rename(source.root.join("a"), at("away")).unwrap();
    let options = way.options(&source.root, &target);
    let counters = Arc::new(Counters::default());
    let sources =
        Sources { hierarchy: &hierarchy, layout: &way.layout, codecs: &[], options: &options, counters: &counters };
    let updated = update(&sources, &Progress::default(), &mut |_| {});
    let same = files_below(&target) == before;
    assert!(updated.is_err() && same, "{updated:?}, and the copy is the same: {same}");
}

#[test]
fn a_file_that_is_being_written_is_no_file_that_has_been_copied() {
    let (folder, case) = (tempfile::tempdir().unwrap(), some_case());
    let at = |name: &str| folder.path().join(name);
    let source = Source::new(&at("source"), &case);
    let (way, target) = (Way::new(&case, false), at("target"));
    way.copy(&source.root, &target);
    let (log, is_over) = (source.root.join("log"), std::sync::atomic::AtomicBool::new(false));
    std::fs::write(&log, "0").unwrap();
    let plan = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                std::fs::write(&log, "1").unwrap();
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let hierarchy = hierarchy::read(&source.root).unwrap();
        let options = way.options(&source.root, &target);
        let counters = Arc::new(Counters::default());
        let sources =
            Sources { hierarchy: &hierarchy, layout: &way.layout, codecs: &[], options: &options, counters: &counters };
        let plan = plan_update(&sources, &Progress::default());
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        plan.unwrap()
    });
    assert_eq!((plan.is_empty(), plan.passed_files), (false, 1), "{plan:?}");
    way.update(&source.root, &target, &Progress::default()).unwrap();
    assert_eq!(std::fs::read_to_string(target.join("log")).unwrap(), "1");
}

/// An array of which something is there.
fn some_case() -> Case {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let is_good = |case: &Case| case.model.shape.len() == 2 && case.model.missing.is_empty() && !case.is_sharded();
    loop {
        let found = case().new_tree(&mut runner).unwrap().current();
        if is_good(&found) && found.model.shape.iter().all(|len| *len > 1) {
            return found;
        }
    }
}
