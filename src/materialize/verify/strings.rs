//! Two arrays of elements of any length held against each other: each leaf of the target against the leaves of the source
//! that have the same elements.

use super::compare::Tally;
use super::outcome::{ArrayComparison, Difference, unread};
use super::runs::{MOST_TOLD, Unequal};
use super::why_incomplete;
use crate::geometry::{Region, unravel};
use crate::materialize::CopyError;
use crate::materialize::array::ArrayCopy;
use crate::materialize::progress::Progress;
use crate::materialize::strings::{Found, Room, Shares, SourceLeaves, each_file};
use crate::source::{ArrayReader, Counters, SourceError, Store};
use crate::zarr::{SourceArray, VirtualArray, show};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Target shards kept open.
const MAX_OPEN_SHARDS: usize = 128;

/// The array in both stores.
pub(super) struct StringsPair {
    /// The source's, cut as the target is.
    pub(super) copy: ArrayCopy,
    theirs: SourceArray,
    reader: ArrayReader,
}

/// What came of one file, or of all.
#[derive(Default)]
struct Sum {
    tally: Tally,
    bytes: u64,
    failures: Vec<Arc<SourceError>>,
}

impl StringsPair {
    /// Prepares both arrays, the source's first. Reads nothing.
    pub(super) fn new(
        [source, target]: [&Store; 2],
        [ours, theirs]: [SourceArray; 2],
        counters: &Arc<Counters>,
    ) -> Result<Self, String> {
        let reader = ArrayReader::new(target, &theirs, MAX_OPEN_SHARDS, Arc::clone(counters))
            .map_err(|error| unread("target", &error))?;
        let array = VirtualArray {
            source: ours,
            chunk_shape: theirs.leaf_shape.clone(),
            shard_shape: theirs.sharding.as_ref().map(|_| theirs.file_shape.clone()),
        };
        let copy = ArrayCopy::compared(source, array, 0, Arc::clone(counters)).map_err(|error| error.to_string())?;
        Ok(StringsPair { copy, theirs, reader })
    }

    /// What a target file holds of the array.
    fn region(&self, file: u64) -> Region {
        let indices = unravel(file, &self.copy.file_grid);
        Region::of_cell(&indices, &self.copy.file_shape).clipped(&self.theirs.shape)
    }

    /// What the elements of a target file are taken to come to.
    pub(super) fn expected_bytes(&self, file: u64) -> u64 {
        self.region(file).n_elems().saturating_mul(self.copy.item_bytes())
    }

    /// Compares the target files `picked`, or all.
    pub(super) fn compare(
        &self,
        picked: Option<HashSet<u64>>,
        memory_bytes: u64,
        pool: &rayon::ThreadPool,
        progress: &Progress,
        found: &mut ArrayComparison,
    ) -> Result<(), CopyError> {
        let mut picked: Option<Vec<u64>> = picked.map(|picked| picked.into_iter().collect());
        if let Some(picked) = &mut picked {
            picked.sort_unstable();
        }
        let shares = Shares::of(memory_bytes);
        let our_stamp = |file: &[u64]| self.copy.stamp_of(file);
        let their_stamp = |file: &[u64]| self.reader.state(file).map(|state| state.stamp);
        let ours = SourceLeaves::new(self.copy.source(), &self.copy.reader, &our_stamp, shares.kept_bytes);
        // Each is wanted once.
        let theirs = SourceLeaves::new(&self.theirs, &self.reader, &their_stamp, 0);
        let all = Mutex::new(Sum::default());
        let n_files = picked.as_ref().map_or(Region::whole(&self.copy.file_grid).n_elems(), |files| files.len() as u64);
        each_file(n_files, shares, pool, progress, &|nth, room| {
            let file = picked.as_ref().map_or(nth, |files| files[nth as usize]);
            let Some(sum) = self.file(file, [&ours, &theirs], room, memory_bytes) else { return Ok(false) };
            progress.came_to(self.expected_bytes(file), sum.bytes);
            all.lock().unwrap_or_else(PoisonError::into_inner).add(sum);
            Ok(true)
        })?;
        let Sum { tally, bytes, failures } = all.into_inner().unwrap_or_else(PoisonError::into_inner);
        (found.elements, found.bytes, found.differences) = (tally.elements, bytes, tally.differences);
        found.first = tally.first.iter().map(|unequal| self.told(unequal)).collect();
        found.error = why_incomplete(&failures, "source", &tally);
        Ok(())
    }

    fn told(&self, unequal: &Unequal) -> Difference {
        let (source, target) = show::pair_of_any_length(self.theirs.is_text(), &unequal.ours, &unequal.theirs);
        Difference { at: unequal.at.clone(), source, target }
    }

    /// Compares one target file; `None` where there was not the memory for it.
    fn file(&self, file: u64, [ours, theirs]: [&SourceLeaves<'_>; 2], room: Room, memory_bytes: u64) -> Option<Sum> {
        let mut sum = Sum::default();
        let region = self.region(file);
        for their_leaf in region.cells(&self.theirs.leaf_shape).positions() {
            let box_of_theirs = Region::of_cell(&their_leaf, &self.theirs.leaf_shape).intersect(&region);
            let found = match theirs.get(&their_leaf, room.leaf_bytes) {
                Ok(Found::TooLarge) if room.is_all => Err(theirs.too_large(&their_leaf, memory_bytes)),
                Ok(Found::TooLarge) => return None,
                found => found,
            };
            let found = match found {
                Ok(found) => found,
                Err(error) => {
                    sum.tally.n_unread += 1;
                    sum.tally.unread.insert(unread("target", &error));
                    continue;
                }
            };
            for leaf in box_of_theirs.cells(&self.copy.source().leaf_shape).positions() {
                let common = Region::of_cell(&leaf, &self.copy.source().leaf_shape).intersect(&box_of_theirs);
                match ours.get(&leaf, room.leaf_bytes) {
                    Ok(Found::TooLarge) if !room.is_all => return None,
                    Ok(Found::TooLarge) => sum.failures.push(Arc::new(ours.too_large(&leaf, memory_bytes))),
                    Ok(our) => sum.compare(&common, [(&our, &self.copy.source().fill), (&found, &self.theirs.fill)]),
                    Err(error) => sum.failures.push(Arc::new(error)),
                }
            }
        }
        Some(sum)
    }
}

impl Sum {
    /// Compares the elements of `region`; those of a leaf that is not there are the fill value beside it.
    fn compare(&mut self, region: &Region, sides: [(&Found<'_>, &Vec<u8>); 2]) {
        let mut first: Vec<Unequal> = Vec::new();
        let tally = &mut self.tally;
        region.for_each(|at| {
            let [ours, theirs] = sides.map(|(found, fill)| match found {
                Found::Here(leaf) => leaf.element(at),
                Found::Absent | Found::TooLarge => fill.as_slice(),
            });
            self.bytes += ours.len() as u64;
            if ours == theirs {
                return;
            }
            tally.differences += 1;
            if first.len() < MOST_TOLD {
                first.push(Unequal { at: at.to_vec(), ours: ours.to_vec(), theirs: theirs.to_vec() });
            }
        });
        tally.elements += region.n_elems();
        self.tally.tell(first);
    }

    fn add(&mut self, other: Sum) {
        let Sum { tally, bytes, failures } = other;
        self.bytes += bytes;
        self.failures.extend(failures);
        self.tally.elements += tally.elements;
        self.tally.differences += tally.differences;
        self.tally.n_unread += tally.n_unread;
        self.tally.unread.extend(tally.unread);
        self.tally.tell(tally.first);
    }
}
