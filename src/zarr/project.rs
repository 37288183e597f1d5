//! From the documents of a source and a layout to the documents of the view.

use std::collections::BTreeMap;

use super::array::{self, ArrayNode};
use super::chunking;
use super::consolidated::{self, ShownNode};
use super::hierarchy::{Hierarchy, NodeDocs, below};
use super::json;
use super::layout::{Layout, LayoutError};
use super::naming;
use super::select;
use super::splice::{self, Edit};
use super::types::VirtualArray;
use super::v2;

/// Keys of the view's chunks: one directory level, so that one look-up finds a chunk.
const CHUNK_KEY_ENCODING: &str = r#"{"name": "default", "configuration": {"separator": "."}}"#;

/// The view as its documents describe it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Projection {
    /// The arrays that are rechunked.
    pub arrays: Vec<VirtualArray>,
    /// Text of the view's zarr.json by node path, for every node whose document differs from the source's bytes.
    pub documents: BTreeMap<String, String>,
    /// The arrays that are shown as they are.
    pub passed: Vec<Passed>,
    /// The arrays of a Zarr v2 source that v3 cannot spell: they are not in the view.
    pub left_out: Vec<Passed>,
    /// What the user should know, one line each.
    pub warnings: Vec<String>,
    /// All groups of the view.
    pub group_paths: Vec<String>,
    /// All arrays of the view.
    pub array_paths: Vec<String>,
}

/// An array that is not rechunked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// Its path.
    pub path: String,
    /// Why it cannot be, where the layout asks for it.
    pub reason: Option<String>,
}

/// The nodes of a source, read: what each document says, and what the view makes of it before any rechunking.
#[derive(Debug, Clone)]
pub struct Nodes {
    /// Every array that can be shown.
    pub arrays: Vec<ArrayNode>,
    shown: BTreeMap<String, ShownNode>,
    /// Nodes whose documents are the view's own: those of Zarr v2.
    converted: Vec<String>,
    left_out: Vec<Passed>,
    warnings: Vec<String>,
}

/// Reads every document of `hierarchy`.
///
/// # Errors
/// A document that is not JSON; the source room lets none through.
pub fn read_nodes(hierarchy: &Hierarchy) -> Result<Nodes, LayoutError> {
    let mut nodes = Nodes {
        arrays: Vec::new(),
        shown: BTreeMap::new(),
        converted: Vec::new(),
        left_out: Vec::new(),
        warnings: Vec::new(),
    };
    for (path, docs) in &hierarchy.nodes {
        let (text, converted) = match docs {
            NodeDocs::V3(document) => (Ok(document.text.clone()), false),
            NodeDocs::V2Array { array, attributes } => {
                (v2::convert_array(&array.text, attributes.as_ref().map_or("{}", |a| a.text.as_str())), true)
            }
            NodeDocs::V2Group { attributes, .. } => {
                (v2::convert_group(attributes.as_ref().map_or("{}", |a| a.text.as_str())), true)
            }
        };
        match text {
            Ok(text) => nodes.add(path, text, converted)?,
            Err(reason) => {
                let name = naming::display_path(path);
                nodes.warnings.push(format!("{name}: not in the view: Zarr v3 cannot say it: {reason}"));
                nodes.left_out.push(Passed { path: path.clone(), reason: Some(reason) });
            }
        }
    }
    Ok(nodes)
}

impl Nodes {
    fn add(&mut self, path: &str, text: String, converted: bool) -> Result<(), LayoutError> {
        let key = if path.is_empty() { "zarr.json".to_owned() } else { format!("{path}/zarr.json") };
        let document = json::parse(&text).map_err(|error| LayoutError::json(&key, &error))?;
        let is_group = document.get("node_type").and_then(json::Value::string).as_deref() == Some("group");
        if !is_group {
            let array = array::read(path, &document);
            self.arrays.push(array.map_err(|reason| LayoutError::Document { key, reason })?);
        }
        if converted {
            self.converted.push(path.to_owned());
        }
        self.shown.insert(path.to_owned(), ShownNode { text, is_group });
        Ok(())
    }
}

/// The dimensions of a store with their lengths, as one line.
pub fn dimensions(arrays: &[ArrayNode]) -> String {
    naming::dimensions(arrays)
}

/// A layout to try: a flag with its value.
pub fn suggestion(arrays: &[ArrayNode]) -> String {
    naming::suggestion(arrays)
}

/// The view of `hierarchy` through `layout`.
///
/// # Errors
/// [`LayoutError`]: one line that names the thing and the remedy.
pub fn project(hierarchy: &Hierarchy, layout: &Layout) -> Result<Projection, LayoutError> {
    let Nodes { arrays: nodes, mut shown, converted, left_out, mut warnings } = read_nodes(hierarchy)?;
    check_left_out(&left_out, layout)?;
    let mut selected = select::select(&nodes, layout)?;
    drop_unreadable_shards(&mut selected, &mut warnings);
    let arrays = chunking::resolve(&selected.rechunked, layout.chunk_size_bytes)?;
    let mut documents: BTreeMap<String, String> = BTreeMap::new();
    for path in converted {
        documents.extend(shown.get(&path).map(|node| (path.clone(), node.text.clone())));
    }
    let stale = stale_copies(&shown, &mut warnings);
    for (selection, array) in selected.rechunked.iter().zip(&arrays) {
        let path = &selection.array.path;
        let Some(node) = shown.get_mut(path) else {
            continue;
        };
        let codec = selection.array.readable.as_ref().map_or("", |readable| readable.virtual_codec.as_str());
        node.text = virtual_document(&node.text, array, codec).map_err(|error| LayoutError::json(path, &error))?;
        documents.insert(path.clone(), node.text.clone());
    }
    for (array, reason) in &selected.refused {
        let name = naming::display_path(&array.path);
        warnings.push(format!("{name}: shown as it is: it cannot be rechunked: {reason}"));
    }
    rewrite_groups(&shown, &stale, &mut documents)?;
    let reason = |path: &str| selected.refused.iter().find(|(a, _)| a.path == path).map(|(_, reason)| reason.clone());
    let rechunked = |path: &str| arrays.iter().any(|array| array.source.path == path);
    let passed = nodes.iter().filter(|array| !rechunked(&array.path));
    Ok(Projection {
        passed: passed.map(|array| Passed { path: array.path.clone(), reason: reason(&array.path) }).collect(),
        left_out,
        warnings,
        group_paths: shown.iter().filter(|(_, node)| node.is_group).map(|(path, _)| path.clone()).collect(),
        array_paths: shown.iter().filter(|(_, node)| !node.is_group).map(|(path, _)| path.clone()).collect(),
        arrays,
        documents,
    })
}

/// zarr-python 3.1 fails to read shards of these types (its scalars cannot be hashed), in any store.
fn drop_unreadable_shards(selected: &mut select::Selected<'_>, warnings: &mut Vec<String>) {
    for selection in &mut selected.rechunked {
        let data_type = selection.array.data_type.as_str();
        if selection.shards.is_some() && matches!(data_type, "structured" | "struct" | "raw_bytes") {
            selection.shards = None;
            let name = naming::display_path(&selection.array.path);
            warnings
                .push(format!("{name}: shown without shards: zarr-python cannot read shards of data type {data_type}"));
        }
    }
}

/// An array that v3 cannot spell must not be missing silently when it is asked for.
fn check_left_out(left_out: &[Passed], layout: &Layout) -> Result<(), LayoutError> {
    let named = |path: &str| layout.array_globs.iter().any(|glob| glob.trim_matches('/') == path);
    match left_out.iter().find(|array| named(&array.path)) {
        Some(Passed { path, reason }) => Err(LayoutError::CannotRechunk {
            array: naming::display_path(path),
            reason: reason.clone().unwrap_or_default(),
        }),
        None => Ok(()),
    }
}

/// The source's document with the grid, the chunk keys and the codecs of the view.
fn virtual_document(text: &str, array: &VirtualArray, codec: &str) -> Result<String, json::JsonError> {
    let grid = |shape: &[u64]| {
        let shape = splice::lengths(shape);
        Edit::Set(format!(r#"{{"name": "regular", "configuration": {{"chunk_shape": {shape}}}}}"#))
    };
    let (grid, codecs) = match &array.shard_shape {
        None => (grid(&array.chunk_shape), format!("[{codec}]")),
        Some(shard_shape) => {
            let sharding = format!(
                r#"[{{"name": "sharding_indexed", "configuration": {{"chunk_shape": {}, "codecs": [{codec}], "index_codecs": [{{"name": "bytes", "configuration": {{"endian": "little"}}}}], "index_location": "end"}}}}]"#,
                splice::lengths(&array.chunk_shape)
            );
            (grid(shard_shape), sharding)
        }
    };
    let keys = Edit::Set(CHUNK_KEY_ENCODING.to_owned());
    splice::edit_object(text, &[("chunk_grid", grid), ("chunk_key_encoding", keys), ("codecs", Edit::Set(codecs))])
}

/// The groups whose consolidated copy disagrees with the nodes' own documents, each with a warning.
fn stale_copies(shown: &BTreeMap<String, ShownNode>, warnings: &mut Vec<String>) -> Vec<String> {
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
                "{key}: its consolidated metadata disagrees with the store about {first}{more}; the view follows each \
                 node's own zarr.json. Consolidate the source again"
            ));
            stale.push(path.clone());
        }
    }
    stale
}

/// Rewrites the consolidated copy of every group below which something differs; the root always gets one.
fn rewrite_groups(
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

#[cfg(test)]
mod tests;
