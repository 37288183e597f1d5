//! From a source and a copy of it to what the copy is to become: the source's nodes as they are now, cut and encoded as the
//! copy is.

mod agree;
mod cut;

use super::spec::Specs;
use super::{CopyProjection, append, as_copied};
use crate::zarr::array::ArrayNode;
use crate::zarr::consolidated::ShownNode;
use crate::zarr::hierarchy::{Hierarchy, NodeDocs, below};
use crate::zarr::json;
use crate::zarr::layout::{Layout, LayoutError};
use crate::zarr::naming::display_path;
use crate::zarr::project::{self, Chosen, Nodes, Projected, has_unreadable_shards, rewrite_groups};
use crate::zarr::select;
use crate::zarr::splice::{self, Edit};
use crate::zarr::stored;
use crate::zarr::types::{CopiedArray, VirtualArray};
use cut::Cut;
use std::collections::{BTreeMap, BTreeSet};

/// How an array came into a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// Cut anew.
    Cut,
    /// Passed through, as it was.
    Passed,
}

/// Where the nodes of a copy come from, by path, as far as is known.
#[derive(Clone, Copy)]
pub struct Origin<'a> {
    /// How an array came there.
    pub came: &'a dyn Fn(&str) -> Option<Came>,
    /// Whether a node was copied from this source, and not put there by somebody else.
    pub is_copied: &'a dyn Fn(&str) -> bool,
}

impl std::fmt::Debug for Origin<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Origin").finish_non_exhaustive()
    }
}

/// Layout and codecs that the user gives although the copy has its own.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The layout, if one is given.
    pub layout: Option<&'a Layout>,
    /// It is the one with which the copy was made, letter by letter.
    pub is_same_layout: bool,
    /// Each `--codecs`.
    pub codecs: &'a [String],
    /// Likewise.
    pub is_same_codecs: bool,
}

/// What a copy is to become.
#[derive(Debug, Clone, PartialEq)]
pub struct CopyUpdate {
    /// As if the copy were made anew.
    pub copy: CopyProjection,
    /// The text of every node's zarr.json, by path.
    pub documents: BTreeMap<String, String>,
    /// Arrays that are made as a whole: new ones, and those whose elements are of another kind now.
    pub fresh: BTreeSet<String>,
    /// The shapes of the other arrays as the copy has them now.
    pub shapes: BTreeMap<String, Vec<u64>>,
    /// Of them, those that have become longer.
    pub grown: BTreeSet<String>,
    /// Documents that stand while the copy is brought up to date: without what goes, arrays no larger than both before and
    /// after. Empty where nothing goes or shrinks.
    pub interim: BTreeMap<String, String>,
    /// Nodes that go.
    pub removed: Paths,
    /// Nodes that are in the copy alone and stay.
    pub kept: Paths,
}

/// Paths of nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paths {
    /// Of arrays.
    pub arrays: Vec<String>,
    /// Of groups.
    pub groups: Vec<String>,
}

impl Paths {
    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &String> {
        self.arrays.iter().chain(&self.groups)
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.arrays.is_empty() && self.groups.is_empty()
    }
}

/// What becomes of an array that the source has.
enum Fate {
    Kept(Box<Cut>),
    Passed,
    Fresh,
}

/// What the copy `target` of `source` is to become.
///
/// # Errors
/// [`LayoutError`]: one line that names the thing and the remedy.
pub fn project_update(
    source: &Hierarchy,
    target: &Hierarchy,
    origin: Origin<'_>,
    asked: Asked<'_>,
) -> Result<CopyUpdate, LayoutError> {
    let mut ours = project::read_nodes_for(project::COPY, source)?;
    let theirs = read_target(target)?;
    let specs = Specs::read(asked.codecs, &ours.arrays)?;
    let mut notices = Vec::new();
    let selected = asked.layout.map(|layout| select::select(&ours.arrays, layout, true, false)).transpose()?;
    let is_selected = |path: &str| {
        selected.as_ref().is_some_and(|selected| selected.rechunked.iter().any(|wish| wish.array.path == path))
    };
    let fates = fates(&ours, &theirs, origin, &is_selected, &mut notices)?;
    if let Some(selected) = selected.as_ref().filter(|_| !asked.is_same_layout) {
        agree::layout(selected, &ours.arrays, &fates, &theirs)?;
    }
    let chosen = choose(&mut ours, &fates, &theirs, origin, asked.layout, &mut notices)?;
    let (removed, kept) = only_there(&ours, &theirs, origin);
    let beside: BTreeMap<String, ShownNode> =
        kept.all().filter_map(|path| Some((path.clone(), theirs.node(path)?.clone()))).collect();
    let nodes = ours.arrays.clone();
    let mut copied: Vec<CopiedArray> = Vec::new();
    let Projected { projection, all } = project::project_chosen(ours, chosen, beside, |rechunked| {
        let Some(Fate::Kept(cut)) = fates.get(&rechunked.array.source.path) else {
            let (array, stored) = as_copied(rechunked, &specs, &mut notices)?;
            copied.push(array);
            return Ok(stored);
        };
        if !asked.is_same_codecs {
            agree::codecs(rechunked, cut, &specs)?;
        }
        copied.push(cut.copied.clone());
        Ok(cut.stored())
    })?;
    specs.check_used(&projection.arrays)?;
    let appends = appends(&nodes, &copied);
    let fresh: BTreeSet<String> =
        fates.iter().filter(|(_, fate)| matches!(fate, Fate::Fresh)).map(|(path, _)| path.clone()).collect();
    let is_kept = |path: &String| kept.all().any(|kept| kept == path);
    let documents: BTreeMap<String, String> = all.into_iter().filter(|(path, _)| !is_kept(path)).collect();
    let is_old = |array: &&ArrayNode| fates.contains_key(&array.path) && !fresh.contains(&array.path);
    let shapes: BTreeMap<String, Vec<u64>> =
        theirs.arrays.iter().filter(is_old).map(|array| (array.path.clone(), array.shape.clone())).collect();
    let is_grown = |array: &&ArrayNode| {
        let before = shapes.get(&array.path);
        before.is_some_and(|before| before.iter().zip(&array.shape).any(|(before, after)| before < after))
    };
    let grown = nodes.iter().filter(is_grown).map(|array| array.path.clone()).collect();
    let replaced = fresh.iter().filter(|path| theirs.text(path).is_some());
    let gone: BTreeSet<String> = removed.all().chain(replaced).cloned().collect();
    let interim = interim(&theirs, &nodes, &shapes, &gone)?;
    let copy = CopyProjection { projection, copied, notices, appends };
    Ok(CopyUpdate { copy, documents, fresh, shapes, grown, interim, removed, kept })
}

/// The nodes of a copy, which is of Zarr v3.
fn read_target(target: &Hierarchy) -> Result<Nodes, LayoutError> {
    match target.nodes.iter().find(|(_, node)| !matches!(node, NodeDocs::V3(_))) {
        Some((path, _)) => Err(LayoutError::NotUpdated {
            node: display_path(path),
            reason: "in the copy it is of Zarr v2, and copies are of v3".to_owned(),
            remedy: "make the copy anew with --overwrite".to_owned(),
        }),
        None => project::read_nodes_for(project::COPY, target),
    }
}

/// What to say of arrays under whose layout an append touches most of the copy.
pub(super) fn appends(nodes: &[ArrayNode], copied: &[CopiedArray]) -> Vec<String> {
    let costly = |copied: &CopiedArray| {
        let node = nodes.iter().find(|node| node.path == copied.array.source.path)?;
        append::costly(node, &copied.array)
    };
    copied.iter().filter_map(costly).collect()
}

/// What becomes of each array of the source.
fn fates(
    ours: &Nodes,
    theirs: &Nodes,
    origin: Origin<'_>,
    is_selected: &dyn Fn(&str) -> bool,
    notices: &mut Vec<String>,
) -> Result<BTreeMap<String, Fate>, LayoutError> {
    for (path, node) in ours.nodes() {
        if theirs.node(path).is_some_and(|theirs| theirs.is_group != node.is_group) {
            let kinds = if node.is_group { ("a group", "an array") } else { ("an array", "a group") };
            return Err(LayoutError::NotUpdated {
                node: display_path(path),
                reason: format!("it is {} in the source, {} in the copy", kinds.0, kinds.1),
                remedy: "remove it from the copy and update again".to_owned(),
            });
        }
    }
    let mut fate = |node: &ArrayNode| {
        let Some(their_node) = theirs.array(&node.path) else { return Ok(Fate::Fresh) };
        let document = |nodes: &Nodes| nodes.text(&node.path).unwrap_or("{}").to_owned();
        let (our_text, their_text) = (document(ours), document(theirs));
        let parse = |text| json::parse(text).map_err(|error| LayoutError::json(&node.path, &error));
        let (our_document, their_document) = (parse(&our_text)?, parse(&their_text)?);
        if let Some(what) = cut::other_elements((node, &our_document), (their_node, &their_document)) {
            notices
                .push(format!("{}: its {what} is another than in the copy: it is made anew", display_path(&node.path)));
            return Ok(Fate::Fresh);
        }
        let came = (origin.came)(&node.path);
        let is_stored_alike = stored::difference(&our_document, &their_document).is_none();
        match (came, is_stored_alike) {
            // An array cut as its source is may have passed or not: what is asked for tells.
            (None, true) if is_selected(&node.path) => {}
            (None | Some(Came::Passed), true) => return Ok(Fate::Passed),
            (Some(Came::Passed), false) => {
                let name = display_path(&node.path);
                notices.push(format!("{name}: the source stores it otherwise than the copy has it: it is copied anew"));
                return Ok(Fate::Fresh);
            }
            _ => {}
        }
        match cut::cut_like(node, their_node, &their_document) {
            Ok(cut) => Ok(Fate::Kept(Box::new(cut))),
            Err(_) if is_stored_alike => Ok(Fate::Passed),
            Err(reason) => Err(LayoutError::NotUpdated {
                node: display_path(&node.path),
                reason,
                remedy: "remove it from the copy and update again, or make the copy anew with --overwrite".to_owned(),
            }),
        }
    };
    ours.arrays.iter().map(|node| Ok((node.path.clone(), fate(node)?))).collect()
}

/// The arrays that are rechunked: those that are in the copy as they are there; new ones as the layout says, or without one
/// as an array of the copy is that has the same dimensions.
fn choose(
    ours: &mut Nodes,
    fates: &BTreeMap<String, Fate>,
    theirs: &Nodes,
    origin: Origin<'_>,
    layout: Option<&Layout>,
    notices: &mut Vec<String>,
) -> Result<Chosen, LayoutError> {
    let is_fresh = |path: &str| matches!(fates.get(path), Some(Fate::Fresh));
    let mut chosen = layout.map(|layout| ours.choose(layout, None)).transpose()?.unwrap_or_default();
    chosen.arrays.retain(|array| is_fresh(&array.source.path));
    chosen.refused.retain(|(path, _)| is_fresh(path));
    let cuts = || fates.values().filter_map(|fate| if let Fate::Kept(cut) = fate { Some(&**cut) } else { None });
    for node in ours.arrays.iter().filter(|node| layout.is_none() && is_fresh(&node.path)) {
        let Ok((source, _)) = node.cut(true) else { continue };
        let came = theirs.array(&node.path).and_then(|_| (origin.came)(&node.path));
        let own = theirs.array(&node.path).filter(|own| came == Some(Came::Cut) && own.shape.len() == node.shape.len());
        let (chunk_shape, shard_shape) = match own.and_then(|own| own.cut(true).ok()) {
            Some((own, _)) => (own.leaf_shape.clone(), own.sharding.as_ref().map(|_| own.file_shape.clone())),
            None => match cuts().find(|cut| cut.has_dimensions_of(node)) {
                _ if came == Some(Came::Passed) => continue,
                Some(cut) => (cut.copied.array.chunk_shape.clone(), cut.copied.array.shard_shape.clone()),
                None if node.shape.len() < 2 => continue,
                None => {
                    notices.push(format!(
                        "{}: new in the source, and copied as it is: no array of the copy has its dimensions; with a layout it is cut",
                        display_path(&node.path)
                    ));
                    continue;
                }
            },
        };
        let shard_shape = shard_shape.filter(|_| !has_unreadable_shards(&node.data_type));
        chosen.arrays.push(VirtualArray { source: source.clone(), chunk_shape, shard_shape });
    }
    chosen.arrays.extend(cuts().map(|cut| cut.copied.array.clone()));
    chosen.arrays.sort_by(|one, other| one.source.path.cmp(&other.source.path));
    Ok(chosen)
}

/// The nodes that only the copy has: those that go, and those that stay because nobody knows that they were copied, or
/// because such a one lies below.
fn only_there(ours: &Nodes, theirs: &Nodes, origin: Origin<'_>) -> (Paths, Paths) {
    let only = || theirs.nodes().filter(|(path, _)| ours.node(path).is_none());
    let foreign: Vec<&String> = only().map(|(path, _)| path).filter(|path| !(origin.is_copied)(path)).collect();
    let (mut removed, mut kept) = (Paths::default(), Paths::default());
    for (path, node) in only() {
        let stays = foreign.iter().any(|foreign| *foreign == path || below(foreign, path).is_some());
        let paths = if stays { &mut kept } else { &mut removed };
        if node.is_group { &mut paths.groups } else { &mut paths.arrays }.push(path.clone());
    }
    (removed, kept)
}

/// The documents of the copy without the nodes `gone`, arrays cut to what they have both before (`shapes`) and after.
fn interim(
    theirs: &Nodes,
    ours: &[ArrayNode],
    shapes: &BTreeMap<String, Vec<u64>>,
    gone: &BTreeSet<String>,
) -> Result<BTreeMap<String, String>, LayoutError> {
    let mut shown: BTreeMap<String, ShownNode> = theirs
        .nodes()
        .filter(|(path, _)| !gone.contains(*path))
        .map(|(path, node)| (path.clone(), node.clone()))
        .collect();
    let mut documents = BTreeMap::new();
    for array in ours {
        let (Some(before), Some(node)) = (shapes.get(&array.path), shown.get_mut(&array.path)) else { continue };
        let both: Vec<u64> = before.iter().zip(&array.shape).map(|(before, after)| *before.min(after)).collect();
        if both != *before {
            let edit = [("shape", Edit::Set(splice::lengths(&both)))];
            node.text =
                splice::edit_object(&node.text, &edit).map_err(|error| LayoutError::json(&array.path, &error))?;
            documents.insert(array.path.clone(), node.text.clone());
        }
    }
    let changed: Vec<String> = documents.keys().chain(gone).cloned().collect();
    if !changed.is_empty() {
        rewrite_groups(&shown, &[], &changed, &mut documents)?;
    }
    Ok(documents)
}

#[cfg(test)]
mod tests;
