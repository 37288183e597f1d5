//! A mount that does not follow its source (`--refresh never`): each source chunk is shown in the state in which it was first
//! looked at.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use super::{PAIRS, errno, lightcurves, pair_bytes, source_chunk};
use crate::support::*;

fn never<'a>(layout: &[&'a str]) -> Vec<&'a str> {
    [layout, &["--refresh", "never"]].concat()
}

#[test]
fn a_source_chunk_rewritten_or_deleted_after_the_first_look_is_stale() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let (mount, _) = store.mount_as(&never(&PAIRS));
    let chunk = |pair: u64| lightcurves(&store).join(format!("c.0.{pair}"));
    let open = |pair: u64| File::open(chunk(pair)).unwrap();
    assert_eq!(fs::metadata(chunk(0)).unwrap().len(), 32);
    assert_eq!(fs::metadata(chunk(1)).unwrap().len(), 32);
    let (rewritten, deleted) = (open(0), open(1));
    fs::write(source_chunk(&store, 1), [0xffu8; 16]).unwrap();
    fs::remove_file(source_chunk(&store, 2)).unwrap();
    for file in [&rewritten, &deleted] {
        assert_eq!(errno(file.read_at(&mut [0; 32], 0)), libc::ESTALE);
    }
    assert_eq!(errno(fs::read(chunk(0))), libc::ESTALE, "nor for who opens it later");
    assert_eq!(fs::read(chunk(2)).unwrap(), pair_bytes(2), "everything else goes on");
    let status = mount.status().to_string();
    assert!(status.contains("c/0/1") && status.contains("changed since it was looked at"), "{status}");
}

#[test]
fn what_is_absent_at_the_first_look_stays_absent() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let layout = ["--chunks", "epoch=source,object=2"];
    let (mount, _) = store.mount_as(&never(&layout));
    let late = lightcurves(&store).join(format!("c.0.{}", N_EPOCHS - 1));
    assert_eq!(errno(fs::metadata(&late)), libc::ENOENT);
    let chunk: Vec<u8> = (0..N_OBJECTS).flat_map(|o| value(o, N_EPOCHS - 1).to_le_bytes()).collect();
    fs::write(source_chunk(&store, N_EPOCHS - 1), &chunk).unwrap();
    std::thread::sleep(Duration::from_millis(2_500));
    assert_eq!(errno(fs::metadata(&late)), libc::ENOENT);
    // Another virtual chunk on the same source chunk, never asked for until now: absent in the same state.
    assert_eq!(errno(fs::metadata(lightcurves(&store).join(format!("c.1.{}", N_EPOCHS - 1)))), libc::ENOENT);
    mount.unmount(&[]).assert_success();
    let (_mount, _) = store.mount_as(&never(&layout));
    assert_eq!(fs::read(&late).unwrap(), chunk[..8]);
}

#[test]
fn a_source_chunk_not_yet_looked_at_is_shown_as_it_is_when_it_is() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let (_mount, _) = store.mount_as(&never(&PAIRS));
    assert_eq!(fs::read(lightcurves(&store).join("c.0.0")).unwrap(), pair_bytes(0));
    fs::write(source_chunk(&store, 2), 7f32.to_le_bytes().repeat(N_OBJECTS as usize)).unwrap();
    assert_eq!(fs::read(lightcurves(&store).join("c.0.1")).unwrap()[..4], 7f32.to_le_bytes());
}

#[test]
fn a_virtual_chunk_keeps_its_fill_value_where_a_source_chunk_came_late() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let (_mount, _) = store.mount_as(&never(&PAIRS));
    let chunk = lightcurves(&store).join("c.0.2");
    assert!(fs::metadata(&chunk).is_ok());
    fs::write(source_chunk(&store, N_EPOCHS - 1), 7f32.to_le_bytes().repeat(N_OBJECTS as usize)).unwrap();
    // Read for the first time: its second epoch was absent when looked at, and is so still.
    assert_eq!(fs::read(&chunk).unwrap(), pair_bytes(2));
}
