//! The cache by itself: the bound, what makes way, and what others leave in its folder.

use super::*;
use std::fs;
use std::time::Duration;

const FAMILY: u128 = 3;

fn name(number: u64) -> Name {
    Name { family: FAMILY, number }
}

fn put(cache: &DiskCache, number: u64, bytes: u64) -> Result<(), DiskError> {
    cache.write(name(number), 1, || {
        (vec![bytes], Box::new(move |_, sink: Sink<'_>| sink(&vec![number as u8; bytes as usize])))
    })
}

fn has(cache: &DiskCache, number: u64) -> bool {
    let Some(record) = cache.find(name(number), || Some(1)).unwrap() else { return false };
    let mut bytes = Vec::new();
    assert!(cache.read(&record, 0, (0, 10), &mut bytes).unwrap());
    assert_eq!(bytes, [number as u8; 10]);
    true
}

/// Sizes of all files below the folder of the records, and whether there is a temporary one.
fn total_bytes(cache: &DiskCache) -> u64 {
    let family = cache.folder().join(format!("{FAMILY:032x}"));
    assert!(!cache.folder().join("writing").exists());
    fs::read_dir(family).map_or(0, |records| records.map(|record| record.unwrap().metadata().unwrap().len()).sum())
}

#[test]
fn the_bound_holds_for_all_who_share_it_and_the_oldest_make_way() {
    const LIMIT_BYTES: u64 = 200_000;
    let folder = tempfile::tempdir().unwrap();
    let caches = [(); 2].map(|()| DiskCache::open(folder.path(), LIMIT_BYTES).unwrap());
    for number in 0..40 {
        put(&caches[number as usize % 2], number, 10_000 + number * 100).unwrap();
        assert!(total_bytes(&caches[0]) <= LIMIT_BYTES);
        assert!(total_bytes(&caches[0]) <= caches[0].used_bytes());
        assert_eq!(caches[0].used_bytes(), caches[1].used_bytes());
        assert!(has(&caches[1], number));
    }
    // Those who have an evicted record open read on; others do not find it.
    let late = DiskCache::open(folder.path(), LIMIT_BYTES).unwrap();
    assert!(!has(&late, 0) && has(&late, 39) && has(&late, 36), "the oldest go first");
    assert!(total_bytes(&caches[0]) > LIMIT_BYTES / 2, "and no more of them than need be");
    let refused = put(&caches[0], 99, LIMIT_BYTES);
    assert!(matches!(refused, Err(DiskError::NoRoom { .. })), "{refused:?}");
    assert!(has(&caches[0], 39), "in vain nothing is evicted");
}

#[test]
fn what_is_used_stays() {
    let folder = tempfile::tempdir().unwrap();
    let cache = DiskCache::open(folder.path(), 100_000).unwrap();
    for number in 0..3 {
        put(&cache, number, 20_000).unwrap();
        let path = cache.folder().join(format!("{FAMILY:032x}/{number:016x}"));
        let then = SystemTime::now() - Duration::from_secs(1000 - number);
        fs::File::open(path).unwrap().set_modified(then).unwrap();
    }
    assert!(has(&cache, 0), "used, and so the youngest");
    for number in 3..5 {
        put(&cache, number, 20_000).unwrap();
    }
    assert!(has(&cache, 0) && !has(&cache, 1));
}

#[test]
fn a_record_is_replaced_and_one_of_another_version_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let caches = [(); 2].map(|()| DiskCache::open(folder.path(), 1 << 20).unwrap());
    put(&caches[0], 1, 10).unwrap();
    assert!(has(&caches[0], 1));
    assert!(caches[1].find(name(1), || Some(2)).unwrap().is_none());
    assert!(caches[1].find(name(1), || None).unwrap().is_none());
    caches[1].write(name(1), 2, || (vec![3], Box::new(|_, sink: Sink<'_>| sink(b"new")))).unwrap();
    let record = caches[1].find(name(1), || Some(2)).unwrap().expect("there");
    let mut bytes = Vec::new();
    assert!(caches[1].read(&record, 0, (1, 2), &mut bytes).unwrap());
    assert_eq!(bytes, b"ew");
    assert!(!caches[1].read(&record, 0, (1, 3), &mut bytes).unwrap(), "beyond its end");
    assert!(has(&caches[0], 1), "who has the old one open reads on");
    assert_eq!(caches[0].used_bytes(), 4096, "and it counts no more");
}

#[test]
fn what_others_leave_in_the_folder_does_no_harm_and_comes_to_none() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("rechunkfs-1");
    let family = own.join(format!("{FAMILY:032x}"));
    fs::create_dir_all(family.join("0000000000000007")).unwrap();
    fs::write(family.join("notes"), [0; 50_000]).unwrap();
    fs::write(own.join("lock"), u64::MAX.to_string()).unwrap();
    fs::write(own.join("writing"), "left by one that died").unwrap();
    fs::write(folder.path().join("mine"), "keep").unwrap();
    fs::write(family.join("0000000000000001"), "").unwrap();
    fs::write(family.join("0000000000000002"), [7; 3000]).unwrap();
    let cache = DiskCache::open(folder.path(), 60_000).unwrap();
    for number in [1, 2] {
        let found = cache.find(name(number), || Some(1));
        assert!(matches!(found, Err(DiskError::Damaged { .. })), "{found:?}");
        assert!(cache.find(name(number), || Some(1)).unwrap().is_none(), "it is gone");
    }
    let found = cache.find(name(7), || Some(1));
    assert!(matches!(found, Err(DiskError::Damaged { .. })), "{found:?}");
    assert!(cache.find(name(7), || Some(1)).unwrap().is_none(), "looked at once");
    for number in 10..20 {
        put(&cache, number, 10_000).unwrap();
    }
    assert!(has(&cache, 19) && !has(&cache, 10));
    assert!(family.join("notes").exists() && folder.path().join("mine").exists());
    assert!(fs::read_to_string(own.join("CACHEDIR.TAG")).unwrap().starts_with("Signature: 8a477f597d28d172789f068868"));
    fs::remove_dir_all(&own).unwrap();
    put(&cache, 5, 100).unwrap();
    assert!(has(&cache, 5), "removed by hand, and made again");
    assert_eq!(fs::metadata(&own).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn a_write_that_fails_leaves_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let cache = DiskCache::open(folder.path(), 1 << 20).unwrap();
    put(&cache, 1, 10).unwrap();
    let failed = cache.write(name(1), 1, || (vec![5], Box::new(|_, _: Sink<'_>| Err(io::Error::other("no")))));
    assert!(matches!(failed, Err(DiskError::Io { .. })));
    let short = cache.write(name(1), 1, || (vec![5], Box::new(|_, sink: Sink<'_>| sink(b"1234"))));
    assert!(matches!(short, Err(DiskError::Io { .. })));
    assert!(has(&cache, 1));
    assert_eq!((total_bytes(&cache), cache.totals.errors.load(Relaxed)), (80 + 16 + 10 + 4, 2));
}

#[test]
fn a_folder_where_nothing_can_be_kept_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let refused = DiskCache::open(&folder.path().join("file"), 1).unwrap_err().to_string();
    assert!(refused.contains("file") && refused.contains("decoded data cannot be kept there"), "{refused}");
}

#[test]
fn a_process_that_stopped_with_the_lock_stops_nobody_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let cache = DiskCache::open(folder.path(), 1 << 20).unwrap();
    put(&cache, 1, 10).unwrap();
    let stopped = fs::File::open(cache.folder().join("lock")).unwrap();
    stopped.lock().unwrap();
    let failed = put(&cache, 2, 10).unwrap_err().to_string();
    assert!(failed.contains("locked"), "{failed}");
    assert!(has(&cache, 1), "reading takes no lock");
    drop(stopped);
    put(&cache, 2, 10).unwrap();
}
