//! How an array is copied within the memory allowed: units, tiles, and what lies open between tiles.

use super::CopyError;
use super::array::ArrayCopy;
use super::journal::Spool;
use super::partition::PartOf;
use super::spool;
use crate::geometry::{EncodedOrder, Pieces, Region, TileId, Tiling, TilingRequest};
use crate::source;
use crate::synthesis;
use std::path::Path;

/// The process itself: code, stacks, documents, tables.
pub(super) const BASE_BYTES: u64 = 40 << 20;
/// Tiles in the making at the same time: one is decoded while another is encoded, and a third keeps all threads busy
/// at the ends of both.
pub(super) const TILES_AT_ONCE: u64 = 3;
/// Where tiles may be larger at no cost, they are made about so large, that what each of them costs counts little.
const LARGE_TILE_BYTES: u64 = 16 << 20;
/// Tiles whose places in a temporary file are kept in memory, at most.
const MOST_TILES: u64 = 1 << 20;
/// Tiles by which it is judged what all of them decode.
const SAMPLED_TILES: u64 = 200;
/// Runs in a temporary file that are shorter are worth a pass more: some disks take as long to find a place as to write
/// this much.
const RUN_BYTES: u64 = 1 << 20;
/// No array is so large: its document is wrong. Each tile takes a microsecond though it holds nothing.
const ENDLESS_TILES: u64 = 1 << 44;
/// Units that a tile touches at most where only a few of them are wanted: each takes some bytes of bookkeeping.
const MOST_UNITS_OF_TILE: u64 = 1 << 18;
/// What a thread decodes a second, about: zstd in Blosc.
const DECODED_BYTES_PER_S: f64 = 350e6;
/// What a disk takes a second where it is not worth finding out; from this size of an array on it is.
const USUAL_DISK_BYTES_PER_S: f64 = 500e6;
const PROBED_BYTES: u64 = 1 << 30;

/// How one array is copied.
#[derive(Debug)]
pub(super) struct ArrayPlan {
    /// Target files cut into units.
    pub(super) units: Pieces,
    pub(super) tiling: Tiling,
    /// Goes through a temporary file.
    pub(super) spool: Option<Spool>,
    /// That file is there, with what an earlier run put into it.
    pub(super) is_spool_begun: bool,
    /// For tiles, and the encoded shards made of them.
    pub(super) tile_memory_bytes: u64,
    /// For decoding.
    pub(super) scratch_bytes: u64,
    /// Memory that a byte of a tile takes: encoded inner chunks wait for the end of their shard.
    pub(super) bytes_per_tile_byte: u64,
    /// What comes out of the source's codecs in all.
    pub(super) decoded_bytes: u64,
}

/// Tiles of at most so many bytes, and what comes of them.
#[derive(Debug)]
struct Cut {
    units: Pieces,
    tiling: Tiling,
    /// Units that lie open between tiles.
    open_bytes: u64,
    decoded_bytes: u64,
}

impl Cut {
    /// Cuts `array`; on borders of target files where `on_chunk_borders`, or where too much would lie open.
    fn new(
        array: &ArrayCopy,
        max_tile_bytes: u64,
        block_elems: Option<u64>,
        left_bytes: u64,
        on_chunk_borders: bool,
    ) -> Result<Self, CopyError> {
        let source = array.source();
        let max_tile_bytes = max_tile_bytes.max(array.chunk_bytes());
        let unit_bytes = if array.is_sharded() { max_tile_bytes } else { array.file_bytes() };
        let too_many = || CopyError::Codec {
            array: array.path().to_owned(),
            why: "more chunks than can be numbered; choose larger ones".to_owned(),
        };
        let units = array.units(unit_bytes).ok_or_else(too_many)?;
        let order = EncodedOrder::new(&source.leaf_shape, &source.order());
        let request = TilingRequest {
            shape: &source.shape,
            room: &source.shape,
            leaf_shape: &source.leaf_shape,
            order: &order,
            chunk_shape: &array.file_shape,
            piece_shape: units.piece_shape(),
            item_bytes: array.item_bytes(),
            block_elems,
            max_tile_bytes,
            small_tile_bytes: LARGE_TILE_BYTES.min(max_tile_bytes),
        };
        let mut tiling = Tiling::new(&request).ok_or_else(too_many)?;
        let mut open_bytes = tiling.most_open_bytes(&request);
        let is_too_open = tiling.is_on_source_borders() && open_bytes > left_bytes / (TILES_AT_ONCE + 1);
        if on_chunk_borders || is_too_open {
            tiling = Tiling::on_chunk_borders(&request).ok_or_else(too_many)?;
            open_bytes = 0;
        }
        Ok(Cut { decoded_bytes: decoded_bytes(array, &tiling, block_elems), units, tiling, open_bytes })
    }
}

/// What there is to share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Means<'a> {
    pub(super) memory_bytes: u64,
    pub(super) threads: usize,
    /// Tiles are no larger than this even where memory allows: for tests.
    pub(super) max_tile_bytes: Option<u64>,
    /// Only a few units are wanted, which fit into memory together: a tile may be as large as it likes, for it holds no
    /// others, and decodes a source chunk once for all of them.
    pub(super) few: bool,
    /// Where temporary files may go, if anywhere, and whether to find out how fast that disk is.
    pub(super) temp: Option<&'a Path>,
    pub(super) probe: bool,
    /// Use one wherever one might be of use: for tests.
    pub(super) always_spool: bool,
    /// What is made of the array, where that is a share of it.
    pub(super) part: Option<PartOf>,
    /// What else takes memory while the array is made.
    pub(super) besides_bytes: u64,
}

impl ArrayPlan {
    /// Plans the copy of `array`, the one at position `at`; `begun` is how an earlier run went about it. Reads one source
    /// chunk's header where that tells the block length.
    pub(super) fn new(array: &ArrayCopy, at: u32, means: Means<'_>, begun: Option<&Spool>) -> Result<Self, CopyError> {
        let source = array.source();
        let threads = means.threads.max(1) as u64;
        let group_bytes = synthesis::most_scratch_bytes(source::leaf_bytes(source), source::most_scratch_bytes(source));
        let encode_bytes = array.unit_scratch_bytes(threads);
        let scratch_bytes = group_bytes.saturating_mul(threads).min((means.memory_bytes / 4).max(group_bytes));
        let fixed_bytes = [scratch_bytes, encode_bytes, means.besides_bytes]
            .iter()
            .fold(BASE_BYTES, |sum, more| sum.saturating_add(*more));
        let bytes_per_tile_byte = if array.is_sharded() { 2 } else { 1 };
        let least_bytes = array.chunk_bytes().saturating_mul(bytes_per_tile_byte);
        let left_bytes = means.memory_bytes.saturating_sub(fixed_bytes);
        if left_bytes < least_bytes.saturating_add(least_bytes / 8) {
            return Err(too_little(array, means, fixed_bytes.saturating_add(least_bytes.saturating_mul(3))));
        }
        let allowed = |shares: u64| left_bytes / shares / bytes_per_tile_byte;
        // Tiles that are in a temporary file already stay as they are, if there is still memory for them.
        let begun = begun.filter(|begun| begun.max_tile_bytes <= allowed(1) && begun.is_there());
        let block_elems = block_elems(array)?;
        let cut = |max_tile_bytes: u64| Cut::new(array, max_tile_bytes, block_elems, left_bytes, begun.is_some());
        let cut = match (begun, means.max_tile_bytes) {
            _ if means.few => cut(array.file_bytes().saturating_mul(MOST_UNITS_OF_TILE))?,
            (Some(begun), _) => cut(begun.max_tile_bytes)?,
            (None, Some(most)) => cut(most.min(allowed(TILES_AT_ONCE + 1)))?,
            // Large tiles leave no memory for others at the same time: only where that saves decodings.
            (None, None) => {
                let cuts = [cut(allowed(TILES_AT_ONCE + 1))?, cut(allowed(2))?, cut(allowed(1) - allowed(1) / 8)?];
                let fewest = cuts.iter().map(|cut| cut.decoded_bytes).min().unwrap_or(0);
                let enough = |cut: &Cut| cut.decoded_bytes <= fewest.saturating_add(fewest / 10);
                let [first, second, last] = cuts;
                [first, second].into_iter().find(enough).unwrap_or(last)
            }
        };
        if cut.tiling.n_tiles() > ENDLESS_TILES {
            return Err(CopyError::Endless { array: array.path().to_owned(), n: cut.tiling.n_tiles() });
        }
        let part = means.part.unwrap_or_else(|| PartOf::all(array));
        let part_of =
            |whole: u64| (u128::from(whole) * u128::from(part.bytes) / u128::from(array.array_bytes().max(1))) as u64;
        let mut plan = ArrayPlan {
            decoded_bytes: part_of(cut.decoded_bytes).max(part.leaf_bytes),
            units: cut.units,
            tiling: cut.tiling,
            spool: begun.cloned(),
            is_spool_begun: begun.is_some(),
            tile_memory_bytes: left_bytes - cut.open_bytes.min(left_bytes / 2),
            scratch_bytes,
            bytes_per_tile_byte,
        };
        if let Some(temp) = means.temp
            && begun.is_none()
            && !plan.tiling.is_on_source_borders()
            && plan.repeats(part, part_of(plan.tiling.n_tiles()), means)
        {
            // Every leaf is decoded once now, so tiles need not be large.
            let max_tile_bytes = means.max_tile_bytes.unwrap_or(u64::MAX).min(allowed(TILES_AT_ONCE + 1));
            let cut = Cut::new(array, max_tile_bytes, block_elems, left_bytes, true)?;
            let tiles_per_bundle = tiles_per_bundle(cut.tiling.n_tiles(), max_tile_bytes, means);
            if plan.spool_pays(part, temp, means, tiles_per_bundle > 0) {
                (plan.units, plan.tiling) = (cut.units, cut.tiling);
                plan.tile_memory_bytes = left_bytes;
                plan.spool = Some(Spool {
                    max_tile_bytes,
                    leaves_per_band: (max_tile_bytes / source::leaf_bytes(source).max(1)).max(1),
                    tiles_per_bundle,
                    path: temp.join(format!("array-{at}")),
                    inode: 0,
                    len_bytes: 0,
                });
            }
        }
        if plan.spool.is_some() {
            plan.decoded_bytes = part.leaf_bytes;
        }
        Ok(plan)
    }

    /// How often all of the array is read: from the source, from one temporary file, from two.
    pub(super) fn passes(&self) -> u64 {
        match &self.spool {
            None => 1,
            Some(spool) if spool.tiles_per_bundle == 0 => 2,
            Some(_) => 3,
        }
    }

    /// Whether so much is decoded more than once that a temporary file might pay; for `n_tiles`.
    fn repeats(&self, part: PartOf, n_tiles: u64, means: Means<'_>) -> bool {
        let once = part.leaf_bytes;
        let repeated = self.decoded_bytes.saturating_sub(once);
        // A leaf must fit into scratch whole, and the tiles' places in a table. An eighth more, as where tiles share what
        // lies on their borders, is not worth the room.
        let is_much = repeated >= once / 8 || means.always_spool;
        repeated > 0 && is_much && n_tiles <= MOST_TILES
    }

    /// Whether to write all of `part` to disk and read it back takes less time than the decodings that it saves.
    fn spool_pays(&self, part: PartOf, temp: &Path, means: Means<'_>, in_bundles: bool) -> bool {
        if means.always_spool {
            return true;
        }
        let disk_bytes_per_s = match part.bytes {
            ..PROBED_BYTES => USUAL_DISK_BYTES_PER_S,
            _ if !means.probe => USUAL_DISK_BYTES_PER_S,
            _ => spool::disk_bytes_per_s(temp).unwrap_or(USUAL_DISK_BYTES_PER_S),
        };
        let repeated = self.decoded_bytes.saturating_sub(part.leaf_bytes);
        let decoding = repeated as f64 / (DECODED_BYTES_PER_S * means.threads as f64);
        let transfers = if in_bundles { 4.0 } else { 2.0 };
        decoding > transfers * part.bytes as f64 / disk_bytes_per_s
    }
}

/// How many of `n_tiles` lie together in a temporary file that is filled by bands as large as a tile; 0 where each can lie by
/// itself, because what a band adds to it is long enough.
fn tiles_per_bundle(n_tiles: u64, max_tile_bytes: u64, means: Means<'_>) -> u64 {
    // Tests make all of it small alike.
    let run_bytes = means.max_tile_bytes.map_or(RUN_BYTES, |most| RUN_BYTES.min(most / 8));
    let runs_of_band = (max_tile_bytes / run_bytes.max(1)).max(2);
    // Those of a share are no boxes.
    if n_tiles <= runs_of_band || means.part.is_some() {
        0
    } else {
        // A bundle is filled and taken apart with runs of that length; of very many tiles, with runs as short.
        runs_of_band.max(n_tiles.isqrt())
    }
}

/// What comes out of the codecs while all tiles are built, judged by some of them; saturates.
fn decoded_bytes(array: &ArrayCopy, tiling: &Tiling, block_elems: Option<u64>) -> u64 {
    if tiling.is_on_source_borders() {
        return array.leaf_bytes();
    }
    let leaf_elems = tiling.order().n_elems();
    let elems = |nth: u64| -> Option<u64> {
        // Anywhere: tiles in even steps would take the same part of each leaf.
        let at = u128::from(nth.wrapping_mul(0x9e37_79b9_7f4a_7c15)) * u128::from(tiling.n_tiles());
        let share = tiling.share(TileId((at >> 64) as u64));
        if share.coverage.is_empty() {
            return None;
        }
        let (_, boxes) = tiling.boxes(&share, &share.leaves.start);
        let (start, end) = if boxes.is_empty() { return None } else { tiling.hull(&boxes) };
        let elems = match block_elems {
            Some(block) => (end.div_ceil(block) - start / block) * block,
            // Streams end with the last row that is wanted.
            None if array.reader.is_streamed() => end,
            None => leaf_elems,
        };
        Some(elems.min(leaf_elems))
    };
    if tiling.n_tiles() == 0 {
        return 0;
    }
    let sample: Vec<u64> = (0..SAMPLED_TILES).filter_map(elems).collect();
    let mean = sample.iter().map(|elems| u128::from(*elems)).sum::<u128>() / (sample.len() as u128).max(1);
    let per_visit = (mean as u64).saturating_mul(array.item_bytes());
    tiling.leaf_visits().saturating_mul(per_visit).max(array.leaf_bytes())
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

fn too_little(array: &ArrayCopy, means: Means<'_>, needed_bytes: u64) -> CopyError {
    let mib = |bytes: u64| format!("{} MiB", bytes.div_ceil(1 << 20));
    CopyError::TooLittleMemory {
        array: array.path().to_owned(),
        needed: mib(needed_bytes),
        given: mib(means.memory_bytes),
        what: "one source chunk and one target chunk at a time",
        remedy: "fewer --threads, or choose smaller chunks",
    }
}
