//! The chunk files that a copy has already, held against what the source has: those that are the same stay.

use super::array::ArrayCopy;
use super::done::Done;
use super::progress::Progress;
use super::verify::{CompareMeans, TargetArray};
use super::{CopyError, Options};
use crate::geometry::Region;
use crate::source::{Counters, Store};
use crate::synthesis::Slots;
use crate::zarr::Readable;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// One array of the copy as it is.
#[derive(Debug)]
pub(super) struct Standing<'a> {
    /// Files of which what lies beyond the array is not what it should be.
    recut: &'a Done,
    target: TargetArray,
    slots: Slots,
    /// Memory that comparing takes.
    pub(super) scratch_bytes: u64,
    /// Shards of which parts were compared: whether all of these were the same.
    shards: Mutex<HashMap<u64, bool>>,
}

impl<'a> Standing<'a> {
    /// Prepares an array of the copy at `root`; `described` is what its document is to say. Reads nothing.
    pub(super) fn new(
        store: &Store,
        described: &Readable,
        recut: &'a Done,
        options: &Options,
        counters: Arc<Counters>,
    ) -> Result<Self, CopyError> {
        let target = TargetArray::new(store, described, described.endian, counters)?;
        let one_bytes = target.scratch_bytes();
        let all_bytes = one_bytes.saturating_mul(options.threads.max(1) as u64);
        let scratch_bytes = all_bytes.min((options.memory_bytes / 4).max(one_bytes));
        Ok(Standing { recut, target, slots: Slots::new(scratch_bytes), scratch_bytes, shards: Mutex::default() })
    }

    /// Whether what is there of `unit`, a part of `file`, is the same, bit for bit. What cannot be read is not.
    pub(super) fn holds(
        &self,
        array: &ArrayCopy,
        (file, unit): (u64, &Region),
        bytes: Option<&[u8]>,
        progress: &Progress,
    ) -> bool {
        if self.recut.has(file) {
            return false;
        }
        let is_same = AtomicBool::new(true);
        let means = CompareMeans { slots: &self.slots, place_ns: &progress.place_ns };
        self.target.compare(array.source(), unit, bytes, means, &|_, found| {
            if !found.is_ok_and(|found| found.count == 0) {
                is_same.store(false, Relaxed);
            }
            is_same.load(Relaxed)
        });
        is_same.into_inner()
    }

    /// Takes note of whether a part of shard `file` is the same.
    pub(super) fn note(&self, file: u64, is_same: bool) {
        *self.lock().entry(file).or_insert(true) &= is_same;
    }

    /// Whether all parts of shard `file` were the same; asked once all have been noted.
    pub(super) fn all_same(&self, file: u64) -> bool {
        self.lock().remove(&file).unwrap_or(false)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, bool>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
