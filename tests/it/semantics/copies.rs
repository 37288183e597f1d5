//! Copies: what they hold, and how they end.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::{source_chunk, tree};
use crate::support::*;

/// Copies `epochs.zarr` to `copy.zarr`, pairs of epochs to a chunk.
fn copy(store: &Store, flags: &[&str]) -> Finished {
    store.run(&[&["materialize", "epochs.zarr", "copy.zarr", "--chunks", "epoch=2"], flags].concat())
}

fn target(store: &Store) -> PathBuf {
    store.path("copy.zarr")
}

fn partial(store: &Store) -> PathBuf {
    store.path("copy.zarr.rechunkfs-partial")
}

#[test]
fn threads_and_memory_change_no_byte_of_a_copy() {
    let store = Store::new();
    let written = |flags: &[&str]| {
        let layout = ["--shards", "lightcurves:object=full,epoch=4", "--codecs", "zstd:1", "--overwrite"];
        copy(&store, &[&layout, flags].concat()).assert_success();
        tree(&target(&store))
    };
    let one = written(&["-j", "1", "--memory", "96M"]);
    assert_eq!(one.len(), 1 + 2 + 2 + 1 + 2, "documents, shards, a column, of which source it all is");
    assert!(one == written(&["-j", "4", "--memory", "512M"]));
}

#[test]
fn what_passes_through_is_copied_as_it_is() {
    let store = Store::new();
    fs::create_dir(store.source().join("notes")).unwrap();
    fs::write(store.source().join("notes/readme.txt"), "seen on La Palma").unwrap();
    fs::write(store.source().join("notes/c.0.partial"), "half").unwrap();
    fs::rename(store.source().join("objid"), store.path("elsewhere")).unwrap();
    symlink(store.path("elsewhere"), store.source().join("objid")).unwrap();
    copy(&store, &[]).assert_success();
    assert_eq!(fs::read(target(&store).join("notes/readme.txt")).unwrap(), b"seen on La Palma");
    assert!(!target(&store).join("notes/c.0.partial").exists(), "nobody has finished it");
    let column = target(&store).join("objid");
    assert!(!fs::symlink_metadata(&column).unwrap().is_symlink(), "the copy needs nothing but itself");
    assert!(tree(&column) == tree(&store.path("elsewhere")));
}

#[test]
fn what_lacks_chunks_is_not_put_in_the_targets_place() {
    let store = Store::new();
    fs::write(source_chunk(&store, 1), b"short").unwrap();
    let ended = copy(&store, &["--keep-going"]);
    assert_eq!(ended.code(), 1, "{ended:?}");
    assert!(ended.stderr.contains("left out: ") && ended.stderr.contains("c/0/1"), "{ended:?}");
    assert!(ended.stderr.contains("would read as fill value"), "{ended:?}");
    assert!(!target(&store).exists());
    let left = partial(&store).join("store");
    assert!(left.join("zarr.json").is_file() && left.join("lightcurves/c/0/1").is_file());
    assert!(!left.join("lightcurves/c/0/0").exists());
    copy(&store, &[]).assert_refused(1, &["--resume", "--overwrite"]);
}

#[test]
fn exit_codes_tell_how_a_copy_ended() {
    let store = Store::new();
    assert_eq!(copy(&store, &["--codecs"]).code(), 2);
    assert_eq!(copy(&store, &["--verify", "--keep-going"]).code(), 2);
    assert_eq!(copy(&store, &[]).code(), 0);
    copy(&store, &[]).assert_refused(1, &["copy.zarr", "--overwrite"]);
    assert_eq!(copy(&store, &["--overwrite", "--verify"]).code(), 0);
    fs::write(source_chunk(&store, 1), b"short").unwrap();
    assert_eq!(copy(&store, &["--overwrite", "-q"]).code(), 1);
}

#[test]
fn too_little_memory_for_one_chunk_is_said_before_anything_is_written() {
    let store = Store::new();
    let document = array_json("float32", &[64 << 20, 6], &[64 << 20, 1], &["object", "epoch"]);
    fs::write(store.source().join("lightcurves/zarr.json"), document).unwrap();
    copy(&store, &["--memory", "128M", "-q"]).assert_refused(1, &["lightcurves", "MiB", "--memory"]);
    assert!(!target(&store).exists() && !partial(&store).exists());
}

#[test]
fn temporary_files_go_anywhere_but_into_the_source() {
    let store = Store::new();
    copy(&store, &["--temp", "epochs.zarr/temp", "-q"]).assert_refused(1, &["--temp", "within the source"]);
    assert!(!store.source().join("temp").exists() && !target(&store).exists());
    copy(&store, &["--temp", "not/there/yet"]).assert_success();
    assert!(tree(&store.path("not")).is_empty() && !partial(&store).exists());
}
