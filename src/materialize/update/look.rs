//! What has changed since a copy was made: everything that is to be done is known before anything is.

use super::passed::{Found, Passed};
use super::scan::{Scan, beyond, recut};
use super::{ArrayUpdate, Kind, Sources, UpdatePlan, documents};
use crate::geometry::{Region, unravel};
use crate::materialize::array::ArrayCopy;
use crate::materialize::done::Done;
use crate::materialize::earlier::touched;
use crate::materialize::known::{self, KnownArray, KnownPassed, Unknown, Words};
use crate::materialize::passed::Passing;
use crate::materialize::progress::Progress;
use crate::materialize::{CopyError, record};
use crate::source::{Store, hierarchy};
use crate::zarr::{Asked, Came, CopyUpdate, Hierarchy, Origin, project_update};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What there is to do.
pub(super) struct Look {
    /// Canonical.
    pub(super) target: PathBuf,
    pub(super) update: CopyUpdate,
    /// The documents that the copy has.
    pub(super) documents: Hierarchy,
    pub(super) arrays: Vec<ArrayCopy>,
    /// What is to be done of each of them, in their order.
    pub(super) shares: Vec<Share>,
    pub(super) known: Result<KnownPassed, Unknown>,
    /// With which words the copy was made.
    pub(super) words: Words,
    pub(super) passed: Found,
}

/// What is to be done of one array that is cut anew.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) is_fresh: bool,
    pub(super) scan: Scan,
    /// Shapes to which chunks may be cut.
    pub(super) cut_to: Vec<Vec<u64>>,
    /// The files that are to be made; all where it is missing.
    pub(super) only: Option<Done>,
    /// Files at the edges of the array that hold another part of it now.
    pub(super) recut: Done,
    /// Nothing is to be done, and what is known stays as it is.
    pub(super) is_idle: bool,
    /// Why files that are there are compared, and stay where they are the same.
    pub(super) compared: Option<&'static str>,
    /// The journal of the run that was at it and did not end.
    pub(super) run: Option<u64>,
}

impl Look {
    /// Looks at the source and its copy at `target`.
    pub(super) fn new(
        sources: &Sources<'_>,
        target: &Path,
        progress: &Progress,
        pool: &rayon::ThreadPool,
    ) -> Result<Self, CopyError> {
        let options = sources.options;
        let refuse = |error: String| CopyError::Store(error);
        let documents = hierarchy::read(target).map_err(|error| refuse(error.to_string()))?;
        let recorded =
            documents.nodes.keys().map(|path| target.join(path)).find(|folder| folder.join(record::PASSED).exists());
        let known =
            recorded.as_ref().map_or(Err(Unknown::Missing), |folder| KnownPassed::read(folder, &options.source.name()));
        let is_recorded = |path: &str| target.join(path).join(record::STAMPS).exists();
        let came = |path: &str| match &known {
            _ if is_recorded(path) => Some(Came::Cut),
            Ok(known) => known.origin(path),
            Err(_) => None,
        };
        let is_copied = |path: &str| known.as_ref().is_ok_and(|known| known.origin(path).is_some());
        let (words, given) = (recorded.as_ref().and_then(|folder| known::words(folder)), &options.words);
        let asked = Asked {
            layout: Some(sources.layout).filter(|layout| !layout.is_empty()),
            is_same_layout: words.as_ref().is_some_and(|words| words.layout == given.layout),
            codecs: sources.codecs,
            is_same_codecs: words.as_ref().is_some_and(|words| words.codecs == given.codecs),
        };
        let words = words.unwrap_or_else(|| if asked.layout.is_some() { given.clone() } else { Words::default() });
        let origin = Origin { came: &came, is_copied: &is_copied };
        let update =
            project_update(sources.hierarchy, &documents, origin, asked).map_err(|error| refuse(error.to_string()))?;
        let mut arrays = Vec::new();
        let mut shares = Vec::new();
        for copied in &update.copy.copied {
            let mut array = ArrayCopy::new(&options.source, copied.clone(), Arc::clone(sources.counters))?;
            array.is_staged = !update.fresh.contains(array.path());
            let share = pool.install(|| Share::new(&array, target, &update, &options.source, progress))?;
            arrays.push(array);
            shares.push(share);
        }
        let mut look = Look {
            target: target.to_owned(),
            update,
            documents,
            arrays,
            shares,
            known,
            words,
            passed: Found::default(),
        };
        look.passed = pool.install(|| look.passed(&options.source).look())?;
        Ok(look)
    }

    pub(super) fn passed<'a>(&'a self, source: &'a Store) -> Passed<'a> {
        let (projection, documents) = (&self.update.copy.projection, Some(&self.update.documents));
        Passed {
            passing: Passing { source, projection, documents },
            update: &self.update,
            target: &self.target,
            known: self.known.as_ref().ok(),
        }
    }

    /// In words and numbers.
    pub(super) fn plan(&self) -> UpdatePlan {
        let CopyUpdate { copy, removed, kept, fresh, .. } = &self.update;
        let mut notices: Vec<String> = copy.projection.warnings.iter().chain(&copy.notices).cloned().collect();
        for (array, share) in self.arrays.iter().zip(&self.shares) {
            if let Some(why) = share.compared {
                let name = if array.path().is_empty() { "/" } else { array.path() };
                notices.push(format!("{name}: {why}: its chunks are compared, and those that differ are written"));
            }
        }
        if let (Err(unknown), true) = (&self.known, self.passed.files > 0) {
            notices.push(format!(
                "what passes through: {}: its files are compared, and those that differ are copied",
                unknown.why()
            ));
        }
        notices.extend(removed.all().map(|path| format!("{path}: it is no longer in the source, and goes")));
        notices.extend(
            kept.all().map(|path| format!("{path}: it is not in the source, and was not copied from it: it stays")),
        );
        UpdatePlan {
            arrays: self.arrays.iter().zip(&self.shares).map(|(array, share)| share.plan(array)).collect(),
            passed_files: self.passed.files,
            passed_bytes: self.passed.bytes,
            are_passed_compared: self.known.is_err(),
            files_gone: self.passed.gone,
            documents: documents::differing(&self.update.documents, &self.documents).len() as u64,
            removed: removed.all().cloned().collect(),
            fresh: fresh.iter().cloned().collect(),
            notices,
            appends: copy.appends.clone(),
            projection: copy.projection.clone(),
        }
    }
}

impl Share {
    fn new(
        array: &ArrayCopy,
        target: &Path,
        update: &CopyUpdate,
        source: &Store,
        progress: &Progress,
    ) -> Result<Self, CopyError> {
        if update.fresh.contains(array.path()) {
            return Ok(Share {
                is_fresh: true,
                scan: Scan::default(),
                cut_to: Vec::new(),
                only: None,
                recut: Done::default(),
                is_idle: false,
                compared: None,
                run: None,
            });
        }
        let known = KnownArray::read(&target.join(array.path()), array, &source.name());
        let scan = Scan::new(array, known.as_ref().ok(), progress)?;
        Ok(match known {
            Ok(known) => {
                let mut only = touched(array, scan.changed.iter());
                let recut = recut(array, &known.cut_to);
                recut.iter().for_each(|file| only.insert(file));
                let is_cut_so = known.cut_to.iter().all(|shape| *shape == array.source().shape);
                Share {
                    is_fresh: false,
                    is_idle: is_cut_so && only.len() == 0 && scan.changed.len() == 0,
                    compared: scan.why_compare().filter(|_| only.len() > 0),
                    only: Some(only),
                    recut,
                    run: known.run,
                    cut_to: known.cut_to,
                    scan,
                }
            }
            Err(unknown) => {
                let cut_to: Vec<Vec<u64>> = update.shapes.get(array.path()).cloned().into_iter().collect();
                Share {
                    is_fresh: false,
                    only: None,
                    recut: recut(array, &cut_to),
                    is_idle: false,
                    compared: Some(unknown.why()),
                    run: None,
                    cut_to,
                    scan,
                }
            }
        })
    }

    /// Keys of files that the array does not have any more.
    pub(super) fn beyond(&self, array: &ArrayCopy) -> impl Iterator<Item = String> {
        let regions: Vec<Region> = self.cut_to.iter().flat_map(|shape| beyond(array, shape)).collect();
        let keys = array.copied.key_encoding;
        regions
            .into_iter()
            .flat_map(move |region| region.positions().map(|indices| keys.key(&indices)).collect::<Vec<_>>())
    }

    /// Files that are to be made.
    fn n_files(&self, array: &ArrayCopy) -> u64 {
        let all = Region::whole(&array.file_grid).n_elems();
        self.only.as_ref().map_or(all, Done::len)
    }

    /// Decoded bytes of the files that are to be made.
    pub(super) fn bytes(&self, array: &ArrayCopy) -> u64 {
        let Some(only) = &self.only else { return array.array_bytes() };
        let region = |file: u64| {
            let region = Region::of_cell(&unravel(file, &array.file_grid), &array.file_shape);
            region.clipped(&array.source().shape).n_elems().saturating_mul(array.item_bytes())
        };
        only.iter().map(region).fold(0, u64::saturating_add)
    }

    fn plan(&self, array: &ArrayCopy) -> ArrayUpdate {
        let source_chunks = Region::whole(array.reader.file_grid()).n_elems();
        ArrayUpdate {
            path: array.path().to_owned(),
            kind: match (self.is_fresh, self.compared, self.is_idle) {
                (true, ..) => Kind::New,
                (false, Some(_), _) => Kind::Compared,
                (false, None, true) => Kind::Same,
                (false, None, false) => Kind::Changed,
            },
            source_chunks,
            changed_source_chunks: if self.is_fresh { source_chunks } else { self.scan.changed.len() },
            chunks: Region::whole(&array.file_grid).n_elems(),
            touched_chunks: self.n_files(array),
            is_sharded: array.is_sharded(),
            bytes: self.bytes(array),
        }
    }
}
