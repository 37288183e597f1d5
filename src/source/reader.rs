//! Reading one source array: the state of its files, and parts of its leaf chunks.

mod decode;
mod files;
mod opened;
mod variable;

use super::blosc::{HEADER_BYTES, Header};
use super::codecs::{IndexCodec, LeafCodec, leaf_bytes};
use super::shard::{OpenShard, Shards};
use super::{Counters, SourceError, Stamp, Store};
use crate::geometry::{Numbering, Region, n_elems, ravel};
use crate::zarr::SourceArray;
use decode::Encoded;
pub use decode::Workspace;
pub use files::Folder;
pub(super) use opened::{Object, Opened};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Bytes read at a time from uncompressed leaves, and so their "block": near the size of a Blosc block, where the
/// cost of a request is small against that of the bytes.
const RAW_BLOCK_BYTES: u64 = 256 << 10;
/// Inner chunks per shard; more is taken for a damaged or hostile document.
const MAX_INNER_CHUNKS: u64 = 1 << 26;

/// Reads the chunks of one source array.
#[derive(Debug)]
pub struct ArrayReader {
    array: SourceArray,
    store: Store,
    /// On the host, where the store is there.
    directory: PathBuf,
    codec: LeafCodec,
    shards: Option<Shards>,
    /// Files along each axis.
    file_grid: Vec<u64>,
    file_numbers: Numbering,
    /// Leaves per file along each axis.
    inner_grid: Vec<u64>,
    leaf_bytes: u64,
    /// The longest Blosc block that was met, decoded; all blocks of an array are usually about as long.
    block_bytes: AtomicU64,
    /// The file that was opened last is small, and so are the others most likely.
    is_small: AtomicBool,
    counters: Arc<Counters>,
}

impl ArrayReader {
    /// Prepares to read `array` of a store. Reads nothing. Of a sharded array, up to `max_open_shards` files
    /// are kept open.
    ///
    /// # Errors
    /// Where a codec cannot be built, or sizes pass what can be addressed.
    pub fn new(
        store: impl Into<Store>,
        array: &SourceArray,
        max_open_shards: usize,
        counters: Arc<Counters>,
    ) -> Result<Self, SourceError> {
        let refuse = |why: String| SourceError::Unsupported { array: array.path.clone(), why };
        let codec = LeafCodec::new(array)?;
        let store = store.into();
        let inner_grid: Vec<u64> =
            array.file_shape.iter().zip(&array.leaf_shape).map(|(file, leaf)| file / leaf).collect();
        let file_grid = grid(&array.shape, &array.file_shape);
        let n_inner = n_elems(&inner_grid).filter(|&n| n <= MAX_INNER_CHUNKS);
        let file_numbers = Numbering::new(&file_grid, &file_grid);
        let file_numbers = file_numbers.ok_or_else(|| refuse("more chunks than can be counted".into()))?;
        let shards = match &array.sharding {
            None => None,
            Some(sharding) => {
                n_inner.ok_or_else(|| refuse(format!("more than {MAX_INNER_CHUNKS} inner chunks in a shard")))?;
                let index = IndexCodec::new(&sharding.index_codecs, &inner_grid).map_err(refuse)?;
                Some(Shards::new(sharding.index_at_end, index, max_open_shards))
            }
        };
        let leaf_bytes = leaf_bytes(array);
        if leaf_bytes > isize::MAX as u64 / 4 {
            return Err(refuse(format!("a source chunk of {leaf_bytes} bytes cannot be decoded")));
        }
        Ok(ArrayReader {
            directory: store.path(&array.path),
            store,
            array: array.clone(),
            codec,
            shards,
            file_grid,
            file_numbers,
            inner_grid,
            leaf_bytes,
            block_bytes: AtomicU64::new(0),
            is_small: AtomicBool::new(false),
            counters,
        })
    }

    /// The same, with files that keep their numbers while the array grows to `room`, or shrinks. `None` where that is more
    /// than can be numbered.
    pub fn with_room(self, room: &[u64]) -> Option<Self> {
        let file_numbers = Numbering::new(&self.file_grid, &grid(room, &self.array.file_shape))?;
        Some(ArrayReader { file_numbers, ..self })
    }

    /// Number of files along each axis.
    pub fn file_grid(&self) -> &[u64] {
        &self.file_grid
    }

    /// The number of a file: its C-order position, while the array does not grow.
    pub fn number_of(&self, file: &[u64]) -> u64 {
        self.file_numbers.number(file)
    }

    /// Inverse of [`Self::number_of`].
    pub fn file_at(&self, number: u64) -> Vec<u64> {
        self.file_numbers.indices(number)
    }

    /// The file that holds a leaf.
    pub fn file_of(&self, leaf: &[u64]) -> Vec<u64> {
        leaf.iter().zip(&self.inner_grid).map(|(leaf, inner)| leaf / inner).collect()
    }

    /// Bytes of a decoded leaf.
    pub fn leaf_bytes(&self) -> u64 {
        self.leaf_bytes
    }

    /// Key of a file below the array.
    pub fn key(&self, file: &[u64]) -> String {
        self.array.key_encoding.key(file)
    }

    /// Makes sure that the array's directory is there: while it is not, that of chunk files tells nothing.
    ///
    /// # Errors
    /// Where none of the array's documents is there, or that cannot be found out.
    pub fn check_home(&self) -> Result<(), SourceError> {
        let mut cause = io::Error::from(io::ErrorKind::NotFound);
        for name in ["zarr.json", ".zarray"] {
            let found = self.counters.calls.during(|| match &self.store {
                Store::Disk { .. } => std::fs::metadata(self.directory.join(name)).map(|_| true),
                Store::Objects(objects) => objects.state(&self.below(name)).map(|state| state.stamp.is_present()),
            });
            match found {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => cause = error,
            }
        }
        let key = "zarr.json".to_owned();
        Err(SourceError::Io { array: self.array.path.clone(), key, action: "find the array's document", error: cause })
    }

    /// Elements per block of a leaf, read off `file`; `None` where leaves are decoded whole.
    ///
    /// All chunks of an array usually have the same block length; where one does not, its blocks are merely decoded
    /// more than once.
    ///
    /// # Errors
    /// Where the file cannot be read. A header that makes no sense is no error here: reading the chunk will tell.
    pub fn block_elems(&self, file: &[u64]) -> Result<Option<u64>, SourceError> {
        let item_bytes = self.array.item_bytes as u64;
        match &self.codec {
            LeafCodec::Raw => Ok(Some((RAW_BLOCK_BYTES / item_bytes).max(1))),
            LeafCodec::Blosc(_) => {
                let Some(opened) = self.open(&Folder::default(), file)? else { return Ok(None) };
                let (stamp, size_bytes) = self.opened_state(&opened, file)?;
                let (shard, chunk);
                let (opened, slot) = if self.shards.is_some() {
                    shard = self.open_shard(file, opened, stamp, size_bytes)?;
                    (&shard.file, shard.slots.iter().flatten().next().copied())
                } else {
                    self.is_small.store(self.head_bytes(size_bytes) == size_bytes, Relaxed);
                    chunk = opened;
                    (&chunk, Some((0, size_bytes)))
                };
                let Some((offset, len)) = slot else { return Ok(None) };
                let mut raw = [0; HEADER_BYTES];
                if self.counters.calls.during(|| opened.read_exact_at(&mut raw, offset)).is_err() {
                    return Ok(None);
                }
                let header = self.header(&raw, len);
                Ok(header.ok().map(|header| (header.block_bytes / item_bytes).max(1)))
            }
            _ => Ok(None),
        }
    }

    /// Leaves are decoded from their start to the last element that is wanted.
    pub fn is_streamed(&self) -> bool {
        matches!(self.codec, LeafCodec::Stream(..))
    }

    /// Most memory that [`Self::read`] takes besides `out`, for `out_bytes` of it; what its [`Workspace`] keeps is part of it.
    pub fn scratch_bytes(&self, out_bytes: u64) -> u64 {
        self.codec.scratch_bytes(out_bytes, self.leaf_bytes, self.block_bytes.load(Relaxed))
    }

    /// Reads elements `range` (positions in the leaf's encoded order) of `leaf` into `out`.
    ///
    /// `expected` is the stamp of the leaf's file in the version that is being read. Returns `false`, leaving `out`
    /// alone, where the leaf does not exist in that version.
    ///
    /// # Errors
    /// [`SourceError::Changed`] where the file is no longer what `expected` says, before or after reading.
    pub fn read(&self, leaf: &[u64], range: (u64, u64), expected: Stamp, out: &mut [u8]) -> Result<bool, SourceError> {
        self.read_in(&Folder::default(), leaf, range, expected, &mut Workspace::default(), out)
    }

    /// [`Self::read`] for many leaves one after the other, in the folder that [`Self::folder`] gave for them.
    ///
    /// # Errors
    /// Those of [`Self::read`].
    pub fn read_in(
        &self,
        folder: &Folder,
        leaf: &[u64],
        range: (u64, u64),
        expected: Stamp,
        workspace: &mut Workspace,
        out: &mut [u8],
    ) -> Result<bool, SourceError> {
        if !expected.is_present() {
            return Ok(false);
        }
        let began = Instant::now();
        let file = self.file_of(leaf);
        let Workspace { head, decoding } = workspace;
        let decode = |encoded: &Encoded<'_>| self.decode(encoded, range, decoding, out);
        let found = self.with_encoded(folder, leaf, &file, expected, head, decode);
        Counters::add(&self.counters.decode_ns, began.elapsed().as_nanos() as u64);
        Ok(found?.is_some())
    }

    /// Calls `read` with the encoded bytes of `leaf`. `None` where a shard has no such leaf.
    ///
    /// A file that is being rewritten may decode to nonsense, or not at all: that it changed is the better answer. So its
    /// stamp is compared when all of it that is wanted was read, and before, so that nothing is decoded in vain.
    fn with_encoded<T>(
        &self,
        folder: &Folder,
        leaf: &[u64],
        file: &[u64],
        expected: Stamp,
        head: &mut Vec<u8>,
        read: impl FnOnce(&Encoded<'_>) -> Result<T, SourceError>,
    ) -> Result<Option<T>, SourceError> {
        if let Some(shards) = &self.shards {
            let at = self.number_of(file);
            let shard = match shards.get(at, expected) {
                Some(shard) => shard,
                None => {
                    let opened = self.open(folder, file)?.ok_or_else(|| self.changed(file))?;
                    let (stamp, size_bytes) = self.opened_state(&opened, file)?;
                    if stamp != expected {
                        return Err(self.changed(file));
                    }
                    let shard = self.open_shard(file, opened, stamp, size_bytes)?;
                    shards.put(at, &shard);
                    shard
                }
            };
            let within: Vec<u64> = leaf.iter().zip(&self.inner_grid).map(|(leaf, inner)| leaf % inner).collect();
            let slot = shard.slots.get(ravel(&within, &self.inner_grid) as usize).copied().flatten();
            let outcome = match slot {
                Some((offset, len)) => {
                    let head = self.head(&shard.file, file, offset, len, head);
                    head.and_then(|head| read(&Encoded { opened: &shard.file, file, offset, len, head })).map(Some)
                }
                None => Ok(None),
            };
            self.check_unchanged(&shard.file, file, expected)?;
            return outcome;
        }
        let opened = self.open(folder, file)?.ok_or_else(|| self.changed(file))?;
        // A small file is read before it is known to be one, which spares another look at its stamp.
        let n_read = if self.is_small.load(Relaxed) { self.read_start(&opened, file, head)? } else { 0 };
        let (stamp, len) = self.opened_state(&opened, file)?;
        if stamp != expected {
            return Err(self.changed(file));
        }
        if n_read as u64 == len && n_read > 0 {
            return read(&Encoded { opened: &opened, file, offset: 0, len, head: &head[..n_read] }).map(Some);
        }
        self.is_small.store(self.head_bytes(len) == len, Relaxed);
        let head = self.head(&opened, file, 0, len, head);
        let outcome = head.and_then(|head| read(&Encoded { opened: &opened, file, offset: 0, len, head }));
        self.check_unchanged(&opened, file, expected)?;
        outcome.map(Some)
    }

    /// Reads the index of a shard just opened.
    fn open_shard(
        &self,
        file: &[u64],
        opened: Opened,
        stamp: Stamp,
        size_bytes: u64,
    ) -> Result<Arc<OpenShard>, SourceError> {
        let Some(shards) = &self.shards else { return Err(self.corrupt(file, "not a shard".into())) };
        let index_bytes = shards.codec.encoded_bytes;
        let Some(last) = size_bytes.checked_sub(index_bytes) else {
            return Err(self.corrupt(file, format!("a shard of {size_bytes} bytes, less than its index")));
        };
        let mut encoded = vec![0; index_bytes as usize];
        self.pread(&opened, file, if shards.index_at_end { last } else { 0 }, &mut encoded)?;
        let entries = shards.codec.decode(encoded).map_err(|why| self.corrupt(file, format!("shard index: {why}")))?;
        let slots = shards.slots(entries, size_bytes).map_err(|why| self.corrupt(file, why))?;
        Ok(Arc::new(OpenShard { file: opened, stamp, slots }))
    }

    fn header(&self, raw: &[u8; HEADER_BYTES], encoded_bytes: u64) -> Result<Header, String> {
        let header = Header::parse(raw, self.leaf_bytes, encoded_bytes)?;
        if !header.is_stored() {
            self.block_bytes.fetch_max(header.block_bytes, Relaxed);
        }
        Ok(header)
    }

    fn count_decoded(&self, blocks: u64, bytes: u64) {
        Counters::add(&self.counters.blocks, blocks);
        Counters::add(&self.counters.decoded_bytes, bytes);
    }

    fn io(&self, file: &[u64], action: &'static str, error: io::Error) -> SourceError {
        SourceError::Io { array: self.array.path.clone(), key: self.key(file), action, error }
    }

    /// That a file makes no sense.
    pub fn corrupt(&self, file: &[u64], why: String) -> SourceError {
        SourceError::Corrupt { array: self.array.path.clone(), key: self.key(file), why }
    }

    /// That a file makes no sense, and may be in the middle of being written.
    pub fn torn(&self, file: &[u64], why: String) -> SourceError {
        SourceError::Torn { array: self.array.path.clone(), key: self.key(file), why }
    }

    /// That a file is not in the state that was asked for.
    pub fn changed(&self, file: &[u64]) -> SourceError {
        SourceError::Changed { array: self.array.path.clone(), key: self.key(file) }
    }

    /// The files on which a region of the array draws, as a region of file grid indices.
    pub fn files_of(&self, region: &Region) -> Region {
        region.cells(&self.array.file_shape)
    }
}

fn grid(shape: &[u64], file_shape: &[u64]) -> Vec<u64> {
    shape.iter().zip(file_shape).map(|(len, file)| len.div_ceil(*file)).collect()
}
