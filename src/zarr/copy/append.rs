//! Layouts under which whatever the source gains touches most of the copy.

use crate::zarr::array::ArrayNode;
use crate::zarr::naming::{dimension_name, display_path};
use crate::zarr::types::VirtualArray;

/// Of an axis that the source cuts into fewer parts there is little to be gained.
const MANY_PARTS: u64 = 20;
/// Parts into which a better layout cuts such an axis, about: an append then touches one of them.
const PARTS: u64 = 10;

/// What to say of `array`, the copy of `node`, where one more source chunk along an axis touches most of its chunks, since
/// each of them holds all of that axis: one line with the layout that would not.
pub(super) fn costly(node: &ArrayNode, array: &VirtualArray) -> Option<String> {
    let source = &array.source;
    let held = array.shard_shape.as_ref().unwrap_or(&array.chunk_shape);
    let n = |length: u64, part: u64| length.div_ceil(part.max(1)).max(1);
    let axes = || {
        source.shape.iter().zip(&source.file_shape).zip(held).map(|((length, ours), theirs)| (*length, *ours, *theirs))
    };
    // What one source file touches, of how many.
    let touched: u64 = axes().map(|(length, ours, theirs)| n(ours.min(length), theirs)).fold(1, u64::saturating_mul);
    let all: u64 = axes().map(|(length, _, theirs)| n(length, theirs)).fold(1, u64::saturating_mul);
    let is_whole = |(length, ours, theirs): (u64, u64, u64)| theirs >= length && n(length, ours) >= MANY_PARTS;
    let (axis, (length, ours, _)) = axes()
        .enumerate()
        .filter(|(_, axis)| is_whole(*axis))
        .max_by_key(|(_, (length, ours, _))| n(*length, *ours))?;
    let better = nice(length / PARTS).next_multiple_of(ours);
    if touched < all.div_ceil(2) || better >= length {
        return None;
    }
    let (name, what) = (dimension_name(node, axis), if array.shard_shape.is_some() { "shard" } else { "chunk" });
    let files = if all == 1 { format!("the one {what}") } else { format!("all {all} {what}s") };
    let mut lengths = Vec::new();
    for (other, length) in array.chunk_shape.iter().enumerate() {
        let is_asked_for = source.leaf_shape.get(other) != Some(length);
        if other == axis {
            lengths.push(format!("{name}={better}"));
        } else if is_asked_for {
            lengths.push(format!("{}={length}", dimension_name(node, other)));
        }
    }
    Some(format!(
        "{}: whatever the source gains along {name} touches {files} of the copy, each of which holds all {length} of it: with --chunks {} \
         it would touch one in {}",
        display_path(&node.path),
        lengths.join(","),
        n(length, better),
    ))
}

/// The next of 1, 2, 5, 10, 20, 50, ... that is no less.
fn nice(least: u64) -> u64 {
    let mut power = 1u64;
    loop {
        for factor in [1, 2, 5] {
            let length = power.saturating_mul(factor);
            if length >= least {
                return length;
            }
        }
        power = power.saturating_mul(10);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nice_lengths_are_round() {
        let found = [0, 1, 3, 9, 10, 37, 100, 101, 9643].map(nice);
        assert_eq!(found, [1, 1, 5, 10, 10, 50, 100, 200, 10_000]);
    }
}
