//! How an array is copied within the memory allowed: units, tiles, and what lies open between tiles.

use super::CopyError;
use super::array::ArrayCopy;
use crate::geometry::{EncodedOrder, Pieces, Region, Tiling, TilingRequest};
use crate::source;
use crate::synthesis;

/// The process itself: code, stacks, documents, tables.
const BASE_BYTES: u64 = 40 << 20;
/// Tiles in the making at the same time: one is decoded while another is encoded, and a third keeps all threads busy
/// at the ends of both.
pub(super) const TILES_AT_ONCE: u64 = 3;
/// Where tiles may be larger at no cost, they are made about so large, that what each of them costs counts little.
const LARGE_TILE_BYTES: u64 = 16 << 20;

/// How one array is copied.
#[derive(Debug)]
pub(super) struct ArrayPlan {
    /// Target files cut into units.
    pub(super) units: Pieces,
    pub(super) tiling: Tiling,
    /// For tiles, and the encoded shards made of them.
    pub(super) tile_memory_bytes: u64,
    /// For decoding.
    pub(super) scratch_bytes: u64,
    /// Memory that a byte of a tile takes: encoded inner chunks wait for the end of their shard.
    pub(super) bytes_per_tile_byte: u64,
    /// How often source leaves are decoded, summed over leaves, and how many there are.
    pub(super) leaf_visits: u64,
    pub(super) n_leaves: u64,
}

/// What there is to share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Means {
    pub(super) memory_bytes: u64,
    pub(super) threads: usize,
    /// Tiles are no larger than this even where memory allows: for tests.
    pub(super) max_tile_bytes: Option<u64>,
}

impl ArrayPlan {
    /// Plans the copy of `array`. Reads one source chunk's header where that tells the block length.
    pub(super) fn new(array: &ArrayCopy, means: Means) -> Result<Self, CopyError> {
        let source = array.source();
        let threads = means.threads.max(1) as u64;
        let group_bytes = synthesis::most_scratch_bytes(source::leaf_bytes(source), source::most_scratch_bytes(source));
        let encode_bytes = array.unit_scratch_bytes(threads);
        let scratch_bytes = group_bytes.saturating_mul(threads).min((means.memory_bytes / 4).max(group_bytes));
        let fixed_bytes = BASE_BYTES.saturating_add(scratch_bytes).saturating_add(encode_bytes);
        let bytes_per_tile_byte = if array.is_sharded() { 2 } else { 1 };
        let least_bytes = array.chunk_bytes().saturating_mul(bytes_per_tile_byte);
        let left_bytes = means.memory_bytes.saturating_sub(fixed_bytes);
        if left_bytes < least_bytes.saturating_add(least_bytes / 8) {
            return Err(too_little(array, means, fixed_bytes.saturating_add(least_bytes.saturating_mul(3))));
        }
        let usual_bytes =
            means.max_tile_bytes.unwrap_or(u64::MAX).min(left_bytes / (TILES_AT_ONCE + 1) / bytes_per_tile_byte);
        let unit_bytes = if array.is_sharded() { usual_bytes.max(array.chunk_bytes()) } else { array.file_bytes() };
        let too_many = || CopyError::Codec {
            array: array.path().to_owned(),
            why: "more chunks than can be numbered; choose larger ones".to_owned(),
        };
        let units = array.units(unit_bytes).ok_or_else(too_many)?;
        let order = EncodedOrder::new(&source.leaf_shape, &source.order());
        let request = TilingRequest {
            shape: &source.shape,
            leaf_shape: &source.leaf_shape,
            order: &order,
            chunk_shape: &array.file_shape,
            piece_shape: units.piece_shape(),
            item_bytes: array.item_bytes(),
            block_elems: block_elems(array)?,
            max_tile_bytes: usual_bytes.max(array.chunk_bytes()),
            small_tile_bytes: LARGE_TILE_BYTES.min(usual_bytes),
        };
        let mut tiling = Tiling::new(&request).ok_or_else(too_many)?;
        let mut open_bytes = tiling.most_open_bytes(&request);
        if tiling.is_on_source_borders() && open_bytes > left_bytes / (TILES_AT_ONCE + 1) {
            tiling = Tiling::on_chunk_borders(&request).ok_or_else(too_many)?;
            open_bytes = 0;
        }
        Ok(ArrayPlan {
            leaf_visits: tiling.leaf_visits(),
            n_leaves: Region::whole(&source.shape).cells(&source.leaf_shape).n_elems(),
            units,
            tiling,
            tile_memory_bytes: left_bytes - if open_bytes > left_bytes / 2 { 0 } else { open_bytes },
            scratch_bytes,
            bytes_per_tile_byte,
        })
    }
}

/// Elements per block of the source's leaves, as the first of its files that exists tells.
fn block_elems(array: &ArrayCopy) -> Result<Option<u64>, CopyError> {
    const MOST_LOOKED_AT: usize = 10_000;
    let files = Region::whole(array.reader.file_grid());
    for file in files.positions().take(MOST_LOOKED_AT) {
        if array.stamp_of(&file)?.is_present() {
            return Ok(array.reader.block_elems(&file)?);
        }
    }
    Ok(None)
}

fn too_little(array: &ArrayCopy, means: Means, needed_bytes: u64) -> CopyError {
    let mib = |bytes: u64| format!("{} MiB", bytes.div_ceil(1 << 20));
    CopyError::TooLittleMemory {
        array: array.path().to_owned(),
        needed: mib(needed_bytes),
        given: mib(means.memory_bytes),
        what: "one source chunk and one target chunk at a time",
        remedy: "fewer --threads, or choose smaller chunks",
    }
}
