//! Where a copy comes into being: beside its target, under a lock, and in its place by one rename.

use super::{CopyError, disk, journal};
use crate::source::Store;
use rustix::fs::{FlockOperation, RenameFlags};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What the folder of an unfinished copy is called: the target's name and this.
pub const PARTIAL_SUFFIX: &str = ".rechunkfs-partial";

/// The folder of an unfinished copy of `target`.
pub fn partial_of(target: &Path) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(PARTIAL_SUFFIX);
    target.with_file_name(name)
}

/// The place of a copy, held against other runs.
#[derive(Debug)]
pub(super) struct Site {
    target: PathBuf,
    /// The folder of the unfinished copy.
    pub(super) partial: PathBuf,
    /// The folder of one share of it, where it is made in shares.
    share: Option<PathBuf>,
    _locks: Vec<File>,
}

/// Who else may be at a place at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// Nobody.
    Alone,
    /// Others that share it.
    Shared,
}

/// What was found at a place.
#[derive(Debug)]
pub(super) enum Claimed {
    /// It is ours; `true` where an unfinished copy is there that is to be resumed.
    Site(Site, bool),
    /// The copy that is to be resumed is complete, and at the target.
    Complete,
}

/// What may be done with what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Permission {
    pub(super) overwrite: bool,
    pub(super) resume: bool,
}

impl Site {
    /// Takes the place of `target`; the source is `source`.
    pub(super) fn claim(source: &Store, target: &Path, permission: Permission) -> Result<Claimed, CopyError> {
        let site = Self::hold(source, target, permission, Hold::Alone)?;
        if site.is_published() {
            // A run was ended while it cleared away what it had replaced.
            if permission.resume {
                site.clear_away()?;
                return Ok(Claimed::Complete);
            }
            site.clear()?;
        }
        if let Err(error) = check_target(&site.target, permission.overwrite) {
            if !site.journal().exists() && !site.plan().exists() {
                site.abandon();
            }
            return Err(error);
        }
        if site.plan().exists() && (permission.resume || !permission.overwrite) {
            return Err(CopyError::InShares(site.partial));
        }
        let begun = site.journal().exists();
        if begun && !permission.resume && !permission.overwrite {
            return Err(CopyError::Unfinished(site.partial));
        }
        let resume = begun && permission.resume;
        if !resume {
            site.clear()?;
        }
        Ok(Claimed::Site(site, resume))
    }

    fn hold(source: &Store, target: &Path, permission: Permission, hold: Hold) -> Result<Site, CopyError> {
        let (parent, name) = resolve(target)?;
        let target = parent.join(&name);
        check_apart(source, &target.canonicalize().unwrap_or_else(|_| target.clone()))?;
        let partial = partial_of(&target);
        if !partial.exists() {
            check_target(&target, permission.overwrite)?;
        }
        Ok(Site { target, _locks: vec![lock(&partial, hold)?], partial, share: None })
    }

    /// Takes the place of `target` for a copy in shares, as it is found there.
    pub(super) fn open(source: &Store, target: &Path, permission: Permission, hold: Hold) -> Result<Site, CopyError> {
        let site = Self::hold(source, target, permission, hold)?;
        if !site.is_published() {
            check_target(&site.target, permission.overwrite)?;
        }
        Ok(site)
    }

    /// The same place, and in it that of one share, whose folder is `share`.
    pub(super) fn for_share(mut self, share: PathBuf) -> Result<Site, CopyError> {
        self._locks.push(lock(&share, Hold::Alone)?);
        Ok(Site { share: Some(share), ..self })
    }

    /// Takes the place of the copy at `target`, which is to be brought up to date from `source`.
    pub(super) fn claim_copy(source: &Store, target: &Path) -> Result<Site, CopyError> {
        let target = target.canonicalize().map_err(|error| CopyError::io(target, "open it", error))?;
        check_apart(source, &target)?;
        check_target(&target, true)?;
        let partial = partial_of(&target);
        let site = Site { target, _locks: vec![lock(&partial, Hold::Alone)?], partial, share: None };
        if site.journal().exists() && !site.is_published() {
            return Err(CopyError::Unfinished(site.partial));
        }
        if site.plan().exists() && !site.is_published() {
            return Err(CopyError::InShares(site.partial));
        }
        if !site.update_journal().exists() {
            site.clear()?;
        }
        Ok(site)
    }

    /// The copy, resolved.
    pub(super) fn target(&self) -> &Path {
        &self.target
    }

    /// The store that comes into being.
    pub(super) fn store(&self) -> PathBuf {
        self.partial.join("store")
    }

    pub(super) fn journal(&self) -> PathBuf {
        self.ours().join("journal")
    }

    /// Of what all shares of a copy are.
    pub(super) fn plan(&self) -> PathBuf {
        self.partial.join("plan")
    }

    /// The folders of shares, by their numbers.
    pub(super) fn shares(&self) -> PathBuf {
        self.partial.join("shares")
    }

    /// What of a copy that is being brought up to date is on disk for good.
    pub(super) fn update_journal(&self) -> PathBuf {
        self.partial.join("update")
    }

    /// Where what goes out of the copy is put, until it is removed.
    pub(super) fn gone(&self) -> PathBuf {
        self.partial.join("gone")
    }

    /// The folder of what is made here: the unfinished copy's, or the share's.
    fn ours(&self) -> &Path {
        self.share.as_ref().unwrap_or(&self.partial)
    }

    /// For temporary files: a folder of this copy's own, in `elsewhere` if the user names that.
    pub(super) fn temp(&self, elsewhere: Option<&Path>) -> PathBuf {
        temp_of(self.ours(), elsewhere)
    }

    /// Removes the temporary files of this share, or of this copy with all its shares, wherever the runs that the journals
    /// tell of have put them.
    pub(super) fn clear_temps(&self) -> Result<(), CopyError> {
        clear_temps_of(self.ours(), &[self.journal(), self.update_journal()])?;
        if self.share.is_some() || !self.shares().exists() {
            return Ok(());
        }
        let failed = |error| CopyError::io(&self.shares(), "read it", error);
        for share in fs::read_dir(self.shares()).map_err(failed)? {
            let share = share.map_err(failed)?.path();
            clear_temps_of(&share, &[share.join("journal")])?;
        }
        Ok(())
    }

    /// Removes all but the lock: the journal first, so that what is left never looks resumable.
    pub(super) fn clear(&self) -> Result<(), CopyError> {
        self.clear_temps()?;
        let rest = [self.store(), self.temp(None), self.partial.join("replaced"), self.gone(), self.mark()];
        for path in [self.plan(), self.journal(), self.update_journal(), self.shares()].iter().chain(&rest) {
            remove(path)?;
        }
        let store = self.store();
        disk::make_folder(&store).map_err(|error| CopyError::io(&store, "create it", error))
    }

    /// Tells, in the folder of the unfinished copy, which inode is the complete store: after an exchange `store` is the old
    /// one, and must never be taken for what is to be put in place.
    fn mark(&self) -> PathBuf {
        self.partial.join("complete")
    }

    /// Whether the copy that was made here is in its place already.
    pub(super) fn is_published(&self) -> bool {
        let marked = fs::read_to_string(self.mark()).ok().and_then(|text| text.trim().parse::<u64>().ok());
        let at_target = fs::symlink_metadata(&self.target).ok().map(|metadata| metadata.ino());
        marked.is_some() && marked == at_target
    }

    /// Puts the store, complete and on disk, in the target's place.
    pub(super) fn publish(&self) -> Result<(), CopyError> {
        let (store, target) = (self.store(), &self.target);
        let mark = self.mark();
        let marked =
            fs::metadata(&store).and_then(|metadata| disk::write(&mark, metadata.ino().to_string().as_bytes())?.sync());
        marked.map_err(|error| CopyError::io(&mark, "write it", error))?;
        sync_directory(&self.partial)?;
        put_in_place(&store, target, &self.partial.join("replaced"))?;
        sync_directory(target.parent().unwrap_or(Path::new("/")))
    }

    /// Removes what the copy leaves, once it is in its place: what it has replaced, too.
    pub(super) fn clear_away(self) -> Result<(), CopyError> {
        // The mark goes last: until then nothing here is taken for an unfinished copy.
        let begun = [self.plan(), self.journal(), self.shares()];
        for path in begun.into_iter().chain([self.store(), self.partial.join("replaced"), self.temp(None)]) {
            remove(&path)?;
        }
        remove(&self.partial)
    }

    /// Gives the place up where nothing was begun.
    pub(super) fn abandon(self) {
        // What cannot be removed now, the next run removes.
        drop(remove(&self.partial));
    }
}

/// Where temporary files go of what is made in the folder `ours`.
fn temp_of(ours: &Path, elsewhere: Option<&Path>) -> PathBuf {
    let Some(elsewhere) = elsewhere else { return ours.join("temp") };
    let mut hasher = DefaultHasher::new();
    ours.hash(&mut hasher);
    elsewhere.join(format!("rechunkfs-{:016x}", hasher.finish()))
}

/// Removes the temporary files, of what is made in the folder `ours`, that `journals` tell of.
fn clear_temps_of(ours: &Path, journals: &[PathBuf]) -> Result<(), CopyError> {
    let mut begun = BTreeSet::new();
    for journal in journals.iter().filter(|journal| journal.exists()) {
        journal::search(journal, |commit| -> Option<()> {
            let spools = commit.arrays.into_values().filter_map(|array| array.spool);
            begun.extend(spools.filter_map(|spool| spool.path.parent().map(Path::to_owned)));
            None
        })?;
    }
    // A folder that does not bear this copy's name is another's.
    let is_ours = |folder: &PathBuf| *folder == temp_of(ours, None) || *folder == temp_of(ours, folder.parent());
    begun.iter().filter(|folder| is_ours(folder)).try_for_each(|folder| remove(folder))
}

/// Puts the folder `from` in the place of `to`, in one step where the file system can. What was there is at `from` then, or
/// at `aside`.
pub(super) fn put_in_place(from: &Path, to: &Path, aside: &Path) -> Result<(), CopyError> {
    let failed = |error| CopyError::io(to, "put the copy in its place", error);
    let flags = if to.exists() { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
    match disk::rename_with(from, to, flags) {
        // File systems without these flags.
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => {
            if to.exists() {
                disk::rename(to, aside).map_err(failed)?;
            }
            disk::rename(from, to).map_err(failed)
        }
        renamed => renamed.map_err(failed),
    }
}

/// Neither may lie within the other.
fn check_apart(source: &Store, target: &Path) -> Result<(), CopyError> {
    let Store::Disk { root: source, .. } = source else { return Ok(()) };
    let source: &Path = source;
    for (inner, outer) in [(target, source), (source, target)] {
        if inner.starts_with(outer) {
            return Err(CopyError::Nested { inner: inner.to_owned(), outer: outer.to_owned() });
        }
    }
    Ok(())
}

/// The folder, resolved, and the name of a target.
fn resolve(target: &Path) -> Result<(PathBuf, OsString), CopyError> {
    let io = |path: &Path, error| CopyError::io(path, "create the copy in this folder", error);
    let absolute = std::path::absolute(target).map_err(|error| io(target, error))?;
    let Some((parent, name)) = absolute.parent().zip(absolute.file_name()) else {
        return Err(CopyError::NotReplaced { path: absolute, why: "it is no name for a copy" });
    };
    let resolved = parent.canonicalize().map_err(|error| io(parent, error))?;
    Ok((resolved, name.to_owned()))
}

/// Whether the target may be replaced, or is not there.
fn check_target(target: &Path, overwrite: bool) -> Result<(), CopyError> {
    let refuse = |why| Err(CopyError::NotReplaced { path: target.to_owned(), why });
    let metadata = match fs::symlink_metadata(target) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(CopyError::io(target, "look at it", error)),
        Ok(metadata) => metadata,
    };
    let is_empty = || fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_none());
    let parent = target.parent().and_then(|parent| fs::metadata(parent).ok());
    match (metadata.is_dir(), overwrite) {
        (true, _) if parent.is_none_or(|parent| parent.dev() != metadata.dev()) => refuse("something is mounted there"),
        (true, _) if is_empty() => Ok(()),
        (_, false) => Err(CopyError::TargetExists(target.to_owned())),
        (false, true) => refuse("it is not a directory"),
        (true, true) if ["zarr.json", ".zgroup", ".zarray"].iter().any(|name| target.join(name).is_file()) => Ok(()),
        (true, true) => refuse("it is not empty, and not a Zarr store"),
    }
}

/// Creates the folder of an unfinished copy, or of a share, and locks it.
fn lock(partial: &Path, hold: Hold) -> Result<File, CopyError> {
    let operation = match hold {
        Hold::Alone => FlockOperation::NonBlockingLockExclusive,
        Hold::Shared => FlockOperation::NonBlockingLockShared,
    };
    loop {
        match disk::make_folder(partial) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(CopyError::io(partial, "create it", error));
            }
            _ => {}
        }
        let path = partial.join("lock");
        let file = match disk::open_or_create(&path) {
            // Whoever finished just now has removed the folder.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            opened => opened.map_err(|error| CopyError::io(&path, "open it", error))?,
        };
        match rustix::fs::flock(&file, operation) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(CopyError::Busy(partial.to_owned())),
            Err(error) => return Err(CopyError::io(&path, "lock it", error)),
        }
        let inode = |metadata: fs::Metadata| metadata.ino();
        if fs::metadata(&path).map(inode).ok() == file.metadata().map(inode).ok() {
            return Ok(file);
        }
    }
}

/// Removes a file or a folder, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), CopyError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => disk::remove_all(path),
        Ok(_) => disk::remove_file(path),
        Err(_) => Ok(()),
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(CopyError::io(path, "remove it", error)),
        _ => Ok(()),
    }
}

/// Makes the entries of a directory last.
pub(super) fn sync_directory(path: &Path) -> Result<(), CopyError> {
    disk::sync_folder(path).map_err(|error| CopyError::io(path, "sync it", error))
}

#[cfg(test)]
mod tests;
