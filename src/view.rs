//! The one door to the virtual store: look a name up, list a directory, read a range of bytes.
//!
//! Everything above (the mount, later a web server) sees only this. Nodes are named by [`Node`]: cheap, and without
//! any state per virtual chunk.

mod array;
mod builders;
mod disk;
mod edition;
mod engine;
mod error;
mod extent;
mod follow;
mod host;
mod journal;
mod later;
mod leaves;
mod look;
mod looks;
mod open;
mod status;
mod tile;
mod times;
mod tree;
mod versions;
mod watch;

pub use crate::source::SourceError;
pub use disk::{CacheDir, DiskUsage};
pub use engine::Reply;
pub use error::ViewError;
pub use follow::Follow;
pub use open::{ArrayCost, Options};

use crate::zarr::hierarchy::{DOCUMENT, V2_DOCUMENTS};
use engine::Engine;
use follow::Following;
use host::HostStamp;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tree::Directory;

/// Positions in the listing of a rechunked array: `.`, `..`, the document, then the chunks.
const CHUNKS_FROM: u64 = 3;

/// The virtual store.
#[derive(Debug)]
pub struct View {
    root: PathBuf,
    engine: Arc<Engine>,
    following: Following,
    memory_bytes: u64,
    this: Weak<View>,
}

/// A file or directory of the view. What belongs to a node that is a file never changes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Node {
    /// A group or array directory with something virtual in or below it.
    Directory(u32),
    /// The virtual `zarr.json` of that directory, in one of its states.
    Document {
        /// The directory.
        directory: u32,
        /// Goes up whenever the document changes.
        version: u32,
    },
    /// Virtual file `file` (a chunk or a shard) of rechunked array `array`.
    Chunk {
        /// Position among the rechunked arrays.
        array: u32,
        /// Its number: the C-order position in the grid of files, while the array does not grow.
        file: u64,
        /// The last version of the array at which something about the file changed.
        version: u32,
    },
    /// Something shown as it is in the source.
    Host {
        /// Path on the host.
        path: Arc<Path>,
        /// Its state when it was looked up.
        stamp: HostStamp,
    },
}

/// What `stat` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// A directory (else a regular file).
    pub is_directory: bool,
    /// Exact size in bytes; arithmetic for chunks.
    pub size_bytes: u64,
    /// Modification time, nanoseconds since 1970.
    pub mtime_ns: i64,
}

/// An entry of a directory listing.
#[derive(Debug)]
pub struct ListEntry<'a> {
    /// Position from which to go on after this entry.
    pub next: u64,
    /// Its name.
    pub name: &'a OsStr,
    /// What it is; `None` for `.`, `..` and for whatever vanished while listing.
    pub node: Option<Node>,
    /// Its size and time, where `node` is known.
    pub stat: Option<Stat>,
    /// Directory (else file).
    pub is_directory: bool,
}

impl View {
    /// The root directory.
    pub fn root(&self) -> Node {
        Node::Directory(0)
    }

    /// Finds `name` in a directory, as it is now: what was found before may be looked at again.
    ///
    /// # Errors
    /// [`ViewError::NotFound`] only where there is provably no such thing; any failure to find out is another error.
    pub fn lookup(&self, parent: &Node, name: &OsStr) -> Result<(Node, Stat), ViewError> {
        let at = match parent {
            Node::Directory(at) => *at,
            Node::Host { path, stamp } if stamp.is_directory => {
                return self.host_node(&path.join(name));
            }
            _ => return Err(ViewError::NotADirectory),
        };
        self.keep_up();
        let tree = self.tree();
        let directory = tree.get(at).ok_or(ViewError::Stale)?;
        if name == DOCUMENT
            && let Some(document) = &directory.document
        {
            let node = Node::Document { directory: at, version: document.version };
            return Ok((node, document.stat()));
        }
        if let Some(&child) = directory.children.get(name) {
            return self.stat_directory(child).map(|stat| (Node::Directory(child), stat));
        }
        if let Some(array) = &directory.array {
            let edition = array.newest();
            let file = name.to_str().and_then(|name| edition.parse_file_name(name)).ok_or(ViewError::NotFound)?;
            let footprint = self.noted(edition.footprint_now(file))?;
            if !footprint.is_present {
                return Err(ViewError::NotFound);
            }
            let node = Node::Chunk { array: array.idx, file, version: footprint.version };
            return Ok((node, Stat::of_file(edition.file_bytes(), footprint.times.time_ns())));
        }
        if directory.hidden.contains(name) || (is_v2_document(name) && directory.document.is_some()) {
            return Err(ViewError::NotFound);
        }
        self.host_node(&directory.path.join(name))
    }

    /// Size and time of a node; never reads chunk data. Those of a directory are up to date, which [`Self::lookup`] leaves them not.
    ///
    /// # Errors
    /// [`ViewError::NotFound`] where all of a chunk's source chunks are absent, [`ViewError::Stale`] where its version is too
    /// long ago.
    pub fn stat(&self, node: &Node) -> Result<Stat, ViewError> {
        match node {
            Node::Directory(at) => {
                self.keep_up();
                self.keep_up_times();
                self.stat_directory(*at)
            }
            Node::Document { directory, version } => {
                self.document(*directory, *version).map(|document| document.stat())
            }
            Node::Chunk { array, file, version } => {
                let edition = self.array(*array)?.edition_of(*file, *version)?;
                let footprint = self.noted(edition.footprint_of_file(*file))?;
                if !footprint.is_present {
                    return Err(ViewError::NotFound);
                }
                Ok(Stat::of_file(edition.file_bytes(), footprint.times.time_ns()))
            }
            Node::Host { stamp, .. } => Ok(stamp.stat()),
        }
    }

    /// The present state of a node that was looked up before.
    ///
    /// # Errors
    /// [`ViewError::Stale`] where a file is not any more what it was.
    pub fn restat(&self, node: &Node) -> Result<Stat, ViewError> {
        let Node::Host { path, stamp } = node else { return self.stat(node) };
        let now = HostStamp::of(path)?;
        let is_same = if stamp.is_directory {
            (now.is_directory, now.device, now.inode) == (true, stamp.device, stamp.inode)
        } else {
            now == *stamp
        };
        if is_same { Ok(now.stat()) } else { Err(ViewError::Stale) }
    }

    /// How long what a look-up or a listing finds holds; for ever where the view does not follow its source.
    pub fn refresh(&self) -> Option<Duration> {
        self.engine.looks.refresh()
    }

    /// Files of an array have numbers below this; 0 where there is no such array.
    pub fn end_of_files(&self, array: u32) -> u64 {
        self.engine.arrays.get(array).map_or(0, |array| array.end_of_files())
    }

    /// Rechunked arrays so far.
    pub fn n_arrays(&self) -> u32 {
        self.engine.arrays.all().len() as u32
    }

    /// Lists a directory from position `from` (0, or a [`ListEntry::next`]), until `emit` says `false`.
    ///
    /// # Errors
    /// Any failure to list: a listing is never silently short.
    pub fn list(&self, node: &Node, from: u64, emit: &mut dyn FnMut(ListEntry<'_>) -> bool) -> Result<(), ViewError> {
        match node {
            Node::Directory(at) => {
                self.keep_up();
                let tree = self.tree();
                let directory = tree.get(*at).ok_or(ViewError::Stale)?;
                match &directory.array {
                    Some(array) => self.list_chunks(*at, directory, &array.newest(), from, emit),
                    None => {
                        self.keep_up_times();
                        self.list_overlay(*at, directory, from, emit)
                    }
                }
            }
            Node::Host { path, stamp } if stamp.is_directory => host::list(path, from, &mut |next, name| {
                let found = if is_dots(name) { None } else { self.host_node(&path.join(name)).ok() };
                let is_directory = found.as_ref().is_none_or(|(_, stat)| stat.is_directory);
                let (node, stat) = found.unzip();
                emit(ListEntry { next, name, node, stat, is_directory })
            }),
            _ => Err(ViewError::NotADirectory),
        }
    }

    /// Reads up to `len` bytes from `offset` and hands them to `reply`: fewer only at the end of the file.
    pub fn read(&self, node: &Node, offset: u64, len: u64, reply: Reply) {
        match node {
            Node::Chunk { array, file, version } => {
                let edition = match self.array(*array).and_then(|array| array.edition_of(*file, *version)) {
                    Ok(edition) => edition,
                    Err(error) => return reply(Err(error)),
                };
                let end = offset.saturating_add(len).min(edition.file_bytes());
                if offset >= end {
                    return reply(Ok(&[]));
                }
                self.engine.read(edition, *file, offset, end, reply);
            }
            Node::Document { directory, version } => match self.document(*directory, *version) {
                Ok(document) => {
                    let text = document.text.as_bytes();
                    let end = text.len().min(offset.saturating_add(len) as usize);
                    reply(Ok(text.get(offset as usize..end).unwrap_or(&[])));
                }
                Err(error) => reply(Err(error)),
            },
            Node::Host { path, stamp } if !stamp.is_directory => match host::read(path, stamp, offset, len) {
                Ok(bytes) => reply(Ok(&bytes)),
                Err(error) => {
                    self.engine.journal.record(format!("{}: {error}", path.display()));
                    reply(Err(error));
                }
            },
            _ => reply(Err(ViewError::IsADirectory)),
        }
    }

    /// The source store.
    pub fn source(&self) -> &Path {
        &self.root
    }

    fn array(&self, idx: u32) -> Result<Arc<array::Rechunked>, ViewError> {
        self.engine.arrays.get(idx).ok_or(ViewError::Stale)
    }

    fn document(&self, directory: u32, version: u32) -> Result<tree::Document, ViewError> {
        let tree = self.tree();
        tree.get(directory).and_then(|directory| directory.document_at(version)).cloned().ok_or(ViewError::Stale)
    }

    fn list_chunks(
        &self,
        at: u32,
        directory: &Directory,
        edition: &edition::Edition,
        from: u64,
        emit: &mut dyn FnMut(ListEntry<'_>) -> bool,
    ) -> Result<(), ViewError> {
        let document = directory
            .document
            .as_ref()
            .map(|document| (Node::Document { directory: at, version: document.version }, document.stat()));
        let fixed = [(".", None), ("..", None), (DOCUMENT, document)];
        for (position, (name, found)) in fixed.into_iter().enumerate().skip(from.min(CHUNKS_FROM) as usize) {
            let (node, stat) = found.unzip();
            let is_directory = node.is_none();
            if !emit(ListEntry { next: position as u64 + 1, name: OsStr::new(name), node, stat, is_directory }) {
                return Ok(());
            }
        }
        for file in edition.files_from(from.max(CHUNKS_FROM) - CHUNKS_FROM) {
            let footprint = self.noted(edition.footprint_now(file))?;
            if !footprint.is_present {
                continue;
            }
            let node = Some(Node::Chunk { array: edition.array.idx, file, version: footprint.version });
            let stat = Some(Stat::of_file(edition.file_bytes(), footprint.times.time_ns()));
            let name = edition.file_name(file);
            if !emit(ListEntry {
                next: file + CHUNKS_FROM + 1,
                name: OsStr::new(&name),
                node,
                stat,
                is_directory: false,
            }) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Lists a directory of the source with its virtual parts in the place of the source's.
    ///
    /// The positions are the host's own, so that listing needs no state: a v2 node's main document stands for the
    /// virtual `zarr.json`.
    fn list_overlay(
        &self,
        at: u32,
        directory: &Directory,
        from: u64,
        emit: &mut dyn FnMut(ListEntry<'_>) -> bool,
    ) -> Result<(), ViewError> {
        let has_v3_document = directory.path.join(DOCUMENT).exists();
        let stands_in = if directory.path.join(".zarray").exists() { ".zarray" } else { ".zgroup" };
        host::list(&directory.path, from, &mut |next, name| {
            if is_dots(name) {
                return emit(ListEntry { next, name, node: None, stat: None, is_directory: true });
            }
            if directory.hidden.contains(name) {
                return true;
            }
            let shown = if directory.document.is_some() && is_v2_document(name) {
                if has_v3_document || name != stands_in {
                    return true;
                }
                OsStr::new(DOCUMENT)
            } else {
                name
            };
            let found = self.lookup(&Node::Directory(at), shown).ok();
            let is_directory = found.as_ref().is_some_and(|(_, stat)| stat.is_directory);
            let (node, stat) = found.unzip();
            emit(ListEntry { next, name: shown, node, stat, is_directory })
        })
    }

    fn host_node(&self, path: &Path) -> Result<(Node, Stat), ViewError> {
        let stamp = HostStamp::of(path).map_err(|error| self.absence(error))?;
        Ok((Node::Host { path: path.into(), stamp }, stamp.stat()))
    }

    /// Enters an error in the journal on its way up.
    fn noted<T>(&self, result: Result<T, crate::source::SourceError>) -> Result<T, ViewError> {
        result.map_err(|error| {
            self.engine.journal.record(error.to_string());
            error.into()
        })
    }
}

fn is_v2_document(name: &OsStr) -> bool {
    V2_DOCUMENTS.iter().any(|document| name == *document)
}

fn is_dots(name: &OsStr) -> bool {
    name == "." || name == ".."
}

impl Stat {
    fn of_file(size_bytes: u64, mtime_ns: i64) -> Self {
        Stat { is_directory: false, size_bytes, mtime_ns }
    }
}

impl tree::Document {
    fn stat(&self) -> Stat {
        Stat::of_file(self.text.len() as u64, self.mtime_ns)
    }
}
