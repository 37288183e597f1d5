//! The journal of an unfinished copy: what it is of, and what of it is on disk for good.
//!
//! One line a record: a CRC32C in hexadecimal, a blank, a JSON document. The first is the header, each further one a
//! commit: it is appended after all that it names has been synced. Of a journal that was cut off or damaged, the sound
//! records at its start count.

use super::CopyError;
use super::disk::{self, Out};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Goes up when an unfinished copy of an earlier version cannot be resumed.
const FORMAT: u32 = 2;

/// What a copy is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) format: u32,
    pub(super) source: PathBuf,
    /// The source's documents: their texts by path.
    pub(super) source_documents: BTreeMap<String, String>,
    /// The copy's: layout and codecs stand in them.
    pub(super) documents: BTreeMap<String, String>,
    /// Of a copy that is brought up to date: arrays that are made as a whole, beside it.
    pub(super) fresh: BTreeSet<String>,
    /// Another number for each journal.
    pub(super) run: u64,
}

impl Header {
    pub(super) fn new(
        source: &Path,
        source_documents: BTreeMap<String, String>,
        documents: BTreeMap<String, String>,
        fresh: BTreeSet<String>,
    ) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let run = now.as_nanos() as u64 ^ u64::from(std::process::id()).rotate_right(20);
        Header { format: FORMAT, source: source.to_owned(), source_documents, documents, fresh, run }
    }

    /// In what `self`, on disk, differs from `wanted`.
    pub(super) fn difference(&self, wanted: &Header) -> Option<String> {
        if self.format != wanted.format {
            Some("it was begun by another version of this program".to_owned())
        } else if self.source != wanted.source {
            Some(format!("it is of another source, {}", self.source.display()))
        } else if self.source_documents != wanted.source_documents {
            Some("the source's metadata has changed since".to_owned())
        } else if (&self.documents, &self.fresh) != (&wanted.documents, &wanted.fresh) {
            Some("layout or codecs differ from those that it was begun with".to_owned())
        } else {
            None
        }
    }
}

/// Of what all shares of a copy are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SharedPlan {
    pub(super) header: Header,
    /// How many there are.
    pub(super) shares: u64,
}

impl SharedPlan {
    /// The one on record at `path`; `None` where there is none.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, CopyError> {
        let bytes = match std::fs::read(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|error| CopyError::io(path, "read it", error))?,
        };
        let damaged = || CopyError::OtherPlan {
            partial: path.parent().unwrap_or(path).to_owned(),
            what: "its plan is damaged".to_owned(),
        };
        next(&mut bytes.as_slice()).map(Some).ok_or_else(damaged)
    }

    /// Puts it on record at `path`, whole or not at all, where none is yet.
    pub(super) fn create(&self, path: &Path) -> Result<(), CopyError> {
        let io = |error| CopyError::io(path, "create it", error);
        let fresh = path.with_extension(format!("{:016x}", self.header.run));
        let line = line_of(self).map_err(io)?;
        disk::write(&fresh, line.as_bytes()).and_then(|file| file.sync()).map_err(io)?;
        match disk::link(&fresh, path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Ok(()) => {}
            // File systems without links: the lock is all there is.
            Err(_) => disk::rename(&fresh, path).map_err(io)?,
        }
        super::site::remove(&fresh)?;
        super::site::sync_directory(path.parent().unwrap_or(path))
    }

    /// In what `self`, on disk, differs from `wanted`.
    pub(super) fn difference(&self, wanted: &SharedPlan) -> Option<String> {
        let header = self.header.difference(&wanted.header);
        let n = || format!("it is made in {} shares, not {}", self.shares, wanted.shares);
        header.or_else(|| (self.shares != wanted.shares).then(n))
    }
}

/// Whether the journal at `path` is that of a share which is made.
pub(super) fn is_ended(path: &Path) -> Result<bool, CopyError> {
    Ok(search(path, |commit| commit.is_last.then_some(()))?.is_some())
}

/// What has come to be on disk since the commit before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Commit {
    /// By position of the array.
    pub(super) arrays: BTreeMap<u32, ArrayCommit>,
    /// Files copied as they are: their keys, and the stamps of the originals.
    pub(super) passed: Vec<(String, u64)>,
    /// All of a share is on disk: the last of its commits.
    #[serde(default)]
    pub(super) is_last: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ArrayCommit {
    /// Target files and bands that earlier commits name and that are to be made again, for the source has changed: first and
    /// number. They come before what is named here.
    #[serde(default)]
    pub(super) files_again: Vec<(u64, u64)>,
    #[serde(default)]
    pub(super) bands_again: Vec<(u64, u64)>,
    /// Target files that are there, or need not be: first and number.
    pub(super) files: Vec<(u64, u64)>,
    /// Stamps of the source files looked at.
    pub(super) stamps: Vec<(u64, u64)>,
    /// How the array goes through temporary files, where it does.
    pub(super) spool: Option<Spool>,
    /// Bands that are in the temporary files: first and number.
    pub(super) bands: Vec<(u64, u64)>,
}

/// What decides where things lie in a temporary file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Spool {
    pub(super) max_tile_bytes: u64,
    pub(super) leaves_per_band: u64,
    /// Tiles that lie together, to be told apart by a pass of its own; 0 where each lies by itself.
    pub(super) tiles_per_bundle: u64,
    pub(super) path: PathBuf,
    /// The file's inode number and length: another file at this path, or a new one, holds none of the bands.
    pub(super) inode: u64,
    pub(super) len_bytes: u64,
}

impl Spool {
    /// Whether the file is there as it was left.
    pub(super) fn is_there(&self) -> bool {
        let found = std::fs::metadata(&self.path);
        found.is_ok_and(|found| found.is_file() && (found.ino(), found.len()) == (self.inode, self.len_bytes))
    }
}

impl Commit {
    pub(super) fn is_empty(&self) -> bool {
        self.arrays.is_empty() && self.passed.is_empty()
    }
}

/// Ascending numbers as runs: first and how many.
pub(super) fn runs(mut numbers: Vec<u64>) -> Vec<(u64, u64)> {
    numbers.sort_unstable();
    numbers.dedup();
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((first, n)) if *first + *n == number => *n += 1,
            _ => runs.push((number, 1)),
        }
    }
    runs
}

/// The journal, open for appending.
#[derive(Debug)]
pub(super) struct Journal {
    file: Out,
    path: PathBuf,
    /// The number of this journal.
    pub(super) run: u64,
}

impl Journal {
    /// Opens the journal of a copy: that of a run which was stopped, with its commits, or a new one.
    pub(super) fn open(path: &Path, header: &Header, is_resumed: bool) -> Result<(Self, Vec<Commit>), CopyError> {
        if is_resumed { Journal::resume(path, header) } else { Ok((Journal::create(path, header)?, Vec::new())) }
    }

    /// Begins a journal.
    pub(super) fn create(path: &Path, header: &Header) -> Result<Self, CopyError> {
        // In place only when whole: a folder with a journal is one that can be resumed.
        let fresh = path.with_extension("new");
        let mut journal = Journal {
            file: disk::create(&fresh).map_err(|error| CopyError::io(&fresh, "create it", error))?,
            path: fresh.clone(),
            run: header.run,
        };
        journal.append_record(header)?;
        disk::rename(&fresh, path).map_err(|error| CopyError::io(path, "create it", error))?;
        super::site::sync_directory(path.parent().unwrap_or(path))?;
        journal.path = path.to_owned();
        Ok(journal)
    }

    /// Opens the journal of an unfinished copy that is to go on as `wanted` says; damage at its end is cut off.
    pub(super) fn resume(path: &Path, wanted: &Header) -> Result<(Self, Vec<Commit>), CopyError> {
        let io = |error| CopyError::io(path, "read it", error);
        let mut file = disk::open(path).map_err(io)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io)?;
        let cannot = |what: String| CopyError::CannotResume { partial: path.parent().unwrap_or(path).to_owned(), what };
        let mut rest = bytes.as_slice();
        let header: Header =
            next(&mut rest).ok_or_else(|| cannot("its journal is damaged from the start on".to_owned()))?;
        if let Some(what) = header.difference(wanted) {
            return Err(cannot(what));
        }
        let mut commits = Vec::new();
        let mut sound = bytes.len() - rest.len();
        while let Some(commit) = next(&mut rest) {
            commits.push(commit);
            sound = bytes.len() - rest.len();
        }
        file.set_len(sound as u64).map_err(io)?;
        file.seek(SeekFrom::End(0)).map_err(io)?;
        Ok((Journal { file, path: path.to_owned(), run: header.run }, commits))
    }

    /// Appends a commit, for good.
    pub(super) fn append(&mut self, commit: &Commit) -> Result<(), CopyError> {
        self.append_record(commit)
    }

    fn append_record(&mut self, record: &impl Serialize) -> Result<(), CopyError> {
        let io = |error| CopyError::io(&self.path, "write it", error);
        let line = line_of(record).map_err(io)?;
        self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync()).map_err(io)
    }
}

/// A record as a line.
fn line_of(record: &impl Serialize) -> std::io::Result<String> {
    let json = serde_json::to_string(record)?;
    Ok(format!("{:08x} {json}\n", crc32c::crc32c(json.as_bytes())))
}

/// Goes through the commits of the journal at `path`, one at a time, until `visit` has something to say.
pub(super) fn search<T>(path: &Path, mut visit: impl FnMut(Commit) -> Option<T>) -> Result<Option<T>, CopyError> {
    let io = |error| CopyError::io(path, "read it", error);
    let mut lines = BufReader::new(File::open(path).map_err(io)?);
    let mut line = Vec::new();
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line).map_err(io)? == 0 {
            return Ok(None);
        }
        if let Some(found) = next(&mut line.as_slice()).and_then(&mut visit) {
            return Ok(Some(found));
        }
    }
}

/// Takes the next sound record off `rest`; `None` where there is none.
fn next<T: for<'a> Deserialize<'a>>(rest: &mut &[u8]) -> Option<T> {
    let end = rest.iter().position(|&byte| byte == b'\n')?;
    let (line, after) = rest.split_at(end);
    let (checksum, json) = line.split_at_checked(9)?;
    let checksum = u32::from_str_radix(std::str::from_utf8(checksum).ok()?.strip_suffix(' ')?, 16).ok()?;
    if checksum != crc32c::crc32c(json) {
        return None;
    }
    let record = serde_json::from_slice(json).ok()?;
    *rest = &after[1..];
    Some(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(layout: &str) -> Header {
        let documents = BTreeMap::from([(String::new(), layout.to_owned())]);
        Header::new(Path::new("/source"), BTreeMap::new(), documents, BTreeSet::new())
    }

    fn commit(first: u64) -> Commit {
        let array = ArrayCommit { files: vec![(first, 2)], stamps: vec![(1, u64::MAX)], ..ArrayCommit::default() };
        Commit { arrays: [(3, array)].into(), passed: vec![("a/c/0".to_owned(), 7)], is_last: false }
    }

    #[test]
    fn numbers_become_runs() {
        assert_eq!(runs(vec![5, 1, 2, 3, 9, 5]), [(1, 3), (5, 1), (9, 1)]);
        assert_eq!(runs(Vec::new()), []);
    }

    #[test]
    fn a_journal_cut_off_or_damaged_anywhere_gives_a_sound_start_or_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal");
        let mut journal = Journal::create(&path, &header("x")).expect("created");
        for first in 0..3 {
            journal.append(&commit(first)).expect("appended");
        }
        let whole = std::fs::read(&path).expect("read");
        let (_, commits) = Journal::resume(&path, &header("x")).expect("resumed");
        assert_eq!(commits, [commit(0), commit(1), commit(2)]);
        let header_end = whole.iter().position(|&byte| byte == b'\n').expect("a line") + 1;
        let mut seen = [false; 4];
        for at in 0..whole.len() {
            for damaged in [whole[..at].to_vec(), {
                let mut flipped = whole.clone();
                flipped[at] ^= 0x10;
                flipped
            }] {
                std::fs::write(&path, &damaged).expect("written");
                match Journal::resume(&path, &header("x")) {
                    Ok((mut journal, commits)) => {
                        assert!(at >= header_end && commits.iter().enumerate().all(|(n, c)| *c == commit(n as u64)));
                        seen[commits.len()] = true;
                        journal.append(&commit(9)).expect("appended");
                        let (_, again) = Journal::resume(&path, &header("x")).expect("resumed");
                        assert_eq!(again.last(), Some(&commit(9)));
                        assert_eq!(again.len(), commits.len() + 1);
                    }
                    Err(error) => assert!(at < header_end && error.to_string().contains("cannot be resumed"), "{at}"),
                }
            }
        }
        assert_eq!(seen, [true, true, true, false]);
    }

    #[test]
    fn another_layout_is_refused_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal");
        Journal::create(&path, &header("x")).expect("created");
        let error = Journal::resume(&path, &header("y")).expect_err("refused").to_string();
        assert!(error.contains("layout or codecs differ"), "{error}");
    }
}
