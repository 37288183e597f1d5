//! What a view asks of its source, counted: each block decoded once, one build for any number of readers.

use crate::reference::read;
use crate::stores::{Codec, Model, ravel};
use crate::support::wait_until;
use rechunkfs::view::{Options, View};
use rechunkfs::zarr::{KeyEncoding, KeyStyle};
use serde_json::Value;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Arc, Barrier};

pub(crate) const BLOCK_BYTES: u64 = 256 << 10;

/// A survey in small: (object, value, epoch), cut by epoch; rows of 320 bytes, so that blocks end within an object.
pub(crate) fn survey(n_objects: u64, n_epochs: u64, missing: Vec<u64>) -> Model {
    let shape = vec![n_objects, 80, n_epochs];
    let n_bytes = shape.iter().product::<u64>() * 4;
    Model {
        file_shape: vec![n_objects, 80, 1],
        inner_shape: None,
        order: vec![0, 1, 2],
        // C-Blosc multiplies by the type size where it splits blocks into one stream per byte.
        codec: Codec::Blosc { block_bytes: BLOCK_BYTES / 4 },
        item_bytes: 4,
        fill: vec![0, 0, 0xc0, 0x7f],
        key_encoding: KeyEncoding { style: KeyStyle::Default, separator: '/' },
        data: (0..n_bytes).map(|i| ((i / 4) % 251 + i % 4) as u8).collect(),
        shape,
        missing,
    }
}

pub(crate) fn counts(view: &View) -> Value {
    serde_json::from_str(&view.status_json()).expect("JSON")
}

fn open(model: &Model, root: &Path, chunk_shape: &[u64], memory_bytes: u64) -> Arc<View> {
    let options = Options { memory_bytes, threads: 2, max_tile_bytes: None, cache_dir: None, follow: None };
    View::open(root, model.projection(chunk_shape, None), options).expect("opens")
}

/// Reads every virtual chunk in order, checks a few, and returns the blocks decoded.
pub(crate) fn sweep(model: &Model, view: &Arc<View>, chunk_shape: &[u64]) -> u64 {
    let n_chunks = model.shape[0].div_ceil(chunk_shape[0]);
    for chunk in 0..n_chunks {
        let (node, stat) = view.lookup(&view.root(), OsStr::new(&format!("c.{chunk}.0.0"))).expect("present");
        let bytes = read(view, &node, 0, stat.size_bytes).expect("reads");
        for (object, value, epoch) in
            [(0, 0, 0), (chunk_shape[0] / 2, 41, 3), (chunk_shape[0] - 1, 79, model.shape[2] - 1)]
        {
            let from = ravel(&[object, value, epoch], chunk_shape) as usize * 4;
            let truth = model.truth(&[chunk * chunk_shape[0] + object, value, epoch]);
            assert_eq!(&bytes[from..from + 4], truth, "chunk {chunk}, object {object}, epoch {epoch}");
        }
    }
    counts(view)["source_counts"]["blocks"].as_u64().expect("a number")
}

#[test]
fn a_sweep_decodes_each_block_once_seams_included_with_a_tenth_of_the_data_in_memory() {
    let model = survey(40_000, 24, vec![7, 13]);
    let store = tempfile::tempdir().expect("a directory");
    model.write_fast(store.path());
    let chunk_shape = [15, 80, 24];
    let chunk_bytes = 40_000 * 80 * 4;
    let n_blocks = 22 * u64::div_ceil(chunk_bytes, BLOCK_BYTES);
    // The least that this store can be served with: base, scratch for one source chunk, and a cache of 24 MiB.
    let view = open(&model, store.path(), &chunk_shape, 126 << 20);
    let cache_bytes = counts(&view)["cache"]["capacity_bytes"].as_u64().expect("a number");
    assert!(cache_bytes * 10 <= chunk_bytes * 24, "the cache holds a tenth of the data: {cache_bytes}");
    assert_eq!(sweep(&model, &view, &chunk_shape), n_blocks);
    assert!(counts(&view)["cache"]["evicted"].as_u64() > Some(0), "tiles were evicted on the way");
}

#[test]
fn a_read_of_one_object_decodes_one_block_per_epoch() {
    let model = survey(4_000, 10, vec![4]);
    let store = tempfile::tempdir().expect("a directory");
    model.write_fast(store.path());
    let view = open(&model, store.path(), &[15, 80, 10], 256 << 20);
    let (node, stat) = view.lookup(&view.root(), OsStr::new("c.100.0.0")).expect("present");
    assert_eq!(
        read(&view, &node, 0, stat.size_bytes).expect("reads"),
        model.virtual_chunk(&[100, 0, 0], &[15, 80, 10])
    );
    assert_eq!(counts(&view)["source_counts"]["blocks"], 9);
}

#[test]
fn sixteen_readers_of_one_cold_tile_cause_one_build() {
    let model = survey(4_000, 10, Vec::new());
    let store = tempfile::tempdir().expect("a directory");
    model.write_fast(store.path());
    let view = open(&model, store.path(), &[15, 80, 10], 256 << 20);
    let barrier = Barrier::new(16);
    std::thread::scope(|scope| {
        for reader in 0..16u64 {
            let (view, model, barrier) = (&view, &model, &barrier);
            scope.spawn(move || {
                // Sixteen chunks of one tile: objects 0 to 240 of the 819 in a block.
                let (node, stat) = view.lookup(&view.root(), OsStr::new(&format!("c.{reader}.0.0"))).expect("present");
                barrier.wait();
                let bytes = read(view, &node, 0, stat.size_bytes).expect("reads");
                assert_eq!(bytes, model.virtual_chunk(&[reader, 0, 0], &[15, 80, 10]));
            });
        }
    });
    let after = counts(&view);
    assert_eq!(after["tiles_built"], 1);
    assert_eq!(after["source_counts"]["blocks"], 10);
    assert_eq!(after["waiting"], 0);
}

#[test]
fn a_reader_in_order_finds_tiles_prepared_and_a_random_one_has_none_prepared_for_it() {
    let model = survey(20_000, 10, vec![]);
    let store = tempfile::tempdir().expect("a directory");
    model.write_fast(store.path());
    let read_chunks = |view: &Arc<View>, chunks: &[u64]| {
        for chunk in chunks {
            let (node, _) = view.lookup(&view.root(), OsStr::new(&format!("c.{chunk}.0.0"))).expect("present");
            read(view, &node, 0, 10).expect("reads");
        }
    };
    let number = |view: &View, name: &str| counts(view)[name].as_u64().expect("a number");
    // A block holds 819 objects and a bit, so that these lie in 4 tiles next to each other, and in 4 far apart.
    let view = open(&model, store.path(), &[15, 80, 10], 256 << 20);
    read_chunks(&view, &[10, 700, 300, 1100]);
    assert_eq!(number(&view, "tiles_built"), 4, "nothing prepared");
    let view = open(&model, store.path(), &[15, 80, 10], 256 << 20);
    read_chunks(&view, &[10, 65, 120]);
    // Two are built at a time, the nearest first: once there are three more, the nearest is among them.
    wait_until("further tiles are there", || number(&view, "tiles_built") > 5);
    let hits = number(&view, "hits");
    read_chunks(&view, &[175]);
    assert_eq!(number(&view, "hits"), hits + 1);
    assert!(counts(&view)["tiles_prepared"]["read"].as_u64() >= Some(1));
}

#[test]
fn a_stream_is_decoded_once_for_all_of_its_chunks_or_else_only_to_the_last_row_of_the_tile() {
    let mut model = survey(4_000, 10, vec![4]);
    model.codec = Codec::Zstd;
    let store = tempfile::tempdir().expect("a directory");
    model.write_fast(store.path());
    let chunk_shape = [15, 80, 10];
    let leaf_bytes = 4_000 * 80 * 4;
    let read_chunk = |view: &Arc<View>, chunk: u64| {
        let (node, stat) = view.lookup(&view.root(), OsStr::new(&format!("c.{chunk}.0.0"))).expect("present");
        let bytes = read(view, &node, 0, stat.size_bytes).expect("reads");
        assert!(bytes == model.virtual_chunk(&[chunk, 0, 0], &chunk_shape), "chunk {chunk}");
        let counts = &counts(view)["source_counts"];
        [&counts["blocks"], &counts["decoded_bytes"]].map(|count| count.as_u64().expect("a number"))
    };
    // There is room for all that a leaf holds.
    let view = open(&model, store.path(), &chunk_shape, 256 << 20);
    assert_eq!(read_chunk(&view, 7), [9, 9 * leaf_bytes]);
    assert_eq!(read_chunk(&view, 200), [9, 9 * leaf_bytes]);
    // There is room for three virtual chunks and their bookkeeping: the third tile ends with the ninth.
    let chunk_bytes = 15 * 80 * 10 * 4;
    let options = Options {
        memory_bytes: 256 << 20,
        threads: 2,
        max_tile_bytes: Some(4 * chunk_bytes),
        cache_dir: None,
        follow: None,
    };
    let view = View::open(store.path(), model.projection(&chunk_shape, None), options).expect("opens");
    let rows = |n_chunks: u64| n_chunks * 15 * 80 * 4;
    assert_eq!(read_chunk(&view, 7), [9, 9 * rows(9)]);
    assert_eq!(read_chunk(&view, 0), [18, 9 * rows(9 + 3)]);
    // The last tile of all.
    assert_eq!(read_chunk(&view, 266), [27, 9 * (rows(9 + 3) + leaf_bytes)]);
}

#[test]
fn streams_need_no_memory_for_a_second_copy_of_a_source_chunk() {
    const GZIP: &str = r#"{"name":"gzip","configuration":{"level":1}}"#;
    const WITH_SUM: &[&str] = &[GZIP, r#"{"name":"crc32c"}"#];
    let mut model = survey(40_000, 2, Vec::new());
    let store = tempfile::tempdir().expect("a directory");
    let options = Options { memory_bytes: 100 << 20, threads: 2, max_tile_bytes: None, cache_dir: None, follow: None };
    model.codec = Codec::Chain(WITH_SUM);
    let refused =
        View::open(store.path(), model.projection(&[15, 80, 2], None), options.clone()).expect_err("too little");
    assert!(refused.to_string().contains("too small"), "{refused}");
    model.codec = Codec::Chain(&[GZIP]);
    model.write_fast(store.path());
    let view = View::open(store.path(), model.projection(&[15, 80, 2], None), options).expect("opens");
    let (node, stat) = view.lookup(&view.root(), OsStr::new("c.2000.0.0")).expect("present");
    let bytes = read(&view, &node, 0, stat.size_bytes).expect("reads");
    assert!(bytes == model.virtual_chunk(&[2000, 0, 0], &[15, 80, 2]));
}
