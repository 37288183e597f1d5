//! Holds two stores against each other: documents by what they mean, elements bit for bit, whatever the chunks, the
//! codecs and the byte order of either.
//!
//! The chunks of one are the units in which the other is gone through, as if a copy were made of it with those chunks; each
//! unit is then held against the chunk that is there. Where memory is little, one way round may decode much more than once
//! what the other way decodes once, so that the cheaper one is taken.

mod compare;
mod documents;
mod files;
mod outcome;
mod runs;
mod sample;
mod stores;
mod strings;

pub(super) use compare::{CompareMeans, TargetArray};
pub use outcome::{ArrayComparison, Comparison, Difference, GroupComparison};
pub use sample::Sample;

use super::CopyError;
use super::array::ArrayCopy;
use super::engine::{self, Work};
use super::plan::{ArrayPlan, Means};
use super::progress::Progress;
use crate::geometry::{Region, TileId, unravel};
use crate::source::{self, Counters, SourceError};
use crate::synthesis::{FromSource, Slots};
use crate::zarr::{Readable, VirtualArray};
use compare::{Compare, Few, Tally};
use files::Folders;
use sample::Population;
use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use stores::{How, Pair, Store, files_instead, incomparable, pairs};
use strings::StringsPair;

/// Tiles of a sample are not made larger than this where the chunk is smaller: the rest would be decoded in vain.
const SAMPLE_TILE_BYTES: u64 = 4 << 20;

/// With what means two stores are compared.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// Bound on the memory of the whole process, bytes.
    pub memory_bytes: u64,
    /// Threads that decode and compare.
    pub threads: usize,
    /// Compare the elements of these chunks only; the documents all the same.
    pub sample: Option<Sample>,
    /// Tiles are no larger than this even where memory allows: for tests.
    pub max_tile_bytes: Option<u64>,
}

/// Compares the store at `target` with the one at `source`; neither is written to. What cannot be read is noted with
/// its array, and the others are compared all the same.
///
/// # Errors
/// Where a store or its documents cannot be read, or `progress` says to stop.
pub fn verify(
    source: impl Into<source::Store>,
    target: impl Into<source::Store>,
    options: &VerifyOptions,
    progress: &Progress,
    counters: &Arc<Counters>,
) -> Result<Comparison, CopyError> {
    verify_but(&source.into(), &target.into(), &BTreeSet::new(), options, progress, counters)
}

/// The same, where nodes of `expected` may be in one of the two alone.
pub(super) fn verify_but(
    source: &source::Store,
    target: &source::Store,
    expected: &BTreeSet<&str>,
    options: &VerifyOptions,
    progress: &Progress,
    counters: &Arc<Counters>,
) -> Result<Comparison, CopyError> {
    let (source, target) = (Store::read(source)?, Store::read(target)?);
    let (pairs, groups) = pairs(&source, &target, expected)?;
    let run =
        Run { source: &source, target: &target, options, progress, counters, pool: engine::pool(options.threads)? };
    let prepared = pairs.into_iter().map(|pair| run.prepare(pair)).collect::<Result<Vec<_>, _>>()?;
    let picked =
        options.sample.map(|sample| sample.pick(&prepared.iter().map(Prepared::population).collect::<Vec<_>>()));
    let sampled_chunks = picked.as_ref().map(|picked| picked.iter().map(|files| files.len() as u64).sum());
    let mut picked = picked.into_iter().flatten();
    let prepared: Vec<(Prepared, Option<HashSet<u64>>)> =
        prepared.into_iter().map(|prepared| (prepared, picked.next())).collect();
    let bytes = prepared.iter().map(|(prepared, picked)| prepared.bytes(picked.as_ref()));
    // A document may claim anything.
    let total_bytes = bytes.fold(0, u64::saturating_add);
    Progress::add(&progress.total_bytes, total_bytes);
    let arrays = prepared.into_iter().map(|(prepared, picked)| run.compare(prepared, picked));
    Ok(Comparison { arrays: arrays.collect::<Result<_, _>>()?, groups, sampled_chunks })
}

struct Run<'a> {
    source: &'a Store,
    target: &'a Store,
    options: &'a VerifyOptions,
    progress: &'a Progress,
    counters: &'a Arc<Counters>,
    pool: rayon::ThreadPool,
}

/// An array about to be compared.
struct Prepared {
    found: ArrayComparison,
    work: Prepare,
}

enum Prepare {
    Elements(Box<Elements>),
    Strings(Box<StringsPair>),
    Files(u64),
    Not,
}

/// An array that is compared element by element.
struct Elements {
    /// The one of the two that is gone through, in units of the other's chunks.
    swept: Readable,
    copy: ArrayCopy,
    held: TargetArray,
    slots: Slots,
    /// What the two are called, in this order.
    sides: [&'static str; 2],
}

impl Prepared {
    fn population(&self) -> Population {
        match &self.work {
            Prepare::Elements(elements) => {
                Population { files: elements.copy.file_grid.iter().product(), bytes: elements.copy.array_bytes() }
            }
            Prepare::Strings(pair) => {
                Population { files: pair.copy.file_grid.iter().product(), bytes: pair.copy.array_bytes() }
            }
            _ => Population { files: 0, bytes: 0 },
        }
    }

    /// Decoded bytes to be compared.
    fn bytes(&self, picked: Option<&HashSet<u64>>) -> u64 {
        match (&self.work, picked) {
            (Prepare::Elements(elements), None) => elements.copy.array_bytes(),
            (Prepare::Elements(elements), Some(picked)) => {
                let bytes = |file: &u64| elements.file_region(*file).n_elems() * elements.copy.item_bytes();
                picked.iter().map(bytes).sum()
            }
            (Prepare::Strings(pair), None) => pair.copy.array_bytes(),
            (Prepare::Strings(pair), Some(picked)) => picked.iter().map(|file| pair.expected_bytes(*file)).sum(),
            _ => 0,
        }
    }
}

impl Elements {
    /// What a target file holds of the array.
    fn file_region(&self, file: u64) -> Region {
        let indices = unravel(file, &self.copy.file_grid);
        Region::of_cell(&indices, &self.copy.file_shape).clipped(&self.copy.source().shape)
    }
}

impl Run<'_> {
    /// Builds what comparing an array takes. Codecs that cannot be built leave its files.
    fn prepare(&self, pair: Pair) -> Result<Prepared, CopyError> {
        let Pair { mut found, how } = pair;
        let work = match how {
            How::Not => Ok(Prepare::Not),
            How::Files(n_elems) => Ok(Prepare::Files(n_elems)),
            How::Elements(readables) => self.elements(*readables).map(|elements| Prepare::Elements(Box::new(elements))),
            How::Strings(arrays) => StringsPair::new([&self.source.store, &self.target.store], *arrays, self.counters)
                .map(|pair| Prepare::Strings(Box::new(pair))),
        };
        let why = match work {
            Ok(work) => return Ok(Prepared { found, work }),
            Err(why) => why,
        };
        let work = match files_instead(self.source, self.target, &found.path)? {
            Ok(How::Files(n_elems)) => Prepare::Files(n_elems),
            Ok(_) => Prepare::Not,
            Err(differing) => {
                found.error = Some(incomparable(&why, differing));
                Prepare::Not
            }
        };
        Ok(Prepared { found, work })
    }

    fn elements(&self, arrays: [Readable; 2]) -> Result<Elements, String> {
        let straight = self.elements_of(&arrays, false)?;
        // A sample is one of the target's chunks.
        if self.options.sample.is_some() {
            return Ok(straight);
        }
        let repeated_bytes = self.repeated_bytes(&straight);
        if repeated_bytes == 0 {
            return Ok(straight);
        }
        match self.elements_of(&arrays, true) {
            Ok(turned) if self.repeated_bytes(&turned) < repeated_bytes => Ok(turned),
            _ => Ok(straight),
        }
    }

    fn elements_of(&self, arrays: &[Readable; 2], is_turned: bool) -> Result<Elements, String> {
        let counters = || Arc::clone(self.counters);
        let [source, target] = arrays;
        let mut sides = [("source", self.source, source), ("target", self.target, target)];
        if is_turned {
            sides.reverse();
        }
        let [(swept_side, swept_store, swept), (held_side, held_store, held)] = sides;
        let held = TargetArray::new(&held_store.store, held, swept.endian, counters())
            .map_err(|error| outcome::unread(held_side, &error))?;
        let one_bytes = held.scratch_bytes();
        let all_bytes = one_bytes.saturating_mul(self.options.threads.max(1) as u64);
        let scratch_bytes = all_bytes.min((self.options.memory_bytes / 4).max(one_bytes));
        let array = VirtualArray {
            source: swept.source.clone(),
            chunk_shape: held.array.leaf_shape.clone(),
            shard_shape: held.array.sharding.as_ref().map(|_| held.array.file_shape.clone()),
        };
        let copy = ArrayCopy::compared(&swept_store.store, array, scratch_bytes, counters())
            .map_err(|error| error.to_string())?;
        let sides = [swept_side, held_side];
        Ok(Elements { swept: swept.clone(), copy, held, slots: Slots::new(scratch_bytes), sides })
    }

    /// What is decoded more than once when all of an array is compared; what cannot be compared in this memory counts as more
    /// than anything.
    fn repeated_bytes(&self, elements: &Elements) -> u64 {
        let plan = ArrayPlan::new(&elements.copy, 0, self.means(self.options.max_tile_bytes, false), None);
        plan.map_or(u64::MAX, |plan| plan.decoded_bytes.saturating_sub(elements.copy.leaf_bytes()))
    }

    fn means(&self, max_tile_bytes: Option<u64>, few: bool) -> Means<'static> {
        Means {
            memory_bytes: self.options.memory_bytes,
            threads: self.options.threads,
            max_tile_bytes,
            few,
            temp: None,
            probe: false,
            always_spool: false,
            part: None,
            besides_bytes: 0,
        }
    }

    /// Compares one array.
    fn compare(&self, prepared: Prepared, picked: Option<HashSet<u64>>) -> Result<ArrayComparison, CopyError> {
        let Prepared { mut found, work } = prepared;
        if self.progress.is_stopping() {
            return Err(CopyError::Stopped);
        }
        let mut compared = Ok(());
        match work {
            Prepare::Not => {}
            // A sample is one of chunks that can be told apart.
            Prepare::Files(_) if picked.is_some() => {}
            Prepare::Files(n_elems) => {
                let (source, target, path) = (&self.source.store, &self.target.store, found.path.clone());
                let folders = Folders { source, target, path: &path, progress: self.progress };
                self.pool.install(|| folders.compare(&mut found))?;
                found.elements = if found.error.is_none() { n_elems } else { 0 };
            }
            Prepare::Elements(elements) => compared = self.compare_elements(&elements, picked, &mut found),
            Prepare::Strings(pair) => {
                compared = pair.compare(picked, self.options.memory_bytes, &self.pool, self.progress, &mut found);
            }
        }
        match compared {
            Err(CopyError::Stopped) => return Err(CopyError::Stopped),
            Err(error) => found.error = Some(error.to_string()),
            Ok(()) => {}
        }
        Ok(found)
    }

    fn compare_elements(
        &self,
        elements: &Elements,
        picked: Option<HashSet<u64>>,
        found: &mut ArrayComparison,
    ) -> Result<(), CopyError> {
        let Elements { swept, copy, held, slots, sides: [swept_side, held_side] } = elements;
        if picked.as_ref().is_some_and(HashSet::is_empty) {
            return Ok(());
        }
        let picked_bytes = picked.as_ref().map(|files| copy.file_bytes().saturating_mul(files.len() as u64));
        let few = picked_bytes.is_some_and(|bytes| bytes <= self.options.memory_bytes / 4);
        let most = self.options.max_tile_bytes;
        let max_tile_bytes = match picked {
            Some(_) if !few => Some(most.unwrap_or(u64::MAX).min(copy.file_bytes().max(SAMPLE_TILE_BYTES))),
            _ => most,
        };
        let plan = ArrayPlan::new(copy, 0, self.means(max_tile_bytes, few && most.is_none()), None)?;
        let only = picked.map(|files| {
            let tiles: BTreeSet<TileId> =
                files.iter().flat_map(|file| plan.tiling.tiles_of(&elements.file_region(*file))).collect();
            Few { files, tiles: tiles.into_iter().collect() }
        });
        let compare = Compare {
            units: &plan.units,
            swept: &swept.source,
            held,
            held_side,
            slots,
            few: only,
            progress: self.progress,
            tally: Mutex::default(),
        };
        let stamp_of = |file: &[u64]| copy.stamp_of(file);
        let leaves = FromSource::new(&copy.reader, &stamp_of);
        let failures = engine::sweep(Work {
            array: copy,
            plan: &plan,
            leaves: &leaves,
            sink: &compare,
            progress: self.progress,
            pool: &self.pool,
            keep_going: true,
        });
        let tally = compare.tally.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.elements = tally.elements;
        found.bytes = tally.elements * copy.item_bytes();
        found.differences = tally.differences;
        found.first = tally.first.iter().map(|unequal| outcome::told(swept, unequal.clone(), swept_side)).collect();
        found.error = why_incomplete(&failures?, swept_side, &tally);
        Ok(())
    }
}

/// What could not be read of an array, on one line.
fn why_incomplete(failures: &[Arc<SourceError>], side: &str, tally: &Tally) -> Option<String> {
    let mut all: BTreeSet<String> = failures.iter().map(|error| outcome::unread(side, error)).collect();
    let n_more = tally.n_unread - tally.unread.len() as u64;
    all.extend(tally.unread.iter().cloned());
    let first = all.first()?;
    match all.len() as u64 - 1 + n_more {
        0 => Some(first.clone()),
        more => Some(format!("{first}; and {more} more chunks")),
    }
}
