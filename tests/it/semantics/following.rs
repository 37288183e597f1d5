//! A mount that follows its source: what changes there shows here, and who has begun to read disturbs nobody and is not
//! disturbed.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use super::{PAIRS, document, errno, lightcurves, pair_bytes, source_chunk};
use crate::support::*;

/// Time within which a change is to show, with some to spare for a machine that is busy.
const SOON: [&str; 2] = ["--refresh", "0.05"];

fn soon<'a>(layout: &[&'a str]) -> Vec<&'a str> {
    [layout, &SOON].concat()
}

/// The last epoch, which the store does not have at first, or another one written anew.
fn write_epoch(store: &Store, epoch_idx: u64, add: f32) {
    let bytes: Vec<u8> = (0..N_OBJECTS).flat_map(|object| (value(object, epoch_idx) + add).to_le_bytes()).collect();
    fs::write(source_chunk(store, epoch_idx), bytes).unwrap();
}

/// Virtual chunk `pair` with `add` on its epoch `nth`.
fn changed(pair: u64, nth: u64, add: f32) -> Vec<u8> {
    let epoch = |object: u64, which: u64| value(object, 2 * pair + which) + if which == nth { add } else { 0. };
    (0..N_OBJECTS).flat_map(|object| [epoch(object, 0), epoch(object, 1)]).flat_map(f32::to_le_bytes).collect()
}

fn state(path: &Path) -> (u64, i64, i64) {
    let metadata = fs::metadata(path).unwrap();
    (metadata.ino(), metadata.mtime(), metadata.mtime_nsec())
}

#[test]
fn a_source_chunk_that_appears_shows_and_disturbs_no_reader() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let (_mount, _) = store.mount_as(&soon(&PAIRS));
    let chunk = lightcurves(&store).join("c.0.2");
    let before = state(&chunk);
    let opened = File::open(&chunk).unwrap();
    write_epoch(&store, N_EPOCHS - 1, 0.);
    wait_until("the epoch shows", || fs::read(&chunk).unwrap() == changed(2, 1, 0.));
    let after = state(&chunk);
    assert!(after.0 != before.0 && after > (after.0, before.1, before.2), "{before:?} {after:?}");
    let mut bytes = [0; 32];
    opened.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes, pair_bytes(2)[..], "who opened it before reads it as it was");
}

#[test]
fn a_source_chunk_that_is_rewritten_shows_to_who_opens_it_then_and_is_stale_to_who_did_before() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let (_mount, _) = store.mount_as(&soon(&PAIRS));
    let (chunk, other) = (lightcurves(&store).join("c.0.0"), lightcurves(&store).join("c.0.1"));
    let (read, unread) = (File::open(&chunk).unwrap(), File::open(&other).unwrap());
    read.read_exact_at(&mut [0; 32], 0).unwrap();
    fs::read(source_chunk(&store, 2)).unwrap();
    // Long enough ago for the first state to be settled.
    unread.read_exact_at(&mut [0; 4], 0).unwrap();
    let quiet = state(&lightcurves(&store).join("c.0.2"));
    for epoch_idx in [1, 2] {
        write_epoch(&store, epoch_idx, 0.5);
    }
    wait_until("the new values show", || fs::read(&chunk).is_ok_and(|bytes| bytes == changed(0, 1, 0.5)));
    assert_eq!(fs::read(&other).unwrap(), changed(1, 0, 0.5));
    for (file, pair) in [(read, 0), (unread, 1)] {
        let mut bytes = [0; 32];
        match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => assert_eq!(bytes, pair_bytes(pair)[..], "as it was"),
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ESTALE)),
        }
    }
    assert_eq!(state(&lightcurves(&store).join("c.0.2")), quiet, "what did not change has not moved");
}

#[test]
fn a_source_chunk_that_is_deleted_reads_as_fill_value_and_without_any_the_virtual_chunk_is_gone() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let (_mount, _) = store.mount_as(&soon(&PAIRS));
    let chunk = lightcurves(&store).join("c.0.0");
    let before = state(&chunk);
    fs::remove_file(source_chunk(&store, 1)).unwrap();
    let without: Vec<u8> =
        (0..N_OBJECTS).flat_map(|object| [value(object, 0), 0.]).flat_map(f32::to_le_bytes).collect();
    // Until the deletion has been seen, who opens it has the version that is gone: stale, and never fill value in part.
    wait_until("it reads as fill value", || match fs::read(&chunk) {
        Ok(bytes) => bytes == without,
        Err(error) => error.raw_os_error() != Some(libc::ESTALE),
    });
    assert_eq!(fs::read(&chunk).unwrap(), without);
    assert!(state(&chunk) != before && state(&chunk).0 != before.0);
    fs::remove_file(source_chunk(&store, 0)).unwrap();
    wait_until("there is no such chunk", || !chunk.exists());
    assert_eq!(errno(fs::metadata(&chunk)), libc::ENOENT);
    let listed = fs::read_dir(lightcurves(&store)).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(listed.into_iter().all(|name| name != "c.0.0"));
    write_epoch(&store, 0, 0.);
    wait_until("it is there again", || chunk.exists());
}

#[test]
fn documents_follow_and_size_and_content_belong_together() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let (_mount, _) = store.mount_as(&soon(&PAIRS));
    let path = lightcurves(&store).join("zarr.json");
    let (opened, before) = (File::open(&path).unwrap(), fs::read(&path).unwrap());
    let inode = state(&path).0;
    let source = store.source().join("lightcurves/zarr.json");
    let text =
        fs::read_to_string(&source).unwrap().replace("\"attributes\":{}", "\"attributes\":{\"night\":\"a long one\"}");
    fs::write(store.path("new"), text).unwrap();
    fs::rename(store.path("new"), source).unwrap();
    wait_until("the attribute shows", || document(&lightcurves(&store))["attributes"]["night"] == "a long one");
    assert_ne!(state(&path).0, inode);
    let root = document(&store.point());
    assert_eq!(root["consolidated_metadata"]["metadata"]["lightcurves"], document(&lightcurves(&store)));
    let mut bytes = vec![0; before.len()];
    opened.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!((bytes, opened.metadata().unwrap().len()), (before.clone(), before.len() as u64));
    assert_eq!(fs::read(&path).unwrap().len() as u64, fs::metadata(&path).unwrap().len());
}

#[test]
fn an_array_that_is_resized_has_more_chunks_or_fewer_on_the_same_grid() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let (_mount, _) = store.mount_as(&soon(&["--chunks", "epoch=full"]));
    let resize = |n_epochs: u64| {
        let json = array_json("float32", &[N_OBJECTS, n_epochs], &[N_OBJECTS, 1], &["object", "epoch"]);
        fs::write(store.path("new"), json).unwrap();
        fs::rename(store.path("new"), store.source().join("lightcurves/zarr.json")).unwrap();
        let shape = serde_json::json!([N_OBJECTS, n_epochs]);
        wait_until("the shape shows", || document(&lightcurves(&store))["shape"] == shape);
    };
    let (first, second) = (lightcurves(&store).join("c.0.0"), lightcurves(&store).join("c.0.1"));
    let (before, bytes) = (state(&first), fs::read(&first).unwrap());
    assert!(!second.exists());
    write_epoch(&store, N_EPOCHS, 0.);
    resize(N_EPOCHS + 1);
    let grid = &document(&lightcurves(&store))["chunk_grid"]["configuration"]["chunk_shape"];
    assert_eq!(*grid, serde_json::json!([N_OBJECTS, N_EPOCHS]), "full became a number at mount");
    wait_until("its chunk shows", || second.exists());
    let rest = vec![0.; N_EPOCHS as usize - 1];
    let row = |object: u64| [&[value(object, N_EPOCHS)], &rest[..]].concat();
    let expected: Vec<u8> = (0..N_OBJECTS).flat_map(row).flat_map(f32::to_le_bytes).collect();
    assert_eq!(fs::read(&second).unwrap(), expected);
    assert_eq!((state(&first), fs::read(&first).unwrap()), (before, bytes), "the old chunks are what they were");
    resize(3);
    wait_until("it is outside now", || !second.exists());
    let row = |object: u64| (0..N_EPOCHS).map(move |epoch| if epoch < 3 { value(object, epoch) } else { 0. });
    let expected: Vec<u8> = (0..N_OBJECTS).flat_map(row).flat_map(f32::to_le_bytes).collect();
    wait_until("what is outside reads as fill value", || fs::read(&first).unwrap() == expected);
}

#[test]
fn arrays_and_groups_that_are_added_show_and_those_that_are_removed_go() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let (_mount, _) = store.mount_as(&soon(&PAIRS));
    let group = store.source().join("more");
    fs::create_dir(&group).unwrap();
    fs::write(group.join("zarr.json"), r#"{"zarr_format":3,"node_type":"group"}"#).unwrap();
    fs::create_dir_all(group.join("errors/c/0")).unwrap();
    // The directory first, and what makes it an array later: no look may overlook it.
    std::thread::sleep(Duration::from_millis(150));
    fs::write(group.join("errors/c/0/0"), [1u8; 16]).unwrap();
    let json = array_json("float32", &[N_OBJECTS, 4], &[N_OBJECTS, 1], &["object", "epoch"]);
    fs::write(group.join("errors/zarr.json"), json).unwrap();
    let chunk = store.point().join("more/errors/c.0.0");
    wait_until("the new array shows, rechunked", || chunk.exists());
    assert_eq!(fs::read(&chunk).unwrap().len(), 32);
    let members = || document(&store.point())["consolidated_metadata"]["metadata"].as_object().unwrap().len();
    assert_eq!(members(), 4, "and the root tells of it");
    fs::remove_dir_all(store.source().join("lightcurves")).unwrap();
    wait_until("the old one is gone", || !lightcurves(&store).exists());
    wait_until("the root tells of that, too", || members() == 3);
    assert_eq!(fs::read(&chunk).unwrap().len(), 32);
}

#[test]
fn the_time_of_the_root_moves_with_whatever_changes_and_stays_otherwise() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let (mount, _) = store.mount_as(&soon(&PAIRS));
    let time = |path: &Path| {
        let metadata = fs::metadata(path).unwrap();
        (metadata.mtime(), metadata.mtime_nsec())
    };
    let mut last = time(&store.point());
    fs::read(lightcurves(&store).join("c.0.0")).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(time(&store.point()), last, "reading changes nothing");
    let mut moved = |what: &str, array_too: bool, change: &dyn Fn()| {
        let array = time(&lightcurves(&store));
        change();
        wait_until(&format!("the root's time moves: {what}"), || time(&store.point()) != last);
        last = time(&store.point());
        assert_eq!(time(&lightcurves(&store)) != array, array_too, "{what}");
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(time(&store.point()), last, "once for {what}");
    };
    moved("an epoch appears", true, &|| write_epoch(&store, N_EPOCHS - 1, 0.));
    moved("an epoch is reprocessed", true, &|| write_epoch(&store, 0, 1.));
    let old = filetime_of(&source_chunk(&store, 3));
    moved("a chunk as old as the one before takes its place", true, &|| {
        fs::write(store.path("new"), [1u8; 16]).unwrap();
        File::options().write(true).open(store.path("new")).unwrap().set_modified(old).unwrap();
        fs::rename(store.path("new"), source_chunk(&store, 3)).unwrap();
    });
    moved("an epoch is deleted", true, &|| fs::remove_file(source_chunk(&store, 2)).unwrap());
    moved("a column that passes through is rewritten", false, &|| {
        fs::write(store.source().join("objid/c/0"), [2u8; 16]).unwrap();
    });
    let before = last;
    mount.unmount(&[]).assert_success();
    let (_mount, _) = store.mount_as(&soon(&PAIRS));
    assert_eq!(time(&store.point()), before, "the same when it is mounted again");
}

fn filetime_of(path: &Path) -> std::time::SystemTime {
    fs::metadata(path).unwrap().modified().unwrap()
}

#[test]
fn a_source_chunk_that_is_half_written_is_waited_for_and_then_an_error() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let (_mount, _) = store.mount_as(&soon(&PAIRS));
    let whole = fs::read(source_chunk(&store, 0)).unwrap();
    fs::write(source_chunk(&store, 0), &whole[..7]).unwrap();
    let chunk = lightcurves(&store).join("c.0.0");
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| fs::read(&chunk));
        std::thread::sleep(Duration::from_millis(700));
        assert!(!reader.is_finished(), "it waits");
        fs::write(source_chunk(&store, 0), &whole).unwrap();
        assert_eq!(reader.join().unwrap().unwrap(), pair_bytes(0));
    });
    fs::write(source_chunk(&store, 4), &whole[..7]).unwrap();
    let began = Instant::now();
    assert_eq!(errno(fs::read(lightcurves(&store).join("c.0.2"))), libc::EIO);
    assert!(began.elapsed() >= Duration::from_secs(2), "it was tried again for a while: {:?}", began.elapsed());
    assert_eq!(errno(fs::read(lightcurves(&store).join("c.0.2"))), libc::EIO);
}

#[test]
fn a_source_out_of_reach_is_an_error_and_back_again_it_is_what_it_was() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let (_mount, _) = store.mount_as(&soon(&PAIRS));
    let paths = ["lightcurves/c.0.0", "lightcurves/c.0.1", "objid/c/0", "objid/zarr.json", "lightcurves"];
    let paths = paths.map(|path| store.point().join(path));
    assert_eq!(fs::read(&paths[0]).unwrap(), pair_bytes(0));
    fs::rename(store.source(), store.path("away")).unwrap();
    fs::create_dir(store.source()).unwrap();
    let end = Instant::now() + Duration::from_secs(1);
    while Instant::now() < end {
        for path in &paths {
            // Kept by the kernel or by us, or an error, and never absence: that would read as fill value.
            if let Err(error) = fs::metadata(path) {
                assert_ne!(error.raw_os_error(), Some(libc::ENOENT), "{}", path.display());
            }
        }
        std::thread::sleep(Duration::from_millis(30));
    }
    assert_eq!(errno(fs::metadata(&paths[1])), libc::EIO);
    fs::remove_dir(store.source()).unwrap();
    fs::rename(store.path("away"), store.source()).unwrap();
    wait_until("it is back", || fs::read(&paths[1]).is_ok_and(|bytes| bytes == pair_bytes(1)));
    assert_eq!(fs::read(&paths[0]).unwrap(), pair_bytes(0));
    assert_eq!(fs::read(&paths[2]).unwrap().len(), 16);
}

#[test]
fn a_document_that_is_no_good_changes_nothing_until_it_is_good_again() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let (mount, _) = store.mount_as(&soon(&PAIRS));
    let source = store.source().join("lightcurves/zarr.json");
    let text = fs::read_to_string(&source).unwrap();
    let before = document(&store.point());
    fs::write(&source, &text[..text.len() / 2]).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(document(&store.point()), before);
    assert_eq!(fs::read(lightcurves(&store).join("c.0.0")).unwrap(), pair_bytes(0));
    let status = mount.status().to_string();
    assert!(status.contains("shown as it was before a change") && status.contains("lightcurves/zarr.json"), "{status}");
    fs::write(&source, text.replace("\"attributes\":{}", "\"attributes\":{\"a\":1}")).unwrap();
    wait_until("the attribute shows", || document(&lightcurves(&store))["attributes"]["a"] == 1);
}
