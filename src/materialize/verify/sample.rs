//! Which chunks a sample takes.

use std::collections::HashSet;

/// Draws for each chunk wanted, before those that are left are taken in their order: small arrays run out.
const DRAWS: u64 = 20;

/// A sample of target chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// How many chunks, or shards where there are.
    pub chunks: u64,
    /// The same seed takes the same chunks of the same stores.
    pub seed: u64,
}

/// An array to take chunks of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Population {
    /// Chunk files that there can be.
    pub(super) files: u64,
    /// An array is drawn by its size.
    pub(super) bytes: u64,
}

impl Sample {
    /// The chunk files taken of each array.
    pub(super) fn pick(self, arrays: &[Population]) -> Vec<HashSet<u64>> {
        let mut picked = vec![HashSet::new(); arrays.len()];
        let total_bytes = arrays.iter().fold(0u64, |sum, array| sum.saturating_add(array.bytes));
        let n_files = arrays.iter().fold(0u64, |sum, array| sum.saturating_add(array.files));
        let mut left = self.chunks.min(n_files);
        let mut state = self.seed;
        for _ in 0..left.saturating_mul(DRAWS) {
            if left == 0 || total_bytes == 0 {
                break;
            }
            let mut at = below(&mut state, total_bytes);
            let nth = arrays.iter().position(|array| {
                let is_here = at < array.bytes;
                at = at.saturating_sub(array.bytes);
                is_here
            });
            let Some(nth) = nth.filter(|&nth| arrays[nth].files > 0) else { continue };
            left -= u64::from(picked[nth].insert(below(&mut state, arrays[nth].files)));
        }
        for (array, picked) in arrays.iter().zip(&mut picked) {
            for file in 0..array.files {
                if left == 0 {
                    break;
                }
                left -= u64::from(picked.insert(file));
            }
        }
        picked
    }
}

/// A number below `end`, as good as random (SplitMix64).
fn below(state: &mut u64, end: u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut bits = *state;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((u128::from(bits ^ (bits >> 31)) * u128::from(end)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_as_large_as_asked_for_and_drawn_by_size() {
        let arrays = [(10, 1_000), (1_000, 1_000_000), (0, 0)].map(|(files, bytes)| Population { files, bytes });
        let pick = |chunks, seed| Sample { chunks, seed }.pick(&arrays);
        let count = |picked: &[HashSet<u64>]| picked.iter().map(HashSet::len).sum::<usize>();
        let picked = pick(100, 7);
        assert_eq!(count(&picked), 100);
        assert!(picked[0].len() < 5 && picked[2].is_empty());
        assert_eq!(picked, pick(100, 7));
        assert_ne!(picked, pick(100, 8));
        assert_eq!((count(&pick(5_000, 1)), count(&pick(0, 1))), (1_010, 0));
        assert!(picked[1].iter().all(|file| *file < 1_000));
    }
}
