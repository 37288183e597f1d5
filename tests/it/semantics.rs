//! The sentences of docs/SEMANTICS.md that no other test holds, in its order; and that each sentence has a test.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::support::*;

/// A source that changes.
mod changes;
/// Copies.
mod copies;
/// A source that changes, and is followed.
mod following;
/// The sentences and the tests that they name.
mod sentences;

/// Each virtual chunk draws on the source chunks of two epochs; of the last two, one was never written.
const PAIRS: [&str; 2] = ["--chunks", "epoch=2"];

fn lightcurves(store: &Store) -> PathBuf {
    store.point().join("lightcurves")
}

fn source_chunk(store: &Store, epoch_idx: u64) -> PathBuf {
    store.source().join(format!("lightcurves/c/0/{epoch_idx}"))
}

fn document(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path.join("zarr.json")).unwrap()).unwrap()
}

fn errno<T>(result: std::io::Result<T>) -> i32 {
    result.err().expect("an error").raw_os_error().expect("an errno")
}

/// Names and bytes of all files below `folder`.
fn tree(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(path.strip_prefix(folder).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    files
}

/// Epochs `2 * pair` and the next, of all objects, as they should be.
fn pair_bytes(pair: u64) -> Vec<u8> {
    let is_written = |epoch_idx: u64| epoch_idx < N_EPOCHS - 1;
    (0..N_OBJECTS)
        .flat_map(|object_idx| [2 * pair, 2 * pair + 1].map(|epoch_idx| (object_idx, epoch_idx)))
        .flat_map(|(o, e)| if is_written(e) { value(o, e) } else { 0.0 }.to_le_bytes())
        .collect()
}

#[test]
fn along_takes_all_of_a_dimension_and_chunks_leave_unnamed_axes_alone() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let shape = |flags: &[&str]| {
        let (mount, _) = store.mount_as(flags);
        let shape = document(&lightcurves(&store))["chunk_grid"]["configuration"]["chunk_shape"].clone();
        mount.unmount(&[]).assert_success();
        shape
    };
    assert_eq!(shape(&["--along", "epoch"]), json!([N_OBJECTS, N_EPOCHS]));
    assert_eq!(shape(&["--along", "epoch", "--chunk-size", "24"]), json!([1, N_EPOCHS]));
    assert_eq!(shape(&["--chunks", "epoch=4"]), json!([N_OBJECTS, 4]));
    assert_eq!(shape(&["--chunks", "object=1"]), json!([1, 1]));
}

#[test]
fn the_root_has_consolidated_metadata_even_if_the_source_has_none() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let _mount = store.mount(&[]);
    let root = document(&store.point());
    assert!(document(&store.source()).get("consolidated_metadata").is_none());
    let copies = &root["consolidated_metadata"]["metadata"];
    assert_eq!(copies.as_object().unwrap().len(), 2);
    assert_eq!(copies["lightcurves"], document(&lightcurves(&store)));
    assert_eq!(copies["objid"], document(&store.source().join("objid")));
    assert_eq!(root["attributes"], document(&store.source())["attributes"]);
}

#[test]
fn documents_stay_what_they_were_at_mount() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let _mount = store.mount(&["--refresh", "never"]);
    let read = || [store.point(), lightcurves(&store)].map(|folder| fs::read(folder.join("zarr.json")).unwrap());
    let before = read();
    let longer = array_json("float32", &[N_OBJECTS, 99], &[N_OBJECTS, 1], &["object", "epoch"]);
    fs::write(store.source().join("lightcurves/zarr.json"), longer).unwrap();
    fs::write(store.source().join("zarr.json"), r#"{"zarr_format":3,"node_type":"group","attributes":{}}"#).unwrap();
    // Longer than the kernel may keep anything that could change.
    std::thread::sleep(Duration::from_millis(2_500));
    assert!(read() == before);
}

#[test]
fn listing_and_stat_read_no_source_chunk() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let (mount, _) = store.mount_as(&PAIRS);
    finish(Command::new("ls").arg("-lR").arg(store.point())).assert_success();
    assert_eq!(fs::metadata(lightcurves(&store).join("c.0.2")).unwrap().len(), N_OBJECTS * 2 * 4);
    let find = |status: &Value| find_key(status, "source_counts").expect("counts").clone();
    let counts = find(&mount.status());
    assert_eq!((&counts["files_opened"], &counts["read_bytes"]), (&json!(0), &json!(0)));
    assert_eq!(fs::read(lightcurves(&store).join("c.0.2")).unwrap(), pair_bytes(2));
    assert_ne!(find(&mount.status())["files_opened"], 0, "the counters count");
}

fn find_key<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    let object = value.as_object()?;
    object.get(key).or_else(|| object.values().find_map(|value| find_key(value, key)))
}

#[test]
fn threads_and_memory_change_no_byte() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let shown = |flags: &[&str]| {
        let (mount, _) = store.mount_as(&[&["--chunks", "object=3,epoch=4"], flags].concat());
        let files = tree(&store.point());
        mount.unmount(&[]).assert_success();
        files
    };
    let one = shown(&["-j", "1", "--memory", "128M"]);
    assert_eq!(one.len(), 1 + 2 + 4 + 1);
    assert!(one == shown(&["-j", "4", "--memory", "512M"]));
}

#[test]
fn a_shard_is_a_row_of_fixed_slots_and_an_index() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    // Epochs 2 and 3 were never written either: the middle slot is absent, and moves nothing.
    fs::remove_file(source_chunk(&store, 2)).unwrap();
    fs::remove_file(source_chunk(&store, 3)).unwrap();
    let (_mount, _) = store.mount_as(&[&PAIRS[..], &["--shards", "epoch=full"]].concat());
    let slot_bytes = N_OBJECTS as usize * 2 * 4;
    let shard = fs::read(lightcurves(&store).join("c.0.0")).unwrap();
    assert_eq!(shard.len(), 3 * (slot_bytes + 16));
    assert_eq!(shard[..slot_bytes], pair_bytes(0));
    assert_eq!(shard[slot_bytes..2 * slot_bytes], vec![0; slot_bytes]);
    assert_eq!(shard[2 * slot_bytes..3 * slot_bytes], pair_bytes(2));
    let (slot, none) = (slot_bytes as u64, u64::MAX);
    let index: Vec<u8> = [0, slot, none, none, 2 * slot, slot].into_iter().flat_map(u64::to_le_bytes).collect();
    assert_eq!(shard[3 * slot_bytes..], index);
    let codecs = &document(&lightcurves(&store))["codecs"];
    assert_eq!(codecs[0]["configuration"]["index_codecs"].as_array().unwrap().len(), 1, "no checksum");
}

#[test]
fn files_that_are_not_zarrs_and_links_are_shown_as_they_are() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    fs::create_dir(store.source().join("notes")).unwrap();
    fs::write(store.source().join("notes/readme.txt"), "seen on La Palma").unwrap();
    fs::rename(store.source().join("objid"), store.path("elsewhere")).unwrap();
    symlink(store.path("elsewhere"), store.source().join("objid")).unwrap();
    let _mount = store.mount(&[]);
    assert_eq!(fs::read(store.point().join("notes/readme.txt")).unwrap(), b"seen on La Palma");
    let link = store.point().join("objid");
    assert!(!fs::symlink_metadata(&link).unwrap().is_symlink(), "shown as what it leads to");
    assert!(tree(&link) == tree(&store.path("elsewhere")));
}

#[test]
fn what_passes_through_follows_the_source_within_seconds() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let _mount = store.mount(&[]);
    let shown = store.point().join("objid/c/0");
    assert_eq!(fs::read(&shown).unwrap(), fs::read(store.source().join("objid/c/0")).unwrap());
    assert_eq!(errno(fs::read(store.point().join("new.txt"))), libc::ENOENT);
    let changed: Vec<u8> = (100..100 + N_OBJECTS as i32).flat_map(i32::to_le_bytes).collect();
    fs::write(store.path("changed"), &changed).unwrap();
    fs::rename(store.path("changed"), store.source().join("objid/c/0")).unwrap();
    fs::write(store.source().join("new.txt"), "new").unwrap();
    wait_until("the change shows", || fs::read(&shown).is_ok_and(|bytes| bytes == changed));
    wait_until("the new file shows", || fs::read(store.point().join("new.txt")).is_ok_and(|bytes| bytes == b"new"));
}

#[test]
fn a_source_chunk_that_cannot_be_looked_at_is_not_absent() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    fs::remove_file(source_chunk(&store, 3)).unwrap();
    symlink(source_chunk(&store, 3), source_chunk(&store, 3)).unwrap();
    let (mount, _) = store.mount_as(&PAIRS);
    assert_eq!(errno(fs::metadata(lightcurves(&store).join("c.0.1"))), libc::EIO);
    assert_eq!(fs::read(lightcurves(&store).join("c.0.0")).unwrap(), pair_bytes(0));
    assert_eq!(fs::read_dir(lightcurves(&store)).unwrap().filter(Result::is_err).count(), 1, "no short listing");
    assert!(mount.status().to_string().contains("c/0/3"));
}

#[test]
fn an_array_that_zarr_v3_cannot_say_is_left_out_with_a_warning() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let source = store.source();
    fs::remove_dir_all(&source).unwrap();
    fs::create_dir_all(source.join("cube")).unwrap();
    fs::create_dir_all(source.join("odd")).unwrap();
    fs::write(source.join(".zgroup"), r#"{"zarr_format":2}"#).unwrap();
    let array = |dtype: &str, filters: &str| {
        format!(
            r#"{{"zarr_format":2,"shape":[4,6],"chunks":[4,1],"dtype":"{dtype}","compressor":null,"fill_value":0,"order":"C","filters":{filters}}}"#
        )
    };
    fs::write(source.join("cube/.zarray"), array("<f4", "null")).unwrap();
    fs::write(source.join("cube/0.2"), [1f32, 2., 3., 4.].map(f32::to_le_bytes).concat()).unwrap();
    fs::write(source.join("odd/.zarray"), array("|O", r#"[{"id":"pickle"}]"#)).unwrap();
    let (_mount, said) = store.mount_as(&["--chunks", "1=full"]);
    assert!(said.stderr.contains("odd") && said.stderr.contains("not in the view"), "{said:?}");
    assert_eq!(errno(fs::metadata(store.point().join("odd"))), libc::ENOENT);
    let root = document(&store.point());
    assert_eq!(root["consolidated_metadata"]["metadata"].as_object().unwrap().keys().collect::<Vec<_>>(), ["cube"]);
    let names: Vec<_> = fs::read_dir(store.point()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    let row = [0f32, 0., 1., 0., 0., 0.].map(f32::to_le_bytes).concat();
    assert_eq!(fs::read(store.point().join("cube/c.0.0")).unwrap()[..24], row);
}

#[test]
fn an_error_is_logged_once_and_counted() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    fs::write(source_chunk(&store, 0), b"short").unwrap();
    let log = store.path("log");
    let (mount, _) = store.mount_as(&[&PAIRS[..], &["--log-file", log.to_str().unwrap()]].concat());
    for _ in 0..3 {
        assert_eq!(errno(fs::read(lightcurves(&store).join("c.0.0"))), libc::EIO);
    }
    let status = mount.status();
    let errors = find_key(&status, "errors").and_then(Value::as_array).unwrap();
    assert_eq!(errors.len(), 1, "{status}");
    assert!(errors[0]["n"].as_u64() >= Some(3), "{status}");
    let message = errors[0]["message"].as_str().unwrap();
    assert!(message.contains("lightcurves") && message.contains("c/0/0"), "{message}");
    assert_eq!(fs::read_to_string(log).unwrap().matches(message).count(), 1);
}

#[test]
fn times_are_those_of_the_source_and_inodes_survive_a_remount() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::new(seconds, 123_456_789);
    for epoch_idx in 0..N_EPOCHS - 1 {
        let chunk = File::options().write(true).open(source_chunk(&store, epoch_idx)).unwrap();
        chunk.set_modified(at(1_000_000_000 + 100 * (epoch_idx % 4))).unwrap();
    }
    let written = File::options().write(true).open(store.source().join("lightcurves/zarr.json")).unwrap();
    written.set_modified(at(1_100_000_000)).unwrap();
    let states = || {
        let (mount, _) = store.mount_as(&PAIRS);
        let states = ["c.0.0", "c.0.1", "c.0.2", "zarr.json"].map(|name| {
            let metadata = fs::metadata(lightcurves(&store).join(name)).unwrap();
            (metadata.ino(), metadata.modified().unwrap())
        });
        mount.unmount(&[]).assert_success();
        states
    };
    let first = states();
    let expected = [at(1_000_000_100), at(1_000_000_300), at(1_000_000_000), at(1_100_000_000)];
    for ((_, modified), expected) in first.iter().zip(expected) {
        let apart = modified.duration_since(expected).unwrap_or_else(|earlier| earlier.duration());
        assert!(apart < Duration::from_micros(1_100), "{modified:?} is not {expected:?}");
    }
    assert_eq!(first, states());
    let mut inodes = first.map(|(inode, _)| inode);
    inodes.sort_unstable();
    assert!(inodes.windows(2).all(|pair| pair[0] != pair[1]));
}

#[test]
fn others_may_read_where_they_are_let_in() {
    if cannot_mount() || !rustix::process::geteuid().is_root() {
        return;
    }
    let store = Store::new();
    fs::set_permissions(store.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let list = || finish(Command::new("ls").arg(store.point()).uid(65534).gid(65534));
    let mount = store.mount(&[]);
    assert!(list().stderr.contains("Permission denied"));
    mount.unmount(&[]).assert_success();
    let _mount = store.mount(&["--allow-other"]);
    assert!(list().assert_success().stdout.contains("lightcurves"));
}

#[test]
fn the_status_is_an_attribute_of_the_root_that_no_copy_takes_along() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let mount = store.mount(&[]);
    let mut buffer = vec![0u8; 64 << 10];
    let n = rustix::fs::getxattr(store.point(), "user.rechunkfs.status", &mut buffer[..]).unwrap();
    let status: Value = serde_json::from_slice(&buffer[..n]).unwrap();
    assert_eq!((&status["version"], &status["pid"]), (&json!(1), &json!(mount.pid())));
    assert_eq!(rustix::fs::listxattr(store.point(), &mut buffer[..]).unwrap(), 0);
}

#[test]
fn memory_stays_within_its_bound_while_all_of_a_larger_store_is_read() {
    if cannot_mount() {
        return;
    }
    const LIMIT_BYTES: u64 = 128 << 20;
    let (n_objects, n_epochs) = (1u64 << 21, 40u64);
    let store = Store::new();
    let text = array_json("float32", &[n_objects, n_epochs], &[n_objects, 1], &["object", "epoch"]);
    fs::write(store.source().join("lightcurves/zarr.json"), text).unwrap();
    for epoch_idx in 0..n_epochs {
        let chunk: Vec<u8> = (0..n_objects).flat_map(|o| ((o + epoch_idx) as f32).to_le_bytes()).collect();
        fs::write(source_chunk(&store, epoch_idx), chunk).unwrap();
    }
    let n_rows = 4096u64;
    let layout = format!("object={n_rows},epoch=full");
    let (mount, _) = store.mount_as(&["--chunks", &layout, "--memory", "128M"]);
    for chunk in 0..n_objects / n_rows {
        let bytes = fs::read(lightcurves(&store).join(format!("c.{chunk}.0"))).unwrap();
        let of = |row: u64, epoch: u64| &bytes[((row * n_epochs + epoch) * 4) as usize..][..4];
        for (row, epoch) in [(0, 0), (n_rows / 2, 17), (n_rows - 1, n_epochs - 1)] {
            assert_eq!(of(row, epoch), ((chunk * n_rows + row + epoch) as f32).to_le_bytes());
        }
    }
    let status = mount.status();
    let memory = find_key(&status, "peak_rss_bytes").and_then(Value::as_u64).unwrap();
    assert_eq!(find_key(&status, "limit_bytes"), Some(&json!(LIMIT_BYTES)));
    assert!(memory <= LIMIT_BYTES, "{} MiB", memory >> 20);
}

#[test]
fn a_billion_virtual_chunks_cost_nothing_until_they_are_asked_for() {
    if cannot_mount() {
        return;
    }
    let (n_objects, n_rows) = (1_000_000_000u64, 1_000_000u64);
    let store = Store::new();
    let text = array_json("float32", &[n_objects, 2], &[n_rows, 1], &["object", "epoch"]);
    fs::write(store.source().join("lightcurves/zarr.json"), text).unwrap();
    fs::create_dir_all(store.source().join("lightcurves/c/999")).unwrap();
    let chunk: Vec<u8> = (0..n_rows).flat_map(|row| (row as f32).to_le_bytes()).collect();
    fs::write(store.source().join("lightcurves/c/999/1"), chunk).unwrap();
    let (mount, _) = store.mount_as(&["--chunks", "object=1,epoch=full"]);
    let bytes = fs::read(lightcurves(&store).join("c.999999999.0")).unwrap();
    assert_eq!(bytes, [0f32.to_le_bytes(), 999_999f32.to_le_bytes()].concat());
    assert_eq!(errno(fs::metadata(lightcurves(&store).join("c.5000000.0"))), libc::ENOENT);
    assert_eq!(errno(fs::metadata(lightcurves(&store).join("c.1000000000.0"))), libc::ENOENT);
    let status = mount.status();
    let memory = find_key(&status, "peak_rss_bytes").and_then(Value::as_u64).unwrap();
    assert!(memory < 96 << 20, "{} MiB", memory >> 20);
}
