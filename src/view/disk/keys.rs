//! What records are called, and which version of the source they hold.
//!
//! A record is only ever read by a view for which it would be built the same: its family stands for everything that
//! decides which bytes a tile has and what its number means, its version for the stamps of the source files.

use super::super::edition::Edition;
use crate::cache::disk::Name;
use crate::geometry::{Region, TileId};
use crate::source::SourceError;
use std::path::Path;

/// Goes up when tiles are built or numbered otherwise from the same parameters.
const GENERATION: u32 = 2;

/// The families of a view's arrays.
#[derive(Debug)]
pub(super) struct Keys {
    store: String,
}

impl Keys {
    pub(super) fn new(root: &Path) -> Self {
        let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
        Keys { store: format!("rechunkfs {} {GENERATION} {root:?}", env!("CARGO_PKG_VERSION")) }
    }

    /// What the record of `tile` is called; `None` before the tiles are chosen.
    pub(super) fn name(&self, edition: &Edition, tile: TileId) -> Option<Name> {
        let tiling = edition.known_tiling()?;
        let family = *edition.extent.family.get_or_init(|| {
            // Shards are not in it: they decide in which file a piece is, not its bytes.
            let (source, chunk_shape) = (&edition.array.array.source, &edition.array.array.chunk_shape);
            let text = format!("{} {source:?} {chunk_shape:?} {:?} {tiling:?}", self.store, edition.pieces());
            let mut hash = Fnv::default();
            hash.add(text.as_bytes());
            hash.0
        });
        Some(Name { family, number: tile.0 })
    }
}

/// The state of these source files in the edition; looks at those that were never looked at.
pub(super) fn version(edition: &Edition, files: &Region) -> Result<u128, SourceError> {
    let mut hash = Fnv::default();
    for file in files.positions() {
        hash.add(&edition.stamp_of(&file)?.to_raw().to_le_bytes());
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
