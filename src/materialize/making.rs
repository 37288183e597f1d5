//! Makes the files of one array after the other, in one pass or in two.

use super::array::ArrayCopy;
use super::commits::Commits;
use super::done::Done;
use super::engine::{self, Work};
use super::files::Folder;
use super::journal::Spool;
use super::partition::PartOf;
use super::plan::{ArrayPlan, Means};
use super::progress::Progress;
use super::shards::Shards;
use super::spool::{Filling, SpoolFile};
use super::standing::Standing;
use super::strings::{self, StringsCopy};
use super::write::Writer;
use super::{CopyError, Options};
use crate::geometry::{LeafShare, Region, TileId, Tiling, ravel, unravel};
use crate::source::{SourceError, Workspace};
use crate::synthesis::{FromSource, Lay, Leaves};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// What all arrays of a run have in common.
#[derive(Clone, Copy)]
pub(super) struct Making<'a> {
    pub(super) options: &'a Options,
    /// The store that files are written to.
    pub(super) store: &'a Path,
    /// For temporary files.
    pub(super) temp: &'a Path,
    pub(super) commits: &'a Commits,
    pub(super) progress: &'a Progress,
    pub(super) pool: &'a rayon::ThreadPool,
    /// An earlier run may have left files there that no commit names.
    pub(super) is_resumed: bool,
    /// What cannot be read is left out, and noted.
    pub(super) keep_going: bool,
}

/// What is to be made of an array.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// Position of the array.
    pub(super) at: u32,
    pub(super) array: &'a ArrayCopy,
    /// Files that are made already.
    pub(super) done: &'a Done,
    /// The only files that are to be made; all where it is missing.
    pub(super) only: Option<&'a Done>,
    /// These are a share of the array, and stay so in later runs.
    pub(super) part: Option<PartOf>,
    /// Files that are there already, of which those that are the same stay.
    pub(super) standing: Option<&'a Standing<'a>>,
    /// How an earlier run went about it, and the bands that it has put into its temporary file.
    pub(super) begun: Option<(&'a Spool, &'a Done)>,
}

impl Wanted<'_> {
    /// Decoded bytes of the files that are to be made, those made already included; at most.
    fn bytes(&self) -> u64 {
        let all = self.array.array_bytes();
        self.only.map_or(all, |only| only.len().saturating_mul(self.array.file_bytes()).min(all))
    }

    /// What a target file holds of the array.
    fn region(&self, file: u64) -> Region {
        let region = Region::of_cell(&unravel(file, &self.array.file_grid), &self.array.file_shape);
        region.clipped(&self.array.source().shape)
    }
}

impl Making<'_> {
    /// Makes all that is wanted of an array. Returns what could not be read, where that is left out.
    pub(super) fn array(&self, wanted: Wanted<'_>) -> Result<Vec<Arc<SourceError>>, CopyError> {
        let Making { options, commits, progress, pool, keep_going, is_resumed, .. } = *self;
        let Wanted { at, array, done, only, part, standing, begun } = wanted;
        let made = done.len().saturating_mul(array.file_bytes()).min(wanted.bytes());
        Progress::add(&progress.done_bytes, made);
        Progress::add(&progress.resumed_bytes, made);
        // With `/` between indices, the last of them is the name and the others are folders.
        let has_folders = array.copied.key_encoding.separator == '/' && !array.is_staged;
        let is_sparse = has_folders && array.file_grid.last() == Some(&1);
        let folder = Folder::open(&self.store.join(array.path()), is_sparse)?;
        if array.source().is_variable() {
            let copy = StringsCopy { at, array, folder, done, only, is_resumed, commits, progress, keep_going };
            return strings::copy(&copy, options.memory_bytes, pool);
        }
        let few = only.is_some() && options.max_tile_bytes.is_none() && wanted.bytes() <= options.memory_bytes / 4;
        // A temporary file is one of the whole array, or of a share of it.
        let is_most = part.is_some() || wanted.bytes() > array.array_bytes() / 2;
        let means = Means {
            memory_bytes: options.memory_bytes,
            threads: options.threads,
            max_tile_bytes: options.max_tile_bytes,
            few,
            temp: Some(self.temp).filter(|_| is_most && !few),
            probe: true,
            always_spool: options.always_spool,
            part,
            besides_bytes: standing.map_or(0, |standing| standing.scratch_bytes),
        };
        let plan = ArrayPlan::new(array, at, means, begun.map(|(spool, _)| spool))?;
        let tiles_of = |only: &Done| -> Vec<TileId> {
            let tiles: BTreeSet<TileId> =
                only.iter().flat_map(|file| plan.tiling.tiles_of(&wanted.region(file))).collect();
            tiles.into_iter().collect()
        };
        let tiles = only.map(tiles_of);
        let spooled = part.and(tiles.clone());
        let writer = Writer {
            at,
            array,
            units: &plan.units,
            folder,
            done,
            only: only.zip(tiles),
            standing,
            is_resumed,
            commits,
            progress,
            shards: Shards::new(array, &plan.units),
        };
        let work = |leaves| Work { array, plan: &plan, leaves, sink: &writer, progress, pool, keep_going };
        let Some(spool) = &plan.spool else {
            let stamp_of = |file: &[u64]| array.stamp_of(file);
            let source = FromSource::new(&array.reader, &stamp_of);
            return match only {
                Some(only) => engine::sweep(work(&DrawnOn { source, array, only })),
                None => engine::sweep(work(&source)),
            };
        };
        let file = SpoolFile::open(array, &plan, spool.clone(), spooled)?;
        let nothing = Done::default();
        let bands = begun.filter(|_| plan.is_spool_begun).map_or(&nothing, |(_, bands)| bands);
        if !plan.is_spool_begun {
            commits.spool(at, file.spool().clone());
        }
        let filling = Filling { at, done: bands, commits, progress, pool, keep_going };
        file.fill(filling)?;
        let mut failures = Vec::new();
        for tiles in file.portions() {
            file.bring(&tiles, filling, |region| writer.wants_any(region))?;
            failures.extend(engine::sweep_tiles(work(&file), tiles)?);
        }
        file.remove()?;
        Ok(failures)
    }
}

/// The leaves of the source on which some files draw: a tile has others, too, which need not be decoded.
#[derive(Debug)]
struct DrawnOn<'a> {
    source: FromSource<'a>,
    array: &'a ArrayCopy,
    only: &'a Done,
}

impl Leaves for DrawnOn<'_> {
    fn scratch_bytes(&self, part_bytes: u64) -> u64 {
        self.source.scratch_bytes(part_bytes)
    }

    fn lay(&self, tiling: &Tiling, boxes: &[Region]) -> Lay {
        self.source.lay(tiling, boxes)
    }

    fn read(
        &self,
        share: &LeafShare,
        leaf: &[u64],
        lay: &Lay,
        workspace: &mut Workspace,
        out: &mut [u8],
    ) -> Result<bool, SourceError> {
        let array = self.array;
        let part = Region::of_cell(leaf, &array.source().leaf_shape).intersect(&share.coverage);
        let files = part.cells(&array.file_shape);
        let is_drawn_on = files.positions().any(|file| self.only.has(ravel(&file, &array.file_grid)));
        // What nobody wants is as good as absent.
        if is_drawn_on { self.source.read(share, leaf, lay, workspace, out) } else { Ok(false) }
    }
}
