//! Turning two axes: contiguous along one of them in the source, along the other in the target.
//!
//! The target's rows lie far apart, so that what counts is how many cache lines are on their way at a time. Squares of
//! 16 bytes by 16 bytes are turned in registers, which writes 16 bytes at once where elements alone would fill the
//! processor's queue of stores; and lines are asked for some rows before they are written.

use super::{CopyAxis, walk_squares};

/// Bytes of a vector, and so of a row of a square.
const VECTOR: usize = 16;
/// Rows of the target that are asked for ahead.
#[cfg(target_arch = "x86_64")]
const ROWS_AHEAD: usize = 32;
/// Bytes of a cache line.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;

/// Copies `outer.n` by `inner.n` elements, where `outer.source` and `inner.target` are `ITEM`.
///
/// # Safety
/// Every element of the box lies in memory that may be read at `source` and written at `target`.
pub(super) unsafe fn walk_turned<const ITEM: usize>(
    source: *const u8,
    target: *mut u8,
    outer: CopyAxis,
    inner: CopyAxis,
) {
    let side = VECTOR / ITEM;
    let (squares_end, columns_end) = (outer.n / side * side, inner.n / side * side);
    // SAFETY: squares lie within the box; what is left beyond them is walked by element.
    unsafe {
        for row in (0..squares_end).step_by(side) {
            ask_for(target, outer, inner, row, side, ITEM);
            for column in (0..columns_end).step_by(side) {
                turn_square::<ITEM>(
                    source.add(row * ITEM + column * inner.source),
                    inner.source,
                    target.add(row * outer.target + column * ITEM),
                    outer.target,
                );
            }
        }
        let right = CopyAxis { n: inner.n - columns_end, ..inner };
        let bands = CopyAxis { n: squares_end, ..outer };
        walk_squares::<ITEM>(source.add(columns_end * inner.source), target.add(columns_end * ITEM), bands, right);
        let below = CopyAxis { n: outer.n - squares_end, ..outer };
        walk_squares::<ITEM>(source.add(squares_end * ITEM), target.add(squares_end * outer.target), below, inner);
    }
}

/// Asks for the lines of `side` rows of the target, some rows further on. A hint: any address will do.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn ask_for(target: *mut u8, outer: CopyAxis, inner: CopyAxis, row: usize, side: usize, item_bytes: usize) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    for ahead in row + ROWS_AHEAD..(row + ROWS_AHEAD + side).min(outer.n) {
        let start = target.wrapping_add(ahead * outer.target);
        for at in (0..inner.n * item_bytes).step_by(LINE) {
            // SAFETY: a hint, which never faults.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(at).cast()) };
        }
        // SAFETY: likewise.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(inner.n * item_bytes - 1).cast()) };
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn ask_for(_: *mut u8, _: CopyAxis, _: CopyAxis, _: usize, _: usize, _: usize) {}

/// Turns one square: `VECTOR / ITEM` vectors of the source into as many of the target.
///
/// # Safety
/// Vectors lie `source_stride` apart and may be read; those `target_stride` apart may be written.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn turn_square<const ITEM: usize>(
    source: *const u8,
    source_stride: usize,
    target: *mut u8,
    target_stride: usize,
) {
    use std::arch::x86_64::*;
    let side = VECTOR / ITEM;
    // SAFETY: as promised by the caller; SSE2 is part of x86-64.
    unsafe {
        let mut rows = [_mm_setzero_si128(); VECTOR];
        for (nth, row) in rows.iter_mut().enumerate().take(side) {
            *row = _mm_loadu_si128(source.add(nth * source_stride).cast());
        }
        // Interleaving the first half of the rows with the second, element by element, as often as it takes to halve
        // them away, turns the square.
        let mut stages = side;
        while stages > 1 {
            let before = rows;
            for nth in 0..side / 2 {
                let (a, b) = (before[nth], before[nth + side / 2]);
                let (low, high) = match ITEM {
                    1 => (_mm_unpacklo_epi8(a, b), _mm_unpackhi_epi8(a, b)),
                    2 => (_mm_unpacklo_epi16(a, b), _mm_unpackhi_epi16(a, b)),
                    4 => (_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b)),
                    _ => (_mm_unpacklo_epi64(a, b), _mm_unpackhi_epi64(a, b)),
                };
                (rows[2 * nth], rows[2 * nth + 1]) = (low, high);
            }
            stages /= 2;
        }
        for (nth, row) in rows.iter().enumerate().take(side) {
            _mm_storeu_si128(target.add(nth * target_stride).cast(), *row);
        }
    }
}

/// The same without vectors.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
unsafe fn turn_square<const ITEM: usize>(
    source: *const u8,
    source_stride: usize,
    target: *mut u8,
    target_stride: usize,
) {
    let n = VECTOR / ITEM;
    let outer = CopyAxis { n, source: ITEM, target: target_stride };
    let inner = CopyAxis { n, source: source_stride, target: ITEM };
    // SAFETY: as promised by the caller.
    unsafe { walk_squares::<ITEM>(source, target, outer, inner) }
}
