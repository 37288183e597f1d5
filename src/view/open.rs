//! Opening a view, and how the memory allowed is divided.

use super::array::{Arrays, Limits, MAX_ARRAYS, Rechunked};
use super::disk::{CacheDir, Disk, DiskUsage};
use super::engine::{Engine, Hands};
use super::follow::{Follow, Following};
use super::looks::Looks;
use super::tree::Tree;
use super::{View, ViewError};
use crate::cache::disk::DiskCache;
use crate::source::{self, Counters, SourceError, Store};
use crate::synthesis;
use crate::zarr::{Projection, VirtualArray};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The process itself: code, stacks, documents, requests being answered, tables of stamps.
const BASE_BYTES: u64 = 48 << 20;
/// Besides, with a cache on disk: the buffers of readers and of the writer, and the table of what may be evicted.
const DISK_BYTES: u64 = 8 << 20;
/// Less than this for tiles is no cache.
const MIN_CACHE_BYTES: u64 = 24 << 20;
/// The least cache with [`Options::max_tile_bytes`], and how many such tiles it holds.
const SMALL_CACHE_BYTES: u64 = 64 << 10;
const SMALL_CACHE_TILES: u64 = 8;
/// Pieces of virtual chunks are no larger: a slab of a huge chunk at a time.
const MAX_PIECE_BYTES: u64 = 32 << 20;

/// Source shards kept open by all arrays together: a quarter of the usual limit of 1,024 open files.
const MAX_OPEN_SHARDS: usize = 256;

/// Jobs built at once: one answers its readers while the other one keeps the threads busy.
const BUILDERS: usize = 2;
/// Threads that build, and jobs built at once, where they wait for a server most of the time.
const REMOTE_THREADS: usize = 128;
const REMOTE_BUILDERS: usize = 8;

/// Reads of a source that does not answer are given up after this time, unless it is said otherwise.
pub const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// How a view is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bound on the memory of the whole process, bytes.
    pub memory_bytes: u64,
    /// Threads that decode.
    pub threads: usize,
    /// Tiles are no larger than this even where memory allows, and the cache holds but a few; tests make seams and
    /// slabs of small stores with it, and turn the cache over.
    pub max_tile_bytes: Option<u64>,
    /// Where decoded data is kept on disk, if at all.
    pub cache_dir: Option<CacheDir>,
    /// How the view follows its source; `None` where it shows one state of it, settled file by file at the first look.
    pub follow: Option<Follow>,
}

/// What reading one array of the view takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArrayCost {
    /// Array path.
    pub path: String,
    /// Source chunk files on which one virtual chunk draws.
    pub first_read_files: u64,
    /// Bytes decoded for the first virtual chunk.
    pub first_read_decoded_bytes: u64,
    /// Bytes decoded for every virtual chunk in order: each source chunk as often as memory makes necessary.
    pub sweep_decoded_bytes: u64,
}

impl View {
    /// Opens the view of a store that `projection` describes.
    ///
    /// # Errors
    /// Where an array cannot be decoded, or `memory_bytes` is too little for its largest source chunk.
    pub fn open(store: impl Into<Store>, projection: Projection, options: Options) -> Result<Arc<View>, ViewError> {
        Self::open_guarded(store, projection, options, READ_TIMEOUT)
    }

    /// The same, guarded against a source that does not answer: reads are given up after `read_timeout`.
    ///
    /// # Errors
    /// Likewise.
    pub fn open_guarded(
        store: impl Into<Store>,
        projection: Projection,
        mut options: Options,
        read_timeout: Duration,
    ) -> Result<Arc<View>, ViewError> {
        let store = store.into();
        let mut builders = BUILDERS;
        if store.is_remote() {
            options.threads = options.threads.max(REMOTE_THREADS);
            builders = REMOTE_BUILDERS;
        }
        let counters = Arc::new(Counters::default());
        let looks = Arc::new(Looks::new(options.follow.as_ref().map(|follow| follow.refresh)));
        let memory = Memory::divide(&projection.arrays, &options)?;
        if projection.arrays.len() > MAX_ARRAYS {
            return Err(ViewError::TooManyArrays { n_arrays: projection.arrays.len(), limit: MAX_ARRAYS });
        }
        let maker = Maker { store: store.clone(), memory, counters: Arc::clone(&counters), looks: Arc::clone(&looks) };
        let arrays = Arrays::default();
        for array in &projection.arrays {
            arrays.add(|idx| maker.make(idx, array.clone()))?;
        }
        let tree = Tree::new(&store, &projection, &arrays.all(), &Tree::default());
        let name = store.name();
        let disk = match &options.cache_dir {
            Some(CacheDir { path, limit_bytes }) => Some((DiskCache::open(path, *limit_bytes)?, name.as_path())),
            None => None,
        };
        let Memory { cache_bytes, scratch_bytes, group_bytes, .. } = maker.memory;
        let hands = Hands { threads: options.threads, builders };
        let engine = Engine::new(arrays, cache_bytes, scratch_bytes, hands, counters, looks, disk)?;
        engine.watch(read_timeout, group_bytes).map_err(|error| ViewError::Io(Arc::new(error)))?;
        let layout = options.follow.map(|follow| follow.layout);
        let following = Following::new(&store, layout, &projection, tree, maker);
        Ok(Arc::new_cyclic(|this| View {
            store,
            engine,
            following,
            memory_bytes: options.memory_bytes,
            this: Weak::clone(this),
        }))
    }

    /// Waits until what was built is on disk too, where it is to be kept there; what is not in time is given up.
    pub fn finish(&self, patience: Duration) {
        if let Some(disk) = &self.engine.disk {
            disk.finish(patience);
        }
    }

    /// What is kept on disk, if it is.
    pub fn disk_usage(&self) -> Option<DiskUsage> {
        self.engine.disk.as_ref().map(Disk::usage)
    }

    /// What reading takes, per array: arithmetic, after a look at one source chunk of each.
    pub fn costs(&self) -> Vec<ArrayCost> {
        self.engine.arrays.all().iter().map(Rechunked::cost).collect()
    }
}

/// What rechunked arrays are made with.
#[derive(Debug)]
pub(super) struct Maker {
    store: Store,
    memory: Memory,
    counters: Arc<Counters>,
    looks: Arc<Looks>,
}

impl Maker {
    /// Makes the array that will be at position `idx`.
    pub(super) fn make(&self, idx: u32, array: VirtualArray) -> Result<Rechunked, SourceError> {
        let needed = Memory::group_bytes(&array);
        if needed > self.memory.scratch_bytes {
            let why = format!(
                "its chunks take {} MiB to decode, more than was set aside; mount again to see it",
                needed.div_ceil(1 << 20)
            );
            return Err(SourceError::Unsupported { array: array.source.path.clone(), why });
        }
        Rechunked::new(idx, &self.store, array, self.memory.limits, Arc::clone(&self.counters), Arc::clone(&self.looks))
    }
}

/// How the memory allowed is divided.
#[derive(Debug)]
struct Memory {
    cache_bytes: u64,
    scratch_bytes: u64,
    /// The largest part of it that one thread takes.
    group_bytes: u64,
    limits: Limits,
}

impl Memory {
    /// What decoding some chunks of an array takes at once.
    fn group_bytes(array: &VirtualArray) -> u64 {
        let (leaf, reading) = (source::leaf_bytes(&array.source), source::most_scratch_bytes(&array.source));
        synthesis::most_scratch_bytes(leaf, reading)
    }

    /// Base, scratch for decoding (one group per thread, or fewer at a time where they are large), the rest for tiles.
    fn divide(arrays: &[VirtualArray], options: &Options) -> Result<Self, ViewError> {
        let leaf_bytes = arrays.iter().map(|array| source::leaf_bytes(&array.source)).max().unwrap_or(0);
        let group_bytes = arrays.iter().map(Self::group_bytes).max().unwrap_or(0);
        let base_bytes = BASE_BYTES + if options.cache_dir.is_some() { DISK_BYTES } else { 0 };
        let least = group_bytes.saturating_add(base_bytes + MIN_CACHE_BYTES);
        if options.memory_bytes < least {
            let mib = |bytes: u64| format!("{}MiB", bytes.div_ceil(1 << 20));
            return Err(ViewError::TooLittleMemory {
                given: mib(options.memory_bytes),
                needed: mib(least),
                leaf: mib(leaf_bytes),
            });
        }
        let wanted = group_bytes.saturating_mul(options.threads.max(1) as u64);
        let scratch_bytes = wanted.min((options.memory_bytes / 4).max(group_bytes));
        let cache_bytes = options.memory_bytes.saturating_sub(base_bytes + scratch_bytes).max(MIN_CACHE_BYTES);
        let small = options.max_tile_bytes.map(|bytes| bytes.saturating_mul(SMALL_CACHE_TILES).max(SMALL_CACHE_BYTES));
        let cache_bytes = cache_bytes.min(small.unwrap_or(u64::MAX));
        // A third: while one tile is built, another is read and a third may be evicted.
        let mut max_tile_bytes = cache_bytes / 3;
        if options.cache_dir.is_some() {
            // Tiles on disk are of use only to a mount that cuts them alike, and the memory left differs from day to day.
            max_tile_bytes = 1 << max_tile_bytes.max(1).ilog2();
        }
        let max_tile_bytes = max_tile_bytes.min(options.max_tile_bytes.unwrap_or(u64::MAX));
        let n_sharded = arrays.iter().filter(|array| array.source.sharding.is_some()).count();
        let limits = Limits {
            max_tile_bytes,
            max_piece_bytes: MAX_PIECE_BYTES.min(max_tile_bytes / 4),
            max_open_shards: MAX_OPEN_SHARDS / n_sharded.max(1),
        };
        Ok(Memory { cache_bytes, scratch_bytes, group_bytes, limits })
    }
}
