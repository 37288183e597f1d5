//! A layout, or codecs, that are given for a copy which has its own: they must not say otherwise.

use super::Fate;
use super::cut::Cut;
use crate::zarr::array::ArrayNode;
use crate::zarr::copy::encoding;
use crate::zarr::copy::spec::Specs;
use crate::zarr::json;
use crate::zarr::layout::{LayoutError, Length};
use crate::zarr::naming::display_path;
use crate::zarr::project::{Nodes, Rechunked};
use crate::zarr::select::Selected;
use std::collections::BTreeMap;

const REMEDY: &str = "leave it out, for the copy keeps its own; or make the copy anew with --overwrite";

/// Holds what a layout selects against the arrays of the copy. Lengths that it does not give as numbers are those of the time when the
/// copy was made, which need not be those of today.
pub(super) fn layout(
    selected: &Selected<'_>,
    arrays: &[ArrayNode],
    fates: &BTreeMap<String, Fate>,
    theirs: &Nodes,
) -> Result<(), LayoutError> {
    for node in arrays {
        let wishes = selected.rechunked.iter().find(|selection| selection.array.path == node.path);
        let disagree = |asked: String, has: String| LayoutError::Disagrees {
            array: display_path(&node.path),
            asked: format!("the layout asks for {asked}"),
            has,
            remedy: REMEDY,
        };
        match (fates.get(&node.path), wishes) {
            (Some(Fate::Kept(cut)), Some(wishes)) => {
                let before = theirs.array(&node.path).map_or(&node.shape, |theirs| &theirs.shape);
                let (array, shape) = (&cut.copied.array, &node.shape);
                let is_met = |wishes: &[Length], lengths: &[u64]| {
                    (0..shape.len()).all(|axis| match (wishes.get(axis), lengths.get(axis)) {
                        (Some(Length::Elements(wish)), Some(length)) => wish == length || *wish == 0,
                        (Some(Length::Full), Some(length)) => {
                            [before, shape].iter().any(|shape| shape.get(axis).is_some_and(|all| length >= all))
                        }
                        (Some(Length::Source), Some(length)) => array.source.leaf_shape.get(axis) == Some(length),
                        _ => true,
                    })
                };
                if !is_met(&wishes.chunks, &array.chunk_shape) {
                    return Err(disagree("other chunks".to_owned(), format!("chunks {:?}", array.chunk_shape)));
                }
                match (&wishes.shards, &array.shard_shape) {
                    (Some(wishes), Some(shards)) if !is_met(wishes, shards) => {
                        return Err(disagree("other shards".to_owned(), format!("shards {shards:?}")));
                    }
                    (None, Some(shards)) => return Err(disagree("no shards".to_owned(), format!("shards {shards:?}"))),
                    (Some(wishes), None) if wishes.iter().any(|wish| *wish != Length::Elements(0)) => {
                        return Err(disagree("shards".to_owned(), "none".to_owned()));
                    }
                    _ => {}
                }
            }
            (Some(Fate::Kept(_)), None) => {
                return Err(disagree("it as it is".to_owned(), "it cut otherwise".to_owned()));
            }
            (Some(Fate::Passed), Some(_)) => {
                return Err(disagree("other chunks".to_owned(), "it as it is in the source".to_owned()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Holds the codecs asked for against those of an array of the copy.
pub(super) fn codecs(rechunked: &Rechunked<'_>, cut: &Cut, specs: &Specs) -> Result<(), LayoutError> {
    let path = &rechunked.array.source.path;
    if specs.wish(path).is_none() {
        return Ok(());
    }
    let (asked, has) = (encoding(rechunked, specs, &mut Vec::new())?, &cut.copied.encoding);
    let is_same = |ours: &String, theirs: &String| match (json::parse(ours), json::parse(theirs)) {
        (Ok(ours), Ok(theirs)) => json::same(&ours, &theirs),
        _ => false,
    };
    let pairs = || asked.bytes_to_bytes.iter().zip(&has.bytes_to_bytes);
    let is_met = asked.order == has.order
        && asked.bytes_to_bytes.len() == has.bytes_to_bytes.len()
        && pairs().all(|(ours, theirs)| is_same(ours, theirs));
    if is_met {
        return Ok(());
    }
    let named = |codecs: &[String]| if codecs.is_empty() { "none".to_owned() } else { codecs.join(", ") };
    Err(LayoutError::Disagrees {
        array: display_path(path),
        asked: format!("--codecs asks for {}", named(&asked.bytes_to_bytes)),
        has: named(&has.bytes_to_bytes),
        remedy: REMEDY,
    })
}
