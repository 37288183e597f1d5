//! A copy from its beginning to its end.

use super::array::ArrayCopy;
use super::commits::{Commits, sync_file_system};
use super::done::Done;
use super::engine::{self, Work};
use super::files::Folder;
use super::journal::{self, Commit, Header, Journal, Spool};
use super::passed::{self, Passage};
use super::plan::{ArrayPlan, Means};
use super::progress::Progress;
use super::shards::Shards;
use super::site::{self, Claimed, Permission, Site};
use super::spool::{Filling, SpoolFile};
use super::strings::{self, StringsCopy};
use super::verify::{Comparison, VerifyOptions, verify_but};
use super::write::Writer;
use super::{CopyError, Options, Outcome};
use crate::source::{Counters, SourceError, Stamp, hierarchy};
use crate::synthesis::{FromSource, Leaves};
use crate::zarr::hierarchy::{DOCUMENT, Hierarchy, NodeDocs};
use crate::zarr::{CopyProjection, Projection};
use rayon::prelude::*;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// What an earlier run has done.
#[derive(Debug, Default)]
struct Earlier {
    files: BTreeMap<u32, Done>,
    spools: BTreeMap<u32, Spool>,
    bands: BTreeMap<u32, Done>,
    passed: Vec<(String, u64)>,
}

/// Writes the copy of the store at `options.source`, which `hierarchy` and `projection` describe.
///
/// # Errors
/// [`CopyError`]; what was committed stays beside the target, for a run with [`Options::resume`].
pub fn copy(
    hierarchy: &Hierarchy,
    projection: CopyProjection,
    options: &Options,
    progress: &Progress,
    counters: &Arc<Counters>,
) -> Result<Outcome, CopyError> {
    let permission = Permission { overwrite: options.overwrite, resume: options.resume };
    let (site, is_resumed) = match Site::claim(&options.source, &options.target, permission)? {
        Claimed::Site(site, is_resumed) => (site, is_resumed),
        Claimed::Complete => {
            return Ok(Outcome { is_resumed: true, failures: Vec::new(), incomplete: None, comparison: None });
        }
    };
    let CopyProjection { projection, copied, .. } = projection;
    let prepare = || -> Result<_, CopyError> {
        let arrays = copied
            .into_iter()
            .map(|copied| ArrayCopy::new(&options.source, copied, Arc::clone(counters)))
            .collect::<Result<Vec<_>, _>>()?;
        let header = Header::new(&options.source, texts(hierarchy), projection.documents.clone());
        let (journal, commits) = if is_resumed {
            Journal::resume(&site.journal(), &header)?
        } else {
            (Journal::create(&site.journal(), &header)?, Vec::new())
        };
        Ok((arrays, journal, commits))
    };
    let (arrays, journal, earlier) = match prepare() {
        Ok(prepared) => prepared,
        Err(error) => {
            if !is_resumed {
                site.abandon();
            }
            return Err(error);
        }
    };
    let earlier = recall(&arrays, earlier, options)?;
    let total = arrays.iter().map(ArrayCopy::array_bytes).sum();
    progress.total_bytes.store(total, std::sync::atomic::Ordering::Relaxed);
    let run = Run {
        hierarchy,
        projection: &projection,
        options,
        progress,
        arrays: &arrays,
        commits: Commits::new(folders(&site, options, &earlier)),
        journal: Mutex::new(journal),
        site: &site,
        is_resumed,
        earlier: &earlier,
    };
    let failures = run.all()?;
    let comparison = if options.verify { Some(run.verify(counters)?) } else { None };
    sync_file_system(&site.store())?;
    site::remove(&site.temp(options.temp.as_deref()))?;
    let mut failures: Vec<String> = failures.iter().map(ToString::to_string).collect();
    failures.sort();
    failures.dedup();
    let incomplete = (!failures.is_empty()).then(|| site.store());
    if incomplete.is_none() {
        site.publish()?;
        progress.complete();
        site.clear_away()?;
    }
    Ok(Outcome { is_resumed, failures, incomplete, comparison })
}

/// What is on the file systems that are written to.
fn folders(site: &Site, options: &Options, earlier: &Earlier) -> Vec<PathBuf> {
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    // Temporary files stay where they were begun.
    let begun = earlier.spools.values().filter_map(|spool| spool.path.parent().map(Path::to_owned));
    let mut folders = vec![site.store()];
    for folder in begun.chain(options.temp.clone()) {
        if device(&folder).is_some() && folders.iter().all(|known| device(known) != device(&folder)) {
            folders.push(folder);
        }
    }
    folders
}

/// The texts of a source's documents, by path.
fn texts(hierarchy: &Hierarchy) -> BTreeMap<String, String> {
    let text = |docs: &NodeDocs| match docs {
        NodeDocs::V3(document) => document.text.clone(),
        NodeDocs::V2Array { array: document, attributes } | NodeDocs::V2Group { group: document, attributes } => {
            format!("{}\n{}", document.text, attributes.as_ref().map_or("", |attributes| &attributes.text))
        }
    };
    hierarchy.nodes.iter().map(|(path, docs)| (path.clone(), text(docs))).collect()
}

/// Takes over what an earlier run has committed, if the source is still what it was then.
fn recall(arrays: &[ArrayCopy], commits: Vec<Commit>, options: &Options) -> Result<Earlier, CopyError> {
    let mut earlier = Earlier::default();
    for commit in commits {
        for (at, done) in commit.arrays {
            earlier.files.entry(at).or_default().extend(&done.files);
            if let Some(spool) = done.spool {
                // Whatever lies in the file by another plan is of no use.
                earlier.bands.remove(&at);
                earlier.spools.insert(at, spool);
            }
            earlier.bands.entry(at).or_default().extend(&done.bands);
            let Some(array) = arrays.get(at as usize) else { continue };
            for (file, stamp) in done.stamps {
                array.stamps.settle(file, Stamp::from_raw(stamp).unwrap_or(Stamp::ABSENT));
            }
        }
        earlier.passed.extend(commit.passed);
    }
    let changed = match first_changed(arrays)? {
        None => passed::first_changed(&options.source, &earlier.passed),
        changed => changed,
    };
    match changed {
        Some(CopyError::Changed { what }) => {
            let what = format!("{what} has changed in the source since");
            Err(CopyError::CannotResume { partial: super::partial_of(&options.target), what })
        }
        _ => Ok(earlier),
    }
}

/// The first source chunk file that is no longer what was copied.
fn first_changed(arrays: &[ArrayCopy]) -> Result<Option<CopyError>, CopyError> {
    for array in arrays {
        let stamps = array.stamps.all();
        let found: Result<Vec<_>, _> = stamps.par_chunks(1024).map(|stamps| array.first_changed(stamps)).collect();
        if let Some(key) = found?.into_iter().flatten().next() {
            return Ok(Some(CopyError::Changed { what: format!("array '{}', chunk file {key}", array.path()) }));
        }
    }
    Ok(None)
}

struct Run<'a> {
    hierarchy: &'a Hierarchy,
    projection: &'a Projection,
    options: &'a Options,
    progress: &'a Progress,
    arrays: &'a [ArrayCopy],
    commits: Commits,
    journal: Mutex<Journal>,
    site: &'a Site,
    is_resumed: bool,
    earlier: &'a Earlier,
}

impl Run<'_> {
    /// Everything up to the complete, but not yet published, store. Returns what could not be read.
    fn all(&self) -> Result<Vec<Arc<SourceError>>, CopyError> {
        let pool = engine::pool(self.options.threads)?;
        let committer = |copying: &dyn Fn() -> Result<Vec<_>, CopyError>| {
            std::thread::scope(|scope| {
                let committing = scope.spawn(|| {
                    let result = self.commits.run(&self.journal, self.arrays);
                    if result.is_err() {
                        // The copy ends where its progress cannot be kept.
                        self.progress.stop();
                    }
                    result
                });
                let copied = copying();
                self.commits.end();
                let committed = committing.join().unwrap_or(Ok(()));
                committed.and(copied)
            })
        };
        let copied = committer(&|| self.data(&pool));
        // Also of a copy that was stopped: what is done is kept. Its own error is the one to tell.
        let committed = self.commits.commit(&self.journal, self.arrays);
        let failures = copied?;
        committed?;
        self.check_unchanged(&pool)?;
        self.documents()?;
        Ok(failures)
    }

    /// Passed files, then array after array.
    fn data(&self, pool: &rayon::ThreadPool) -> Result<Vec<Arc<SourceError>>, CopyError> {
        let done: HashSet<String> = self.earlier.passed.iter().map(|(key, _)| key.clone()).collect();
        let passage = Passage {
            source: &self.options.source,
            store: &self.site.store(),
            projection: self.projection,
            done: &done,
            commits: &self.commits,
            progress: self.progress,
        };
        pool.install(|| passage.run())?;
        let mut failures = Vec::new();
        for (at, array) in self.arrays.iter().enumerate() {
            failures.extend(self.array(at as u32, array, pool)?);
        }
        Ok(failures)
    }

    fn array(&self, at: u32, array: &ArrayCopy, pool: &rayon::ThreadPool) -> Result<Vec<Arc<SourceError>>, CopyError> {
        let nothing = Done::default();
        let done = self.earlier.files.get(&at).unwrap_or(&nothing);
        self.count_resumed(array, done);
        // With `/` between indices, the last of them is the name and the others are folders.
        let is_sparse = array.copied.key_encoding.separator == '/' && array.file_grid.last() == Some(&1);
        let folder = Folder::open(&self.site.store().join(array.path()), is_sparse)?;
        let (commits, progress, keep_going) = (&self.commits, self.progress, self.options.keep_going);
        if array.source().is_variable() {
            let is_resumed = self.is_resumed;
            let copy = StringsCopy { at, array, folder, done, is_resumed, commits, progress, keep_going };
            return strings::copy(&copy, self.options.memory_bytes, pool);
        }
        let temp = self.site.temp(self.options.temp.as_deref());
        let means = Means {
            memory_bytes: self.options.memory_bytes,
            threads: self.options.threads,
            max_tile_bytes: self.options.max_tile_bytes,
            few: false,
            temp: Some(&temp),
            probe: true,
            always_spool: self.options.always_spool,
        };
        let begun = self.earlier.spools.get(&at);
        let plan = ArrayPlan::new(array, at, means, begun)?;
        let writer = Writer {
            at,
            array,
            units: &plan.units,
            folder,
            done,
            is_resumed: self.is_resumed,
            commits: &self.commits,
            progress: self.progress,
            shards: Shards::new(array, &plan.units),
        };
        let sweep = |leaves: &dyn Leaves, tiles: Range<u64>| {
            let work = Work {
                array,
                plan: &plan,
                leaves,
                sink: &writer,
                progress: self.progress,
                pool,
                keep_going: self.options.keep_going,
            };
            engine::sweep_tiles(work, tiles)
        };
        let Some(spool) = &plan.spool else {
            let leaves = FromSource { reader: &array.reader, stamp_of: &|file| array.stamp_of(file) };
            return sweep(&leaves, 0..plan.tiling.n_tiles());
        };
        let file = SpoolFile::open(array, &plan, spool.clone())?;
        let bands = if plan.is_spool_begun { self.earlier.bands.get(&at) } else { None };
        let bands = bands.unwrap_or(&nothing);
        if !plan.is_spool_begun {
            self.commits.spool(at, file.spool().clone());
        }
        let filling = Filling { at, done: bands, commits, progress, pool, keep_going };
        file.fill(filling)?;
        let mut failures = Vec::new();
        for tiles in file.portions() {
            file.bring(&tiles, filling, |region| writer.wants_any(region))?;
            failures.extend(sweep(&file, tiles)?);
        }
        file.remove()?;
        Ok(failures)
    }

    fn count_resumed(&self, array: &ArrayCopy, done: &Done) {
        let bytes = done.len().saturating_mul(array.file_bytes()).min(array.array_bytes());
        Progress::add(&self.progress.done_bytes, bytes);
        Progress::add(&self.progress.resumed_bytes, bytes);
    }

    /// A copy must be of one state of its source.
    fn check_unchanged(&self, pool: &rayon::ThreadPool) -> Result<(), CopyError> {
        if let Some(changed) = pool.install(|| first_changed(self.arrays))? {
            return Err(changed);
        }
        let of_commit = |commit: Commit| passed::first_changed(&self.options.source, &commit.passed);
        if let Some(changed) = journal::search(&self.site.journal(), of_commit)? {
            return Err(changed);
        }
        let now = hierarchy::read(&self.options.source).map(|now| texts(&now)).unwrap_or_default();
        let then = texts(self.hierarchy);
        match then.iter().find(|(path, text)| now.get(*path) != Some(text)) {
            Some((path, _)) => Err(CopyError::Changed { what: format!("the metadata of '{path}'") }),
            None if now.len() != then.len() => {
                Err(CopyError::Changed { what: "the hierarchy of the source".to_owned() })
            }
            None => Ok(()),
        }
    }

    /// Compares the complete store with the source.
    fn verify(&self, counters: &Arc<Counters>) -> Result<Comparison, CopyError> {
        let Options { memory_bytes, threads, max_tile_bytes, ref source, .. } = *self.options;
        let options = VerifyOptions { memory_bytes, threads, sample: None, max_tile_bytes };
        // What Zarr v3 cannot say is not in the copy, which was said when it began.
        let expected = self.projection.left_out.iter().map(|array| array.path.as_str()).collect();
        let store = self.site.store();
        let comparison = verify_but(source, &store, &expected, &options, self.progress, counters)?;
        if comparison.is_equal() {
            Ok(comparison)
        } else {
            Err(CopyError::Unverified { store, comparison: Box::new(comparison) })
        }
    }

    /// Writes the documents, the root's last: only with it is there a store.
    fn documents(&self) -> Result<(), CopyError> {
        for (path, text) in self.projection.documents.iter().rev() {
            let folder = self.site.store().join(path);
            fs::create_dir_all(&folder).map_err(|error| CopyError::io(&folder, "create it", error))?;
            let document = folder.join(DOCUMENT);
            fs::write(&document, text).map_err(|error| CopyError::io(&document, "write it", error))?;
            Progress::add(&self.progress.files, 1);
            Progress::add(&self.progress.written_bytes, text.len() as u64);
        }
        Ok(())
    }
}
