//! Comparisons of two stores: random ones against a dense array, and what `verify` says of each kind of difference.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

/// The command, and what it says.
mod command;

use crate::reference::{Case, case};
use crate::stores::{Codec, Model, positions, ravel};
use crate::support::Store;
use proptest::prelude::*;
use rechunkfs::materialize::{Comparison, CopyError, Options, Progress, Sample, VerifyOptions, Words, copy, verify};
use rechunkfs::source::{Counters, hierarchy};
use rechunkfs::zarr::{KeyEncoding, KeyStyle, Layout, project_copy};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// How a target is written.
#[derive(Debug, Clone)]
struct Other {
    case: Case,
    codec: Codec,
    is_turned: bool,
    threads: usize,
    /// Where the element is that differs, and which of its bits.
    spot: (u64, u8),
}

fn other() -> impl Strategy<Value = Other> {
    let codec =
        prop::sample::select(vec![Codec::Raw, Codec::Blosc { block_bytes: 32 }, Codec::Zstd, Codec::GzipThenCrc]);
    (case(), codec, any::<bool>(), 1usize..3, any::<(u64, u8)>())
        .prop_map(|(case, codec, is_turned, threads, spot)| Other { case, codec, is_turned, threads, spot })
}

impl Other {
    /// The same elements in the case's virtual chunks; the one at `changed` with another bit. Chunks of nothing but fill
    /// value are left out.
    fn model(&self, changed: Option<&[u64]>) -> Model {
        let ours = &self.case.model;
        let mut order: Vec<usize> = (0..ours.shape.len()).collect();
        if self.is_turned {
            order.reverse();
        }
        let mut model = Model {
            file_shape: self.case.file_shape(),
            inner_shape: self.case.is_sharded().then(|| self.case.chunk_shape().to_vec()),
            order,
            codec: self.codec,
            key_encoding: KeyEncoding { style: KeyStyle::Default, separator: '.' },
            data: Vec::new(),
            missing: Vec::new(),
            ..ours.clone()
        };
        let is_inside = |at: &[u64]| at.iter().zip(&ours.shape).all(|(i, n)| i < n);
        let padded = model.padded_shape();
        for at in positions(&padded) {
            // Nobody looks at what lies beyond the array.
            let mut item = if is_inside(&at) { ours.truth(&at).to_vec() } else { vec![0xee; ours.item_bytes] };
            if changed == Some(&at[..]) {
                item[usize::from(self.spot.1) % ours.item_bytes] ^= 1 << (self.spot.1 % 8);
            }
            model.data.extend(item);
        }
        let leaf_shape = model.leaf_shape().to_vec();
        let is_fill = |leaf: &Vec<u64>| {
            positions(&leaf_shape).all(|within| {
                let at: Vec<u64> = (0..leaf.len()).map(|a| leaf[a] * leaf_shape[a] + within[a]).collect();
                let from = ravel(&at, &padded) as usize * ours.item_bytes;
                !is_inside(&at) || model.data[from..from + ours.item_bytes] == model.fill
            })
        };
        let grid = model.leaf_grid();
        model.missing = positions(&grid).filter(is_fill).map(|leaf| ravel(&leaf, &grid)).collect();
        model
    }

    fn compare(&self, source: &Path, target: &Path, sample: Option<Sample>) -> Comparison {
        let max_tile_bytes = self.case.max_tile_bytes;
        let options = VerifyOptions { memory_bytes: 96 << 20, threads: self.threads, sample, max_tile_bytes };
        let progress = Progress::default();
        let comparison = verify(source, target, &options, &progress, &Arc::new(Counters::default())).unwrap();
        assert_eq!(progress.done_bytes.load(Relaxed), progress.total_bytes.load(Relaxed));
        assert_eq!(comparison.bytes(), progress.total_bytes.load(Relaxed));
        comparison
    }

    fn check(&self) {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let ours = &self.case.model;
        put(ours, &at("source"));
        put(&self.model(None), &at("target"));
        let n_elems: u64 = ours.shape.iter().product();
        for (from, to) in [("source", "target"), ("target", "source"), ("target", "target")] {
            let comparison = self.compare(&at(from), &at(to), None);
            assert!(comparison.is_equal() && comparison.elements() == n_elems, "{from} {to}: {comparison:?}");
        }
        if n_elems == 0 {
            return;
        }
        let spot = positions(&ours.shape).nth((self.spot.0 % n_elems) as usize).unwrap();
        put(&self.model(Some(&spot)), &at("changed"));
        let mut told = Vec::new();
        for (from, to) in [("source", "changed"), ("changed", "source")] {
            let comparison = self.compare(&at(from), &at(to), None);
            let [array] = &comparison.arrays[..] else { panic!("{comparison:?}") };
            assert_eq!((array.differences, array.elements), (1, n_elems), "{from} {to}: {comparison:?}");
            assert_eq!(array.first[0].at, spot);
            assert_ne!(array.first[0].source, array.first[0].target);
            told.push([array.first[0].source.clone(), array.first[0].target.clone()]);
        }
        told[1].reverse();
        assert_eq!(told[0], told[1], "each value is said of the store that has it");
        let sample = |chunks| Some(Sample { chunks, seed: self.spot.0 });
        let some = self.compare(&at("source"), &at("changed"), sample(2));
        assert!(some.differences() <= 1 && some.elements() > 0 && some.elements() <= n_elems);
        assert_eq!(some, self.compare(&at("source"), &at("changed"), sample(2)), "the seed decides");
        let all = self.compare(&at("source"), &at("changed"), sample(1 << 40));
        assert_eq!((all.differences(), all.elements()), (1, n_elems));
    }
}

/// Writes a store that is one array.
fn put(model: &Model, root: &Path) {
    std::fs::create_dir(root).unwrap();
    std::fs::write(root.join("zarr.json"), model.document()).unwrap();
    model.write(root);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn any_two_chunkings_compare_by_their_elements(other in other()) {
        other.check();
    }
}

/// One large chunk that cannot be entered, and many small ones, in memory for a few of these: gone through in units of the
/// small ones, the large one would be decoded again and again.
#[test]
fn either_way_round_both_are_decoded_once() {
    let folder = tempfile::tempdir().unwrap();
    let large = Model {
        shape: vec![40, 64],
        file_shape: vec![40, 64],
        inner_shape: None,
        order: vec![0, 1],
        codec: Codec::Chain(&[
            r#"{"name":"zstd","configuration":{"level":1,"checksum":true}}"#,
            r#"{"name":"crc32c"}"#,
        ]),
        item_bytes: 8,
        fill: vec![0; 8],
        key_encoding: KeyEncoding { style: KeyStyle::Default, separator: '.' },
        data: (0..40 * 64 * 8u32).map(|i| (i / 3 % 251) as u8).collect(),
        missing: Vec::new(),
    };
    let small = Model { file_shape: vec![40, 1], ..large.clone() };
    let [large_at, small_at] = ["large", "small"].map(|name| folder.path().join(name));
    put(&large, &large_at);
    put(&small, &small_at);
    for (from, to) in [(&large_at, &small_at), (&small_at, &large_at)] {
        let options =
            VerifyOptions { memory_bytes: 96 << 20, threads: 2, sample: None, max_tile_bytes: Some(4 * 40 * 8) };
        let counters = Arc::new(Counters::default());
        let comparison = verify(from, to, &options, &Progress::default(), &counters).unwrap();
        assert!(comparison.is_equal() && comparison.elements() == 40 * 64, "{comparison:?}");
        assert_eq!(counters.values().decoded_bytes, 2 * 40 * 64 * 8, "{}", from.display());
    }
}

#[test]
fn a_comparison_stops_when_it_is_asked_to() {
    let store = Store::new();
    let options = VerifyOptions { memory_bytes: 96 << 20, threads: 2, sample: None, max_tile_bytes: None };
    let progress = Progress::default();
    progress.stop();
    let stopped = verify(&store.source(), &store.source(), &options, &progress, &Arc::new(Counters::default()));
    assert!(matches!(stopped, Err(CopyError::Stopped)), "{stopped:?}");
}

#[test]
fn a_copy_that_is_not_what_its_source_is_does_not_appear() {
    let store = Store::new();
    let (source, target) = (store.source(), store.path("copy.zarr"));
    let hierarchy = hierarchy::read(&source).unwrap();
    let layout = Layout { along: Some("epoch".to_owned()), chunk_size_bytes: 1 << 20, ..Layout::default() };
    let mut projection = project_copy(&hierarchy, &layout, &[]).unwrap();
    // As if a fault had written another document than was meant.
    let document = projection.projection.documents.get_mut("lightcurves").unwrap();
    *document = document.replace("\"epoch\"", "\"night\"");
    let options = Options {
        source: (&source).into(),
        target: target.clone(),
        memory_bytes: 96 << 20,
        threads: 2,
        resume: false,
        overwrite: false,
        keep_going: false,
        verify: true,
        max_tile_bytes: None,
        temp: None,
        always_spool: false,
        lives: false,
        words: Words::default(),
    };
    let counters = Arc::new(Counters::default());
    let error = copy(&hierarchy, projection, &options, &Progress::default(), &counters).unwrap_err();
    let said = error.to_string();
    let CopyError::Unverified { store: unfinished, comparison } = error else { panic!("{said}") };
    assert!(
        said.contains("1 of 2 arrays differs; nothing was published") && said.contains("copy.zarr.rechunkfs-partial")
    );
    assert!(!target.exists() && unfinished.join("lightcurves/c").is_dir());
    assert_eq!((comparison.differences(), comparison.elements()), (1, 28));
}
