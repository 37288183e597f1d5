//! The copy kernel: moves an n-dimensional box of elements between two strided layouts. The only unsafe code.

#![expect(unsafe_code, reason = "bounds are checked once per box instead of once per element")]

mod turn;

use turn::walk_turned;

/// One axis of a box: `n` elements, and the distance in bytes between neighbours on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyAxis {
    /// Extent, elements.
    pub n: usize,
    /// Stride in the source, bytes.
    pub source: usize,
    /// Stride in the target, bytes.
    pub target: usize,
}

/// Side of the squares in which two turned axes are walked: 16 elements of 4 bytes are one cache line.
const SQUARE: usize = 16;

/// Copies a box of elements of `item_bytes` from `source[from..]` to `target[to..]`.
///
/// # Panics
/// Where the box reaches beyond either slice: a broken plan, never a broken store.
pub fn copy_strided(source: &[u8], from: usize, target: &mut [u8], to: usize, axes: &[CopyAxis], item_bytes: usize) {
    if axes.iter().any(|axis| axis.n == 0) || item_bytes == 0 {
        return;
    }
    let reach = |start: usize, stride: &dyn Fn(&CopyAxis) -> usize| {
        axes.iter()
            .try_fold(start, |end, axis| stride(axis).checked_mul(axis.n - 1)?.checked_add(end))
            .and_then(|end| end.checked_add(item_bytes))
    };
    let source_end = reach(from, &|axis| axis.source);
    let target_end = reach(to, &|axis| axis.target);
    assert!(source_end.is_some_and(|end| end <= source.len()), "the box leaves the source");
    assert!(target_end.is_some_and(|end| end <= target.len()), "the box leaves the target");

    let (axes, run_bytes) = normalised(axes, item_bytes);
    // SAFETY: every element that the walk visits starts at `from` plus, on each axis, at most `n - 1` strides, and the
    // asserts above show that the last of these ends inside its slice. Merging axes visits the same elements.
    // `source` and `target` cannot overlap: one is borrowed mutably.
    unsafe {
        let (source, target) = (source.as_ptr().add(from), target.as_mut_ptr().add(to));
        match run_bytes {
            1 => walk::<1>(source, target, &axes),
            2 => walk::<2>(source, target, &axes),
            4 => walk::<4>(source, target, &axes),
            8 => walk::<8>(source, target, &axes),
            16 => walk::<16>(source, target, &axes),
            _ => walk_runs(source, target, &axes, run_bytes),
        }
    }
}

/// Axes from the target's slowest to its fastest, joined where both sides allow; and the length of contiguous runs.
fn normalised(axes: &[CopyAxis], item_bytes: usize) -> (Vec<CopyAxis>, usize) {
    let mut axes: Vec<CopyAxis> = axes.iter().copied().filter(|axis| axis.n > 1).collect();
    axes.sort_by_key(|axis| std::cmp::Reverse(axis.target));
    let mut joined: Vec<CopyAxis> = Vec::with_capacity(axes.len());
    for axis in axes {
        match joined.last_mut() {
            Some(outer) if outer.source == axis.source * axis.n && outer.target == axis.target * axis.n => {
                *outer = CopyAxis { n: outer.n * axis.n, ..axis };
            }
            _ => joined.push(axis),
        }
    }
    match joined.last() {
        Some(axis) if axis.source == item_bytes && axis.target == item_bytes => {
            let run_bytes = axis.n * item_bytes;
            joined.pop();
            (joined, run_bytes)
        }
        _ => (joined, item_bytes),
    }
}

/// Long contiguous runs, one after the other.
unsafe fn walk_runs(source: *const u8, target: *mut u8, axes: &[CopyAxis], run_bytes: usize) {
    // SAFETY: as promised by the caller for every element of the box.
    unsafe {
        match axes {
            [] => std::ptr::copy_nonoverlapping(source, target, run_bytes),
            [axis, inner @ ..] => {
                for i in 0..axis.n {
                    walk_runs(source.add(i * axis.source), target.add(i * axis.target), inner, run_bytes);
                }
            }
        }
    }
}

/// Elements of a size known when compiling; the two innermost axes in squares.
unsafe fn walk<const ITEM: usize>(source: *const u8, target: *mut u8, axes: &[CopyAxis]) {
    // SAFETY: as promised by the caller for every element of the box.
    unsafe {
        match axes {
            [] => copy_item::<ITEM>(source, target),
            [axis] => {
                for i in 0..axis.n {
                    copy_item::<ITEM>(source.add(i * axis.source), target.add(i * axis.target));
                }
            }
            [outer, inner] if ITEM < 16 && outer.source == ITEM && inner.target == ITEM => {
                walk_turned::<ITEM>(source, target, *outer, *inner);
            }
            [outer, inner] => walk_squares::<ITEM>(source, target, *outer, *inner),
            [axis, inner @ ..] => {
                for i in 0..axis.n {
                    walk::<ITEM>(source.add(i * axis.source), target.add(i * axis.target), inner);
                }
            }
        }
    }
}

unsafe fn walk_squares<const ITEM: usize>(source: *const u8, target: *mut u8, outer: CopyAxis, inner: CopyAxis) {
    for outer_start in (0..outer.n).step_by(SQUARE) {
        let outer_end = (outer_start + SQUARE).min(outer.n);
        for inner_start in (0..inner.n).step_by(SQUARE) {
            let inner_end = (inner_start + SQUARE).min(inner.n);
            for i in outer_start..outer_end {
                for j in inner_start..inner_end {
                    // SAFETY: `i < outer.n` and `j < inner.n`; as promised by the caller.
                    unsafe {
                        copy_item::<ITEM>(
                            source.add(i * outer.source + j * inner.source),
                            target.add(i * outer.target + j * inner.target),
                        );
                    }
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn copy_item<const ITEM: usize>(source: *const u8, target: *mut u8) {
    // SAFETY: the caller vouches for `ITEM` bytes on both sides; arrays of bytes have no alignment.
    unsafe { target.cast::<[u8; ITEM]>().write_unaligned(source.cast::<[u8; ITEM]>().read_unaligned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same by the definition, an element at a time.
    fn naive(source: &[u8], target: &mut [u8], axes: &[CopyAxis], item_bytes: usize) {
        let shape: Vec<u64> = axes.iter().map(|axis| axis.n as u64).collect();
        for at in crate::geometry::Region::whole(&shape).positions() {
            let from: usize = at.iter().zip(axes).map(|(&i, axis)| i as usize * axis.source).sum();
            let to: usize = at.iter().zip(axes).map(|(&i, axis)| i as usize * axis.target).sum();
            target[to..to + item_bytes].copy_from_slice(&source[from..from + item_bytes]);
        }
    }

    fn strides(extents: &[usize], order: &[usize], item_bytes: usize) -> Vec<usize> {
        let mut strides = vec![0; extents.len()];
        let mut stride = item_bytes;
        for &axis in order.iter().rev() {
            strides[axis] = stride;
            stride *= extents[axis] + 1;
        }
        strides
    }

    proptest! {
        #[test]
        fn every_element_lands_where_the_definition_says(
            extents in prop::collection::vec(1usize..20, 0..4),
            item_bytes in prop::sample::select(vec![1usize, 2, 3, 4, 8, 12, 16]),
            seed in any::<u64>(),
            dense in any::<bool>(),
        ) {
            let rank = extents.len();
            let rotate = |by: u64| -> Vec<usize> { (0..rank).map(|k| (k + by as usize) % rank).collect() };
            let sized: Vec<usize> = extents.iter().map(|n| if dense { n - 1 } else { *n }).collect();
            let source_strides = strides(&sized, &rotate(seed % 7), item_bytes);
            let target_strides = strides(&sized, &rotate((seed >> 8) % 7), item_bytes);
            let axes: Vec<CopyAxis> = (0..rank)
                .map(|a| CopyAxis { n: extents[a], source: source_strides[a], target: target_strides[a] })
                .collect();
            let len = extents.iter().map(|n| n + 1).product::<usize>() * item_bytes + 5;
            let source: Vec<u8> = (0..len).map(|i| (i as u64).wrapping_mul(seed | 1).to_le_bytes()[1]).collect();
            let (mut found, mut wanted) = (vec![0; len], vec![0; len]);
            copy_strided(&source, 0, &mut found, 0, &axes, item_bytes);
            naive(&source, &mut wanted, &axes, item_bytes);
            prop_assert_eq!(found, wanted);
        }
    }

    #[test]
    #[should_panic(expected = "leaves the target")]
    fn a_box_beyond_the_target_is_caught() {
        copy_strided(&[0; 64], 0, &mut [0; 8], 0, &[CopyAxis { n: 3, source: 4, target: 4 }], 4);
    }
}
