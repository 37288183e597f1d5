//! From the documents of a source and a layout to the documents of the view.

mod documents;

use std::collections::BTreeMap;

use super::array::{self, ArrayNode};
use super::chunking;
use super::consolidated::ShownNode;
use super::hierarchy::{Hierarchy, NodeDocs};
use super::json;
use super::layout::{Layout, LayoutError};
use super::naming;
use super::select;
use super::settled::Settled;
use super::types::{SourceArray, VirtualArray};
use super::v2;

pub(super) use documents::{Stored, rewrite_groups};

/// Keys of the view's chunks: one directory level, so that one look-up finds a chunk.
const CHUNK_KEY_ENCODING: &str = r#"{"name": "default", "configuration": {"separator": "."}}"#;

/// The index of a shard of the view: plain, so that it is made without reading it all (decision 0002).
const INDEX_CODECS: &str = r#"{"name": "bytes", "configuration": {"endian": "little"}}"#;

/// What messages call the store that is made of a source.
#[derive(Debug, Clone, Copy)]
pub(super) struct Product {
    name: &'static str,
    /// What becomes of an array that is not rechunked.
    shown: &'static str,
    /// Elements of any length can be rechunked.
    has_strings: bool,
}

pub(super) const VIEW: Product = Product { name: "the view", shown: "shown", has_strings: false };
pub(super) const COPY: Product = Product { name: "the copy", shown: "copied", has_strings: true };

/// An array that is to be rechunked.
pub(super) struct Rechunked<'a> {
    /// The document of the codec that turns its elements into bytes.
    pub(super) serializer: &'a str,
    pub(super) array: &'a VirtualArray,
    /// The source's document, as one of v3.
    pub(super) text: &'a str,
}

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
    /// What the lengths of the layout have come to.
    pub settled: Settled,
}

/// An array that is not rechunked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// Its path.
    pub path: String,
    /// Why it cannot be, where the layout asks for it.
    pub reason: Option<String>,
    /// How it is stored, as far as its elements can be read.
    pub source: Option<Box<SourceArray>>,
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
    product: Product,
}

/// Reads every document of `hierarchy`.
///
/// # Errors
/// A document that is not JSON; the source room lets none through.
pub fn read_nodes(hierarchy: &Hierarchy) -> Result<Nodes, LayoutError> {
    read_nodes_for(VIEW, hierarchy)
}

/// Reads every document of `hierarchy`, of which `product` is to be made.
pub(super) fn read_nodes_for(product: Product, hierarchy: &Hierarchy) -> Result<Nodes, LayoutError> {
    let mut nodes = Nodes {
        arrays: Vec::new(),
        shown: BTreeMap::new(),
        converted: Vec::new(),
        left_out: Vec::new(),
        warnings: Vec::new(),
        product,
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
                nodes.warnings.push(format!("{name}: not in {}: Zarr v3 cannot say it: {reason}", product.name));
                nodes.left_out.push(Passed { path: path.clone(), reason: Some(reason), source: None });
            }
        }
    }
    Ok(nodes)
}

impl Nodes {
    /// The document of a node, as one of v3; `None` where there is no such node, or v3 cannot spell it.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.shown.get(path).map(|node| node.text.as_str())
    }

    /// Every node that can be shown, by path.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (&String, &ShownNode)> {
        self.shown.iter()
    }

    /// The node at `path`.
    pub(super) fn node(&self, path: &str) -> Option<&ShownNode> {
        self.shown.get(path)
    }

    /// The array at `path`, if it can be shown.
    pub fn array(&self, path: &str) -> Option<&ArrayNode> {
        // They come out of a map by path, so they are in its order.
        self.arrays.binary_search_by(|array| array.path.as_str().cmp(path)).ok().and_then(|at| self.arrays.get(at))
    }

    /// The arrays of a Zarr v2 store that v3 cannot spell.
    pub fn left_out(&self) -> &[Passed] {
        &self.left_out
    }

    /// The arrays that `layout` rechunks: with the lengths that are `settled`, where it was found good before.
    pub(super) fn choose(&mut self, layout: &Layout, settled: Option<&Settled>) -> Result<Chosen, LayoutError> {
        if settled.is_none() {
            check_left_out(&self.left_out, layout)?;
        }
        let mut selected = select::select(&self.arrays, layout, self.product.has_strings, settled.is_some())?;
        drop_unreadable_shards(&mut selected, self.product, &mut self.warnings);
        let refused = selected.refused.iter().map(|(array, reason)| (array.path.clone(), reason.clone())).collect();
        let mut settled = settled.cloned().unwrap_or_default();
        let arrays = chunking::resolve(&selected.rechunked, layout.chunk_size_bytes, &settled)?;
        settled.add(&self.arrays, &arrays);
        Ok(Chosen { arrays, refused, settled })
    }

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
    project_nodes(read_nodes(hierarchy)?, layout, None, describe_virtual)
}

/// The view of `hierarchy`, which has changed since it was first projected: with the lengths that are settled.
///
/// # Errors
/// As [`project`]; that something is no longer there is none.
pub fn project_again(hierarchy: &Hierarchy, layout: &Layout, settled: &Settled) -> Result<Projection, LayoutError> {
    project_nodes(read_nodes(hierarchy)?, layout, Some(settled), describe_virtual)
}

fn describe_virtual(rechunked: &Rechunked<'_>) -> Result<Stored, LayoutError> {
    Ok(Stored::new(rechunked.array, CHUNK_KEY_ENCODING.to_owned(), rechunked.serializer, INDEX_CODECS))
}

/// What `layout` makes of `nodes`; `describe` says how the chunks of each rechunked array are named and encoded.
pub(super) fn project_nodes(
    mut nodes: Nodes,
    layout: &Layout,
    settled: Option<&Settled>,
    describe: impl FnMut(&Rechunked<'_>) -> Result<Stored, LayoutError>,
) -> Result<Projection, LayoutError> {
    let chosen = nodes.choose(layout, settled)?;
    Ok(project_chosen(nodes, chosen, BTreeMap::new(), describe)?.projection)
}

/// The arrays that are to be rechunked, and those that are to be and cannot, with the reason.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    pub(super) arrays: Vec<VirtualArray>,
    pub(super) refused: Vec<(String, String)>,
    pub(super) settled: Settled,
}

/// What becomes of a store.
pub(super) struct Projected {
    pub(super) projection: Projection,
    /// The text of every node's zarr.json, those of the source's bytes too.
    pub(super) all: BTreeMap<String, String>,
}

/// What becomes of `nodes` where those chosen are rechunked; `describe` says how their chunks are named and encoded. The
/// nodes `beside` are there too, and none of the source's.
pub(super) fn project_chosen(
    nodes: Nodes,
    chosen: Chosen,
    beside: BTreeMap<String, ShownNode>,
    mut describe: impl FnMut(&Rechunked<'_>) -> Result<Stored, LayoutError>,
) -> Result<Projected, LayoutError> {
    let Nodes { arrays: nodes, mut shown, converted, left_out, mut warnings, product } = nodes;
    let Chosen { arrays, refused, settled } = chosen;
    let mut written: BTreeMap<String, String> = BTreeMap::new();
    for path in converted {
        written.extend(shown.get(&path).map(|node| (path.clone(), node.text.clone())));
    }
    let stale = documents::stale_copies(&shown, product, &mut warnings);
    for array in &arrays {
        let path = &array.source.path;
        // Nodes come out of a map by path.
        let node = nodes.binary_search_by(|node| node.path.cmp(path)).ok().and_then(|at| nodes.get(at));
        let (Some(shown), Some(Ok((_, serializer)))) = (shown.get_mut(path), node.map(|node| node.cut(true))) else {
            continue;
        };
        let stored = describe(&Rechunked { serializer, array, text: &shown.text })?;
        shown.text = stored.document(&shown.text).map_err(|error| LayoutError::json(path, &error))?;
        written.insert(path.clone(), shown.text.clone());
    }
    for (path, reason) in &refused {
        let name = naming::display_path(path);
        warnings.push(format!("{name}: {} as it is: it cannot be rechunked: {reason}", product.shown));
    }
    let paths = |is_group: bool| -> Vec<String> {
        shown.iter().filter(|(_, node)| node.is_group == is_group).map(|(path, _)| path.clone()).collect()
    };
    let (group_paths, array_paths) = (paths(true), paths(false));
    let changed: Vec<String> = written.keys().chain(beside.keys()).cloned().collect();
    shown.extend(beside);
    documents::rewrite_groups(&shown, &stale, &changed, &mut written)?;
    let mut all: BTreeMap<String, String> = shown.into_iter().map(|(path, node)| (path, node.text)).collect();
    all.extend(written.clone());
    let reason = |path: &str| refused.iter().find(|(refused, _)| refused == path).map(|(_, reason)| reason.clone());
    let rechunked = |path: &str| arrays.iter().any(|array| array.source.path == path);
    let passed = nodes.iter().filter(|array| !rechunked(&array.path));
    let projection = Projection {
        passed: passed
            .map(|array| Passed {
                path: array.path.clone(),
                reason: reason(&array.path),
                source: array.cut(true).ok().map(|(source, _)| Box::new(source.clone())),
            })
            .collect(),
        left_out,
        warnings,
        group_paths,
        array_paths,
        arrays,
        documents: written,
        settled,
    };
    Ok(Projected { projection, all })
}

/// zarr-python 3.1 fails to read shards of these types (its scalars cannot be hashed), in any store.
pub(super) fn has_unreadable_shards(data_type: &str) -> bool {
    matches!(data_type, "structured" | "struct" | "raw_bytes")
}

fn drop_unreadable_shards(selected: &mut select::Selected<'_>, product: Product, warnings: &mut Vec<String>) {
    for selection in &mut selected.rechunked {
        let data_type = selection.array.data_type.as_str();
        if selection.shards.is_some() && has_unreadable_shards(data_type) {
            selection.shards = None;
            let name = naming::display_path(&selection.array.path);
            warnings.push(format!(
                "{name}: {} without shards: zarr-python cannot read shards of data type {data_type}",
                product.shown
            ));
        }
    }
}

/// An array that v3 cannot spell must not be missing silently when it is asked for.
fn check_left_out(left_out: &[Passed], layout: &Layout) -> Result<(), LayoutError> {
    let named = |path: &str| layout.array_globs.iter().any(|glob| glob.trim_matches('/') == path);
    match left_out.iter().find(|array| named(&array.path)) {
        Some(Passed { path, reason, .. }) => Err(LayoutError::CannotRechunk {
            array: naming::display_path(path),
            reason: reason.clone().unwrap_or_default(),
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
