//! The states of source chunk files, and what becomes of reads when their directory is replaced.

use crate::reference::read;
use crate::stores::{Codec, Model};
use rechunkfs::geometry::Region;
use rechunkfs::source::{ArrayReader, FileState, Folder, SourceError, Stamp, Workspace};
use rechunkfs::view::{Options, View};
use rechunkfs::zarr::{Encoding, KeyEncoding, KeyStyle, SourceArray};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

const PATH: &str = "group/array";

/// Uncompressed chunks of one row of eight bytes.
fn reader(root: &Path, shape: &[u64], separator: char) -> ArrayReader {
    let chunk: Vec<u64> = shape.iter().map(|_| 1).collect();
    let array = SourceArray {
        path: PATH.to_owned(),
        shape: shape.to_vec(),
        file_shape: chunk.clone(),
        leaf_shape: chunk,
        key_encoding: KeyEncoding { style: KeyStyle::Default, separator },
        item_bytes: 8,
        fill: vec![0; 8],
        sharding: None,
        encoding: Encoding::Linear { order: (0..shape.len()).collect(), bytes_to_bytes: Vec::new() },
    };
    ArrayReader::new(root, &array, 1, std::sync::Arc::default()).expect("supported")
}

fn write(root: &Path, key: &str, bytes: &[u8; 8]) {
    let path = root.join(PATH).join(key);
    fs::create_dir_all(path.parent().expect("below the array")).expect("created");
    fs::write(path, bytes).expect("written");
}

fn states(reader: &ArrayReader, files: &Region) -> Result<Vec<(Vec<u64>, FileState)>, SourceError> {
    let mut found = Vec::new();
    reader.states(files.positions(), |file, state| found.push((file.to_vec(), state))).map(|()| found)
}

#[test]
fn files_looked_at_together_are_what_each_is_alone() {
    for separator in ['/', '.'] {
        let folder = tempfile::tempdir().expect("a folder");
        let reader = reader(folder.path(), &[40, 150], separator);
        // More than one batch, with some missing, among them whole directories.
        for (row, column) in (0..40).flat_map(|row| (0..150).map(move |column| (row, column))) {
            if row % 9 != 4 && column % 7 != 3 {
                write(folder.path(), &format!("c{separator}{row}{separator}{column}"), b"anything");
            }
        }
        let files = Region { start: vec![1, 2], end: vec![40, 149] };
        let together = states(&reader, &files).expect("looked at");
        let positions: Vec<Vec<u64>> = files.positions().collect();
        assert_eq!(together.iter().map(|(file, _)| file.clone()).collect::<Vec<_>>(), positions, "in C order");
        for (file, state) in &together {
            let alone = reader.state(file).expect("looked at");
            assert_eq!(
                (state.stamp, state.size_bytes, state.mtime_ns),
                (alone.stamp, alone.size_bytes, alone.mtime_ns)
            );
            assert_eq!(state.stamp.is_present(), file[0] % 9 != 4 && file[1] % 7 != 3, "{file:?}");
        }
    }
}

#[test]
fn an_array_without_a_directory_has_no_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let reader = reader(folder.path(), &[3, 3], '/');
    let files = Region::whole(&[3, 3]);
    let found = states(&reader, &files).expect("provably nothing");
    assert!(found.len() == 9 && found.iter().all(|(_, state)| state.stamp == Stamp::ABSENT));
    // Nor has one that is a file.
    fs::create_dir(folder.path().join("group")).expect("created");
    fs::write(folder.path().join(PATH), "a file").expect("written");
    assert!(states(&reader, &files).expect("provably nothing").iter().all(|(_, state)| !state.stamp.is_present()));
}

#[test]
fn the_first_file_that_cannot_be_looked_at_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let reader = reader(folder.path(), &[2_000], '.');
    write(folder.path(), "c.0", b"anything");
    for file in [1_500, 700] {
        let path = folder.path().join(PATH).join(format!("c.{file}"));
        std::os::unix::fs::symlink(&path, &path).expect("a link to itself");
    }
    let error = states(&reader, &Region::whole(&[2_000])).expect_err("one cannot be looked at").to_string();
    assert!(error.contains(PATH) && error.contains("c.700"), "{error}");
    assert!(reader.state(&[700]).is_err());
}

#[test]
fn a_directory_that_is_replaced_is_read_as_it_was_or_not_at_all() {
    let folder = tempfile::tempdir().expect("a folder");
    let reader = reader(folder.path(), &[2], '/');
    write(folder.path(), "c/0", b"old  one");
    let stamp = reader.state(&[0]).expect("there").stamp;
    let read_in = |folder: &Folder, stamp| {
        let mut out = [0; 8];
        let found = reader.read_in(folder, &[0], (0, 1), stamp, &mut Workspace::default(), &mut out);
        found.map(|found| (found, out))
    };
    let earlier = reader.folder();
    fs::rename(folder.path().join(PATH), folder.path().join("elsewhere")).expect("renamed");
    assert!(matches!(read_in(&reader.folder(), stamp), Err(SourceError::Changed { .. })), "it is gone");
    write(folder.path(), "c/0", b"new  one");
    let new_stamp = reader.state(&[0]).expect("there").stamp;

    let (found, bytes) = read_in(&earlier, stamp).expect("the state that the stamp is of");
    assert!(found && &bytes == b"old  one");
    assert!(matches!(read_in(&earlier, new_stamp), Err(SourceError::Changed { .. })));
    assert!(matches!(read_in(&reader.folder(), stamp), Err(SourceError::Changed { .. })));
    let (found, bytes) = read_in(&reader.folder(), new_stamp).expect("the new state");
    assert!(found && &bytes == b"new  one");
}

/// Eight objects at six epochs, one epoch a chunk.
fn survey(first: u8) -> Model {
    Model {
        shape: vec![8, 6],
        file_shape: vec![8, 1],
        inner_shape: None,
        order: vec![0, 1],
        codec: Codec::Blosc { block_bytes: 0 },
        item_bytes: 4,
        fill: vec![0; 4],
        key_encoding: KeyEncoding { style: KeyStyle::Default, separator: '/' },
        data: (0..8 * 6 * 4).map(|i| first + i).collect(),
        missing: Vec::new(),
    }
}

#[test]
fn a_store_that_takes_the_place_of_another_is_what_is_read_then() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("store");
    let chunk_shape = [1, 2];
    let (before, after) = (survey(0), survey(50));
    before.write(&root);
    let options = Options { memory_bytes: 256 << 20, threads: 2, max_tile_bytes: None, cache_dir: None, follow: None };
    let view = View::open(&root, before.projection(&chunk_shape, None), options).expect("opens");
    let read_chunk = |object: u64, pair: u64| {
        let (node, stat) = view.lookup(&view.root(), OsStr::new(&format!("c.{object}.{pair}"))).expect("present");
        read(&view, &node, 0, stat.size_bytes)
    };
    assert_eq!(read_chunk(3, 0).expect("reads"), before.virtual_chunk(&[3, 0], &chunk_shape));
    fs::rename(&root, folder.path().join("away")).expect("renamed");
    after.write(&root);
    assert_eq!(read_chunk(3, 2).expect("reads"), after.virtual_chunk(&[3, 2], &chunk_shape));
}
