//! The one door to the virtual store: look a name up, list a directory, read a range of bytes.
//!
//! Everything above (the mount, later a web server) sees only this. Nodes are named by [`Node`]: cheap, and without
//! any state per virtual chunk.

mod array;
mod builders;
mod disk;
mod engine;
mod error;
mod host;
mod journal;
mod open;
mod status;
mod tile;

pub use crate::source::SourceError;
pub use disk::{CacheDir, DiskUsage};
pub use engine::Reply;
pub use error::ViewError;
pub use open::{ArrayCost, Options};

use crate::zarr::hierarchy::{DOCUMENT, V2_DOCUMENTS};
use engine::Engine;
use host::HostStamp;
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Positions in the listing of a rechunked array: `.`, `..`, the document, then the chunks.
const CHUNKS_FROM: u64 = 3;

/// The virtual store.
#[derive(Debug)]
pub struct View {
    root: PathBuf,
    directories: Vec<Directory>,
    engine: Arc<Engine>,
    memory_bytes: u64,
}

/// A directory that is not simply the source's: it has a virtual document, or something below it has.
#[derive(Debug)]
struct Directory {
    /// On the host.
    path: PathBuf,
    /// Virtual `zarr.json`, where it differs from the source's.
    document: Option<String>,
    document_mtime_ns: i64,
    /// The rechunked array that it is.
    array: Option<u32>,
    /// Directories below it that are in this table.
    children: HashMap<OsString, u32>,
    /// Names in the source that the view does not show: arrays that Zarr v3 cannot spell.
    hidden: HashSet<OsString>,
}

/// A file or directory of the view.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Node {
    /// A group or array directory with something virtual in or below it.
    Directory(u32),
    /// The virtual `zarr.json` of that directory.
    Document(u32),
    /// Virtual file `file` (a chunk or a shard) of rechunked array `array`.
    Chunk {
        /// Position among the rechunked arrays.
        array: u32,
        /// C-order position in the grid of files.
        file: u64,
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
    /// Directory (else file).
    pub is_directory: bool,
}

impl View {
    /// The root directory.
    pub fn root(&self) -> Node {
        Node::Directory(0)
    }

    /// Finds `name` in a directory.
    ///
    /// # Errors
    /// [`ViewError::NotFound`] only where there is provably no such thing; any failure to find out is another error.
    pub fn lookup(&self, parent: &Node, name: &OsStr) -> Result<(Node, Stat), ViewError> {
        let directory = match parent {
            Node::Directory(at) => &self.directories[*at as usize],
            Node::Host { path, stamp } if stamp.is_directory => {
                return self.host_node(&path.join(name));
            }
            _ => return Err(ViewError::NotADirectory),
        };
        if name == DOCUMENT && directory.document.is_some() {
            let Node::Directory(at) = *parent else { return Err(ViewError::NotADirectory) };
            let node = Node::Document(at);
            return self.stat(&node).map(|stat| (node, stat));
        }
        if let Some(&child) = directory.children.get(name) {
            let node = Node::Directory(child);
            return self.stat(&node).map(|stat| (node, stat));
        }
        if let Some(array) = directory.array {
            let file = name.to_str().and_then(|name| self.engine.arrays[array as usize].parse_file_name(name));
            let node = Node::Chunk { array, file: file.ok_or(ViewError::NotFound)? };
            return self.stat(&node).map(|stat| (node, stat));
        }
        if directory.hidden.contains(name) || (is_v2_document(name) && directory.document.is_some()) {
            return Err(ViewError::NotFound);
        }
        self.host_node(&directory.path.join(name))
    }

    /// Size and time of a node; never reads chunk data.
    ///
    /// # Errors
    /// [`ViewError::NotFound`] where all of a chunk's source chunks are absent.
    pub fn stat(&self, node: &Node) -> Result<Stat, ViewError> {
        match node {
            Node::Directory(at) => {
                let directory = &self.directories[*at as usize];
                let host = HostStamp::of(&directory.path)?;
                let mtime_ns = host.mtime_ns.max(directory.document_mtime_ns);
                Ok(Stat { is_directory: true, size_bytes: 0, mtime_ns })
            }
            Node::Document(at) => {
                let directory = &self.directories[*at as usize];
                let size_bytes = directory.document.as_ref().map_or(0, |text| text.len() as u64);
                Ok(Stat { is_directory: false, size_bytes, mtime_ns: directory.document_mtime_ns })
            }
            Node::Chunk { array, file } => {
                let array = &self.engine.arrays[*array as usize];
                let footprint = self.noted(array.footprint_of_file(*file))?;
                if !footprint.is_present {
                    return Err(ViewError::NotFound);
                }
                Ok(Stat { is_directory: false, size_bytes: array.file_bytes(), mtime_ns: footprint.mtime_ns })
            }
            Node::Host { stamp, .. } => Ok(stamp.stat()),
        }
    }

    /// The present state of a node that was looked up before.
    ///
    /// # Errors
    /// [`ViewError::Stale`] where another file has taken its place.
    pub fn restat(&self, node: &Node) -> Result<(Node, Stat), ViewError> {
        let Node::Host { path, stamp } = node else { return self.stat(node).map(|stat| (node.clone(), stat)) };
        let now = HostStamp::of(path)?;
        if (now.device, now.inode) != (stamp.device, stamp.inode) {
            return Err(ViewError::Stale);
        }
        Ok((Node::Host { path: Arc::clone(path), stamp: now }, now.stat()))
    }

    /// What is absent from this directory stays absent while mounted: which chunks a rechunked array has is settled
    /// when first looked at.
    pub fn is_settled(&self, directory: &Node) -> bool {
        matches!(directory, Node::Directory(at) if self.directories[*at as usize].array.is_some())
    }

    /// Lists a directory from position `from` (0, or a [`ListEntry::next`]), until `emit` says `false`.
    ///
    /// # Errors
    /// Any failure to list: a listing is never silently short.
    pub fn list(&self, node: &Node, from: u64, emit: &mut dyn FnMut(ListEntry<'_>) -> bool) -> Result<(), ViewError> {
        match node {
            Node::Directory(at) => {
                let directory = &self.directories[*at as usize];
                match directory.array {
                    Some(array) => self.list_chunks(*at, array, from, emit),
                    None => self.list_overlay(*at, directory, from, emit),
                }
            }
            Node::Host { path, stamp } if stamp.is_directory => host::list(path, from, &mut |next, name| {
                let found = if is_dots(name) { None } else { self.host_node(&path.join(name)).ok() };
                let is_directory = found.as_ref().is_none_or(|(_, stat)| stat.is_directory);
                emit(ListEntry { next, name, node: found.map(|(node, _)| node), is_directory })
            }),
            _ => Err(ViewError::NotADirectory),
        }
    }

    /// Reads up to `len` bytes from `offset` and hands them to `reply`: fewer only at the end of the file.
    pub fn read(&self, node: &Node, offset: u64, len: u64, reply: Reply) {
        match node {
            Node::Chunk { array, file } => {
                let size_bytes = self.engine.arrays[*array as usize].file_bytes();
                let end = offset.saturating_add(len).min(size_bytes);
                if offset >= end {
                    return reply(Ok(&[]));
                }
                self.engine.read(*array, *file, offset, end, reply);
            }
            Node::Document(at) => {
                let text = self.directories[*at as usize].document.as_deref().unwrap_or("").as_bytes();
                let end = text.len().min(offset.saturating_add(len) as usize);
                reply(Ok(text.get(offset as usize..end).unwrap_or(&[])));
            }
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

    fn list_chunks(
        &self,
        at: u32,
        array_idx: u32,
        from: u64,
        emit: &mut dyn FnMut(ListEntry<'_>) -> bool,
    ) -> Result<(), ViewError> {
        let fixed = [(".", None), ("..", None), (DOCUMENT, Some(Node::Document(at)))];
        for (position, (name, node)) in fixed.into_iter().enumerate().skip(from.min(CHUNKS_FROM) as usize) {
            let is_directory = node.is_none();
            if !emit(ListEntry { next: position as u64 + 1, name: OsStr::new(name), node, is_directory }) {
                return Ok(());
            }
        }
        let array = &self.engine.arrays[array_idx as usize];
        for file in from.max(CHUNKS_FROM) - CHUNKS_FROM..array.n_files() {
            if !self.noted(array.footprint_of_file(file))?.is_present {
                continue;
            }
            let node = Some(Node::Chunk { array: array_idx, file });
            let name = array.file_name(file);
            if !emit(ListEntry { next: file + CHUNKS_FROM + 1, name: OsStr::new(&name), node, is_directory: false }) {
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
                return emit(ListEntry { next, name, node: None, is_directory: true });
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
            emit(ListEntry { next, name: shown, node: found.map(|(node, _)| node), is_directory })
        })
    }

    fn host_node(&self, path: &Path) -> Result<(Node, Stat), ViewError> {
        let stamp = HostStamp::of(path)?;
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
