//! What the cache holds, and under which keys.

use super::super::tile::{Seam, Tile};
use super::super::versions::Version;
use crate::geometry::TileId;
use std::sync::Arc;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::view) enum Key {
    Tile(TileKey),
    /// A piece of an array.
    Seam(u32, u64, Age),
}

/// What a part of an array is of: whatever has the same age holds the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::view) struct Age {
    /// The last version at which one of its source chunk files changed.
    pub(in crate::view) changed: Version,
    /// The first version of the shapes that cut it off as they do.
    pub(in crate::view) shaped: Version,
}

/// A tile of an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::view) struct TileKey {
    pub(in crate::view) array: u32,
    pub(in crate::view) tile: TileId,
    pub(in crate::view) age: Age,
}

#[derive(Debug, Clone)]
pub(in crate::view) enum Entry {
    Tile(Arc<Tile>),
    Seam(Arc<Seam>),
}
