//! Turns wishes for chunk lengths into numbers, once: `auto`, `full`, `source`, shards, and the limit on chunks.

use std::collections::BTreeMap;

use super::array::ArrayNode;
use super::layout::{LayoutError, Length};
use super::naming::{dimension_name, display_path};
use super::select::Selection;
use super::settled::Settled;
use super::size::format_bytes;
use super::types::{SourceArray, VirtualArray};

/// Readers such as GDAL refuse chunks whose size does not fit 31 bits.
const CHUNK_LIMIT_BYTES: u128 = 1 << 31;

/// Chunks per shard that `auto` aims at: files of 128 MiB for chunks of 4 MiB.
const AUTO_CHUNKS_PER_SHARD: f64 = 32.0;

/// Which axes get the same length from `auto`: those of one name, in all arrays without a specification of their own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum AutoKey {
    Name(String),
    Axis(String, usize),
}

/// The virtual arrays with their chunk and shard shapes: what is settled, and numbers for the rest.
///
/// # Errors
/// A chunk beyond 2 GiB, or shards that chunks do not divide.
pub(super) fn resolve(
    selections: &[Selection<'_>],
    chunk_size_bytes: u64,
    settled: &Settled,
) -> Result<Vec<VirtualArray>, LayoutError> {
    let sources = selections.iter().filter_map(|s| Some((s, s.array.cut(true).ok()?.0)));
    let sources: Vec<(&Selection<'_>, &SourceArray)> = sources.collect();
    // Strings are as long as they are guessed to be: they follow the other arrays, and those have the lengths of a view.
    let (mut agreed, mut guessed): (BTreeMap<AutoKey, u64>, BTreeMap<AutoKey, u64>) = Default::default();
    for (selection, source) in &sources {
        let lengths = wish_alone(selection.array, source, &selection.chunks, chunk_size_bytes, settled);
        let lengths_of_kind = if source.is_variable() { &mut guessed } else { &mut agreed };
        for (axis, length) in auto_axes(selection).zip_lengths(&lengths) {
            let slot = lengths_of_kind.entry(auto_key(selection, axis)).or_insert(length);
            *slot = length.min(*slot);
        }
    }
    guessed.extend(agreed);
    let agreed = guessed;
    let resolve_one = |(selection, source): &(&Selection<'_>, &SourceArray)| {
        if let Some((chunk_shape, shard_shape)) = settled.shapes(selection.array) {
            return Ok(VirtualArray { source: (*source).clone(), chunk_shape, shard_shape });
        }
        let mut chunk_shape = wish_alone(selection.array, source, &selection.chunks, chunk_size_bytes, settled);
        for (axis, _) in auto_axes(selection).zip_lengths(&chunk_shape.clone()) {
            if let (Some(slot), Some(length)) = (chunk_shape.get_mut(axis), agreed.get(&auto_key(selection, axis))) {
                *slot = *length;
            }
        }
        check_size(selection, source, &chunk_shape, chunk_size_bytes)?;
        let shard_shape = match &selection.shards {
            Some(wishes) if wishes.iter().any(|wish| *wish != Length::Elements(0)) => {
                Some(shard_shape(selection.array, source, wishes, &chunk_shape)?)
            }
            _ => None,
        };
        Ok(VirtualArray { source: (*source).clone(), chunk_shape, shard_shape })
    };
    sources.iter().map(resolve_one).collect()
}

struct AutoAxes(Vec<usize>);

fn auto_axes(selection: &Selection<'_>) -> AutoAxes {
    AutoAxes((0..selection.chunks.len()).filter(|axis| selection.chunks.get(*axis) == Some(&Length::Auto)).collect())
}

impl AutoAxes {
    fn zip_lengths(self, lengths: &[u64]) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.0.into_iter().filter_map(|axis| Some((axis, *lengths.get(axis)?)))
    }
}

fn auto_key(selection: &Selection<'_>, axis: usize) -> AutoKey {
    match selection.array.dimension_names.get(axis) {
        Some(Some(name)) if !selection.by_itself => AutoKey::Name(name.clone()),
        _ => AutoKey::Axis(selection.array.path.clone(), axis),
    }
}

/// The chunk shape of an array, with `auto` chosen for it alone.
fn wish_alone(
    array: &ArrayNode,
    source: &SourceArray,
    wishes: &[Length],
    chunk_size_bytes: u64,
    settled: &Settled,
) -> Vec<u64> {
    let full = |axis: usize| settled.full(array, axis).max(1);
    let mut lengths: Vec<Option<u64>> = wishes
        .iter()
        .enumerate()
        .map(|(axis, wish)| match wish {
            Length::Elements(elements) => Some((*elements).max(1)),
            Length::Full => Some(full(axis)),
            Length::Source => source.leaf_shape.get(axis).copied(),
            Length::Auto => None,
        })
        .collect();
    let fixed: f64 = lengths.iter().flatten().map(|length| *length as f64).product();
    let budget = chunk_size_bytes as f64 / source.item_bytes as f64 / fixed;
    let open: Vec<(usize, u64)> =
        (0..lengths.len()).filter(|a| lengths.get(*a) == Some(&None)).map(|a| (a, full(a))).collect();
    for (axis, length) in share_out(budget, open) {
        if let Some(slot) = lengths.get_mut(axis) {
            *slot = Some(length);
        }
    }
    lengths.into_iter().map(|length| length.unwrap_or(1)).collect()
}

/// Shares `budget` out as lengths with about this product, evenly, none beyond its limit.
fn share_out(mut budget: f64, mut axes: Vec<(usize, u64)>) -> Vec<(usize, u64)> {
    // Short axes first: what they cannot take is left to the others.
    axes.sort_by_key(|(_, limit)| *limit);
    let n_axes = axes.len();
    for (done, (_, limit)) in axes.iter_mut().enumerate() {
        let even = budget.max(1.0).powf(1.0 / (n_axes - done) as f64);
        // Roots of whole powers come out a hair too small.
        *limit = ((even + 1e-9) as u64).clamp(1, *limit);
        budget /= *limit as f64;
    }
    axes
}

fn bytes(shape: &[u64], item_bytes: usize) -> u128 {
    shape.iter().fold(item_bytes as u128, |product, length| product.saturating_mul(u128::from(*length)))
}

fn comma_list(shape: &[u64]) -> String {
    shape.iter().map(u64::to_string).collect::<Vec<_>>().join(",")
}

fn check_size(selection: &Selection<'_>, source: &SourceArray, shape: &[u64], aim: u64) -> Result<(), LayoutError> {
    let item_bytes = source.item_bytes;
    if bytes(shape, item_bytes) <= CHUNK_LIMIT_BYTES {
        return Ok(());
    }
    Err(LayoutError::ChunkTooLarge {
        array: display_path(&selection.array.path),
        shape: comma_list(shape),
        size: format_bytes(bytes(shape, item_bytes)),
        suggestion: better(selection, source, aim),
    })
}

/// A layout that keeps one axis whole, of those asked for if possible, and is within the limit.
fn better(selection: &Selection<'_>, source: &SourceArray, aim: u64) -> String {
    let array = selection.array;
    let item_bytes = source.item_bytes;
    let fits =
        |axis: &usize| array.shape.get(*axis).is_some_and(|length| bytes(&[*length], item_bytes) <= CHUNK_LIMIT_BYTES);
    let length = |axis: &usize| array.shape.get(*axis).copied();
    let asked = |axis: &usize| selection.chunks.get(*axis) == Some(&Length::Full);
    let candidates = || (0..array.shape.len()).rev().filter(fits);
    // Of equally long axes max_by_key takes the last, so the order above makes it the first.
    let axis = candidates().filter(asked).max_by_key(length).or_else(|| candidates().max_by_key(length));
    let wishes: Vec<Length> =
        (0..array.shape.len()).map(|other| if Some(other) == axis { Length::Full } else { Length::Auto }).collect();
    let shape = wish_alone(array, source, &wishes, aim, &Settled::default());
    if bytes(&shape, item_bytes) > CHUNK_LIMIT_BYTES {
        return "Give a smaller --chunk-size".to_owned();
    }
    let flag = match axis {
        Some(axis) => format!("--along {}", dimension_name(array, axis)),
        None => "--chunks auto".to_owned(),
    };
    format!("Try {flag}: ({}), {}", comma_list(&shape), format_bytes(bytes(&shape, item_bytes)))
}

fn shard_shape(
    array: &ArrayNode,
    source: &SourceArray,
    wishes: &[Length],
    chunk_shape: &[u64],
) -> Result<Vec<u64>, LayoutError> {
    let mut shard = Vec::with_capacity(chunk_shape.len());
    let mut open = Vec::new();
    for (axis, chunk) in chunk_shape.iter().enumerate() {
        let full = array.shape.get(axis).copied().unwrap_or(1).max(1);
        let in_chunks = |length: u64| length.div_ceil(*chunk).saturating_mul(*chunk);
        shard.push(match wishes.get(axis) {
            Some(Length::Full) => in_chunks(full),
            Some(Length::Source) => in_chunks(source.file_shape.get(axis).copied().unwrap_or(1)),
            Some(Length::Auto) => {
                open.push((axis, full.div_ceil(*chunk)));
                *chunk
            }
            None | Some(Length::Elements(0)) => *chunk,
            Some(Length::Elements(length)) if length % chunk == 0 => *length,
            Some(Length::Elements(length)) => {
                return Err(LayoutError::ShardNotDivided {
                    array: display_path(&array.path),
                    dimension: dimension_name(array, axis),
                    shard: *length,
                    chunk: *chunk,
                    remedy: (length / chunk).max(1).saturating_mul(*chunk),
                });
            }
        });
    }
    let fixed: f64 = shard.iter().zip(chunk_shape).map(|(shard, chunk)| (shard / chunk) as f64).product();
    for (axis, n_chunks) in share_out(AUTO_CHUNKS_PER_SHARD / fixed, open) {
        if let Some(length) = shard.get_mut(axis) {
            *length = length.saturating_mul(n_chunks);
        }
    }
    if bytes(&shard, source.item_bytes) > 1 << 62 {
        return Err(LayoutError::ShardTooLarge { array: display_path(&array.path), shape: comma_list(&shard) });
    }
    Ok(shard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_shared_evenly() {
        for (budget, limits, expected) in [
            (10.87, vec![721, 1440], vec![3, 3]),
            (10485.76, vec![47287, 40, 2], vec![131, 40, 2]),
            (27.0, vec![100, 100, 100], vec![3, 3, 3]),
            (0.1, vec![100], vec![1]),
            (1e30, vec![7, 5], vec![7, 5]),
        ] {
            let mut shares = share_out(budget, limits.into_iter().enumerate().collect());
            shares.sort();
            assert_eq!(shares.into_iter().map(|(_, length)| length).collect::<Vec<u64>>(), expected, "{budget}");
        }
    }
}
