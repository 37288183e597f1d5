//! Documents of a view or a copy: those of rechunked arrays, and the copies that groups carry of all below them.

use std::collections::BTreeMap;

use super::Product;
use crate::zarr::consolidated::{self, ShownNode};
use crate::zarr::hierarchy::below;
use crate::zarr::json;
use crate::zarr::layout::LayoutError;
use crate::zarr::splice::{self, Edit};
use crate::zarr::types::VirtualArray;

/// What the document of a rechunked array says of its chunks besides their shape.
pub(crate) struct ChunkDocuments {
    /// `chunk_key_encoding`.
    pub(crate) key_encoding: String,
    /// The codecs of a chunk, in encoding order, separated by commas.
    pub(crate) codecs: String,
    /// The codecs of the index of a shard, likewise.
    pub(crate) index_codecs: &'static str,
}

/// The source's document with the grid, the chunk keys and the codecs of the view or copy.
pub(super) fn array_document(
    text: &str,
    array: &VirtualArray,
    says: &ChunkDocuments,
) -> Result<String, json::JsonError> {
    let grid = |shape: &[u64]| {
        let shape = splice::lengths(shape);
        Edit::Set(format!(r#"{{"name": "regular", "configuration": {{"chunk_shape": {shape}}}}}"#))
    };
    let ChunkDocuments { key_encoding, codecs, index_codecs } = says;
    let (grid, codecs) = match &array.shard_shape {
        None => (grid(&array.chunk_shape), format!("[{codecs}]")),
        Some(shard_shape) => {
            let sharding = format!(
                r#"[{{"name": "sharding_indexed", "configuration": {{"chunk_shape": {}, "codecs": [{codecs}], "index_codecs": [{index_codecs}], "index_location": "end"}}}}]"#,
                splice::lengths(&array.chunk_shape)
            );
            (grid(shard_shape), sharding)
        }
    };
    let keys = Edit::Set(key_encoding.clone());
    splice::edit_object(text, &[("chunk_grid", grid), ("chunk_key_encoding", keys), ("codecs", Edit::Set(codecs))])
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

/// Rewrites the consolidated copy of every group below which something differs; the root always gets one.
pub(super) fn rewrite_groups(
    shown: &BTreeMap<String, ShownNode>,
    stale: &[String],
    documents: &mut BTreeMap<String, String>,
) -> Result<(), LayoutError> {
    let changed: Vec<String> = documents.keys().cloned().collect();
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
