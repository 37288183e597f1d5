//! Documents of a view or a copy: those of rechunked arrays, and the copies that groups carry of all below them.

use std::collections::BTreeMap;

use super::Product;
use crate::zarr::consolidated::{self, ShownNode};
use crate::zarr::hierarchy::below;
use crate::zarr::json;
use crate::zarr::layout::LayoutError;
use crate::zarr::splice::{self, Edit};
use crate::zarr::types::VirtualArray;

/// What the document of a rechunked array says of how it is stored: the members that are not the source's.
pub(crate) struct Stored {
    /// `chunk_grid`.
    pub(crate) chunk_grid: String,
    /// `chunk_key_encoding`.
    pub(crate) chunk_key_encoding: String,
    /// `codecs`.
    pub(crate) codecs: String,
}

impl Stored {
    /// How `array` is stored with keys spelled as `chunk_key_encoding` says, the codecs of a chunk and those of the index of
    /// a shard given in encoding order, separated by commas.
    pub(crate) fn new(array: &VirtualArray, chunk_key_encoding: String, codecs: &str, index_codecs: &str) -> Self {
        let grid = |shape: &[u64]| {
            let shape = splice::lengths(shape);
            format!(r#"{{"name": "regular", "configuration": {{"chunk_shape": {shape}}}}}"#)
        };
        let (chunk_grid, codecs) = match &array.shard_shape {
            None => (grid(&array.chunk_shape), format!("[{codecs}]")),
            Some(shard_shape) => {
                let sharding = format!(
                    r#"[{{"name": "sharding_indexed", "configuration": {{"chunk_shape": {}, "codecs": [{codecs}], "index_codecs": [{index_codecs}], "index_location": "end"}}}}]"#,
                    splice::lengths(&array.chunk_shape)
                );
                (grid(shard_shape), sharding)
            }
        };
        Stored { chunk_grid, chunk_key_encoding, codecs }
    }

    /// The source's document `text`, stored so.
    pub(super) fn document(self, text: &str) -> Result<String, json::JsonError> {
        let Stored { chunk_grid, chunk_key_encoding, codecs } = self;
        let members = [("chunk_grid", chunk_grid), ("chunk_key_encoding", chunk_key_encoding), ("codecs", codecs)];
        splice::edit_object(text, &members.map(|(key, text)| (key, Edit::Set(text))))
    }
}

/// The groups whose consolidated copy disagrees with the nodes' own documents, each with a warning.
pub(super) fn stale_copies(
    shown: &BTreeMap<String, ShownNode>,
    product: Product,
    warnings: &mut Vec<String>,
) -> Vec<String> {
    let mut stale = Vec::new();
    for (path, node) in shown.iter().filter(|(_, node)| node.is_group) {
        let Ok(document) = json::parse(&node.text) else {
            continue;
        };
        let Some(metadata) = consolidated::carried(&document) else {
            continue;
        };
        let differing = consolidated::disagreements(metadata, path, shown);
        if let Some(first) = differing.first() {
            let more = if differing.len() > 1 { format!(" and {} more", differing.len() - 1) } else { String::new() };
            let key = if path.is_empty() { "zarr.json".to_owned() } else { format!("{path}/zarr.json") };
            warnings.push(format!(
                "{key}: its consolidated metadata disagrees with the store about {first}{more}; {} follows each \
                 node's own zarr.json. Consolidate the source again",
                product.name
            ));
            stale.push(path.clone());
        }
    }
    stale
}

/// Rewrites the consolidated copy of every group below which something has `changed`, or that is `stale`; the root
/// always gets one.
pub(crate) fn rewrite_groups(
    shown: &BTreeMap<String, ShownNode>,
    stale: &[String],
    changed: &[String],
    documents: &mut BTreeMap<String, String>,
) -> Result<(), LayoutError> {
    for (path, node) in shown.iter().filter(|(_, node)| node.is_group) {
        let document = json::parse(&node.text).map_err(|error| LayoutError::json(path, &error))?;
        let carries = consolidated::carried(&document).is_some();
        let differs = stale.contains(path) || changed.iter().any(|other| below(other, path).is_some());
        let needs_copy = if carries { differs } else { path.is_empty() };
        if needs_copy {
            let copy = Edit::Set(consolidated::build(path, shown));
            let text = splice::edit_object(&node.text, &[("consolidated_metadata", copy)]);
            documents.insert(path.clone(), text.map_err(|error| LayoutError::json(path, &error))?);
        }
    }
    Ok(())
}
