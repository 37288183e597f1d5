//! Files that were written beside a copy take their places in it: each by one rename, so that whoever reads finds the old
//! one or the new one.

use super::CopyError;
use super::array::ArrayCopy;
use super::commits::Became;
use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A copy that is there.
#[derive(Debug)]
pub(super) struct Place {
    /// Where files are written.
    staged: PathBuf,
    target: PathBuf,
    /// Arrays that stay where they are written until they are complete.
    fresh: HashSet<u32>,
    /// Arrays of which files with the same bytes stay, by position.
    by_bytes: HashSet<u32>,
    n_changed: AtomicU64,
}

impl Place {
    pub(super) fn new(staged: &Path, target: &Path, fresh: HashSet<u32>, by_bytes: HashSet<u32>) -> Self {
        Place { staged: staged.to_owned(), target: target.to_owned(), fresh, by_bytes, n_changed: AtomicU64::new(0) }
    }

    /// Files of the copy that have become others, or gone.
    pub(super) fn n_changed(&self) -> u64 {
        self.n_changed.load(Relaxed)
    }

    /// Puts files of array `at`, which are on disk, in their places.
    pub(super) fn settle(&self, at: u32, array: &ArrayCopy, files: &[(u64, Became)]) -> Result<(), CopyError> {
        if self.fresh.contains(&at) {
            return Ok(());
        }
        for (file, became) in files {
            let key = Path::new(array.path()).join(array.key(*file));
            match became {
                Became::AsItWas => {}
                Became::Nothing => self.remove(&key)?,
                Became::Written(_) if self.by_bytes.contains(&at) && self.is_same(&key) => {
                    let staged = self.staged.join(&key);
                    fs::remove_file(&staged).map_err(|error| CopyError::io(&staged, "remove it", error))?;
                }
                Became::Written(_) => self.put(&key)?,
            }
        }
        Ok(())
    }

    /// Puts one file in its place.
    pub(super) fn put(&self, key: &Path) -> Result<(), CopyError> {
        let (staged, target) = (self.staged.join(key), self.target.join(key));
        let failed = |error| CopyError::io(&target, "put it in its place", error);
        match fs::rename(&staged, &target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = target.parent().unwrap_or(&self.target);
                fs::create_dir_all(folder).and_then(|()| fs::rename(&staged, &target)).map_err(failed)?;
            }
            renamed => renamed.map_err(failed)?,
        }
        self.n_changed.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Removes one file, if it is there.
    pub(super) fn remove(&self, key: &Path) -> Result<(), CopyError> {
        let target = self.target.join(key);
        match fs::remove_file(&target) {
            Ok(()) => {
                self.n_changed.fetch_add(1, Relaxed);
                Ok(())
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(()),
            Err(error) => Err(CopyError::io(&target, "remove it", error)),
        }
    }

    /// Files are as large as one chunk, or one shard, of strings.
    fn is_same(&self, key: &Path) -> bool {
        match (fs::read(self.staged.join(key)), fs::read(self.target.join(key))) {
            (Ok(ours), Ok(theirs)) => ours == theirs,
            _ => false,
        }
    }
}
