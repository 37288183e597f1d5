//! What an unfinished copy and an unfinished update have on record, in any words that bear sound checksums: going on ends, with a
//! copy or with an error.
//!
//! The first byte chooses: commits of the journal of a copy, of that of an update, and what the copy knows of its source, of an
//! array and of what passes through. An empty first line stands for what a true one begins with.

use super::Target;
use rechunkfs::materialize::{CopyError, Options, Progress, Sources, Words, copy, partial_of, update};
use rechunkfs::source::{Counters, hierarchy};
use rechunkfs::zarr::{Layout, project_copy};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

const N_OBJECTS: u64 = 12;

pub fn target() -> Target {
    let (copies, updates) = (Stage::of_copy(), Stage::of_update());
    Box::new(move |data| {
        let Some((which, data)) = data.split_first() else { return };
        match which % 4 {
            0 => copies.go_on(data),
            1 => updates.go_on_updating(data),
            2 => updates.update_by_record("a/.rechunkfs", data),
            _ => updates.update_by_record("a/.rechunkfs-passed", data),
        }
    })
}

/// A small store, and a copy of it that was not brought to its end.
struct Stage {
    folder: TempDir,
    layout: Layout,
    /// What the journal begins with.
    header: Vec<u8>,
    /// What was there at the target, file by file.
    before: Vec<(PathBuf, Vec<u8>)>,
}

impl Stage {
    fn new() -> Self {
        let layout = Layout { chunks: vec!["object=3,epoch=4".to_owned()], ..Layout::default() };
        let stage = Stage { folder: super::folder(), layout, header: Vec::new(), before: Vec::new() };
        stage.document("", r#"{"zarr_format":3,"node_type":"group"}"#);
        stage.document("column", &super::array(&[2], &[1], r#"{"name":"bytes"}"#, &["night"]));
        stage.chunk("column/c/0", 1);
        stage.epochs(6);
        stage
    }

    fn of_copy() -> Self {
        let mut stage = Stage::new();
        stage.chunk("a/c/5/0", 1);
        stage.copy().expect_err("a chunk is too short");
        let journal = fs::read(partial_of(&stage.target()).join("journal")).expect("a journal");
        stage.header = first_line(&journal);
        stage.chunk("a/c/5/0", N_OBJECTS);
        stage
    }

    fn of_update() -> Self {
        let mut stage = Stage::new();
        stage.copy().expect("copied");
        stage.before = files(&stage.target());
        stage.epochs(8);
        // A new array that is not all there is gone on with.
        stage.array("new", 1);
        stage.chunk("new/c/0/0", 1);
        stage.update().expect("the rest is there");
        let journal = fs::read(partial_of(&stage.target()).join("update")).expect("a journal");
        stage.header = first_line(&journal);
        stage.chunk("new/c/0/0", N_OBJECTS);
        stage
    }

    fn source(&self) -> PathBuf {
        self.folder.path().canonicalize().expect("there").join("source")
    }

    fn target(&self) -> PathBuf {
        self.folder.path().canonicalize().expect("there").join("target")
    }

    fn document(&self, path: &str, text: &str) {
        let folder = self.source().join(path);
        fs::create_dir_all(&folder).expect("a directory");
        fs::write(folder.join("zarr.json"), text).expect("written");
    }

    fn chunk(&self, key: &str, len: u64) {
        let path = self.source().join(key);
        fs::create_dir_all(path.parent().expect("below the root")).expect("a directory");
        fs::write(path, vec![key.len() as u8; len as usize]).expect("written");
    }

    fn array(&self, path: &str, n_epochs: u64) {
        let (shape, chunk) = ([n_epochs, N_OBJECTS], [1, N_OBJECTS]);
        self.document(path, &super::array(&shape, &chunk, r#"{"name":"bytes"}"#, &["epoch", "object"]));
    }

    fn epochs(&self, n: u64) {
        self.array("a", n);
        (0..n).for_each(|epoch| self.chunk(&format!("a/c/{epoch}/0"), N_OBJECTS));
    }

    fn options(&self) -> Options {
        Options {
            source: (&self.source()).into(),
            target: self.target(),
            memory_bytes: 96 << 20,
            threads: 1,
            temp: None,
            resume: true,
            overwrite: false,
            keep_going: false,
            verify: false,
            lives: false,
            max_tile_bytes: Some(24),
            always_spool: false,
            words: Words { layout: self.layout.words(), codecs: String::new() },
        }
    }

    fn copy(&self) -> Result<(), CopyError> {
        let hierarchy = hierarchy::read(&self.source()).expect("a store");
        let projection = project_copy(&hierarchy, &self.layout, &[]).expect("a layout");
        copy(&hierarchy, projection, &self.options(), &Progress::default(), &Arc::new(Counters::default())).map(drop)
    }

    fn update(&self) -> Result<(), CopyError> {
        let sources = Sources {
            hierarchy: &hierarchy::read(&self.source()).expect("a store"),
            layout: &self.layout,
            codecs: &[],
            options: &self.options(),
            counters: &Arc::new(Counters::default()),
        };
        update(&sources, &Progress::default(), &mut |_| {}).map(drop)
    }

    /// Puts back what was at the target, and removes what lies beside it.
    fn begin_again(&self) {
        for path in [self.target(), partial_of(&self.target())].iter().filter(|path| path.exists()) {
            fs::remove_dir_all(path).expect("removed");
        }
        for (path, bytes) in &self.before {
            let path = self.target().join(path);
            fs::create_dir_all(path.parent().expect("below the target")).expect("a directory");
            fs::write(path, bytes).expect("written");
        }
    }

    fn go_on(&self, commits: &[u8]) {
        self.begin_again();
        let partial = partial_of(&self.target());
        fs::create_dir_all(partial.join("store")).expect("a directory");
        fs::write(partial.join("journal"), self.journal(commits)).expect("written");
        match self.copy() {
            Ok(()) => assert!(self.target().join("zarr.json").exists()),
            Err(error) => assert!(!self.target().exists(), "{error}"),
        }
    }

    fn go_on_updating(&self, commits: &[u8]) {
        self.begin_again();
        let partial = partial_of(&self.target());
        fs::create_dir_all(&partial).expect("a directory");
        fs::write(partial.join("update"), self.journal(commits)).expect("written");
        let _ = self.update();
        assert!(self.target().join("zarr.json").exists());
    }

    fn update_by_record(&self, key: &str, data: &[u8]) {
        self.begin_again();
        let path = self.target().join(key);
        let whole = fs::read(&path).expect("a record");
        fs::write(&path, record(&whole, data)).expect("written");
        self.update().expect("a record is no more than what is known");
    }

    /// The header, and a record for each line.
    fn journal(&self, commits: &[u8]) -> Vec<u8> {
        let mut journal = self.header.clone();
        for line in commits.split(|byte| *byte == b'\n') {
            journal.extend(format!("{:08x} ", crc32c::crc32c(line)).bytes());
            journal.extend(line);
            journal.push(b'\n');
        }
        journal
    }
}

/// A record like `whole`, with another header, if `data` has one, and the words that it has.
fn record(whole: &[u8], data: &[u8]) -> Vec<u8> {
    let n_header = u64::from_le_bytes(whole[8..16].try_into().expect("eight")) as usize;
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let header = if end == 0 { &whole[28..28 + n_header] } else { &data[..end] };
    let words = data.get(end + 1..).unwrap_or_default();
    // One block: those have 8192 words.
    let words = &words[..words.len().min(8192 * 8) / 8 * 8];
    let mut sum = crc32c::crc32c(header);
    let mut record = whole[..8].to_vec();
    record.extend((header.len() as u64).to_le_bytes());
    record.extend((words.len() as u64 / 8).to_le_bytes());
    record.extend(sum.to_le_bytes());
    record.extend(header);
    if !words.is_empty() {
        sum = crc32c::crc32c_append(sum, words);
        record.extend(words);
        record.extend(sum.to_le_bytes());
    }
    record
}

fn first_line(journal: &[u8]) -> Vec<u8> {
    journal.split_inclusive(|byte| *byte == b'\n').next().expect("a line").to_vec()
}

fn files(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let (mut files, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = fs::read(&path).expect("read");
                files.push((path.strip_prefix(root).expect("below").to_owned(), bytes));
            }
        }
    }
    files
}
