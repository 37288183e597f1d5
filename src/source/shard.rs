//! Sharded sources: the index of a shard, read once and kept while the shard is in use.

use super::Stamp;
use super::codecs::IndexCodec;
use super::reader::Opened;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of decoded indexes kept.
const MAX_INDEX_BYTES: u64 = 8 << 20;

/// An open shard.
#[derive(Debug)]
pub(super) struct OpenShard {
    pub(super) file: Opened,
    pub(super) stamp: Stamp,
    /// Offset and length of each inner chunk, in C order; `None` where missing.
    pub(super) slots: Vec<Option<(u64, u64)>>,
}

/// How to read the shards of one array, and the ones read last.
#[derive(Debug)]
pub(super) struct Shards {
    pub(super) index_at_end: bool,
    pub(super) codec: IndexCodec,
    open: Mutex<lru::LruCache<u64, Arc<OpenShard>>>,
}

impl Shards {
    /// Keeps up to `max_open` shards open with their indexes.
    pub(super) fn new(index_at_end: bool, codec: IndexCodec, max_open: usize) -> Self {
        let most = (MAX_INDEX_BYTES / codec.encoded_bytes.max(1)).clamp(1, max_open.max(1) as u64);
        let capacity = NonZeroUsize::new(most as usize).unwrap_or(NonZeroUsize::MIN);
        Shards { index_at_end, codec, open: Mutex::new(lru::LruCache::new(capacity)) }
    }

    /// The shard, if it is open and still in the state `stamp`.
    pub(super) fn get(&self, shard: u64, stamp: Stamp) -> Option<Arc<OpenShard>> {
        let mut open = self.lock();
        open.get(&shard).filter(|held| held.stamp == stamp).map(Arc::clone)
    }

    /// Keeps a shard for the next read.
    pub(super) fn put(&self, shard: u64, held: &Arc<OpenShard>) {
        self.lock().put(shard, Arc::clone(held));
    }

    fn lock(&self) -> MutexGuard<'_, lru::LruCache<u64, Arc<OpenShard>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks raw index entries against the file's length.
    pub(super) fn slots(&self, entries: Vec<(u64, u64)>, file_bytes: u64) -> Result<Vec<Option<(u64, u64)>>, String> {
        entries
            .into_iter()
            .map(|(offset, len)| match offset.checked_add(len) {
                _ if (offset, len) == (u64::MAX, u64::MAX) => Ok(None),
                Some(end) if end <= file_bytes => Ok(Some((offset, len))),
                _ => Err(format!("the shard index points at bytes {offset}+{len} of {file_bytes}")),
            })
            .collect()
    }
}
