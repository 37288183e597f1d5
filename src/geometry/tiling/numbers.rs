//! Tiles keep their numbers while the array grows or shrinks.

use super::{TileId, Tiling, TilingRequest, tile_bytes};
use crate::geometry::AxisTiling;

impl Tiling {
    /// The same tiles, under the same numbers, of the array in another shape within the room. `None` where one that lies on the
    /// edge would become too large.
    pub fn resized(&self, request: &TilingRequest<'_>) -> Option<Self> {
        let axes: Vec<AxisTiling> = self.axes.iter().zip(request.shape).map(|(axis, &len)| axis.resized(len)).collect();
        let bytes = |axes: &[AxisTiling]| {
            tile_bytes(axes, request).saturating_mul(u128::from(self.segment_elems))
                / u128::from(self.order.n_elems().max(1))
        };
        if bytes(&axes) > u128::from(request.max_tile_bytes).max(bytes(&self.axes)) {
            return None;
        }
        let counts = axes.iter().map(AxisTiling::n).collect();
        Some(Tiling { axes, counts, shape: request.shape.to_vec(), ..self.clone() })
    }

    /// The tile at a position of [`Self::grid`].
    pub fn tile_at(&self, position: &[u64]) -> TileId {
        let (segment, indices) = position.split_last().map_or((0, position), |(last, rest)| (*last, rest));
        TileId(self.numbers.number(indices) * self.n_segments + segment)
    }

    /// Inverse of [`Self::tile_at`].
    pub fn position(&self, tile: TileId) -> Vec<u64> {
        let mut position = self.numbers.indices(tile.0 / self.n_segments);
        position.push(tile.0 % self.n_segments);
        position
    }
}
