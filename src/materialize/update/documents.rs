//! Documents of a copy take their places: each by one rename, and on disk before the next.

use crate::materialize::CopyError;
use crate::materialize::disk;
use crate::materialize::site::sync_directory;
use crate::zarr::hierarchy::{DOCUMENT, Hierarchy, NodeDocs};
use std::collections::BTreeMap;
use std::path::Path;

/// Paths of the nodes that are to have other documents than they have.
pub(super) fn differing<'d>(documents: &'d BTreeMap<String, String>, target: &Hierarchy) -> Vec<&'d String> {
    let text = |path: &String| match target.nodes.get(path) {
        Some(NodeDocs::V3(document)) => Some(document.text.as_str()),
        _ => None,
    };
    documents.iter().filter(|(path, document)| text(path) != Some(document.as_str())).map(|(path, _)| path).collect()
}

/// Puts the document of the node at `path` in its place; it is written in the folder `beside` first.
pub(super) fn put(path: &str, text: &str, beside: &Path, target: &Path) -> Result<(), CopyError> {
    let folder = target.join(path);
    let (fresh, document) = (beside.join("document"), folder.join(DOCUMENT));
    write(&fresh, text)?;
    let placed = disk::make_folders(&folder).and_then(|()| disk::rename(&fresh, &document));
    placed.map_err(|error| CopyError::io(&document, "put it in its place", error))?;
    sync_directory(&folder)
}

/// Writes a document, for good.
pub(super) fn write(path: &Path, text: &str) -> Result<(), CopyError> {
    let written = disk::write(path, text.as_bytes()).and_then(|file| file.sync());
    written.map_err(|error| CopyError::io(path, "write it", error))
}
