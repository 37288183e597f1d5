//! Stores behind a URL: what state objects are in, and reading them by range.
//!
//! Every response tells the state of its object, so nothing is opened before it is read, nor looked at after it. Callers
//! wait for answers; many at once are many threads, or one call for many keys.

mod archive;
mod list;
mod open;

pub use list::Entries;

pub(super) use archive::is_archive;

use super::{FileState, Stamp};
use crate::zarr::{KeyEncoding, SourceArray};
use futures::StreamExt;
use object_store::path::Path as Key;
use object_store::{Error, GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{PoisonError, RwLock};

/// Requests of one call that are on their way at a time.
const IN_FLIGHT: usize = 64;
/// How often a body that breaks off is asked for again.
const MAX_ATTEMPTS: u32 = 4;
/// Fewer keys than this are asked for one by one.
pub(super) const WORTH_LISTING: usize = 8;
/// Who is asked for credentials, in machines of a cloud, where none are given.
const METADATA_SERVICE: &str = "169.254.169.254";
/// Entries of one page of a listing.
pub(super) const PAGE: usize = 1000;

/// The objects below a URL.
pub struct Objects {
    store: Box<dyn ObjectStore>,
    prefix: Key,
    name: String,
    /// Keys can be listed, in order.
    is_listed: bool,
    /// Each answer takes a while.
    is_remote: bool,
    /// What messages must not say.
    secrets: Vec<String>,
    runtime: tokio::runtime::Runtime,
    totals: Totals,
    /// Paths of the nodes that were found: what is not listed is not known to be a directory otherwise.
    nodes: RwLock<HashSet<String>>,
    /// Axes and keys of arrays that are shown as they are, by path: what their chunks, and the folders of them, are called.
    arrays: RwLock<HashMap<String, (usize, KeyEncoding)>>,
}

/// What was asked of the server.
#[derive(Debug, Default)]
struct Totals {
    gets: AtomicU64,
    heads: AtomicU64,
    listings: AtomicU64,
    bytes: AtomicU64,
}

/// One reading of what was asked of the server. A page of a listing counts as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Requests {
    /// Objects and ranges of objects.
    pub gets: u64,
    /// States of objects.
    pub heads: u64,
    /// Pages of listings.
    pub listings: u64,
    /// Bytes of objects.
    pub bytes: u64,
}

/// A part of an object.
#[derive(Debug, Clone, Copy)]
pub enum Part {
    /// All of it.
    Whole,
    /// From an offset so many bytes, or to the end where it is nearer.
    From(u64, u64),
    /// So many bytes at its end.
    Last(u64),
}

/// What a server gave of an object.
#[derive(Debug)]
pub struct Got {
    /// The state of the whole object.
    pub state: FileState,
    /// Where in it the bytes lie.
    pub offset: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// The cause of an error that comes from the store, and not from what its bytes say.
#[derive(Debug)]
struct Failed(String);

impl fmt::Display for Failed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Failed {}

/// Neither options nor the client's own description: there may be secrets in them.
impl fmt::Debug for Objects {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.name)
    }
}

impl Objects {
    /// The URL.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether names can be listed.
    pub fn is_listed(&self) -> bool {
        self.is_listed
    }

    /// Whether each answer takes a while.
    pub fn is_remote(&self) -> bool {
        self.is_remote
    }

    /// Notes the nodes of the hierarchy, besides those of before.
    pub(super) fn note_nodes<'p>(&self, paths: impl Iterator<Item = &'p String>) {
        self.nodes.write().unwrap_or_else(PoisonError::into_inner).extend(paths.cloned());
    }

    /// Whether there is a node at a path, as far as is known.
    pub fn is_node(&self, path: &str) -> bool {
        self.nodes.read().unwrap_or_else(PoisonError::into_inner).contains(path)
    }

    /// Notes how an array is stored that is shown as it is.
    pub fn note_array(&self, source: &SourceArray) {
        let stored = (source.shape.len(), source.key_encoding);
        self.arrays.write().unwrap_or_else(PoisonError::into_inner).insert(source.path.clone(), stored);
    }

    /// Whether a key is that of a folder of chunks, or (`false`) of a chunk, of an array that was noted; `None` for others.
    pub fn is_folder_of_chunks(&self, key: &str) -> Option<bool> {
        let arrays = self.arrays.read().unwrap_or_else(PoisonError::into_inner);
        let parents = key.match_indices('/').map(|(at, _)| (&key[..at], &key[at + 1..]));
        [("", key)].into_iter().chain(parents).find_map(|(path, below)| {
            let (rank, encoding) = arrays.get(path)?;
            encoding.is_folder(*rank, below)
        })
    }

    /// What was asked of the server so far.
    pub fn requests(&self) -> Requests {
        let Totals { gets, heads, listings, bytes } = &self.totals;
        let [gets, heads, listings, bytes] = [gets, heads, listings, bytes].map(|total| total.load(Relaxed));
        Requests { gets, heads, listings, bytes }
    }

    /// The URL of a key.
    pub fn url(&self, key: &str) -> String {
        if key.is_empty() { self.name.clone() } else { format!("{}/{key}", self.name) }
    }

    /// The state of an object, [`FileState::ABSENT`] where there is none.
    ///
    /// # Errors
    /// Where it cannot be found out.
    pub fn state(&self, key: &str) -> io::Result<FileState> {
        self.runtime.block_on(self.head(key))
    }

    /// The states of many objects, in their order: from a listing of what lies around them, or one by one.
    pub fn states(&self, keys: &[String]) -> Vec<io::Result<FileState>> {
        self.runtime.block_on(async {
            let mut listed = HashMap::new();
            let mut is_complete = false;
            if self.is_listed && keys.len() >= WORTH_LISTING {
                match self.list_around(keys).await {
                    Ok(found) => (listed, is_complete) = found,
                    Err(error) => return keys.iter().map(|_| Err(self.failed(&error))).collect(),
                }
            }
            let state = |key: &String| {
                let known = listed.get(key.as_str()).copied();
                let known = if is_complete { Some(known.unwrap_or(FileState::ABSENT)) } else { known };
                let key = key.clone();
                async move {
                    match known {
                        Some(state) => Ok(state),
                        None => self.head(&key).await,
                    }
                }
            };
            futures::stream::iter(keys.iter().map(state)).buffered(IN_FLIGHT).collect().await
        })
    }

    /// Reads a part of an object; `None` where there is no such object.
    ///
    /// # Errors
    /// Where the server fails for good.
    pub fn get(&self, key: &str, part: Part) -> io::Result<Option<Got>> {
        self.runtime.block_on(self.get_part(key, part))
    }

    /// Reads objects whole: what [`Self::get`] gives for each, in their order.
    pub fn get_all(&self, keys: &[String]) -> Vec<io::Result<Option<Got>>> {
        let gets = keys.iter().map(|key| self.get_part(key, Part::Whole));
        self.runtime.block_on(futures::stream::iter(gets).buffered(IN_FLIGHT).collect())
    }

    /// `None` where no object can be called that.
    fn key(&self, key: &str) -> Option<Key> {
        let whole = if key.is_empty() { self.prefix.to_string() } else { format!("{}/{key}", self.prefix) };
        Key::parse(whole).ok()
    }

    async fn head(&self, key: &str) -> io::Result<FileState> {
        let Some(at) = self.key(key) else { return Ok(FileState::ABSENT) };
        self.totals.heads.fetch_add(1, Relaxed);
        match self.store.get_opts(&at, GetOptions { head: true, ..GetOptions::default() }).await {
            Ok(found) => Ok(state_of(&found.meta)),
            Err(Error::NotFound { .. }) => Ok(FileState::ABSENT),
            Err(error) => Err(self.failed(&error)),
        }
    }

    async fn get_part(&self, key: &str, part: Part) -> io::Result<Option<Got>> {
        let Some(at) = self.key(key) else { return Ok(None) };
        let mut attempt = 1;
        loop {
            self.totals.gets.fetch_add(1, Relaxed);
            let range = match part {
                Part::Whole => None,
                Part::From(offset, len) => Some(GetRange::Bounded(offset..offset.saturating_add(len))),
                Part::Last(len) => Some(GetRange::Suffix(len)),
            };
            let outcome = match self.store.get_opts(&at, GetOptions { range, ..GetOptions::default() }).await {
                Ok(found) => self.body(found).await,
                Err(Error::NotFound { .. }) => return Ok(None),
                Err(error) => {
                    // Of an object without bytes no range can be had.
                    let may_be_empty = matches!(part, Part::From(0, _) | Part::Last(_));
                    let state = if may_be_empty { self.head(key).await.ok() } else { None };
                    return match state.filter(|state| state.stamp.is_present() && state.size_bytes == 0) {
                        Some(state) => Ok(Some(Got { state, offset: 0, bytes: Vec::new() })),
                        None => Err(self.failed(&error)),
                    };
                }
            };
            match outcome {
                Ok(got) => return Ok(Some(got)),
                Err(error) if attempt == MAX_ATTEMPTS => return Err(error),
                Err(_) => tokio::time::sleep(open::PAUSE * 2_u32.pow(attempt)).await,
            }
            attempt += 1;
        }
    }

    async fn body(&self, found: GetResult) -> io::Result<Got> {
        let (state, Range { start, end }) = (state_of(&found.meta), found.range.clone());
        let bytes = found.bytes().await.map_err(|error| self.failed(&error))?;
        self.totals.bytes.fetch_add(bytes.len() as u64, Relaxed);
        if bytes.len() as u64 != end - start {
            let why = format!("{} bytes came of {}", bytes.len(), end - start);
            return Err(self.error(io::ErrorKind::Other, why));
        }
        Ok(Got { state, offset: start, bytes: bytes.into() })
    }

    fn failed(&self, error: &Error) -> io::Error {
        let kind = match error {
            Error::NotFound { .. } => io::ErrorKind::NotFound,
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => io::ErrorKind::PermissionDenied,
            _ => io::ErrorKind::Other,
        };
        let mut text = error.to_string();
        if text.contains(METADATA_SERVICE) {
            text = "no credentials: give them by the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and so on), or, \
                    where everybody may read, --storage-option skip_signature=true"
                .to_owned();
        }
        self.error(kind, text)
    }

    /// An error in one line that tells no secret.
    fn error(&self, kind: io::ErrorKind, text: String) -> io::Error {
        let within = |tag: &str| {
            let (_, rest) = text.split_once(&format!("<{tag}>"))?;
            rest.split_once(&format!("</{tag}>")).map(|(inner, _)| inner)
        };
        // What S3 answers holds the identity of who asks, too.
        let mut line = match (within("Code"), within("Message")) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (Some(code), None) => code.to_owned(),
            _ => text.split_whitespace().collect::<Vec<_>>().join(" "),
        };
        for secret in &self.secrets {
            line = line.replace(secret.as_str(), "***");
        }
        io::Error::new(kind, Failed(line))
    }
}

/// An error of the store itself: another one is of what its bytes say.
pub(super) fn is_of_the_store(error: &io::Error) -> bool {
    error.raw_os_error().is_some() || error.get_ref().is_some_and(|cause| cause.is::<Failed>())
}

/// That an object is not what it was when the first of its bytes were read.
pub(super) fn changed() -> io::Error {
    io::Error::new(io::ErrorKind::StaleNetworkFileHandle, Failed("it has changed".to_owned()))
}

/// By ETag, else by time: in whole seconds, since responses and listings differ in what they say below.
fn state_of(meta: &ObjectMeta) -> FileState {
    let seconds = meta.last_modified.timestamp();
    let tag = meta.e_tag.as_deref().map(|tag| tag.trim_start_matches("W/").trim_matches('"'));
    FileState {
        stamp: Stamp::of_object(tag, meta.size, seconds),
        size_bytes: meta.size,
        mtime_ns: seconds.saturating_mul(1_000_000_000),
        // An object changes in one go: none is in the middle of being written.
        changed_ns: 0,
    }
}
