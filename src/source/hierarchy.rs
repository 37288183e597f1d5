//! Reads the documents of a store: groups are walked, arrays are not entered.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{Got, Objects, Part, Store};
use crate::zarr::hierarchy::{DOCUMENT, Document, Hierarchy, NodeDocs};
use crate::zarr::json::{self, JsonError, Value};

/// Groups nested deeper than this are a loop that the inodes did not give away.
const MAX_DEPTH: usize = 64;

/// Why a store cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum HierarchyError {
    /// Nothing is there.
    #[error("{}: no such directory; give the path of a Zarr store", root.display())]
    Missing {
        /// What was given.
        root: PathBuf,
    },
    /// Something is there, but not a store.
    #[error("{}: not a Zarr store: no zarr.json, .zgroup or .zarray in it{hint}", root.display())]
    NotAStore {
        /// What was given.
        root: PathBuf,
        /// Where a store may be instead.
        hint: String,
    },
    /// A file or directory cannot be read.
    #[error("{}: {source}; the store must be readable by you", path.display())]
    Unreadable {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A document is not JSON.
    #[error("{}: invalid JSON: {source}; write it again, or restore it from the store's origin", path.display())]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: JsonError,
    },
    /// A document is JSON but does not describe a node.
    #[error("{}: not a Zarr document: {reason}; write it again, or restore it from the store's origin", path.display())]
    NotADocument {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Reads the documents of all nodes of a store.
///
/// # Errors
/// When the store is missing, is none, or holds a document that cannot be read or is not JSON.
pub fn read(store: impl Into<Store>) -> Result<Hierarchy, HierarchyError> {
    let store = store.into();
    let hint = match &store {
        Store::Disk { root, .. } => {
            check_directory(root)?;
            hint(root)
        }
        Store::Objects(_) => "; is the URL right, and are its objects yours to read?".to_owned(),
    };
    let root = store.name();
    let mut walk = Walk { store, nodes: BTreeMap::new(), entered: HashSet::new(), named: None };
    if !walk.node(String::new(), 0, None)? {
        return Err(HierarchyError::NotAStore { root, hint });
    }
    if let Store::Objects(objects) = &walk.store {
        objects.note_nodes(walk.nodes.keys());
    }
    Ok(Hierarchy { nodes: walk.nodes })
}

fn check_directory(root: &Path) -> Result<(), HierarchyError> {
    match fs::metadata(root) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(HierarchyError::NotAStore { root: root.to_owned(), hint: "; it is a file".to_owned() }),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(HierarchyError::Missing { root: root.to_owned() }),
        Err(source) => Err(HierarchyError::Unreadable { path: root.to_owned(), source }),
    }
}

/// Names a store near `root`: people give the directory above or a group's inside.
fn hint(root: &Path) -> String {
    let is_store = |path: &Path| ["zarr.json", ".zgroup", ".zarray"].iter().any(|name| path.join(name).is_file());
    let inside = fs::read_dir(root)
        .ok()
        .and_then(|entries| entries.take(1000).flatten().map(|entry| entry.path()).filter(|path| is_store(path)).min());
    match inside {
        Some(path) => format!("; did you mean {}?", path.display()),
        None => String::new(),
    }
}

/// What came of reading an object.
type Fetched = io::Result<Option<Got>>;

struct Walk {
    store: Store,
    nodes: BTreeMap<String, NodeDocs>,
    /// Device and inode of the groups entered: a link back up is not followed again.
    entered: HashSet<(u64, u64)>,
    /// Paths that the root's consolidated metadata names, where the server does not list what there is.
    named: Option<BTreeSet<String>>,
}

impl Walk {
    /// Reads the node at `path` and those below; `false` if there is none. `document` is what came of its document of v3, where
    /// that was asked for already.
    fn node(&mut self, path: String, depth: usize, document: Option<Fetched>) -> Result<bool, HierarchyError> {
        let Some((documents, is_group)) = self.documents(&path, document)? else {
            return Ok(false);
        };
        let names = if is_group && depth < MAX_DEPTH { self.children(&path, &documents)? } else { Vec::new() };
        self.nodes.insert(path.clone(), documents);
        let names = names.into_iter().filter(|name| !name.ends_with(".partial"));
        let children: Vec<String> =
            names.map(|name| if path.is_empty() { name } else { format!("{path}/{name}") }).collect();
        // One after the other, each would take as long as all of them together.
        let mut fetched = match &self.store {
            Store::Disk { .. } => Vec::new(),
            Store::Objects(objects) => {
                let keys: Vec<String> = children.iter().map(|child| format!("{child}/{DOCUMENT}")).collect();
                objects.get_all(&keys)
            }
        }
        .into_iter();
        for child in children {
            if !self.node(child.clone(), depth + 1, fetched.next())?
                && let (Some(_), Some(objects)) = (&self.named, self.store.objects())
            {
                // Dropped, it would be a view of a part of the store.
                let reason = "consolidated metadata names it, and it is not there (was it deleted? consolidate again)";
                let path = objects.url(&format!("{child}/zarr.json")).into();
                return Err(HierarchyError::NotADocument { path, reason: reason.to_owned() });
            }
        }
        Ok(true)
    }

    /// Names in a group that may be those of nodes; none where it was entered before.
    fn children(&mut self, path: &str, documents: &NodeDocs) -> Result<Vec<String>, HierarchyError> {
        let directory = self.store.path(path);
        match &self.store {
            Store::Disk { .. } => {
                let unreadable = |source| HierarchyError::Unreadable { path: directory.clone(), source };
                let metadata = fs::metadata(&directory).map_err(unreadable)?;
                if !self.entered.insert((metadata.dev(), metadata.ino())) {
                    return Ok(Vec::new());
                }
                folders(&directory).map_err(unreadable)
            }
            Store::Objects(objects) if objects.is_listed() => objects
                .entries(path)
                .map(|found| found.folders)
                .map_err(|source| HierarchyError::Unreadable { path: objects.url(path).into(), source }),
            Store::Objects(objects) => {
                if self.named.is_none() {
                    self.named = copied_paths(documents);
                }
                let Some(named) = &self.named else {
                    let reason = "the server does not list names, and the group has no consolidated metadata of Zarr v3; \
                                  consolidate it";
                    return Err(HierarchyError::NotADocument {
                        path: objects.url(path).into(),
                        reason: reason.to_owned(),
                    });
                };
                let below = |named: &String| {
                    let rest =
                        if path.is_empty() { named.as_str() } else { named.strip_prefix(path)?.strip_prefix('/')? };
                    rest.split('/').next().map(str::to_owned)
                };
                Ok(named.iter().filter_map(below).collect::<BTreeSet<_>>().into_iter().collect())
            }
        }
    }

    /// The documents of a node and whether they describe a group; v3 wins where both are.
    fn documents(&self, path: &str, fetched: Option<Fetched>) -> Result<Option<(NodeDocs, bool)>, HierarchyError> {
        let directory = self.store.full_name(path);
        let read_document = |name: &str| match &self.store {
            Store::Disk { .. } => read_document(&self.store, &directory.join(name)),
            Store::Objects(objects) => {
                let key = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
                object(objects, &key, objects.get(&key, Part::Whole))
            }
        };
        let read_json = |name: &str| {
            let document = read_document(name)?;
            if let Some(document) = &document {
                parse(&directory.join(name), document)?;
            }
            Ok::<_, HierarchyError>(document)
        };
        let document = match (fetched, self.store.objects()) {
            (Some(fetched), Some(objects)) => object(objects, &format!("{path}/{DOCUMENT}"), fetched)?,
            _ => read_document(DOCUMENT)?,
        };
        if let Some(document) = document {
            let is_group = check_v3(&directory.join("zarr.json"), &document)?;
            return Ok(Some((NodeDocs::V3(document), is_group)));
        }
        if let Some(array) = read_json(".zarray")? {
            return Ok(Some((NodeDocs::V2Array { array, attributes: read_json(".zattrs")? }, false)));
        }
        if let Some(group) = read_json(".zgroup")? {
            return Ok(Some((NodeDocs::V2Group { group, attributes: read_json(".zattrs")? }, true)));
        }
        Ok(None)
    }
}

/// Names in a directory that are text, as keys are, and not those of files: files cannot be nodes.
fn folders(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string()
            && !entry.file_type()?.is_file()
        {
            names.push(name);
        }
    }
    Ok(names)
}

/// The paths below a group that its consolidated metadata names, if it has some.
fn copied_paths(documents: &NodeDocs) -> Option<BTreeSet<String>> {
    let NodeDocs::V3(document) = documents else { return None };
    let group = json::parse(&document.text).ok()?;
    let copies = group.get("consolidated_metadata")?.get("metadata")?;
    let paths = copies.members().iter().map(|copy| copy.key.clone());
    Some(paths.filter(|path| !path.is_empty()).collect())
}

fn object(objects: &Objects, key: &str, fetched: Fetched) -> Result<Option<Document>, HierarchyError> {
    let path = PathBuf::from(objects.url(key));
    match fetched {
        Ok(Some(got)) => Ok(Some(Document { text: text(&path, got.bytes)?, mtime_ns: got.state.mtime_ns.into() })),
        Ok(None) => Ok(None),
        Err(source) => Err(HierarchyError::Unreadable { path, source }),
    }
}

fn text(path: &Path, bytes: Vec<u8>) -> Result<String, HierarchyError> {
    String::from_utf8(bytes).map_err(|error| HierarchyError::Invalid {
        path: path.to_owned(),
        source: JsonError { offset: error.utf8_error().valid_up_to(), problem: "text that is not UTF-8" },
    })
}

/// Whether a zarr.json is a group's (else an array's).
fn check_v3(path: &Path, document: &Document) -> Result<bool, HierarchyError> {
    let value = parse(path, document)?;
    let refused = |reason: &str| HierarchyError::NotADocument { path: path.to_owned(), reason: reason.to_owned() };
    if value.get("zarr_format").and_then(Value::as_u64) != Some(3) {
        return Err(refused("its zarr_format is not 3"));
    }
    match value.get("node_type").and_then(Value::string).as_deref() {
        Some("group") => Ok(true),
        Some("array") => Ok(false),
        _ => Err(refused("its node_type is neither array nor group")),
    }
}

fn parse<'t>(path: &Path, document: &'t Document) -> Result<Value<'t>, HierarchyError> {
    let value =
        json::parse(&document.text).map_err(|source| HierarchyError::Invalid { path: path.to_owned(), source })?;
    if !value.is_object() {
        let reason = "it is no JSON object".to_owned();
        return Err(HierarchyError::NotADocument { path: path.to_owned(), reason });
    }
    Ok(value)
}

fn read_document(store: &Store, path: &Path) -> Result<Option<Document>, HierarchyError> {
    let unreadable = |source| HierarchyError::Unreadable { path: path.to_owned(), source };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(source) => return Err(unreadable(source)),
    };
    store.check(&file).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        // Passed over, it would take the node and all below it out of the view without a word.
        let reason = "it is no regular file".to_owned();
        return Err(HierarchyError::NotADocument { path: path.to_owned(), reason });
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(unreadable)?;
    let text = text(path, bytes)?;
    let mtime_ns = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
    Ok(Some(Document { text, mtime_ns }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: &str = r#"{"zarr_format": 3, "node_type": "group", "attributes": {"a": NaN}}"#;
    const ARRAY: &str = r#"{"zarr_format": 3, "node_type": "array"}"#;

    fn store(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn groups_are_walked_and_arrays_are_not_entered() {
        let root = store(&[
            ("zarr.json", GROUP),
            ("a/zarr.json", ARRAY),
            ("a/c/zarr.json", GROUP),
            ("g/zarr.json", GROUP),
            ("g/b/.zarray", "{}"),
            ("g/b/.zattrs", "{}"),
            ("h/.zgroup", "{\"zarr_format\": 2}"),
            ("x.partial/zarr.json", "not JSON"),
            ("plain/readme.txt", ""),
        ]);
        std::os::unix::fs::symlink(root.path(), root.path().join("g/up")).unwrap();
        let hierarchy = read(root.path()).unwrap();
        let paths: Vec<&str> = hierarchy.nodes.keys().map(String::as_str).collect();
        assert_eq!(paths, ["", "a", "g", "g/b", "g/up", "h"]);
        assert!(matches!(hierarchy.nodes["g/b"], NodeDocs::V2Array { attributes: Some(_), .. }));
        assert!(hierarchy.mtime_ns_below("").unwrap() > 1_600_000_000_000_000_000);
    }

    #[test]
    fn version_3_wins_over_version_2() {
        let root = store(&[("zarr.json", ARRAY), (".zarray", "{}")]);
        assert!(matches!(read(root.path()).unwrap().nodes[""], NodeDocs::V3(_)));
    }

    #[test]
    fn errors_name_the_file_and_the_remedy() {
        let check = |files: &[(&str, &str)], inside: &str, expected: &str| {
            let root = store(files);
            let message = read(&root.path().join(inside)).unwrap_err().to_string();
            assert_eq!(message.replace(&root.path().display().to_string(), "R"), expected);
        };
        check(&[], "none", "R/none: no such directory; give the path of a Zarr store");
        check(&[("f", "")], "f", "R/f: not a Zarr store: no zarr.json, .zgroup or .zarray in it; it is a file");
        check(
            &[("s.zarr/zarr.json", GROUP)],
            "",
            "R/: not a Zarr store: no zarr.json, .zgroup or .zarray in it; did you mean R/s.zarr?",
        );
        check(
            &[("zarr.json", GROUP), ("a/zarr.json", "{\"zarr_format\": 3, ")],
            ".",
            "R/./a/zarr.json: invalid JSON: the text ends too early at byte 19; write it again, or restore it from the \
             store's origin",
        );
        check(
            &[("zarr.json", "{}")],
            ".",
            "R/./zarr.json: not a Zarr document: its zarr_format is not 3; write it again, or restore it from the store's \
             origin",
        );
    }
}
