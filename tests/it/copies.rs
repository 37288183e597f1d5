//! Copies against a dense array in memory: any chunking of any store, whole, and after any interruption.

use crate::reference::{Case, case};
use crate::stores::positions;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use rechunkfs::materialize::{CopyError, Options, Outcome, Progress, Words, copy, forecast};
use rechunkfs::source::Counters;
use rechunkfs::zarr::{ChunkEncoding, CopiedArray, CopyProjection, Hierarchy};
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use zarrs::array::{ArrayToBytesCodecTraits, CodecChain, CodecOptions, DataType, FillValue};
use zarrs::metadata::v3::MetadataV3;

/// Codecs of copies.
const CODECS: [&[&str]; 4] = [
    &[],
    &[r#"{"name":"zstd","configuration":{"level":1,"checksum":false}}"#],
    &[r#"{"name":"gzip","configuration":{"level":1}}"#, r#"{"name":"crc32c"}"#],
    &[r#"{"name":"blosc","configuration":{"cname":"lz4","clevel":5,"shuffle":"shuffle","typesize":1,"blocksize":0}}"#],
];

/// What a copy keeps beside its chunks.
pub(crate) const RECORDS: [&str; 2] = [".rechunkfs", ".rechunkfs-passed"];

/// How a random store is copied.
#[derive(Debug, Clone)]
pub(crate) struct Copying {
    pub(crate) case: Case,
    codecs: &'static [&'static str],
    order: Vec<usize>,
    /// Through temporary files.
    always_spool: bool,
}

pub(crate) fn copying() -> impl Strategy<Value = Copying> {
    (case(), prop::sample::select(CODECS.to_vec()), any::<[bool; 2]>()).prop_map(
        |(mut case, codecs, [turned, always_spool])| {
            if always_spool {
                // In large tiles there is nothing to be decoded again, and so nothing to put into a file.
                case.max_tile_bytes = Some(case.max_tile_bytes.map_or(64, |most| most % 96 + 4));
            }
            let mut order: Vec<usize> = (0..case.model.shape.len()).collect();
            if turned {
                order.reverse();
            }
            Copying { case, codecs, order, always_spool }
        },
    )
}

impl Copying {
    pub(crate) fn projection(&self) -> CopyProjection {
        let projection = self.case.projection();
        let array = projection.arrays[0].clone();
        let bytes_to_bytes = self.codecs.iter().map(|&json| json.to_owned()).collect();
        let encoding = ChunkEncoding { order: self.order.clone(), bytes_to_bytes };
        let copied = vec![CopiedArray { key_encoding: array.source.key_encoding, array, encoding }];
        CopyProjection { projection, copied, notices: Vec::new(), appends: Vec::new() }
    }

    /// The elements of a target file, from its bytes: zarrs decides what they mean.
    fn decode(&self, shape: &[u64], bytes: Vec<u8>) -> Vec<u8> {
        let model = &self.case.model;
        let mut codecs = Vec::new();
        if !self.order.iter().copied().eq(0..self.order.len()) {
            codecs.push(format!(r#"{{"name":"transpose","configuration":{{"order":{:?}}}}}"#, self.order));
        }
        codecs.push(r#"{"name":"bytes"}"#.to_owned());
        codecs.extend(self.codecs.iter().map(|&json| json.to_owned()));
        if self.case.is_sharded() {
            let inner = self.case.chunk_shape();
            codecs = vec![format!(
                r#"{{"name":"sharding_indexed","configuration":{{"chunk_shape":{inner:?},"codecs":[{}],"index_codecs":[{{"name":"bytes","configuration":{{"endian":"little"}}}},{{"name":"crc32c"}}]}}}}"#,
                codecs.join(",")
            )];
        }
        let metadata: Vec<MetadataV3> = codecs.iter().map(|json| serde_json::from_str(json).expect("valid")).collect();
        let chain = CodecChain::from_metadata(&metadata).expect("supported");
        let raw_type = format!("\"r{}\"", 8 * model.item_bytes);
        let raw_type: MetadataV3 = serde_json::from_str(&raw_type).expect("valid");
        let data_type = DataType::from_metadata(&raw_type).expect("a raw type");
        let shape: Vec<NonZeroU64> = shape.iter().map(|&n| NonZeroU64::new(n).expect("not 0")).collect();
        let fill = FillValue::new(model.fill.clone());
        let decoded = chain.decode(bytes.into(), &shape, &data_type, &fill, &CodecOptions::default()).expect("decodes");
        decoded.into_fixed().expect("fixed size").into_owned()
    }

    /// The truth about every target file: its key, and its elements unless all are fill value.
    fn truth(&self) -> Vec<(String, Option<Vec<u8>>)> {
        let (case, model) = (&self.case, &self.case.model);
        let file_shape = case.file_shape();
        let grid: Vec<u64> = model.shape.iter().zip(&file_shape).map(|(n, file)| n.div_ceil(*file)).collect();
        positions(&grid)
            .map(|file| {
                let elements: Vec<u8> = positions(&file_shape)
                    .flat_map(|within| {
                        let at: Vec<u64> = (0..file.len()).map(|a| file[a] * file_shape[a] + within[a]).collect();
                        model.truth(&at).to_vec()
                    })
                    .collect();
                let is_fill = elements.chunks_exact(model.item_bytes).all(|item| item == model.fill);
                (model.key(&file), (!is_fill).then_some(elements))
            })
            .collect()
    }

    fn check(&self, target: &Path) {
        let mut files = files_below(target);
        assert!(files.remove("zarr.json").is_some(), "the document is there");
        assert!(RECORDS.iter().all(|record| files.remove(*record).is_some()), "it knows of what it is a copy");
        for (key, elements) in self.truth() {
            match (files.remove(&key), elements) {
                (None, None) => {}
                (Some(bytes), Some(elements)) => {
                    assert_eq!(self.decode(&self.case.file_shape(), bytes), elements, "{key}");
                }
                (found, truth) => panic!("{key}: there {}, should be {}", found.is_some(), truth.is_some()),
            }
        }
        assert!(files.is_empty(), "nobody asked for {:?}", files.keys());
    }

    pub(crate) fn run(&self, source: &Path, target: &Path, resume: bool) -> Result<Outcome, CopyError> {
        self.run_with(source, target, resume, 96 << 20, &Progress::default())
    }

    pub(crate) fn options(&self, source: &Path, target: &Path, resume: bool, memory_bytes: u64) -> Options {
        Options {
            source: source.into(),
            target: target.to_owned(),
            memory_bytes,
            threads: 2,
            temp: None,
            resume,
            overwrite: false,
            keep_going: false,
            verify: false,
            max_tile_bytes: self.case.max_tile_bytes,
            always_spool: self.always_spool,
            lives: false,
            words: Words::default(),
        }
    }

    fn run_with(
        &self,
        source: &Path,
        target: &Path,
        resume: bool,
        memory_bytes: u64,
        progress: &Progress,
    ) -> Result<Outcome, CopyError> {
        let options = self.options(source, target, resume, memory_bytes);
        copy(&Hierarchy::default(), self.projection(), &options, progress, &Arc::new(Counters::default()))
    }
}

/// Every file below a folder, by its path there.
pub(crate) fn files_below(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in std::fs::read_dir(&at).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let key = path.strip_prefix(folder).expect("below").display().to_string();
                files.insert(key, std::fs::read(&path).expect("read"));
            }
        }
    }
    files
}

/// Else the tests below would hold whatever a temporary file does.
#[test]
fn random_copies_take_one_pass_and_two_and_three() {
    let mut runner = TestRunner::deterministic();
    let mut counts = BTreeMap::new();
    for _ in 0..200 {
        let copying = copying().new_tree(&mut runner).expect("a case").current();
        let folder = tempfile::tempdir().expect("a folder");
        let source = folder.path().canonicalize().expect("there");
        copying.case.model.write(&source);
        let options = copying.options(&source, &source.join("target"), false, 96 << 20);
        let forecast = forecast(&copying.projection(), &options, None, false).expect("foretold");
        *counts.entry(forecast.arrays[0].passes).or_insert(0) += 1;
    }
    assert!(counts.len() == 3 && counts.iter().all(|(passes, n)| (1..=3).contains(passes) && *n >= 10), "{counts:?}");
}

#[test]
fn a_source_that_is_out_of_reach_is_no_source_without_chunks() {
    let mut runner = TestRunner::deterministic();
    let mut cases = std::iter::repeat_with(|| copying().new_tree(&mut runner).expect("a case").current());
    let copying =
        cases.find(|copying| copying.truth().iter().any(|(_, elements)| elements.is_some())).expect("endless");
    let folder = tempfile::tempdir().expect("a folder");
    let target = folder.path().join("target");
    // Its documents were read, and then its disk went.
    let source = folder.path().join("mount-point");
    std::fs::create_dir(&source).expect("a folder");
    let copied = copying.run(&source, &target, false);
    assert!(copied.is_err() && !target.exists(), "{copied:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_copy_of_any_store_holds_the_dense_array(copying in copying()) {
        let folder = tempfile::tempdir().expect("a folder");
        let (source, target) = (folder.path().join("source"), folder.path().join("target"));
        std::fs::create_dir(&source).expect("a folder");
        let source = source.canonicalize().expect("there");
        copying.case.model.write(&source);
        copying.run(&source, &target, false).expect("copied");
        copying.check(&target);
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 2, "nothing is left beside it");
        let again = copying.run(&source, &target, true).expect_err("refused");
        prop_assert!(matches!(again, CopyError::TargetExists(_)), "{again}");
    }

    #[test]
    fn one_pass_or_two_the_bytes_are_the_same(copying in copying()) {
        let folder = tempfile::tempdir().expect("a folder");
        let source = folder.path().join("source");
        std::fs::create_dir(&source).expect("a folder");
        let source = source.canonicalize().expect("there");
        copying.case.model.write(&source);
        let mut in_small_tiles = copying.clone();
        in_small_tiles.case.max_tile_bytes = Some(64);
        in_small_tiles.always_spool = true;
        let mut in_large_tiles = copying;
        in_large_tiles.case.max_tile_bytes = None;
        in_large_tiles.always_spool = false;
        let written = [in_small_tiles, in_large_tiles].map(|copying| {
            let target = folder.path().join(format!("target-{}", copying.always_spool));
            copying.run(&source, &target, false).expect("copied");
            files_below(&target)
        });
        prop_assert!(written[0] == written[1]);
    }
}

proptest! {
    // Each of them syncs the disk a few times.
    #![proptest_config(ProptestConfig { cases: 80, ..ProptestConfig::default() })]

    /// Stopped whenever, with another memory each time, its temporary file lost at times: the tree is the one of a copy that was never stopped.
    #[test]
    fn a_copy_that_is_stopped_again_and_again_becomes_the_same_tree(
        copying in copying(),
        moments in prop::collection::vec((0u64..3000, 80u64..200, any::<bool>()), 3),
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let (source, target) = (folder.path().join("source"), folder.path().join("target"));
        std::fs::create_dir(&source).expect("a folder");
        let source = source.canonicalize().expect("there");
        copying.case.model.write(&source);
        for (micros, memory_mib, loses_temp) in moments {
            let progress = Progress::default();
            let stopped = std::thread::scope(|scope| {
                scope.spawn(|| {
                    std::thread::sleep(Duration::from_micros(micros));
                    progress.stop();
                });
                copying.run_with(&source, &target, true, memory_mib << 20, &progress)
            });
            match stopped {
                Ok(_) => break,
                Err(error) => prop_assert!(matches!(error, CopyError::Stopped), "{error}"),
            }
            // As on a scratch disk that is cleared.
            let temp = rechunkfs::materialize::partial_of(&target).join("temp");
            if loses_temp && temp.exists() {
                std::fs::remove_dir_all(temp).expect("removed");
            }
        }
        if !target.exists() {
            copying.run(&source, &target, true).expect("goes on to the end");
        }
        let whole = folder.path().join("whole");
        copying.run(&source, &whole, false).expect("copied");
        prop_assert_eq!(files_below(&target), files_below(&whole));
    }
}
