//! Decoded data kept on disk: right for any chunking, nothing decoded twice, and never worse than no cache at all.

use crate::reference::{Case, case, read};
use crate::stores::{Codec, Model};
use proptest::prelude::*;
use rechunkfs::view::{CacheDir, Node, Options, View};
use rechunkfs::zarr::{KeyEncoding, KeyStyle};
use serde_json::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What fails here.
mod faults;

const PATIENCE: Duration = Duration::from_secs(20);

fn counts(view: &View) -> Value {
    serde_json::from_str(&view.status_json()).expect("JSON")
}

fn count(view: &View, key: &str) -> u64 {
    let counts = counts(view);
    counts.get(key).or_else(|| counts["source_counts"].get(key)).and_then(Value::as_u64).expect(key)
}

/// Source files changed a moment ago are not kept.
fn let_them_age() {
    std::thread::sleep(Duration::from_millis(60));
}

/// Every file of the record folder, with its size.
fn records(cache: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for family in cache.join("rechunkfs-1").read_dir().into_iter().flatten().flatten().filter(|e| e.path().is_dir()) {
        for record in family.path().read_dir().into_iter().flatten().flatten() {
            if let Ok(metadata) = record.metadata() {
                found.push((record.path(), metadata.len()));
            }
        }
    }
    found.sort();
    found
}

fn open_case(case: &Case, store: &Path, cache: &Path, max_tile_bytes: u64) -> Arc<View> {
    let cache_dir = Some(CacheDir { path: cache.to_owned(), limit_bytes: 1 << 30 });
    let options =
        Options { memory_bytes: 128 << 20, threads: 2, max_tile_bytes: Some(max_tile_bytes), cache_dir, follow: None };
    View::open(store, case.projection(), options).expect("opens")
}

/// The files that there are, with their bytes.
fn files_of(case: &Case, view: &View) -> Vec<(Node, Vec<u8>)> {
    let present = case.files().into_iter().filter_map(|(name, truth)| Some((name, truth?)));
    present.map(|(name, truth)| (view.lookup(&view.root(), OsStr::new(&name)).expect("present").0, truth)).collect()
}

/// Random reads in two views that share a folder, in turns; then one that is opened again, and reads everything.
fn check(case: &Case) {
    let [store, cache] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    case.model.write(store.path());
    let_them_age();
    let max_tile_bytes = case.max_tile_bytes.unwrap_or(3000);
    let views = [(); 2].map(|()| open_case(case, store.path(), cache.path(), max_tile_bytes));
    let files = files_of(case, &views[0]);
    if files.is_empty() {
        return;
    }
    let mut nth = 0;
    for round in 0..4 {
        for (a, b, c) in &case.ranges {
            nth += 1;
            let (node, truth) = &files[usize::from(a.rotate_left(round)) % files.len()];
            let start = usize::from(*b) % truth.len().max(1);
            let end = (start + usize::from(c.rotate_left(round)) % truth.len().max(1)).min(truth.len());
            let view = &views[nth % 2];
            assert_eq!(read(view, node, start as u64, (end - start) as u64).expect("reads"), truth[start..end]);
        }
    }
    for (node, truth) in &files {
        assert_eq!(read(&views[0], node, 0, truth.len() as u64).expect("reads"), *truth);
    }
    views.iter().for_each(|view| view.finish(PATIENCE));
    views.iter().for_each(|view| assert_eq!(count(view, "disk_errors"), 0, "{}", counts(view)));
    let decoded = count(&views[0], "blocks") + count(&views[1], "blocks");
    drop(views);
    let again = open_case(case, store.path(), cache.path(), max_tile_bytes);
    for (node, truth) in files.iter().rev() {
        assert_eq!(read(&again, node, 0, truth.len() as u64).expect("reads"), *truth);
    }
    assert_eq!(count(&again, "blocks"), 0, "of {decoded}: {}", counts(&again));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn any_chunking_is_right_and_a_second_mount_decodes_nothing(case in case()) {
        check(&case);
    }
}

/// Every chunk of a store that is several times larger than the cache, in an order that looks random, twice; checked.
/// Returns the blocks decoded.
fn read_in_disorder(view: &Arc<View>, model: &Model, chunk_shape: &[u64]) -> u64 {
    let n_chunks = model.shape[0].div_ceil(chunk_shape[0]);
    for nth in 0..2 * n_chunks {
        // Coprime with the number of chunks: each comes once before any comes twice.
        let chunk = nth * 101 % n_chunks;
        let (node, stat) = view.lookup(&view.root(), OsStr::new(&format!("c.{chunk}.0.0"))).expect("present");
        let bytes = read(view, &node, 0, stat.size_bytes).expect("reads");
        assert_eq!(bytes, model.virtual_chunk(&[chunk, 0, 0], chunk_shape), "chunk {chunk}");
    }
    count(view, "blocks")
}

#[test]
fn any_order_decodes_each_block_once_seams_included_with_a_fraction_of_the_data_in_memory() {
    let chunk_shape = [7, 17, 23];
    let model = Model {
        shape: vec![4000, 17, 23],
        file_shape: vec![4000, 17, 1],
        inner_shape: None,
        order: vec![0, 1, 2],
        codec: Codec::Blosc { block_bytes: 128 },
        item_bytes: 4,
        fill: vec![0, 0, 0xc0, 0x7f],
        key_encoding: KeyEncoding { style: KeyStyle::Default, separator: '/' },
        data: (0..4000 * 17 * 23u32).flat_map(|i| (i.wrapping_mul(2_654_435_761) >> (i % 9)).to_le_bytes()).collect(),
        missing: vec![3, 11],
    };
    let [store, cache] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    model.write_fast(store.path());
    let_them_age();
    let open = |memory_bytes, max_tile_bytes, cache_dir| {
        let options = Options { memory_bytes, threads: 2, max_tile_bytes, cache_dir, follow: None };
        View::open(store.path(), model.projection(&chunk_shape, None), options).expect("opens")
    };
    let n_blocks = read_in_disorder(&open(256 << 20, None, None), &model, &chunk_shape);
    let small = Some(130_000);
    let without = read_in_disorder(&open(128 << 20, small, None), &model, &chunk_shape);
    assert!(without > n_blocks * 3 / 2, "the cache is turned over: {without} of {n_blocks}");
    let cache_dir = Some(CacheDir { path: cache.path().to_owned(), limit_bytes: 1 << 30 });
    let view = open(128 << 20, small, cache_dir.clone());
    assert_eq!(read_in_disorder(&view, &model, &chunk_shape), n_blocks, "{}", counts(&view));
    view.finish(PATIENCE);
    let again = open(128 << 20, small, cache_dir);
    assert_eq!(read_in_disorder(&again, &model, &chunk_shape), 0, "{}", counts(&again));
    assert_eq!(count(&again, "disk_errors"), 0);
}
