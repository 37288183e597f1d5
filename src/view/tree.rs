//! The directories of a view that are not simply the source's, as of one reading of the source's documents.

use super::array::Rechunked;
use super::host::HostStamp;
use super::times::Times;
use crate::source::Store;
use crate::zarr::Projection;
use crate::zarr::hierarchy::{DOCUMENT, V2_DOCUMENTS};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;

/// Texts of a document that readers may still be reading.
const MAX_EARLIER: usize = 4;

/// All of them. A directory keeps its position from tree to tree.
#[derive(Debug, Clone, Default)]
pub(super) struct Tree {
    pub(super) directories: Vec<Directory>,
    by_path: BTreeMap<String, u32>,
    /// Paths of the arrays that are shown as they are.
    passed: Vec<String>,
}

/// A directory that has a virtual document, or something below that has.
#[derive(Debug, Clone)]
pub(super) struct Directory {
    /// On the host, or a key of objects.
    pub(super) path: PathBuf,
    /// Virtual `zarr.json`, where it differs from the source's.
    pub(super) document: Option<Document>,
    /// What it was before, the latest first.
    earlier: Vec<Document>,
    /// The rechunked array that it is.
    pub(super) array: Option<Arc<Rechunked>>,
    /// Directories below it that are in this table.
    pub(super) children: HashMap<OsString, u32>,
    /// Names in the source that the view does not show: arrays that Zarr v3 cannot spell.
    pub(super) hidden: HashSet<OsString>,
}

/// A virtual document in one of its states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Document {
    pub(super) version: u32,
    pub(super) text: Arc<str>,
    pub(super) mtime_ns: i64,
}

impl Tree {
    /// The tree that `projection` describes, with what `before` has of the same paths; `arrays` are its rechunked arrays.
    pub(super) fn new(store: &Store, projection: &Projection, arrays: &[Arc<Rechunked>], before: &Tree) -> Self {
        let mut tree = Tree::default();
        for (path, position) in &before.by_path {
            tree.by_path.insert(path.clone(), *position);
        }
        tree.directories = before.directories.iter().map(Directory::after).collect();
        tree.directory(store, "");
        let (documents, times) = (&projection.documents, document_times(store, projection));
        for path in projection.group_paths.iter().chain(&projection.array_paths) {
            if let Some(text) = documents.get(path.as_str()) {
                let at = tree.directory(store, path) as usize;
                let mut all = times.get(path).copied().unwrap_or_default();
                all.add(0, digest(text));
                let mtime_ns = all.time_ns();
                tree.directories[at].set_document(text, mtime_ns);
            }
        }
        for left_out in &projection.left_out {
            let (parent, name) = left_out.path.rsplit_once('/').unwrap_or(("", &left_out.path));
            let at = tree.directory(store, parent);
            tree.directories[at as usize].hidden.insert(name.into());
        }
        for array in arrays {
            let at = tree.directory(store, array.path());
            tree.directories[at as usize].array = Some(Arc::clone(array));
        }
        if let Some(objects) = store.objects() {
            projection
                .passed
                .iter()
                .filter_map(|passed| passed.source.as_deref())
                .for_each(|array| objects.note_array(array));
        }
        tree.passed = projection.passed.iter().map(|passed| passed.path.clone()).collect();
        tree
    }

    pub(super) fn get(&self, at: u32) -> Option<&Directory> {
        self.directories.get(at as usize)
    }

    /// The rechunked array at a store path.
    pub(super) fn array_at(&self, path: &str) -> Option<&Arc<Rechunked>> {
        self.directories.get(*self.by_path.get(path)? as usize)?.array.as_ref()
    }

    /// The rechunked arrays.
    pub(super) fn arrays(&self) -> impl Iterator<Item = &Arc<Rechunked>> {
        self.directories.iter().filter_map(|directory| directory.array.as_ref())
    }

    /// The arrays that are shown as they are, each with the nearest directory of the tree that it lies in.
    pub(super) fn passed(&self) -> impl Iterator<Item = (&str, u32)> {
        self.passed.iter().map(|path| {
            let mut above = path.as_str();
            loop {
                above = above.rsplit_once('/').map_or("", |(parent, _)| parent);
                match self.by_path.get(above) {
                    Some(&at) => return (path.as_str(), at),
                    // The root is always there.
                    None if above.is_empty() => return (path.as_str(), 0),
                    None => {}
                }
            }
        })
    }

    /// Each directory with the one above it, those further down first.
    pub(super) fn upwards(&self) -> impl Iterator<Item = (u32, u32)> {
        self.by_path.iter().rev().filter(|(path, _)| !path.is_empty()).filter_map(|(path, &at)| {
            let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
            Some((at, *self.by_path.get(parent)?))
        })
    }

    /// The position of the directory at a store path; it and its parents enter the tree.
    fn directory(&mut self, store: &Store, path: &str) -> u32 {
        let at = match self.by_path.get(path) {
            Some(&at) => at,
            None => {
                let at = self.directories.len() as u32;
                self.directories.push(Directory::empty(store.path(path)));
                self.by_path.insert(path.to_owned(), at);
                at
            }
        };
        if !path.is_empty() {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            let parent = self.directory(store, parent) as usize;
            self.directories[parent].children.insert(name.into(), at);
        }
        at
    }
}

impl Directory {
    fn empty(path: PathBuf) -> Self {
        Directory {
            path,
            document: None,
            earlier: Vec::new(),
            array: None,
            children: HashMap::new(),
            hidden: HashSet::new(),
        }
    }

    /// What is left of a directory where nothing more is said of it: what its document was, so that whoever has that open
    /// still reads it, and no other one gets its number.
    fn after(before: &Directory) -> Self {
        let earlier = before.document.iter().chain(&before.earlier).cloned().collect();
        Directory { earlier, ..Self::empty(before.path.clone()) }
    }

    /// The document in the state that it had at `version`, if that is still known.
    pub(super) fn document_at(&self, version: u32) -> Option<&Document> {
        self.document.iter().chain(&self.earlier).find(|document| document.version == version)
    }

    /// Sets the document, as the next state of what it was in the trees before.
    fn set_document(&mut self, text: &str, mtime_ns: i64) {
        let mut earlier = std::mem::take(&mut self.earlier);
        let same = earlier.first().filter(|last| *last.text == *text && last.mtime_ns == mtime_ns);
        self.document = Some(match same {
            Some(same) => same.clone(),
            None => {
                let version = earlier.first().map_or(0, |last| last.version + 1);
                Document { version, text: text.into(), mtime_ns }
            }
        });
        earlier.retain(|old| self.document.as_ref().is_some_and(|now| now.version != old.version));
        earlier.truncate(MAX_EARLIER);
        self.earlier = earlier;
    }
}

/// The times of the source's documents of each node with those of all nodes below it: a consolidated copy is as new as what
/// it copies.
fn document_times(store: &Store, projection: &Projection) -> HashMap<String, Times> {
    let nodes: Vec<&String> = projection.group_paths.iter().chain(&projection.array_paths).collect();
    let names: Vec<&str> = V2_DOCUMENTS.iter().copied().chain([DOCUMENT]).collect();
    let paths = nodes.iter().flat_map(|path| names.iter().map(|name| store.path(path).join(name)));
    let stamps = HostStamp::of_files(store, &paths.collect::<Vec<_>>());
    let mut by_path: HashMap<String, Times> = HashMap::new();
    for (path, stamps) in nodes.into_iter().zip(stamps.chunks(names.len())) {
        let mut times = Times::default();
        stamps.iter().flatten().for_each(|stamp| times.add(stamp.mtime_ns, 0));
        let mut node = Some(path.as_str());
        while let Some(at) = node {
            by_path.entry(at.to_owned()).or_default().merge(times);
            node = if at.is_empty() { None } else { Some(at.rsplit_once('/').map_or("", |(parent, _)| parent)) };
        }
    }
    by_path
}

fn digest(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
