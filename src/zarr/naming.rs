//! How messages call arrays and dimensions, and the layout that they suggest.

use super::array::ArrayNode;

/// How messages call an array: the root has no path.
pub(super) fn display_path(path: &str) -> String {
    if path.is_empty() { "/".to_owned() } else { path.to_owned() }
}

/// How messages call an axis.
pub(super) fn dimension_name(array: &ArrayNode, axis: usize) -> String {
    array.dimension_names.get(axis).cloned().flatten().unwrap_or_else(|| axis.to_string())
}

/// `names` in one line, cut where there are many.
pub(super) fn listed(mut names: Vec<String>) -> String {
    const SHOWN: usize = 20;
    names.dedup();
    let more = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    match (names.is_empty(), more) {
        (true, _) => "none".to_owned(),
        (_, 0) => names.join(", "),
        _ => format!("{} and {more} more", names.join(", ")),
    }
}

/// The dimensions of `arrays` with their lengths, those of the arrays with most axes first.
pub(super) fn dimensions(arrays: &[ArrayNode]) -> String {
    let mut by_rank: Vec<&ArrayNode> = arrays.iter().collect();
    by_rank.sort_by_key(|array| std::cmp::Reverse(array.shape.len()));
    let mut seen: Vec<String> = Vec::new();
    let mut shown = Vec::new();
    for array in by_rank {
        for (axis, length) in array.shape.iter().enumerate() {
            let name = dimension_name(array, axis);
            if !seen.contains(&name) {
                shown.push(format!("{name} ({length})"));
                seen.push(name);
            }
        }
    }
    listed(shown)
}

/// The axis along which the largest array is cut most finely is the one that nobody can read along.
pub(super) fn suggestion(arrays: &[ArrayNode]) -> String {
    let elements = |array: &&ArrayNode| {
        let lengths = array.shape.iter().map(|length| u128::from(*length));
        lengths.fold(1u128, u128::saturating_mul)
    };
    let candidates = arrays.iter().filter(|array| array.shape.len() > 1 && array.readable.is_ok());
    let Some((array, readable)) = candidates.max_by_key(elements).and_then(|a| Some((a, a.readable.as_ref().ok()?)))
    else {
        return "--array NAME --along DIM".to_owned();
    };
    let cuts = |axis: &usize| match (array.shape.get(*axis), readable.source.leaf_shape.get(*axis)) {
        (Some(length), Some(chunk)) => length.div_ceil(*chunk),
        _ => 0,
    };
    let axis = (0..array.shape.len()).rev().max_by_key(cuts).unwrap_or(0);
    match array.dimension_names.get(axis) {
        Some(Some(name)) => format!("--along {name}"),
        _ => format!("--along {axis}"),
    }
}
