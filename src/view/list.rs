//! Listing directories of the view.

use super::edition::Edition;
use super::host::{self, HostStamp};
use super::tree::Directory;
use super::{Node, Stat, View, ViewError, is_v2_document};
use crate::zarr::hierarchy::DOCUMENT;
use std::ffi::OsStr;
use std::path::Path;

/// Positions in the listing of a rechunked array: `.`, `..`, the document, then the chunks.
const CHUNKS_FROM: u64 = 3;

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
            Node::Host { path, stamp } if stamp.is_directory => {
                host::list(&self.store, path, from, &mut |next, name, stamp| {
                    let found = if is_dots(name) { None } else { self.listed_node(&path.join(name), stamp).ok() };
                    let is_directory = found.as_ref().is_none_or(|(_, stat)| stat.is_directory);
                    let (node, stat) = found.unzip();
                    emit(ListEntry { next, name, node, stat, is_directory })
                })
            }
            _ => Err(ViewError::NotADirectory),
        }
    }

    fn list_chunks(
        &self,
        at: u32,
        directory: &Directory,
        edition: &Edition,
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
        let is_there = |name: &str| HostStamp::of(&self.store, &directory.path.join(name)).is_ok();
        let has_v3_document = is_there(DOCUMENT);
        let stands_in = if is_there(".zarray") { ".zarray" } else { ".zgroup" };
        host::list(&self.store, &directory.path, from, &mut |next, name, _| {
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

    /// What an entry of a listing is, which may tell its state.
    fn listed_node(&self, path: &Path, stamp: Option<HostStamp>) -> Result<(Node, Stat), ViewError> {
        match stamp {
            Some(stamp) => Ok((Node::Host { path: path.into(), stamp }, stamp.stat())),
            None => self.host_node(path),
        }
    }
}

fn is_dots(name: &OsStr) -> bool {
    name == "." || name == ".."
}
