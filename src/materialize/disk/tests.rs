//! Copies and updates of a small store whose disk fails, or loses power, at each point at which they change it, one after
//! the other: what is there is never half of anything, and going on leads to what would have been without.

use super::faults::{Disk, Fault, Left};
use crate::materialize::progress::Progress;
use crate::materialize::record::{PASSED, STAMPS};
use crate::materialize::{CopyError, Options, Sources, Words, copy, update};
use crate::source::{Counters, hierarchy};
use crate::zarr::{Layout, project_copy};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const FAULTS: [Fault; 4] = [Fault::Fails, Fault::Cut(Left::Synced), Fault::Cut(Left::Names), Fault::Cut(Left::All)];

/// Every file, by its path; records are told by what updates make of them.
type Tree = BTreeMap<String, Vec<u8>>;

fn read_tree(folder: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(&at).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if ![STAMPS, PASSED].iter().any(|record| path.ends_with(record)) {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                tree.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    tree
}

fn write_tree(folder: &Path, all: &BTreeMap<PathBuf, Option<Vec<u8>>>) {
    for (path, bytes) in all {
        match bytes {
            None => fs::create_dir_all(folder.join(path)).unwrap(),
            Some(bytes) => fs::write(folder.join(path), bytes).unwrap(),
        }
    }
}

/// Folders and files, records included.
fn all_of(folder: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        all.insert(at.strip_prefix(folder).unwrap().to_owned(), None);
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                all.insert(path.strip_prefix(folder).unwrap().to_owned(), Some(fs::read(&path).unwrap()));
            }
        }
    }
    all
}

/// A store that is copied to a disk.
struct Stage {
    folder: tempfile::TempDir,
    layout: Layout,
    max_tile_bytes: Option<u64>,
}

impl Stage {
    /// The layout cuts `object` by 3, into shards of 6 where these are `sharded`; in small tiles the copy takes more passes.
    fn new(sharded: bool, max_tile_bytes: Option<u64>) -> Self {
        // Nothing here is to last.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let layout = Layout {
            chunks: vec!["object=3,epoch=4".to_owned()],
            shards: if sharded { vec!["object=6,epoch=4".to_owned()] } else { Vec::new() },
            ..Layout::default()
        };
        let stage = Stage { folder, layout, max_tile_bytes };
        document(&stage.source(), "", r#""node_type":"group","attributes":{"of":"the first night"}"#);
        document(&stage.source(), "g", r#""node_type":"group""#);
        for epoch in 0..6 {
            chunk(&stage.source(), "a", &format!("{epoch}/0"), 12, epoch);
            chunk(&stage.source(), "g/old", &format!("{epoch}/0"), 12, epoch + 50);
        }
        array(&stage.source(), "a", 6);
        array(&stage.source(), "g/old", 6);
        chunk(&stage.source(), "column", "0", 12, 100);
        column(&stage.source());
        stage.settle();
        stage
    }

    /// What a survey, and those who reprocess it, do to a source.
    fn change(&self) {
        let source = self.source();
        document(&source, "", r#""node_type":"group","attributes":{"of":"the second night"}"#);
        chunk(&source, "a", "1/0", 12, 77);
        fs::remove_file(source.join("a/c/3/0")).unwrap();
        (6..8).for_each(|epoch| chunk(&source, "a", &format!("{epoch}/0"), 12, epoch));
        array(&source, "a", 8);
        fs::remove_dir_all(source.join("g")).unwrap();
        (0..2).for_each(|epoch| chunk(&source, "new", &format!("{epoch}/0"), 12, epoch + 90));
        array(&source, "new", 2);
        chunk(&source, "column", "0", 12, 101);
        self.settle();
    }

    /// What has just been written is looked at twice.
    fn settle(&self) {
        std::thread::sleep(Duration::from_millis(100));
    }

    fn source(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join("source")
    }

    fn options(&self, target: &Path, resume: bool, overwrite: bool) -> Options {
        Options {
            source: (&self.source()).into(),
            target: target.to_owned(),
            memory_bytes: 96 << 20,
            threads: 2,
            temp: None,
            resume,
            overwrite,
            keep_going: false,
            verify: false,
            lives: false,
            max_tile_bytes: self.max_tile_bytes,
            always_spool: self.max_tile_bytes.is_some(),
            words: Words { layout: self.layout.words(), codecs: String::new() },
        }
    }

    fn copy(&self, target: &Path, resume: bool, overwrite: bool) -> Result<(), CopyError> {
        let hierarchy = hierarchy::read(&self.source()).unwrap();
        let projection = project_copy(&hierarchy, &self.layout, &[]).unwrap();
        let options = self.options(target, resume, overwrite);
        copy(&hierarchy, projection, &options, &Progress::default(), &Arc::new(Counters::default())).map(drop)
    }

    fn update(&self, target: &Path) -> Result<(), CopyError> {
        let sources = Sources {
            hierarchy: &hierarchy::read(&self.source()).unwrap(),
            layout: &self.layout,
            codecs: &[],
            options: &self.options(target, false, false),
            counters: &Arc::new(Counters::default()),
        };
        let updated = update(&sources, &Progress::default(), &mut |_| {})?;
        match updated.failures.first() {
            None => Ok(()),
            Some(failure) => Err(CopyError::Store(failure.clone())),
        }
    }

    /// Does `work` on a disk as `begin` leaves it, with each fault at each point in turn; `check` looks at what is there then, and
    /// goes on. Returns what was about to be done at each of them.
    fn at_each_point(
        &self,
        begin: &dyn Fn(&Disk, &Path),
        work: &dyn Fn(&Path) -> Result<(), CopyError>,
        check: &dyn Fn(&Path, &str),
    ) -> Vec<String> {
        let mut all = Vec::new();
        for fault in FAULTS {
            for at in 1.. {
                let (root, aside) = (self.folder.path().join("disk"), self.folder.path().join("aside"));
                fs::create_dir(&root).unwrap();
                let disk = Disk::new(&root, &aside);
                begin(&disk, &root);
                disk.mend();
                disk.expect(at, fault);
                let done = work(&root.join("target"));
                let met = disk.met();
                disk.mend();
                let what = format!("{fault:?} at {at}, {met:?}");
                if met.is_none() {
                    done.unwrap_or_else(|error| panic!("{what}: {error}"));
                }
                check(&root.join("target"), &what);
                disk.retire();
                fs::remove_dir_all(&root).unwrap();
                match met {
                    Some(met) => all.push(met),
                    None => break,
                }
            }
        }
        println!("{} faults, one at a time", all.len());
        assert!(all.len() > 100);
        all
    }

    /// The copy that nothing has befallen.
    fn whole(&self) -> Tree {
        let target = self.folder.path().join("whole");
        self.copy(&target, false, false).unwrap();
        let tree = read_tree(&target);
        fs::remove_dir_all(&target).unwrap();
        tree
    }

    /// All points of a copy; where one is `begun`, of going on with it.
    fn copies(&self, begun: bool) -> Vec<String> {
        let whole = self.whole();
        let begin = |disk: &Disk, root: &Path| {
            if begun {
                self.copy(&root.join("target"), false, false).unwrap();
                let n = disk.n();
                fs::remove_dir_all(root.join("target")).unwrap();
                disk.expect(n / 2, Fault::Fails);
                self.copy(&root.join("target"), false, false).unwrap_err();
            }
        };
        let check = |target: &Path, what: &str| {
            assert!(!target.exists() || read_tree(target) == whole, "{what}: half a copy");
            self.go_on(target, (&whole, &Tree::new()), what);
        };
        self.at_each_point(&begin, &|target| self.copy(target, true, false), &check)
    }

    /// Goes on with a copy until it is there, and alone.
    fn go_on(&self, target: &Path, (whole, old): (&Tree, &Tree), what: &str) {
        match self.copy(target, true, !old.is_empty()) {
            // It had come to its end.
            Err(CopyError::TargetExists(_)) => {}
            done => done.unwrap_or_else(|error| panic!("{what}: {error}")),
        }
        assert!(read_tree(target) == *whole, "{what}: not what it was to be");
        assert_eq!(fs::read_dir(target.parent().unwrap()).unwrap().count(), 1, "{what}: something is left");
    }
}

fn document(source: &Path, path: &str, what: &str) {
    fs::create_dir_all(source.join(path)).unwrap();
    fs::write(source.join(path).join("zarr.json"), format!(r#"{{"zarr_format":3,{what}}}"#)).unwrap();
}

/// Epochs of twelve objects, a chunk each.
fn array(source: &Path, path: &str, n_epochs: u64) {
    let what = format!(
        r#""node_type":"array","shape":[{n_epochs},12],"data_type":"uint8","fill_value":0,
        "chunk_grid":{{"name":"regular","configuration":{{"chunk_shape":[1,12]}}}},
        "chunk_key_encoding":{{"name":"default","configuration":{{"separator":"/"}}}},
        "codecs":[{{"name":"bytes"}}],"dimension_names":["epoch","object"]"#
    );
    document(source, path, &what);
}

/// What passes through.
fn column(source: &Path) {
    let what = r#""node_type":"array","shape":[12],"data_type":"uint8","fill_value":0,
        "chunk_grid":{"name":"regular","configuration":{"chunk_shape":[12]}},
        "chunk_key_encoding":{"name":"default","configuration":{"separator":"/"}},
        "codecs":[{"name":"bytes"}],"dimension_names":["object"]"#;
    document(source, "column", what);
}

fn chunk(source: &Path, path: &str, key: &str, len: usize, seed: u64) {
    let path = source.join(path).join("c").join(key);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let bytes: Vec<u8> = (0..len as u64).map(|nth| (seed * 12 + nth + 1) as u8).collect();
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_copy_survives_a_fault_at_each_point() {
    Stage::new(false, None).copies(false);
}

#[test]
fn a_copy_of_shards_through_temporary_files_survives_a_fault_at_each_point() {
    let met = Stage::new(true, Some(24)).copies(false);
    assert!(met.iter().any(|met| met.starts_with("Write") && met.ends_with("temp/array-0")));
}

#[test]
fn going_on_with_a_copy_survives_a_fault_at_each_point() {
    Stage::new(false, Some(24)).copies(true);
}

#[test]
fn a_store_that_is_replaced_is_the_old_one_or_the_new_one_at_each_point() {
    let stage = Stage::new(false, None);
    let before = stage.folder.path().join("before");
    stage.copy(&before, false, false).unwrap();
    let (old, all) = (read_tree(&before), all_of(&before));
    stage.change();
    let whole = stage.whole();
    let begin = |_: &Disk, root: &Path| write_tree(&root.join("target"), &all);
    let check = |target: &Path, what: &str| {
        let found = read_tree(target);
        assert!(found == old || found == whole, "{what}: half a store");
        stage.go_on(target, (&whole, &old), what);
    };
    stage.at_each_point(&begin, &|target| stage.copy(target, false, true), &check);
}

/// Each file of a copy is the old one or the new one, or is not there where one of them is not.
fn check_mixture(found: &Tree, old: &Tree, new: &Tree, what: &str) {
    let names: BTreeSet<&String> = found.keys().chain(old.keys()).chain(new.keys()).collect();
    for name in names {
        let found = found.get(name);
        if name == "zarr.json" {
            // What goes leaves the root's document first: that is a third one, in between.
            let text = found.unwrap_or_else(|| panic!("{what}: no store"));
            serde_json::from_slice::<serde_json::Value>(text).unwrap_or_else(|error| panic!("{what}: {error}"));
            continue;
        }
        assert!(found == old.get(name) || found == new.get(name), "{what}: {name} is neither old nor new");
    }
}

fn updates(sharded: bool, max_tile_bytes: Option<u64>) {
    let stage = Stage::new(sharded, max_tile_bytes);
    let before = stage.folder.path().join("before");
    stage.copy(&before, false, false).unwrap();
    let (old, all) = (read_tree(&before), all_of(&before));
    stage.change();
    let new = stage.whole();
    let begin = |_: &Disk, root: &Path| write_tree(&root.join("target"), &all);
    let check = |target: &Path, what: &str| {
        check_mixture(&read_tree(target), &old, &new, what);
        stage.update(target).unwrap_or_else(|error| panic!("{what}: {error}"));
        let found = read_tree(target);
        let names = |tree: &Tree| tree.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&found), names(&new), "{what}");
        assert!(found == new, "{what}: not what it was to be");
        assert_eq!(fs::read_dir(target.parent().unwrap()).unwrap().count(), 1, "{what}: something is left");
    };
    stage.at_each_point(&begin, &|target| stage.update(target), &check);
}

#[test]
fn an_update_survives_a_fault_at_each_point() {
    updates(false, None);
}

#[test]
fn an_update_of_shards_survives_a_fault_at_each_point() {
    updates(true, Some(24));
}
