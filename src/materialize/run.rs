//! A copy from its beginning to its end.

use super::array::ArrayCopy;
use super::commits::{Commits, sync_file_system};
use super::disk;
use super::done::Done;
use super::earlier::{self, Earlier};
use super::engine;
use super::journal::{self, Commit, Header, Journal};
use super::known::{self, PassedNotes};
use super::making::{Making, Wanted};
use super::partition::Part;
use super::passed::{self, Passage, Passing};
use super::progress::Progress;
use super::record;
use super::site::{self, Claimed, Permission, Site};
use super::verify::{Comparison, VerifyOptions, verify_but};
use super::{CopyError, Options, Outcome};
use crate::source::{Counters, SourceError, hierarchy};
use crate::zarr::hierarchy::{DOCUMENT, Hierarchy, NodeDocs};
use crate::zarr::{Came, CopyProjection, Projection};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

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
        let arrays = ArrayCopy::all(&options.source, copied, counters)?;
        let header =
            Header::new(&options.source.name(), texts(hierarchy), projection.documents.clone(), BTreeSet::new());
        let (journal, commits) = Journal::open(&site.journal(), &header, is_resumed)?;
        Ok((arrays, journal, commits))
    };
    let (arrays, mut journal, earlier) = match prepare() {
        Ok(prepared) => prepared,
        Err(error) => {
            if !is_resumed {
                site.abandon();
            }
            return Err(error);
        }
    };
    let earlier = earlier::recall(&arrays, earlier, &mut journal, options)?;
    let total = arrays.iter().map(ArrayCopy::array_bytes).sum();
    progress.total_bytes.store(total, std::sync::atomic::Ordering::Relaxed);
    let run = Run {
        hierarchy,
        projection: &projection,
        options,
        progress,
        arrays: &arrays,
        commits: Commits::new(folders(&site, options, &earlier), None),
        journals: vec![site.journal()],
        site: &site,
        is_resumed,
        earlier: &earlier,
        part: None,
    };
    let failures = run.all(&Mutex::new(journal))?;
    let is_changed = |error: &&Arc<SourceError>| matches!(***error, SourceError::Changed { .. });
    if let Some(changed) = failures.iter().find(is_changed).filter(|_| options.lives) {
        return Err(CopyError::source(Arc::clone(changed)));
    }
    let comparison = if failures.is_empty() { run.seal(counters)? } else { None };
    sync_file_system(&site.store())?;
    site.clear_temps()?;
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
pub(super) fn folders(site: &Site, options: &Options, earlier: &Earlier) -> Vec<PathBuf> {
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
pub(super) fn texts(hierarchy: &Hierarchy) -> BTreeMap<String, String> {
    let text = |docs: &NodeDocs| match docs {
        NodeDocs::V3(document) => document.text.clone(),
        NodeDocs::V2Array { array: document, attributes } | NodeDocs::V2Group { group: document, attributes } => {
            format!("{}\n{}", document.text, attributes.as_ref().map_or("", |attributes| &attributes.text))
        }
    };
    hierarchy.nodes.iter().map(|(path, docs)| (path.clone(), text(docs))).collect()
}

/// What a run takes: of a copy, of a share of one, or the one that finishes shares.
pub(super) struct Run<'a> {
    pub(super) hierarchy: &'a Hierarchy,
    pub(super) projection: &'a Projection,
    pub(super) options: &'a Options,
    pub(super) progress: &'a Progress,
    pub(super) arrays: &'a [ArrayCopy],
    pub(super) commits: Commits,
    /// Those in which it stands what was copied.
    pub(super) journals: Vec<PathBuf>,
    pub(super) site: &'a Site,
    /// An earlier run may have left files that no commit names.
    pub(super) is_resumed: bool,
    pub(super) earlier: &'a Earlier,
    /// The share that is made, where it is not everything.
    pub(super) part: Option<&'a Part>,
}

impl Run<'_> {
    /// Everything up to the complete, but not yet published, store. Returns what could not be read.
    fn all(&self, journal: &Mutex<Journal>) -> Result<Vec<Arc<SourceError>>, CopyError> {
        let pool = engine::pool(self.options.threads)?;
        let failures = self.commits.during(journal, self.arrays, self.progress, || self.data(&pool))?;
        if !self.options.lives {
            self.check_unchanged(&pool)?;
        }
        self.documents()?;
        Ok(failures)
    }

    /// All of a share, and the word for it in its journal.
    pub(super) fn share(&self, journal: Journal) -> Result<(), CopyError> {
        let pool = engine::pool(self.options.threads)?;
        let journal = Mutex::new(journal);
        self.commits.during(&journal, self.arrays, self.progress, || self.data(&pool))?;
        self.check_unchanged(&pool)?;
        self.site.clear_temps()?;
        site::remove(&self.site.temp(self.options.temp.as_deref()))?;
        let mut journal = journal.into_inner().unwrap_or_else(PoisonError::into_inner);
        journal.append(&Commit { is_last: true, ..Commit::default() })
    }

    /// What all shares together lack of a store that is complete.
    pub(super) fn rest(&self, counters: &Arc<Counters>) -> Result<Option<Comparison>, CopyError> {
        self.check_unchanged(&engine::pool(self.options.threads)?)?;
        self.documents()?;
        let comparison = self.seal(counters)?;
        sync_file_system(&self.site.store())?;
        Ok(comparison)
    }

    /// Writes down of what the complete store is a copy, and compares it where that is asked for.
    fn seal(&self, counters: &Arc<Counters>) -> Result<Option<Comparison>, CopyError> {
        self.write_records()?;
        if self.options.verify { self.verify(counters).map(Some) } else { Ok(None) }
    }

    fn passing(&self) -> Passing<'_> {
        Passing { source: &self.options.source, projection: self.projection, documents: None }
    }

    /// Passed files, then array after array.
    fn data(&self, pool: &rayon::ThreadPool) -> Result<Vec<Arc<SourceError>>, CopyError> {
        let done: HashSet<String> = self.earlier.passed.iter().map(|(key, _)| key.clone()).collect();
        let (store, temp) = (&self.site.store(), &self.site.temp(self.options.temp.as_deref()));
        let (commits, progress) = (&self.commits, self.progress);
        let share = self.part.map(Part::share);
        let passage = Passage { passing: self.passing(), store, done: &done, share, commits, progress };
        pool.install(|| passage.run())?;
        let Options { keep_going, .. } = *self.options;
        let is_resumed = self.is_resumed;
        let making = Making { options: self.options, store, temp, commits, progress, pool, is_resumed, keep_going };
        let nothing = Done::default();
        let mut failures = Vec::new();
        for (at, array) in (0..).zip(self.arrays) {
            let only = self.part.and_then(|part| part.files(at as usize));
            if only.as_ref().is_some_and(|only| only.len() == 0) {
                continue;
            }
            failures.extend(making.array(Wanted {
                at,
                array,
                done: self.earlier.files.get(&at).unwrap_or(&nothing),
                only: only.as_ref(),
                part: only.as_ref().zip(self.part).map(|(_, part)| part.of(at as usize, array)),
                standing: None,
                begun:
                    self.earlier.spools.get(&at).map(|spool| (spool, self.earlier.bands.get(&at).unwrap_or(&nothing))),
            })?);
        }
        Ok(failures)
    }

    /// Writes down of which state of the source the copy is, for when it is brought up to date.
    fn write_records(&self) -> Result<(), CopyError> {
        let (store, source) = (self.site.store(), &self.options.source);
        for array in self.arrays {
            let stamp = |file| array.lasting_stamp(file);
            let path = store.join(array.path()).join(record::STAMPS);
            let shape = array.source().shape.clone();
            known::write_array(&path, array, &source.name(), (&[shape], None), stamp)?;
        }
        let Some(first) = self.arrays.first() else { return Ok(()) };
        let mut notes = PassedNotes::default();
        let Projection { array_paths, group_paths, arrays, .. } = self.projection;
        // Documents are held against the source's themselves.
        let is_document = |key: &str| {
            let node = key.strip_suffix(DOCUMENT).map(|folder| folder.trim_end_matches('/'));
            node.is_some_and(|node| array_paths.iter().chain(group_paths).any(|path| path == node))
        };
        let each = |commit: Commit| -> Option<()> {
            let files = commit.passed.iter().filter(|(key, _)| !is_document(key));
            files.for_each(|(key, stamp)| notes.file(key, passed::lasting_stamp(&self.options.source, key, *stamp)));
            None
        };
        self.search(each)?;
        for path in array_paths.iter().chain(group_paths) {
            let is_cut = arrays.iter().any(|array| array.source.path == *path);
            notes.node(path, if is_cut { Came::Cut } else { Came::Passed });
        }
        let path = store.join(first.path()).join(record::PASSED);
        notes.write(&path, &source.name(), &self.options.words).map(drop)
    }

    /// A copy must be of one state of its source.
    fn check_unchanged(&self, pool: &rayon::ThreadPool) -> Result<(), CopyError> {
        if let Some(changed) = pool.install(|| earlier::first_changed(self.arrays))? {
            return Err(changed);
        }
        let of_commit = |commit: Commit| passed::first_changed(&self.options.source, &commit.passed);
        if let Some(changed) = self.search(of_commit)? {
            return Err(changed);
        }
        let now = hierarchy::read(&self.options.source).map(|now| texts(&now)).unwrap_or_default();
        let then = texts(self.hierarchy);
        match then.iter().find(|(path, text)| now.get(*path) != Some(text)) {
            Some((path, _)) => Err(CopyError::changed(format!("the metadata of '{path}'"))),
            None if now.len() != then.len() => Err(CopyError::changed("the hierarchy of the source")),
            None => Ok(()),
        }
    }

    /// Goes through all commits, one at a time, until `visit` has something to say.
    fn search<T>(&self, mut visit: impl FnMut(Commit) -> Option<T>) -> Result<Option<T>, CopyError> {
        for journal in &self.journals {
            if let Some(found) = journal::search(journal, &mut visit)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Compares the complete store with the source.
    fn verify(&self, counters: &Arc<Counters>) -> Result<Comparison, CopyError> {
        let Options { memory_bytes, threads, max_tile_bytes, ref source, .. } = *self.options;
        let options = VerifyOptions { memory_bytes, threads, sample: None, max_tile_bytes };
        // What Zarr v3 cannot say is not in the copy, which was said when it began.
        let expected = self.projection.left_out.iter().map(|array| array.path.as_str()).collect();
        let store = self.site.store();
        let comparison = verify_but(source, &(&store).into(), &expected, &options, self.progress, counters)?;
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
            disk::make_folders(&folder).map_err(|error| CopyError::io(&folder, "create it", error))?;
            let document = folder.join(DOCUMENT);
            disk::write(&document, text.as_bytes()).map_err(|error| CopyError::io(&document, "write it", error))?;
            Progress::add(&self.progress.files, 1);
            Progress::add(&self.progress.written_bytes, text.len() as u64);
        }
        Ok(())
    }
}
