//! What the records of a copy say: of which source it is, and in which state each of that one's files was copied.

use super::CopyError;
use super::array::ArrayCopy;
use super::disk::Out;
use super::record::{self, Lost};
use crate::geometry::ravel;
use crate::source::Stamp;
use crate::zarr::{Came, SourceArray};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Goes up when records of earlier versions say nothing any more.
const FORMAT: u32 = 1;
/// In the place of a stamp: nothing is known.
pub(super) const UNKNOWN: u64 = 0;
/// How a node came, in the place of a stamp.
const CUT: u64 = 1;
const PASSED: u64 = 2;

/// With which words a copy was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Words {
    /// Those of the layout.
    pub layout: String,
    /// Those of `--codecs`.
    pub codecs: String,
}

/// Of what a record is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    format: u32,
    source: PathBuf,
    /// How the source's chunks are decoded, and how those of the copy are cut and encoded.
    kind: String,
    /// The source's shape.
    shape: Vec<u64>,
    /// Shapes to which chunks of the copy may be cut at its edges: the source's, and others that it had where it was not
    /// brought up to date to its end.
    cut_to: Vec<Vec<u64>>,
    /// The journal of the run that is bringing the array up to date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    run: Option<u64>,
}

/// What is known of an array that is cut anew.
#[derive(Debug, Clone)]
pub(super) struct KnownArray {
    /// Shapes to which chunks of the copy may be cut at its edges.
    pub(super) cut_to: Vec<Vec<u64>>,
    /// The journal of the run that was bringing it up to date, and did not end.
    pub(super) run: Option<u64>,
    /// Source files along each axis.
    grid: Vec<u64>,
    stamps: Vec<u64>,
}

/// Why nothing is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    /// There is no record.
    Missing,
    /// It is damaged.
    Damaged,
    /// It is of another source, or the source or the copy have become others in how they are stored.
    Foreign,
}

impl Unknown {
    /// In a sentence that begins with the array.
    pub(super) fn why(self) -> &'static str {
        match self {
            Unknown::Missing => "the copy does not say of which state of the source it is",
            Unknown::Damaged => "what the copy says of the state of its source is damaged",
            Unknown::Foreign => {
                "what the copy says of the state of its source is of another source, or of another way to store it"
            }
        }
    }
}

impl From<Lost> for Unknown {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Missing => Unknown::Missing,
            Lost::Damaged => Unknown::Damaged,
        }
    }
}

/// What decides how chunk files become elements, on both sides.
fn kind(array: &ArrayCopy) -> String {
    let source = SourceArray { path: String::new(), shape: Vec::new(), ..array.source().clone() };
    let copied = &array.copied;
    let (chunk, shard) = (&copied.array.chunk_shape, &copied.array.shard_shape);
    format!("{source:?} {chunk:?} {shard:?} {:?} {:?}", copied.key_encoding, copied.encoding)
}

impl KnownArray {
    /// What the record in `folder` says of `array`, whose source lies at `source`.
    pub(super) fn read(folder: &Path, array: &ArrayCopy, source: &Path) -> Result<Self, Unknown> {
        let (header, stamps): (Header, Vec<u64>) = record::read(&folder.join(record::STAMPS))?;
        let Header { format, source: of, kind: of_kind, shape, cut_to, run } = header;
        if format != FORMAT || of != source || of_kind != kind(array) {
            return Err(Unknown::Foreign);
        }
        let rank = array.source().shape.len();
        let grid: Vec<u64> = shape.iter().zip(&array.source().file_shape).map(|(n, file)| n.div_ceil(*file)).collect();
        let n_files = grid.iter().try_fold(1u64, |n, len| n.checked_mul(*len));
        let is_sound = shape.len() == rank && cut_to.iter().all(|shape| shape.len() == rank);
        if !is_sound || n_files != Some(stamps.len() as u64) {
            return Err(Unknown::Damaged);
        }
        Ok(KnownArray { cut_to, run, grid, stamps })
    }

    /// What is known of the source file at `indices`.
    pub(super) fn get(&self, indices: &[u64]) -> Was {
        let is_inside = indices.iter().zip(&self.grid).all(|(idx, n)| idx < n);
        if !is_inside {
            return Was::Beyond;
        }
        let raw = self.stamps.get(ravel(indices, &self.grid) as usize);
        raw.and_then(|raw| Stamp::from_raw(*raw)).map_or(Was::Unknown, Was::Copied)
    }
}

/// What is known of a source file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Was {
    /// The array did not reach so far.
    Beyond,
    /// Nothing.
    Unknown,
    /// In which state it was copied.
    Copied(Stamp),
}

/// Writes the record of `array` at `path`, with the stamp of each source file as `stamp` has it.
pub(super) fn write_array(
    path: &Path,
    array: &ArrayCopy,
    source: &Path,
    (cut_to, run): (&[Vec<u64>], Option<u64>),
    stamp: impl Fn(u64) -> u64,
) -> Result<Out, CopyError> {
    let header = Header {
        format: FORMAT,
        source: source.to_owned(),
        kind: kind(array),
        shape: array.source().shape.clone(),
        cut_to: cut_to.to_vec(),
        run,
    };
    let n_files = array.reader.file_grid().iter().product::<u64>() as usize;
    record::write(path, &header, (0..n_files).map(|file| stamp(file as u64)))
}

/// What is known of files that pass through, and of where nodes came from. Files are known by a digest of their keys: of two
/// that share one, one is copied again each time.
#[derive(Debug, Default)]
pub(super) struct KnownPassed {
    /// Digest and stamp, in order.
    pairs: Vec<[u64; 2]>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct PassedHeader {
    format: u32,
    source: PathBuf,
    words: Words,
}

/// With which words the copy was made of which a record lies in `folder`, whatever its source.
pub(super) fn words(folder: &Path) -> Option<Words> {
    let (header, _): (PassedHeader, Vec<u64>) = record::read(&folder.join(record::PASSED)).ok()?;
    Some(header.words)
}

impl KnownPassed {
    /// What the record in `folder` says, if it is of the source at `source`.
    pub(super) fn read(folder: &Path, source: &Path) -> Result<Self, Unknown> {
        let (header, words): (PassedHeader, Vec<u64>) = record::read(&folder.join(record::PASSED))?;
        if (header.format, &*header.source) != (FORMAT, source) {
            return Err(Unknown::Foreign);
        }
        let (pairs, _) = words.as_chunks::<2>();
        Ok(KnownPassed { pairs: pairs.to_vec() })
    }

    /// The state in which a file was copied.
    pub(super) fn get(&self, key: &str) -> Option<Stamp> {
        Stamp::from_raw(self.find(digest(key))?)
    }

    /// Whether a file was copied at all.
    pub(super) fn has(&self, key: &str) -> bool {
        self.find(digest(key)).is_some()
    }

    /// How the node at `path` came into the copy.
    pub(super) fn origin(&self, path: &str) -> Option<Came> {
        match self.find(digest_of_node(path))? {
            CUT => Some(Came::Cut),
            PASSED => Some(Came::Passed),
            _ => None,
        }
    }

    /// The same without any state of a file.
    pub(super) fn without_states(&self) -> PassedNotes {
        let forgotten =
            |[digest, stamp]: &[u64; 2]| [*digest, if [CUT, PASSED].contains(stamp) { *stamp } else { UNKNOWN }];
        PassedNotes { pairs: self.pairs.iter().map(forgotten).collect() }
    }

    fn find(&self, digest: u64) -> Option<u64> {
        self.pairs.binary_search_by_key(&digest, |pair| pair[0]).ok().map(|at| self.pairs[at][1])
    }
}

/// What is to be known of them.
#[derive(Debug, Clone, Default)]
pub(super) struct PassedNotes {
    pairs: Vec<[u64; 2]>,
}

impl PassedNotes {
    /// A file was copied in this state; the last word counts.
    pub(super) fn file(&mut self, key: &str, stamp: u64) {
        self.pairs.push([digest(key), stamp]);
    }

    /// The node at `path` came so.
    pub(super) fn node(&mut self, path: &str, came: Came) {
        self.pairs.push([digest_of_node(path), if came == Came::Cut { CUT } else { PASSED }]);
    }

    /// Writes them down.
    pub(super) fn write(mut self, path: &Path, source: &Path, words: &Words) -> Result<Out, CopyError> {
        // What came last is first among those with the same digest.
        self.pairs.reverse();
        self.pairs.sort_by_key(|pair| pair[0]);
        self.pairs.dedup_by_key(|pair| pair[0]);
        let header = PassedHeader { format: FORMAT, source: source.to_owned(), words: words.clone() };
        let n_words = 2 * self.pairs.len();
        record::write(path, &header, (0..n_words).map(|nth| self.pairs[nth / 2][nth % 2]))
    }
}

/// FNV-1a: the same for ever.
fn digest(key: &str) -> u64 {
    key.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// No file of a store has such a key.
fn digest_of_node(path: &str) -> u64 {
    digest(&format!("{path}//"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_fnv_1a() {
        assert_eq!(digest("foobar"), 0x85944171f73967e8);
    }

    #[test]
    fn files_and_nodes_are_known_again_by_the_last_word() {
        let folder = tempfile::tempdir().unwrap();
        let (source, stamp) = (Path::new("/source"), |raw| Stamp::from_raw(raw).unwrap());
        assert_eq!(KnownPassed::read(folder.path(), source).unwrap_err(), Unknown::Missing);
        let mut notes = PassedNotes::default();
        notes.file("a/c/0", 6);
        notes.file("a/c/1", 7);
        notes.file("a/c/1", 10);
        notes.file("a/c/2", UNKNOWN);
        notes.node("a", Came::Passed);
        notes.node("", Came::Cut);
        notes.write(&folder.path().join(record::PASSED), source, &Words::default()).unwrap();
        let again = KnownPassed::read(folder.path(), source).unwrap();
        let found = ["a/c/0", "a/c/1", "a/c/2", "b"].map(|key| again.get(key));
        assert_eq!(found, [Some(stamp(6)), Some(stamp(10)), None, None]);
        assert_eq!(
            (again.origin("a"), again.origin(""), again.origin("b")),
            (Some(Came::Passed), Some(Came::Cut), None)
        );
        assert_eq!(KnownPassed::read(folder.path(), Path::new("/other")).unwrap_err(), Unknown::Foreign);
        again.without_states().write(&folder.path().join(record::PASSED), source, &Words::default()).unwrap();
        assert_eq!(words(folder.path()), Some(Words::default()));
        let forgotten = KnownPassed::read(folder.path(), source).unwrap();
        assert_eq!(
            (forgotten.get("a/c/0"), forgotten.has("a/c/0"), forgotten.origin("a")),
            (None, true, Some(Came::Passed))
        );
    }
}
