//! The sink of a copy: units become chunk files, or parts of shards.

use super::CopyError;
use super::array::ArrayCopy;
use super::commits::{Became, Commits};
use super::done::Done;
use super::encode::is_fill;
use super::engine::Sink;
use super::files::Folder;
use super::progress::Progress;
use super::shards::{Shards, Slab};
use super::standing::Standing;
use crate::geometry::{Pieces, Region, TileId, ravel};
use rayon::prelude::*;

/// Inner chunks that one thread encodes in a row, at the least: small ones take less time than handing them out.
const RUN_OF_CHUNKS: usize = 32;

/// Writes one array.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    pub(super) at: u32,
    pub(super) array: &'a ArrayCopy,
    pub(super) units: &'a Pieces,
    pub(super) folder: Folder,
    /// Files that an earlier run has written.
    pub(super) done: &'a Done,
    /// The only files that are to be written, and the tiles that have them; all where it is missing.
    pub(super) only: Option<(&'a Done, Vec<TileId>)>,
    /// Files that are there already, of which those that are the same stay.
    pub(super) standing: Option<&'a Standing<'a>>,
    /// An earlier run may have left files that no commit names.
    pub(super) is_resumed: bool,
    pub(super) shards: Shards,
    pub(super) commits: &'a Commits,
    pub(super) progress: &'a Progress,
}

impl Writer<'_> {
    /// Whether any unit that `region` touches is still to be made.
    pub(super) fn wants_any(&self, region: &Region) -> bool {
        let wants = |indices: Vec<u64>| self.wants(ravel(&indices, self.units.piece_grid()));
        self.units.touched(region).positions().any(wants)
    }

    /// All of a target file is there, or need not be.
    fn is_done(&self, file: u64, written_bytes: Option<u64>) -> Result<(), CopyError> {
        match written_bytes {
            Some(bytes) => {
                Progress::add(&self.progress.files, 1);
                Progress::add(&self.progress.written_bytes, bytes);
            }
            None if self.is_resumed => self.folder.remove(&self.array.written_name(file))?,
            None => {}
        }
        self.commits.file(self.at, file, written_bytes.map_or(Became::Nothing, Became::Written));
        Ok(())
    }

    /// Whether all of a target file is there as it is to be, of which `unit` is a part; without its bytes that is all fill
    /// value. A shard that is made in parts is made in any case: the last of them tells.
    fn stays(&self, unit: u64, bytes: Option<&[u8]>) -> bool {
        let Some(standing) = self.standing else { return false };
        let file = self.units.chunk_of(unit).0;
        let is_same = standing.holds(self.array, (file, &self.units.piece_region(unit)), bytes, self.progress);
        if self.units.per_chunk() > 1 {
            standing.note(file, is_same);
            return false;
        }
        if is_same {
            self.commits.file(self.at, file, Became::AsItWas);
        }
        is_same
    }

    /// Elements of the array that a unit holds count as done.
    fn count(&self, unit: u64) {
        let region = self.units.piece_region(unit).clipped(&self.array.source().shape);
        Progress::add(&self.progress.done_bytes, self.units.region_bytes(&region));
    }

    fn put_chunk(&self, file: u64, region: &Region, bytes: &[u8]) -> Result<(), CopyError> {
        crate::drill::at("encode");
        let encoded = Progress::timed(&self.progress.encode_ns, || self.encode(region, bytes, region))?;
        let Some(encoded) = encoded else { return self.is_done(file, None) };
        let key = self.array.written_name(file);
        Progress::timed(&self.progress.write_ns, || self.folder.write(&key, &encoded))?;
        self.is_done(file, Some(encoded.len() as u64))
    }

    /// Encodes `chunk`, a part of the unit at `region`; `None` where it is all fill value.
    fn encode<'b>(
        &self,
        region: &Region,
        bytes: &'b [u8],
        chunk: &Region,
    ) -> Result<Option<std::borrow::Cow<'b, [u8]>>, CopyError> {
        let source = self.array.source();
        let elements = self.array.encoder.gather(region, bytes, chunk, source.item_bytes);
        if is_fill(&elements, &source.fill) {
            return Ok(None);
        }
        let encoded = self.array.encoder.encode(elements);
        encoded.map(Some).map_err(|why| CopyError::Codec { array: source.path.clone(), why })
    }

    /// Encodes the inner chunks of a unit, in the order in which they lie in their shard.
    fn slab<'b>(&self, region: &Region, bytes: &'b [u8]) -> Result<Slab<'b>, CopyError> {
        let chunks: Vec<Vec<u64>> = region.cells(self.array.chunk_shape()).positions().collect();
        let encode = |cell: &Vec<u64>| {
            let chunk = Region::of_cell(cell, self.array.chunk_shape());
            Progress::timed(&self.progress.encode_ns, || self.encode(region, bytes, &chunk))
        };
        chunks.par_iter().with_min_len(RUN_OF_CHUNKS).map(encode).collect()
    }

    fn put_slab(&self, unit: u64, slab: Slab<'_>) -> Result<(), CopyError> {
        let (file, nth) = self.units.chunk_of(unit);
        let key = || self.array.written_name(file);
        let written =
            Progress::timed(&self.progress.write_ns, || self.shards.put(&self.folder, file, nth, slab, &key))?;
        match written {
            None => Ok(()),
            Some(_) if self.standing.is_some_and(|standing| standing.all_same(file)) => {
                self.commits.file(self.at, file, Became::AsItWas);
                self.folder.remove(&key())
            }
            Some(bytes) => self.is_done(file, bytes),
        }
    }
}

impl Sink for Writer<'_> {
    fn wants(&self, unit: u64) -> bool {
        let file = self.units.chunk_of(unit).0;
        self.only.as_ref().is_none_or(|(only, _)| only.has(file)) && !self.done.has(file)
    }

    fn tiles(&self) -> Option<&[TileId]> {
        self.only.as_ref().map(|(_, tiles)| tiles.as_slice())
    }

    fn put(&self, unit: u64, bytes: &[u8]) -> Result<(), CopyError> {
        let region = self.units.piece_region(unit);
        if self.stays(unit, Some(bytes)) {
            self.count(unit);
            return Ok(());
        }
        if self.array.is_sharded() {
            let slab = self.slab(&region, bytes)?;
            self.put_slab(unit, slab)?;
        } else {
            self.put_chunk(self.units.chunk_of(unit).0, &region, bytes)?;
        }
        self.count(unit);
        Ok(())
    }

    fn put_fill(&self, unit: u64) -> Result<(), CopyError> {
        if self.stays(unit, None) {
            self.count(unit);
            return Ok(());
        }
        if self.array.is_sharded() {
            let region = self.units.piece_region(unit);
            let n_chunks = region.cells(self.array.chunk_shape()).n_elems();
            self.put_slab(unit, (0..n_chunks).map(|_| None).collect())?;
        } else {
            self.is_done(self.units.chunk_of(unit).0, None)?;
        }
        self.count(unit);
        Ok(())
    }

    fn put_nothing(&self, unit: u64) -> Result<(), CopyError> {
        let file = self.units.chunk_of(unit).0;
        self.shards.spoil(file);
        self.commits.left_out(self.at, file);
        self.count(unit);
        // A shard may have been begun, and a run before this one may have left anything.
        self.folder.remove(&self.array.written_name(file))
    }
}
