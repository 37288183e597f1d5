//! Faults: damaged records, a source that changes. Every read is right all the same.

use super::*;

/// A few tiles, with a record of some hundred bytes each, and seams between them.
fn small() -> Model {
    Model {
        shape: vec![200, 3],
        file_shape: vec![200, 1],
        inner_shape: None,
        order: vec![0, 1],
        codec: Codec::Blosc { block_bytes: 64 },
        item_bytes: 2,
        fill: vec![9, 8],
        key_encoding: KeyEncoding { style: KeyStyle::Default, separator: '/' },
        data: (0..1200u32).map(|i| (i * 37) as u8).collect(),
        missing: vec![2],
    }
}

const CHUNK_SHAPE: [u64; 2] = [7, 3];
const N_CHUNKS: u64 = 29;
const MAX_TILE_BYTES: Option<u64> = Some(5000);

fn open(store: &Path, cache: &Path, limit_bytes: u64) -> Arc<View> {
    let cache_dir = Some(CacheDir { path: cache.to_owned(), limit_bytes });
    let options =
        Options { memory_bytes: 128 << 20, threads: 2, max_tile_bytes: MAX_TILE_BYTES, cache_dir, follow: None };
    View::open(store, small().projection(&CHUNK_SHAPE, None), options).expect("opens")
}

fn check(view: &Arc<View>, model: &Model) {
    for chunk in 0..N_CHUNKS {
        let (node, stat) = view.lookup(&view.root(), OsStr::new(&format!("c.{chunk}.0"))).expect("present");
        let bytes = read(view, &node, 0, stat.size_bytes).expect("reads");
        assert_eq!(bytes, model.virtual_chunk(&[chunk, 0], &CHUNK_SHAPE), "chunk {chunk}");
    }
    view.finish(PATIENCE);
}

/// A store with its records, all of them written.
fn kept() -> [tempfile::TempDir; 2] {
    let [store, cache] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    small().write(store.path());
    let_them_age();
    check(&open(store.path(), cache.path(), 1 << 20), &small());
    let again = open(store.path(), cache.path(), 1 << 20);
    check(&again, &small());
    assert_eq!(count(&again, "blocks"), 0, "the small store has seams and tiles on disk");
    assert!(records(cache.path()).len() > 2, "{:?}", records(cache.path()));
    [store, cache]
}

/// Damages records at each byte; every read is right, and the damage is counted and mended.
fn damage(spoil: impl Fn(&[u8], usize) -> Vec<u8>) {
    let [store, cache] = kept();
    // Of two neighbours, who share a seam.
    for (path, size) in records(cache.path()).into_iter().take(2) {
        let whole = std::fs::read(&path).expect("a record");
        for at in 0..size as usize {
            std::fs::write(&path, spoil(&whole, at)).expect("written");
            let view = open(store.path(), cache.path(), 1 << 20);
            check(&view, &small());
            assert!(count(&view, "disk_errors") > 0, "byte {at} of {}: {}", path.display(), counts(&view));
            assert!(counts(&view)["errors"][0]["message"].as_str().expect("text").contains("disk cache"));
            drop(view);
            let mended = open(store.path(), cache.path(), 1 << 20);
            check(&mended, &small());
            assert_eq!((count(&mended, "disk_errors"), count(&mended, "blocks")), (0, 0), "byte {at}");
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_is_noticed_and_never_served() {
    damage(|whole, at| {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 1 << (at % 8);
        bytes
    });
}

#[test]
fn a_record_cut_short_anywhere_is_noticed_and_never_served() {
    damage(|whole, at| whole[..at].to_vec());
}

#[test]
fn a_source_chunk_rewritten_between_mounts_shows_its_new_values() {
    let [store, cache] = kept();
    let mut model = small();
    for round in 1..4u8 {
        model.data.iter_mut().step_by(6).for_each(|byte| *byte = round);
        model.write(store.path());
        if round == 3 {
            model.missing.push(1);
            std::fs::remove_file(store.path().join("c/0/1")).expect("removed");
        }
        let_them_age();
        let view = open(store.path(), cache.path(), 1 << 20);
        check(&view, &model);
        assert!(count(&view, "blocks") > 0);
        let again = open(store.path(), cache.path(), 1 << 20);
        check(&again, &model);
        assert_eq!((count(&again, "blocks"), count(&again, "disk_errors")), (0, 0));
    }
}

#[test]
fn what_is_read_while_its_source_is_being_written_is_not_kept() {
    let [store, cache] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let mut model = small();
    for round in 0..30u8 {
        // Within one tick of the file system's clock a file can be rewritten and keep all of its times.
        model.data[0] = round;
        model.write(store.path());
        check(&open(store.path(), cache.path(), 1 << 20), &model);
    }
}

#[test]
fn a_mount_with_another_layout_or_of_another_store_uses_nothing_of_it() {
    let [store, cache] = kept();
    let other = tempfile::tempdir().expect("a directory");
    let mut model = small();
    model.data.reverse();
    model.write(other.path());
    check(&open(other.path(), cache.path(), 1 << 20), &model);
    let cache_dir = Some(CacheDir { path: cache.path().to_owned(), limit_bytes: 1 << 20 });
    let options =
        Options { memory_bytes: 128 << 20, threads: 2, max_tile_bytes: MAX_TILE_BYTES, cache_dir, follow: None };
    let view = View::open(store.path(), small().projection(&[3, 2], None), options).expect("opens");
    let (node, stat) = view.lookup(&view.root(), OsStr::new("c.1.0")).expect("present");
    assert_eq!(read(&view, &node, 0, stat.size_bytes).expect("reads"), small().virtual_chunk(&[1, 0], &[3, 2]));
    assert_eq!(count(&view, "disk_hits"), 0);
}

#[test]
fn a_bound_for_one_record_alone_holds_and_costs_time_only() {
    let [store, cache] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    small().write(store.path());
    let_them_age();
    for limit_bytes in [0, 100, 4096, 8000] {
        let views = [(); 2].map(|()| open(store.path(), cache.path(), limit_bytes));
        for _ in 0..3 {
            for view in &views {
                check(view, &small());
                let sum: u64 = records(cache.path()).iter().map(|(_, size)| size).sum();
                assert!(sum <= limit_bytes, "{sum} of {limit_bytes}");
            }
        }
    }
}
