//! Does what there is to do, in an order that leaves the copy a valid store at every moment: what shrinks or goes leaves
//! the documents first, then files are made and take their places, then documents follow.

use super::look::{Look, Share};
use super::records::Records;
use super::take_up::take_up;
use super::{Sources, documents};
use crate::materialize::CopyError;
use crate::materialize::array::ArrayCopy;
use crate::materialize::commits::{Commits, sync_file_system};
use crate::materialize::disk;
use crate::materialize::done::Done;
use crate::materialize::earlier::Earlier;
use crate::materialize::journal::{Header, Journal};
use crate::materialize::making::{Making, Wanted};
use crate::materialize::place::Place;
use crate::materialize::progress::Progress;
use crate::materialize::run::texts;
use crate::materialize::site::{self, Site, sync_directory};
use crate::materialize::standing::Standing;
use crate::source::SourceError;
use crate::zarr::hierarchy::DOCUMENT;
use crate::zarr::{CopyUpdate, array as array_document, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Brought {
    /// Files or documents of the copy have become others.
    pub(super) is_changed: bool,
    pub(super) is_resumed: bool,
    /// What could not be read.
    pub(super) failures: BTreeSet<String>,
    /// What changed while it was copied.
    pub(super) left: BTreeSet<String>,
    /// The documents stay as they were, since what they would show is not there.
    pub(super) are_documents_held: bool,
}

/// One run over what there is to do.
pub(super) struct Bring<'a> {
    sources: &'a Sources<'a>,
    look: &'a Look,
    site: &'a Site,
    progress: &'a Progress,
    pool: &'a rayon::ThreadPool,
    staged: PathBuf,
    place: Arc<Place>,
    commits: Commits,
    journal: Mutex<Journal>,
    earlier: Earlier,
    is_resumed: bool,
}

impl<'a> Bring<'a> {
    /// Takes up what an earlier run has left, if it was at the same.
    pub(super) fn new(
        sources: &'a Sources<'a>,
        look: &'a Look,
        site: &'a Site,
        progress: &'a Progress,
        pool: &'a rayon::ThreadPool,
    ) -> Result<Self, CopyError> {
        let (staged, path) = (site.store(), site.update_journal());
        let CopyUpdate { documents, fresh, .. } = &look.update;
        let header =
            Header::new(&sources.options.source.name(), texts(sources.hierarchy), documents.clone(), fresh.clone());
        let taken_up = if path.exists() { Journal::resume(&path, &header).ok() } else { None };
        let is_resumed = taken_up.is_some();
        let (mut journal, commits) = match taken_up {
            Some(taken_up) => taken_up,
            None => {
                site::remove(&path)?;
                site::remove(&staged)?;
                disk::make_folders(&staged).map_err(|error| CopyError::io(&staged, "create it", error))?;
                (Journal::create(&path, &header)?, Vec::new())
            }
        };
        let earlier = take_up(look, commits, &mut journal, pool)?;
        let shares = (0..).zip(look.arrays.iter().zip(&look.shares));
        let is_by_bytes =
            |(array, share): &(&ArrayCopy, &Share)| share.compared.is_some() && array.source().is_variable();
        let by_bytes = shares.filter(|(_, of)| is_by_bytes(of)).map(|(at, _)| at).collect();
        let mut folders = vec![staged.clone()];
        folders.extend(sources.options.temp.clone().filter(|temp| temp.exists()));
        let place = Arc::new(Place::new(&staged, &look.target, by_bytes));
        Ok(Bring {
            commits: Commits::new(folders, Some(Arc::clone(&place))),
            place,
            journal: Mutex::new(journal),
            earlier,
            sources,
            look,
            site,
            progress,
            pool,
            staged,
            is_resumed,
        })
    }

    fn shares(&self) -> impl Iterator<Item = (u32, &'a ArrayCopy, &'a Share)> {
        (0..).zip(&self.look.arrays).zip(&self.look.shares).map(|((at, array), share)| (at, array, share))
    }

    fn records(&self) -> Records<'_> {
        Records { source: self.sources.options.source.name(), look: self.look, beside: &self.site.partial }
    }

    fn temp(&self) -> PathBuf {
        self.site.temp(self.sources.options.temp.as_deref())
    }

    fn target(&self, path: &str) -> PathBuf {
        self.look.target.join(path)
    }

    /// Everything.
    pub(super) fn run(&self) -> Result<Brought, CopyError> {
        let total: u64 = self.shares().map(|(_, array, share)| share.bytes(array)).sum();
        Progress::add(&self.progress.total_bytes, total);
        let mut brought = Brought { is_resumed: self.is_resumed, ..Brought::default() };
        let records = self.records();
        let run = self.journal.lock().unwrap_or_else(PoisonError::into_inner).run;
        for (_, array, share) in self.shares().filter(|(_, _, share)| !share.is_fresh && !share.is_idle) {
            records.announce(array, share, run)?;
        }
        self.touch_root()?;
        self.take_out()?;
        let passed = self.look.passed(&self.sources.options.source);
        let passed = self.pool.install(|| passed.bring(&self.staged, &self.place, self.progress))?;
        self.remove_groups()?;
        let mut lacks = passed.lacks;
        brought.failures.extend(passed.failures.iter().cloned());
        brought.left.extend(passed.left.iter().cloned());
        self.commits.during(&self.journal, &self.look.arrays, self.progress, || {
            for (at, array, share) in self.shares() {
                lacks |= self.array(at, array, share, &mut brought)?;
            }
            Ok(())
        })?;
        brought.are_documents_held = lacks;
        if !lacks {
            self.put_fresh()?;
            self.documents()?;
        }
        sync_file_system(&self.look.target)?;
        records.write_passed(&passed, lacks)?;
        let update = &self.look.update;
        let n_documents = documents::differing(&update.documents, &self.look.documents).len();
        let has_shown = !lacks && (n_documents > 0 || !update.fresh.is_empty());
        brought.is_changed =
            self.place.n_changed() > 0 || has_shown || !update.removed.is_empty() || !update.interim.is_empty();
        self.touch_root()?;
        self.site.clear_temps()?;
        site::remove(&self.temp())?;
        Ok(brought)
    }

    /// Whoever keeps what was read by the time of the folder reads it again.
    fn touch_root(&self) -> Result<(), CopyError> {
        let target = &self.look.target;
        disk::touch(target).map_err(|error| CopyError::io(target, "set its time", error))
    }

    /// Takes out what the source does not have any more: of the documents first.
    fn take_out(&self) -> Result<(), CopyError> {
        let CopyUpdate { interim, removed, .. } = &self.look.update;
        let is_group = |path: &&String| self.look.update.copy.projection.group_paths.contains(*path);
        let (groups, arrays): (Vec<&String>, Vec<&String>) = interim.keys().partition(is_group);
        for path in groups.into_iter().chain(arrays) {
            documents::put(path, &interim[path], &self.site.partial, &self.look.target)?;
        }
        for path in &removed.arrays {
            self.move_away(&self.target(path))?;
        }
        for (_, array, share) in self.shares() {
            for key in share.beyond(array) {
                self.place.remove_with_folders(array.path(), &key)?;
            }
        }
        Ok(())
    }

    /// Removes groups, which are empty by now if nobody else has put anything there.
    fn remove_groups(&self) -> Result<(), CopyError> {
        for path in self.look.update.removed.groups.iter().rev() {
            self.place.remove_key(&Path::new(path).join(DOCUMENT))?;
            drop(disk::remove_folder(&self.target(path)));
        }
        Ok(())
    }

    /// A place for what goes out of the copy.
    fn gone(&self) -> Result<PathBuf, CopyError> {
        let gone = self.site.gone();
        disk::make_folders(&gone).map_err(|error| CopyError::io(&gone, "create it", error))?;
        let name = (0u64..).map(|nth| gone.join(nth.to_string())).find(|path| !path.exists());
        Ok(name.unwrap_or(gone))
    }

    /// Moves a folder out of the copy, in one step.
    fn move_away(&self, folder: &Path) -> Result<(), CopyError> {
        let moved = disk::rename(folder, &self.gone()?);
        moved.map_err(|error| CopyError::io(folder, "move it out of the copy", error))
    }

    /// Makes what is to be made of one array. Returns whether what its documents are to show is not all there.
    fn array(&self, at: u32, array: &ArrayCopy, share: &'a Share, brought: &mut Brought) -> Result<bool, CopyError> {
        if share.is_idle {
            return Ok(false);
        }
        let nothing = Done::default();
        let done = self.earlier.files.get(&at).unwrap_or(&nothing);
        let spool = self.earlier.spools.get(&at);
        let only = share.only.as_ref().map(|only| only.without(done));
        let standing = match share.compared {
            Some(_) if !array.source().is_variable() => Some(self.standing(array, share)?),
            _ => None,
        };
        let making = Making {
            options: self.sources.options,
            store: &self.staged,
            temp: &self.temp(),
            commits: &self.commits,
            progress: self.progress,
            pool: self.pool,
            is_resumed: self.is_resumed,
            keep_going: true,
        };
        let failures = making.array(Wanted {
            at,
            array,
            done: if only.is_some() { &nothing } else { done },
            only: only.as_ref(),
            part: None,
            standing: standing.as_ref(),
            begun: spool.map(|spool| (spool, self.earlier.bands.get(&at).unwrap_or(&nothing))),
        })?;
        for failure in failures {
            match &*failure {
                SourceError::Changed { array, key } => {
                    brought.left.insert(format!("array '{array}', chunk file {key}"))
                }
                error => brought.failures.insert(error.to_string()),
            };
        }
        self.commits.commit(&self.journal, &self.look.arrays)?;
        let unmade = self.commits.take_left_out(at);
        if share.is_fresh {
            if unmade.is_empty() {
                self.records().write_fresh(array, &self.staged.join(array.path()))?;
            }
            return Ok(!unmade.is_empty());
        }
        self.records().settle(array, share, &unmade)?;
        Ok(!unmade.is_empty() && self.look.update.grown.contains(array.path()))
    }

    /// The files of an array that are there.
    fn standing(&self, array: &ArrayCopy, share: &'a Share) -> Result<Standing<'a>, CopyError> {
        let path = array.path();
        let refuse = |why: String| CopyError::Store(format!("the document of '{path}': {why}"));
        let text = self.look.update.documents.get(path).map_or("{}", String::as_str);
        let document = json::parse(text).map_err(|error| refuse(error.to_string()))?;
        let described = array_document::read(path, &document).and_then(|node| node.readable).map_err(refuse)?;
        Standing::new(
            &(&self.look.target).into(),
            &described,
            &share.recut,
            self.sources.options,
            Arc::clone(self.sources.counters),
        )
    }

    /// Puts arrays that are made as a whole in their places, each by one rename.
    fn put_fresh(&self) -> Result<(), CopyError> {
        for path in &self.look.update.fresh {
            let (fresh, target) = (self.staged.join(path), self.target(path));
            // It may be without a single file.
            disk::make_folders(&fresh).map_err(|error| CopyError::io(&fresh, "create it", error))?;
            documents::write(&fresh.join(DOCUMENT), &self.look.update.documents[path])?;
            sync_file_system(&fresh)?;
            let parent = target.parent().unwrap_or(&self.look.target);
            disk::make_folders(parent).map_err(|error| CopyError::io(parent, "create it", error))?;
            site::put_in_place(&fresh, &target, &self.gone()?)?;
            sync_directory(parent)?;
        }
        Ok(())
    }

    /// Documents of arrays, then those of groups, which may hold copies of them; the root's last.
    fn documents(&self) -> Result<(), CopyError> {
        let CopyUpdate { documents, fresh, copy, .. } = &self.look.update;
        let differing =
            documents::differing(documents, &self.look.documents).into_iter().filter(|path| !fresh.contains(*path));
        let is_group = |path: &&String| copy.projection.group_paths.contains(*path);
        let (groups, arrays): (Vec<&String>, Vec<&String>) = differing.partition(is_group);
        for path in arrays.into_iter().chain(groups.into_iter().rev()) {
            documents::put(path, &documents[path], &self.site.partial, &self.look.target)?;
            Progress::add(&self.progress.files, 1);
        }
        Ok(())
    }
}
