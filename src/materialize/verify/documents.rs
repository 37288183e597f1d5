//! What the documents of two nodes say, held against each other.

use crate::zarr::array::ArrayNode;
use crate::zarr::codecs::Endian;
use crate::zarr::json::{Value, same};
use crate::zarr::stored::is_same_extension;
use crate::zarr::{Readable, show};

/// The attribute that a conversion from Zarr v2 makes of the fill value, as xarray needs it.
const FILL_VALUE: &str = "_FillValue";

/// One array of one store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Described<'a> {
    pub(super) node: &'a ArrayNode,
    pub(super) document: &'a Value<'a>,
    /// Its `_FillValue` may come from the conversion of a document of Zarr v2 alone.
    pub(super) has_made_fill: bool,
}

/// How two arrays differ in what their documents say of elements, dimensions and attributes; empty where they do not.
pub(super) fn array(ours: Described<'_>, theirs: Described<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let mut differs = |what: &str, ours: &str, theirs: &str| found.push(sides(what, ours, theirs));
    if ours.node.shape != theirs.node.shape {
        differs("shape", &format!("{:?}", ours.node.shape), &format!("{:?}", theirs.node.shape));
    }
    let types = (ours.document.get("data_type"), theirs.document.get("data_type"));
    if !is_same_type(ours, theirs) {
        differs("data type", &brief(types.0), &brief(types.1));
    } else if let Some((ours, theirs)) = fill_difference(ours, theirs) {
        differs("fill value", &ours, &theirs);
    }
    if ours.node.dimension_names != theirs.node.dimension_names {
        let names = |described: Described<'_>| {
            let name = |name: &Option<String>| name.as_ref().map_or("null".to_owned(), |name| format!("{name:?}"));
            format!("[{}]", described.node.dimension_names.iter().map(name).collect::<Vec<_>>().join(", "))
        };
        differs("dimension names", &names(ours), &names(theirs));
    }
    let is_made = |key: &str, is_ours: bool| {
        let (with, without) = if is_ours { (ours, theirs) } else { (theirs, ours) };
        key == FILL_VALUE && with.has_made_fill && !without.has_made_fill
    };
    found.extend(attributes(ours.document, theirs.document, is_made));
    found
}

/// How the attributes of two nodes differ. `is_made` tells whether one that only one of them has (`true`: the source)
/// is none that anybody gave it.
pub(super) fn attributes(ours: &Value<'_>, theirs: &Value<'_>, is_made: impl Fn(&str, bool) -> bool) -> Vec<String> {
    let (ours, theirs) = (ours.get("attributes"), theirs.get("attributes"));
    let keys = |side: Option<&Value<'_>>| -> Vec<String> {
        side.map_or(&[][..], Value::members).iter().map(|member| member.key.clone()).collect()
    };
    let mut all = keys(ours);
    all.extend(keys(theirs));
    all.sort_unstable();
    all.dedup();
    let differs = |key: &String| {
        let sides_of = (ours.and_then(|side| side.get(key)), theirs.and_then(|side| side.get(key)));
        let is_equal = match sides_of {
            (Some(ours), Some(theirs)) => same(ours, theirs),
            (Some(_), None) => is_made(key, true),
            (None, Some(_)) => is_made(key, false),
            (None, None) => true,
        };
        (!is_equal).then(|| sides(&format!("attribute {key:?}"), &brief(sides_of.0), &brief(sides_of.1)))
    };
    all.iter().filter_map(differs).collect()
}

/// Whether the elements of both are of the same type.
pub(super) fn is_same_type(ours: Described<'_>, theirs: Described<'_>) -> bool {
    is_same_extension(ours.document.get("data_type"), theirs.document.get("data_type"))
}

/// Both fill values as texts, where they are not the same bit for bit.
fn fill_difference(ours: Described<'_>, theirs: Described<'_>) -> Option<(String, String)> {
    if let (Ok(ours), Ok(theirs)) = (&ours.node.readable, &theirs.node.readable) {
        let (ours_fill, theirs_fill) = (little(ours), little(theirs));
        return (ours_fill != theirs_fill).then(|| show::pair(&ours.data_type, &ours_fill, &theirs_fill));
    }
    if let (Some(Ok(ours)), Some(Ok(theirs))) = (&ours.node.strings, &theirs.node.strings) {
        let (left, right) = (&ours.source.fill, &theirs.source.fill);
        return (left != right).then(|| show::pair_of_any_length(ours.source.is_text(), left, right));
    }
    let (ours, theirs) = (ours.document.get("fill_value"), theirs.document.get("fill_value"));
    let is_equal = match (ours, theirs) {
        (Some(ours), Some(theirs)) => same(ours, theirs),
        (ours, theirs) => ours.is_none() && theirs.is_none(),
    };
    (!is_equal).then(|| (brief(ours), brief(theirs)))
}

/// The fill value, little-endian.
fn little(array: &Readable) -> Vec<u8> {
    let mut fill = array.source.fill.clone();
    if array.endian == Some(Endian::Big) {
        array.data_type.swap(&mut fill);
    }
    fill
}

fn brief(value: Option<&Value<'_>>) -> String {
    value.map_or("nothing".to_owned(), Value::brief)
}

fn sides(what: &str, ours: &str, theirs: &str) -> String {
    format!("{what}: {ours} in the source, {theirs} in the target")
}
