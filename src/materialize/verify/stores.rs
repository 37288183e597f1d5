//! Two stores node by node: what their documents differ in, and what of each pair of arrays can be compared.

use super::documents::{self, Described};
use super::outcome::{ArrayComparison, GroupComparison};
use crate::materialize::CopyError;
use crate::source::{self, hierarchy};
use crate::zarr::array::ArrayNode;
use crate::zarr::json::{self, Value};
use crate::zarr::{Hierarchy, NodeDocs, Nodes, Readable, SourceArray, read_nodes, stored};
use std::collections::BTreeSet;

/// One of the two stores, its documents read.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) store: source::Store,
    hierarchy: Hierarchy,
    nodes: Nodes,
}

/// An array of both stores, and how it is compared.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) found: ArrayComparison,
    pub(super) how: How,
}

/// How an array is compared.
#[derive(Debug)]
pub(super) enum How {
    /// Element by element. Where codecs turn out to be none that we can have, as files.
    Elements(Box<[Readable; 2]>),
    /// Likewise, where elements are of any length.
    Strings(Box<[SourceArray; 2]>),
    /// File by file; the number of elements.
    Files(u64),
    /// Not at all: it is known to differ, or why it cannot be is said.
    Not,
}

impl Store {
    /// Reads the documents of the store at `store`.
    pub(super) fn read(store: &source::Store) -> Result<Self, CopyError> {
        let refuse = |why: String| CopyError::Store(why);
        let hierarchy = hierarchy::read(store).map_err(|error| refuse(error.to_string()))?;
        let nodes = read_nodes(&hierarchy).map_err(|error| refuse(format!("{}: {error}", store.name().display())))?;
        Ok(Store { store: store.clone(), hierarchy, nodes })
    }

    fn array(&self, path: &str) -> Option<&ArrayNode> {
        self.nodes.array(path)
    }

    fn is_group(&self, path: &str) -> bool {
        self.array(path).is_none() && self.nodes.text(path).is_some()
    }

    /// Why Zarr v3 cannot spell an array of Zarr v2.
    fn left_out(&self, path: &str) -> Option<&str> {
        let node = self.nodes.left_out().iter().find(|array| array.path == path)?;
        Some(node.reason.as_deref().unwrap_or("it has no reason"))
    }

    /// The `_FillValue` of an array is none that anybody gave it.
    fn has_made_fill(&self, path: &str) -> bool {
        let Some(NodeDocs::V2Array { attributes, .. }) = self.hierarchy.nodes.get(path) else { return false };
        let Some(text) = attributes.as_ref().map(|document| document.text.as_str()) else { return true };
        json::parse(text).is_ok_and(|attributes| attributes.get("_FillValue").is_none())
    }
}

/// Every array of either store, and the groups that differ. Those of `expected` may be in one of the two alone.
pub(super) fn pairs(
    source: &Store,
    target: &Store,
    expected: &BTreeSet<&str>,
) -> Result<(Vec<Pair>, Vec<GroupComparison>), CopyError> {
    let paths: BTreeSet<&String> = source.hierarchy.nodes.keys().chain(target.hierarchy.nodes.keys()).collect();
    let (mut arrays, mut groups) = (Vec::new(), Vec::new());
    for path in paths {
        let there = |store: &Store| store.hierarchy.nodes.contains_key(path);
        if expected.contains(path.as_str()) && !(there(source) && there(target)) {
            continue;
        }
        let found = ArrayComparison { path: path.clone(), ..ArrayComparison::default() };
        let one_sided = match (there(source), there(target)) {
            (true, true) => None,
            (true, false) => Some((source.is_group(path), "it is only in the source")),
            _ => Some((target.is_group(path), "it is only in the target")),
        };
        let kinds = (source.is_group(path), target.is_group(path));
        match (one_sided, kinds) {
            (Some((true, why)), _) => {
                groups.push(GroupComparison { path: path.clone(), metadata: vec![why.to_owned()] });
            }
            (Some((false, why)), _) => {
                let found = ArrayComparison { metadata: vec![why.to_owned()], ..found };
                arrays.push(Pair { found, how: How::Not });
            }
            (None, (true, true)) => {
                let metadata = with_documents(source, target, path, |ours, theirs| {
                    documents::attributes(ours, theirs, |_, _| false)
                })?;
                if !metadata.is_empty() {
                    groups.push(GroupComparison { path: path.clone(), metadata });
                }
            }
            (None, (false, false)) => arrays.push(pair(source, target, found)?),
            (None, (is_group, _)) => {
                let (ours, theirs) = if is_group { ("a group", "an array") } else { ("an array", "a group") };
                let metadata = vec![format!("it is {ours} in the source, {theirs} in the target")];
                arrays.push(Pair { found: ArrayComparison { metadata, ..found }, how: How::Not });
            }
        }
    }
    Ok((arrays, groups))
}

/// Holds the documents of an array that both have against each other.
fn pair(source: &Store, target: &Store, mut found: ArrayComparison) -> Result<Pair, CopyError> {
    let path = found.path.clone();
    let (Some(ours), Some(theirs)) = (source.array(&path), target.array(&path)) else {
        return Ok(left_out_pair(source, target, found));
    };
    let mut how = How::Not;
    with_documents(source, target, &path, |ours_document, theirs_document| {
        let described =
            |node, document, store: &Store| Described { node, document, has_made_fill: store.has_made_fill(&path) };
        let (ours, theirs) = (described(ours, ours_document, source), described(theirs, theirs_document, target));
        found.metadata = documents::array(ours, theirs);
        // Without places in common there is nothing to compare element by element.
        if ours.node.shape != theirs.node.shape || !documents::is_same_type(ours, theirs) {
            return;
        }
        how = match (&ours.node.readable, &theirs.node.readable) {
            (Ok(ours), Ok(theirs)) => How::Elements(Box::new([ours.clone(), theirs.clone()])),
            (Err(why), _) | (_, Err(why)) => match (&ours.node.strings, &theirs.node.strings) {
                (Some(Ok(ours)), Some(Ok(theirs))) => {
                    How::Strings(Box::new([ours.source.clone(), theirs.source.clone()]))
                }
                (ours_strings, theirs_strings) => {
                    match as_files(ours_document, theirs_document, &ours.node.shape) {
                        Ok(files) => files,
                        Err(differing) => {
                            // Of strings, what keeps even copies from reading them.
                            let of_strings = [ours_strings, theirs_strings];
                            let of_strings = of_strings.into_iter().flatten().find_map(|read| read.as_ref().err());
                            found.error = Some(incomparable(of_strings.unwrap_or(why), differing));
                            How::Not
                        }
                    }
                }
            },
        };
    })?;
    Ok(Pair { found, how })
}

/// Why an array cannot be compared.
pub(super) fn incomparable(why: &str, differing: &str) -> String {
    format!("cannot be compared: {why}; and not file by file either: the stores do not have the same {differing}")
}

/// How an array is compared that cannot be read, by its documents; the error says on what they disagree.
fn as_files(ours: &Value<'_>, theirs: &Value<'_>, shape: &[u64]) -> Result<How, &'static str> {
    match stored::difference(ours, theirs) {
        None => Ok(How::Files(shape.iter().fold(1, |n, &len| n.saturating_mul(len)))),
        Some(differing) => Err(differing),
    }
}

/// The same for an array of both stores whose codecs we cannot have.
pub(super) fn files_instead(
    source: &Store,
    target: &Store,
    path: &str,
) -> Result<Result<How, &'static str>, CopyError> {
    let shape = source.array(path).map_or(&[][..], |array| &array.shape);
    with_documents(source, target, path, |ours, theirs| as_files(ours, theirs, shape))
}

/// Arrays of which at least one is of Zarr v2 and cannot be spelled in v3.
fn left_out_pair(source: &Store, target: &Store, mut found: ArrayComparison) -> Pair {
    let path = &found.path;
    let why = source.left_out(path).or(target.left_out(path)).unwrap_or("its document cannot be read").to_owned();
    let v2 = |store: &'_ Store| match store.hierarchy.nodes.get(path) {
        Some(NodeDocs::V2Array { array, attributes }) => {
            let attributes = attributes.as_ref().map_or("{}".to_owned(), |document| document.text.clone());
            Some((array.text.clone(), format!("{{\"attributes\": {attributes}}}")))
        }
        _ => None,
    };
    let (Some((ours, our_attributes)), Some((theirs, their_attributes))) = (v2(source), v2(target)) else {
        found.error = Some(incomparable(&why, "zarr_format"));
        return Pair { found, how: How::Not };
    };
    let is_same = |ours: &str, theirs: &str| match (json::parse(ours), json::parse(theirs)) {
        (Ok(ours), Ok(theirs)) => json::same(&ours, &theirs),
        _ => false,
    };
    if let (Ok(ours), Ok(theirs)) = (json::parse(&our_attributes), json::parse(&their_attributes)) {
        found.metadata = documents::attributes(&ours, &theirs, |_, _| false);
    }
    if !is_same(&ours, &theirs) {
        found.error = Some(incomparable(&why, ".zarray"));
        return Pair { found, how: How::Not };
    }
    let shape = json::parse(&ours).ok().and_then(|array| array.get("shape").and_then(Value::as_lengths));
    let n_elems = shape.unwrap_or_default().iter().fold(1u64, |n, &len| n.saturating_mul(len));
    Pair { found, how: How::Files(n_elems) }
}

/// Calls `compare` with the documents of a node that both have.
fn with_documents<T>(
    source: &Store,
    target: &Store,
    path: &str,
    compare: impl FnOnce(&Value<'_>, &Value<'_>) -> T,
) -> Result<T, CopyError> {
    let refuse = |why: String| CopyError::Store(format!("the document of '{path}': {why}"));
    let text = |store: &'_ Store| store.nodes.text(path).unwrap_or("{}").to_owned();
    let (ours, theirs) = (text(source), text(target));
    let ours = json::parse(&ours).map_err(|error| refuse(error.to_string()))?;
    let theirs = json::parse(&theirs).map_err(|error| refuse(error.to_string()))?;
    Ok(compare(&ours, &theirs))
}
