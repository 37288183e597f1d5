//! Files that were written beside a copy take their places in it: each by one rename, so that whoever reads finds the old
//! one or the new one.

use super::CopyError;
use super::array::ArrayCopy;
use super::commits::Became;
use super::disk;
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
    /// Arrays of which files with the same bytes stay, by position.
    by_bytes: HashSet<u32>,
    n_changed: AtomicU64,
}

impl Place {
    pub(super) fn new(staged: &Path, target: &Path, by_bytes: HashSet<u32>) -> Self {
        Place { staged: staged.to_owned(), target: target.to_owned(), by_bytes, n_changed: AtomicU64::new(0) }
    }

    /// Files of the copy that have become others, or gone.
    pub(super) fn n_changed(&self) -> u64 {
        self.n_changed.load(Relaxed)
    }

    /// Puts files of array `at`, which are on disk, in their places; not those of arrays that are made as a whole.
    pub(super) fn settle(&self, at: u32, array: &ArrayCopy, files: &[(u64, Became)]) -> Result<(), CopyError> {
        if !array.is_staged {
            return Ok(());
        }
        let (staged, target) = (self.staged.join(array.path()), self.target.join(array.path()));
        for (file, became) in files {
            let key = target.join(array.key(*file));
            match became {
                Became::AsItWas => {}
                Became::Nothing => self.remove(&key)?,
                Became::Written(_) => {
                    let written = staged.join(array.written_name(*file));
                    if self.by_bytes.contains(&at) && is_same(&written, &key) {
                        disk::remove_file(&written).map_err(|error| CopyError::io(&written, "remove it", error))?;
                    } else {
                        self.put(&written, &key)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Puts a file that passes through, and is on disk, in its place.
    pub(super) fn put_passed(&self, key: &str) -> Result<(), CopyError> {
        self.put(&self.staged.join(key), &self.target.join(key))
    }

    fn put(&self, written: &Path, target: &Path) -> Result<(), CopyError> {
        let failed = |error| CopyError::io(target, "put it in its place", error);
        match disk::rename(written, target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = target.parent().unwrap_or(&self.target);
                disk::make_folders(folder).and_then(|()| disk::rename(written, target)).map_err(failed)?;
            }
            renamed => renamed.map_err(failed)?,
        }
        self.n_changed.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Removes the file of the copy with this key, if it is there.
    pub(super) fn remove_key(&self, key: &Path) -> Result<(), CopyError> {
        self.remove(&self.target.join(key))
    }

    fn remove(&self, target: &Path) -> Result<(), CopyError> {
        match disk::remove_file(target) {
            Ok(()) => {
                self.n_changed.fetch_add(1, Relaxed);
                Ok(())
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(()),
            Err(error) => Err(CopyError::io(target, "remove it", error)),
        }
    }

    /// Removes a file of the array at `path`, if it is there, and folders below the array that are left empty.
    pub(super) fn remove_with_folders(&self, path: &str, key: &str) -> Result<(), CopyError> {
        self.remove_key(&Path::new(path).join(key))?;
        let mut folder = key;
        while let Some((above, _)) = folder.rsplit_once('/') {
            if disk::remove_folder(&self.target.join(path).join(above)).is_err() {
                break;
            }
            folder = above;
        }
        Ok(())
    }
}

/// Whether two files hold the same: they are as large as one chunk, or one shard, of strings.
fn is_same(ours: &Path, theirs: &Path) -> bool {
    match (fs::read(ours), fs::read(theirs)) {
        (Ok(ours), Ok(theirs)) => ours == theirs,
        _ => false,
    }
}
