//! Source chunks of strings, decoded: those used last are kept, within a bound on memory.

use crate::cache::{Cache, Ticket};
use crate::geometry::{EncodedOrder, Region, ravel};
use crate::source::{ArrayReader, FoundStrings, SourceError, Stamp, Strings};
use crate::zarr::{SourceArray, format_bytes};
use std::sync::{Arc, Mutex, PoisonError};

/// Leaves that can be decoded at the same time: each at most once, those with the same remainder one after the other.
const LOCKS: u64 = 256;

/// The leaves of one array.
pub(in crate::materialize) struct SourceLeaves<'a> {
    array: &'a SourceArray,
    reader: &'a ArrayReader,
    /// Knows the version of each file that is to be read.
    stamp_of: &'a (dyn Fn(&[u64]) -> Result<Stamp, SourceError> + Sync),
    order: EncodedOrder,
    /// Leaves along each axis.
    grid: Vec<u64>,
    kept: Arc<Cache<u64, Arc<Held>>>,
    locks: Vec<Mutex<()>>,
}

/// A decoded leaf, and the right to the memory that it takes, if it is kept.
struct Held {
    strings: Strings,
    _ticket: Option<Ticket>,
}

/// What there is of a leaf.
pub(in crate::materialize) enum Found<'a> {
    /// No such leaf.
    Absent,
    /// It does not fit into the memory for it.
    TooLarge,
    /// Its elements.
    Here(Leaf<'a>),
}

/// A decoded leaf, and where it lies in the array.
pub(in crate::materialize) struct Leaf<'a> {
    held: Arc<Held>,
    strides: &'a [u64],
    pub(in crate::materialize) region: Region,
}

impl Leaf<'_> {
    /// The element at `at`, which lies in the leaf's region.
    pub(in crate::materialize) fn element(&self, at: &[u64]) -> &[u8] {
        let axes = at.iter().zip(&self.region.start).zip(self.strides);
        self.held.strings.get(axes.map(|((at, start), stride)| (at - start) * stride).sum())
    }
}

impl<'a> SourceLeaves<'a> {
    /// For leaves of `array`, of which `kept_bytes` are kept.
    pub(in crate::materialize) fn new(
        array: &'a SourceArray,
        reader: &'a ArrayReader,
        stamp_of: &'a (dyn Fn(&[u64]) -> Result<Stamp, SourceError> + Sync),
        kept_bytes: u64,
    ) -> Self {
        SourceLeaves {
            array,
            reader,
            stamp_of,
            order: EncodedOrder::new(&array.leaf_shape, &array.order()),
            grid: array.shape.iter().zip(&array.leaf_shape).map(|(len, leaf)| len.div_ceil(*leaf)).collect(),
            kept: Cache::new(kept_bytes),
            locks: (0..LOCKS).map(|_| Mutex::default()).collect(),
        }
    }

    /// The elements of `leaf`, decoded if they are not at hand, within `most_bytes`.
    pub(in crate::materialize) fn get(&self, leaf: &[u64], most_bytes: u64) -> Result<Found<'_>, SourceError> {
        let stamp = (self.stamp_of)(&self.reader.file_of(leaf))?;
        if !stamp.is_present() {
            return Ok(Found::Absent);
        }
        let at = ravel(leaf, &self.grid);
        // Whoever comes second waits for what the first one decodes.
        let _turn = self.locks[(at % LOCKS) as usize].lock().unwrap_or_else(PoisonError::into_inner);
        let held = match self.kept.get(&at) {
            Some(held) => held,
            None => match self.reader.read_strings(leaf, stamp, most_bytes)? {
                FoundStrings::Absent => return Ok(Found::Absent),
                FoundStrings::TooLarge => return Ok(Found::TooLarge),
                FoundStrings::Here(strings) => self.keep(at, strings),
            },
        };
        let region = Region::of_cell(leaf, &self.array.leaf_shape);
        Ok(Found::Here(Leaf { held, strides: self.order.strides(), region }))
    }

    fn keep(&self, at: u64, strings: Strings) -> Arc<Held> {
        let bytes = strings.held_bytes();
        let fits = bytes <= self.kept.capacity_bytes();
        let ticket = if fits { self.kept.try_request(bytes) } else { None };
        let is_kept = ticket.is_some();
        let held = Arc::new(Held { strings, _ticket: ticket });
        if is_kept {
            self.kept.insert(at, Arc::clone(&held));
        }
        held
    }

    /// The error of a leaf that is too large for all the memory there is.
    pub(in crate::materialize) fn too_large(&self, leaf: &[u64], memory_bytes: u64) -> SourceError {
        let key = self.reader.key(&self.reader.file_of(leaf));
        let memory = format_bytes(u128::from(memory_bytes));
        let why = format!(
            "chunk file {key}: a chunk in it takes more than the {memory} of memory that are allowed, if it is not \
             damaged: give more --memory"
        );
        SourceError::Unsupported { array: self.array.path.clone(), why }
    }
}

impl std::fmt::Debug for SourceLeaves<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SourceLeaves").field("array", &self.array.path).finish_non_exhaustive()
    }
}
