//! Where a copy comes into being: beside its target, under a lock, and in its place by one rename.

use super::{CopyError, disk, journal};
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
    _lock: File,
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
    /// Takes the place of `target`; the source lies at `source` (canonical).
    pub(super) fn claim(source: &Path, target: &Path, permission: Permission) -> Result<Claimed, CopyError> {
        let (parent, name) = resolve(target)?;
        let target = parent.join(&name);
        check_apart(source, &target.canonicalize().unwrap_or_else(|_| target.clone()))?;
        let partial = partial_of(&target);
        if !partial.exists() {
            check_target(&target, permission.overwrite)?;
        }
        let site = Site { target, _lock: lock(&partial)?, partial };
        if site.is_published() {
            // A run was ended while it cleared away what it had replaced.
            if permission.resume {
                site.clear_away()?;
                return Ok(Claimed::Complete);
            }
            site.clear()?;
        }
        if let Err(error) = check_target(&site.target, permission.overwrite) {
            if !site.journal().exists() {
                site.abandon();
            }
            return Err(error);
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

    /// Takes the place of the copy at `target`, which is to be brought up to date from the source at `source` (canonical).
    pub(super) fn claim_copy(source: &Path, target: &Path) -> Result<Site, CopyError> {
        let target = target.canonicalize().map_err(|error| CopyError::io(target, "open it", error))?;
        check_apart(source, &target)?;
        check_target(&target, true)?;
        let partial = partial_of(&target);
        let site = Site { target, _lock: lock(&partial)?, partial };
        if site.journal().exists() && !site.is_published() {
            return Err(CopyError::Unfinished(site.partial));
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
        self.partial.join("journal")
    }

    /// What of a copy that is being brought up to date is on disk for good.
    pub(super) fn update_journal(&self) -> PathBuf {
        self.partial.join("update")
    }

    /// Where what goes out of the copy is put, until it is removed.
    pub(super) fn gone(&self) -> PathBuf {
        self.partial.join("gone")
    }

    /// For temporary files: a folder of this copy's own, in `elsewhere` if the user names that.
    pub(super) fn temp(&self, elsewhere: Option<&Path>) -> PathBuf {
        let Some(elsewhere) = elsewhere else { return self.partial.join("temp") };
        let mut hasher = DefaultHasher::new();
        self.partial.hash(&mut hasher);
        elsewhere.join(format!("rechunkfs-{:016x}", hasher.finish()))
    }

    /// Removes the temporary files of this copy, wherever the runs that its journals tell of have put them.
    pub(super) fn clear_temps(&self) -> Result<(), CopyError> {
        let mut begun = BTreeSet::new();
        for journal in [self.journal(), self.update_journal()].into_iter().filter(|journal| journal.exists()) {
            journal::search(&journal, |commit| -> Option<()> {
                let spools = commit.arrays.into_values().filter_map(|array| array.spool);
                begun.extend(spools.filter_map(|spool| spool.path.parent().map(Path::to_owned)));
                None
            })?;
        }
        // A folder that does not bear this copy's name is another's.
        let is_ours = |folder: &PathBuf| *folder == self.temp(None) || *folder == self.temp(folder.parent());
        begun.iter().filter(|folder| is_ours(folder)).try_for_each(|folder| remove(folder))
    }

    /// Removes all but the lock: the journal first, so that what is left never looks resumable.
    fn clear(&self) -> Result<(), CopyError> {
        self.clear_temps()?;
        let rest = [self.store(), self.temp(None), self.partial.join("replaced"), self.gone(), self.mark()];
        for path in [self.journal(), self.update_journal()].iter().chain(&rest) {
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
    fn is_published(&self) -> bool {
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
        for path in [self.journal(), self.store(), self.partial.join("replaced"), self.temp(None)] {
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
fn check_apart(source: &Path, target: &Path) -> Result<(), CopyError> {
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

/// Creates the folder of an unfinished copy and locks it.
fn lock(partial: &Path) -> Result<File, CopyError> {
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
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
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
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn claim(folder: &Path, overwrite: bool, resume: bool) -> Result<(Site, bool), CopyError> {
        match Site::claim(&folder.join("source"), &folder.join("target"), Permission { overwrite, resume })? {
            Claimed::Site(site, resume) => Ok((site, resume)),
            Claimed::Complete => panic!("it is complete"),
        }
    }

    fn file(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().expect("a folder")).expect("created");
        fs::write(path, text).expect("written");
    }

    #[test]
    fn what_a_copy_has_replaced_is_never_put_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        let document = folder.join("target/zarr.json");
        file(&document, "old");
        assert!(matches!(claim(folder, false, false), Err(CopyError::TargetExists(_))));
        let (site, resume) = claim(folder, true, true).expect("claimed");
        assert!(!resume);
        file(&site.store().join("zarr.json"), "new");
        file(&site.journal(), "whatever");
        site.publish().expect("published");
        assert_eq!(fs::read_to_string(&document).expect("there"), "new");
        // Killed here: the journal is there, and beside it the old store.
        drop(site);
        let partial = partial_of(&folder.join("target"));
        assert_eq!(fs::read_to_string(partial.join("store/zarr.json")).expect("there"), "old");
        assert!(matches!(claim(folder, false, false), Err(CopyError::TargetExists(_))));
        assert_eq!(fs::read_to_string(&document).expect("there"), "new");
        let (site, _) = claim(folder, true, false).expect("claimed");
        file(&site.store().join("zarr.json"), "newer");
        file(&site.journal(), "whatever");
        site.publish().expect("published");
        drop(site);
        let permission = Permission { overwrite: true, resume: true };
        let again = Site::claim(&folder.join("source"), &folder.join("target"), permission).expect("claimed");
        assert!(matches!(again, Claimed::Complete));
        assert_eq!(fs::read_to_string(&document).expect("there"), "newer");
        assert_eq!(fs::read_dir(folder).expect("a folder").count(), 1);
    }

    #[test]
    fn an_unfinished_copy_is_taken_up_or_cleared_only_as_asked() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        let (site, _) = claim(folder, false, false).expect("claimed");
        assert!(matches!(claim(folder, true, true), Err(CopyError::Busy(_))));
        file(&site.journal(), "whatever");
        file(&site.store().join("a/0"), "chunk");
        drop(site);
        assert!(matches!(claim(folder, false, false), Err(CopyError::Unfinished(_))));
        let (site, resume) = claim(folder, true, true).expect("claimed");
        assert!(resume && site.store().join("a/0").exists());
        drop(site);
        let (site, resume) = claim(folder, true, false).expect("claimed");
        assert!(!resume && !site.store().join("a/0").exists());
    }

    #[test]
    fn temporary_files_of_an_earlier_run_go_wherever_they_are_and_those_of_others_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        let (site, _) = claim(folder, false, false).expect("claimed");
        let (ours, others) = (site.temp(Some(&folder.join("elsewhere"))), folder.join("elsewhere/of-another"));
        let header = journal::Header::new(&folder.join("source"), BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        let mut journal = journal::Journal::create(&site.journal(), &header).expect("created");
        for path in [ours.join("array-0"), others.join("array-0")] {
            file(&path, "decoded");
            let (max_tile_bytes, leaves_per_band, tiles_per_bundle) = (1, 1, 0);
            let spool =
                journal::Spool { max_tile_bytes, leaves_per_band, tiles_per_bundle, path, inode: 0, len_bytes: 0 };
            let array = journal::ArrayCommit { spool: Some(spool), ..journal::ArrayCommit::default() };
            let commit = journal::Commit { arrays: [(0, array)].into(), passed: Vec::new() };
            journal.append(&commit).expect("appended");
        }
        drop(site);
        let (_, resume) = claim(folder, false, true).expect("claimed");
        assert!(resume && ours.exists());
        claim(folder, true, false).expect("claimed");
        assert!(!ours.exists() && others.join("array-0").exists());
    }
}
