//! What records are called, and which version of the source they hold.
//!
//! A record is only ever read by a view for which it would be built the same: its family stands for everything that
//! decides which bytes a tile has and what its number means, its version for the stamps of the source files.

use super::super::array::Rechunked;
use crate::cache::disk::Name;
use crate::geometry::{LeafShare, Region, TileId};
use crate::source::SourceError;
use std::path::Path;
use std::sync::OnceLock;

/// Goes up when tiles are built or numbered otherwise from the same parameters.
const GENERATION: u32 = 1;

/// The families of a view's arrays, each known once its tiles are chosen.
#[derive(Debug)]
pub(super) struct Keys {
    store: String,
    families: Vec<OnceLock<u128>>,
}

impl Keys {
    pub(super) fn new(root: &Path, n_arrays: usize) -> Self {
        let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
        let store = format!("rechunkfs {} {GENERATION} {root:?}", env!("CARGO_PKG_VERSION"));
        Keys { store, families: (0..n_arrays).map(|_| OnceLock::new()).collect() }
    }

    /// What the record of `tile` is called; `None` before the tiles are chosen.
    pub(super) fn name(&self, array_idx: u32, array: &Rechunked, tile: TileId) -> Option<Name> {
        let tiling = array.known_tiling()?;
        let family = *self.families[array_idx as usize].get_or_init(|| {
            // Shards are not in it: they decide in which file a piece is, not its bytes.
            let source = &array.array.source;
            let text = format!("{} {source:?} {:?} {:?} {tiling:?}", self.store, array.array.chunk_shape, array.pieces);
            let mut hash = Fnv::default();
            hash.add(text.as_bytes());
            hash.0
        });
        Some(Name { family, number: tile.0 })
    }
}

/// The source files that a tile draws on.
pub(super) fn files_of_share(array: &Rechunked, share: &LeafShare) -> Region {
    if share.leaves.is_empty() {
        return share.leaves.clone();
    }
    let last: Vec<u64> = share.leaves.end.iter().map(|end| end - 1).collect();
    let end = array.reader.file_of(&last).iter().map(|at| at + 1).collect();
    Region { start: array.reader.file_of(&share.leaves.start), end }
}

/// The source files that a piece draws on.
pub(super) fn files_of_piece(array: &Rechunked, piece: u64) -> Region {
    array.reader.files_of(&array.pieces.piece_region(piece).clipped(&array.array.source.shape))
}

/// The version of these source files that the view shows; settles their stamps.
pub(super) fn version(array: &Rechunked, files: &Region) -> Result<u128, SourceError> {
    let mut hash = Fnv::default();
    for file in files.positions() {
        hash.add(&array.stamp_of(&file)?.to_raw().to_le_bytes());
    }
    Ok(hash.0)
}

/// FNV-1a of 128 bits: the same in every build and for ever, which the standard library's hashers do not promise.
struct Fnv(u128);

impl Default for Fnv {
    fn default() -> Self {
        Fnv(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }
}

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a() {
        let mut hash = Fnv::default();
        hash.add(b"foobar");
        assert_eq!(hash.0, 0x343e_1662_793c_64bf_6f0d_3597_ba44_6f18);
    }
}
