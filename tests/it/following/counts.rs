//! After a change only what has changed is decoded, into copies of the tiles that are in memory.

use super::open;
use crate::counting::{BLOCK_BYTES, counts, survey, sweep};
use crate::stores::Model;
use rechunkfs::view::View;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const N_OBJECTS: u64 = 5_000;
const N_EPOCHS: u64 = 10;

/// Blocks of one source chunk.
const BLOCKS: u64 = (N_OBJECTS * 80 * 4).div_ceil(BLOCK_BYTES);

fn write_epoch(model: &Model, root: &Path, epoch: u64) {
    let n_epochs = model.shape[2] as usize;
    let bytes = model.data.chunks_exact(n_epochs * 4).flat_map(|row| row[epoch as usize * 4..][..4].to_vec()).collect();
    model.write_file(root, &[0, 0, epoch], bytes);
}

fn write_document(model: &Model, root: &Path) {
    fs::write(root.join("zarr.json"), model.document()).expect("writable");
}

fn store(missing: Vec<u64>) -> (Model, tempfile::TempDir) {
    let model = survey(N_OBJECTS, N_EPOCHS, missing);
    let store = tempfile::tempdir().expect("a directory");
    write_document(&model, store.path());
    model.write_fast(store.path());
    (model, store)
}

#[test]
fn one_new_or_rewritten_epoch_costs_the_blocks_of_one_source_chunk() {
    let (mut model, store) = store(vec![9]);
    let chunk_shape = [15, 80, N_EPOCHS];
    let view = open(store.path(), &chunk_shape, 512 << 20, None, Duration::ZERO);
    assert_eq!(sweep(&model, &view, &chunk_shape), 9 * BLOCKS);
    assert_eq!(sweep(&model, &view, &chunk_shape), 9 * BLOCKS, "all of it is in memory");
    model.missing.clear();
    write_epoch(&model, store.path(), 9);
    assert_eq!(sweep(&model, &view, &chunk_shape), 10 * BLOCKS, "one more epoch");
    model.data.iter_mut().for_each(|byte| *byte = byte.wrapping_add(1));
    write_epoch(&model, store.path(), 3);
    let mut rewritten = survey(N_OBJECTS, N_EPOCHS, Vec::new());
    for (to, from) in rewritten.data.chunks_exact_mut(40).zip(model.data.chunks_exact(40)) {
        to[12..16].copy_from_slice(&from[12..16]);
    }
    assert_eq!(sweep(&rewritten, &view, &chunk_shape), 11 * BLOCKS, "one epoch was reprocessed");
}

#[test]
fn an_epoch_appended_costs_the_blocks_of_one_source_chunk_too() {
    let last_chunk = |view: &Arc<View>, column: u64| view.lookup(&view.root(), OsStr::new(&format!("c.7.0.{column}")));
    // Chunks with room for it, and chunks that are full: then it is in chunks of its own.
    for (len, from) in [(16, N_EPOCHS), (N_EPOCHS, N_EPOCHS + 1)] {
        let longer = survey(N_OBJECTS, from + 1, Vec::new());
        let mut model = survey(N_OBJECTS, from, Vec::new());
        model.data = longer
            .data
            .chunks_exact(longer.shape[2] as usize * 4)
            .flat_map(|row| row[..from as usize * 4].to_vec())
            .collect();
        let folder = tempfile::tempdir().expect("a directory");
        write_document(&model, folder.path());
        model.write_fast(folder.path());
        let chunk_shape = [15, 80, len];
        let view = open(folder.path(), &chunk_shape, 512 << 20, None, Duration::ZERO);
        let before = sweep_all(&model, &view, &chunk_shape);
        assert_eq!(before, from * BLOCKS);
        write_document(&longer, folder.path());
        write_epoch(&longer, folder.path(), from);
        assert_eq!(sweep_all(&longer, &view, &chunk_shape), before + BLOCKS, "chunks of {len} epochs");
        assert!(last_chunk(&view, from / len).is_ok() && last_chunk(&view, from / len + 1).is_err());
    }
}

/// Reads every virtual chunk, compares all of it, and returns the blocks decoded so far.
fn sweep_all(model: &Model, view: &Arc<View>, chunk_shape: &[u64; 3]) -> u64 {
    for object in 0..N_OBJECTS.div_ceil(chunk_shape[0]) {
        for epoch in 0..model.shape[2].div_ceil(chunk_shape[2]) {
            let (node, stat) =
                view.lookup(&view.root(), OsStr::new(&format!("c.{object}.0.{epoch}"))).expect("present");
            let bytes = crate::reference::read(view, &node, 0, stat.size_bytes).expect("reads");
            assert!(bytes == model.virtual_chunk(&[object, 0, epoch], chunk_shape), "chunk {object}, {epoch}");
        }
    }
    counts(view)["source_counts"]["blocks"].as_u64().expect("a number")
}
