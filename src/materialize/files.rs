//! Creating many files below one folder.

use super::CopyError;
use super::disk::{self, Out, Within};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

/// The folder of an array that is written.
#[derive(Debug)]
pub(super) struct Folder {
    within: Within,
    /// Most files have a folder to themselves, so that it is created first.
    is_sparse: bool,
}

impl Folder {
    /// Opens the folder at `path`, which is created where it is missing. It is `is_sparse` where the keys of files mostly
    /// name a folder for each.
    pub(super) fn open(path: &Path, is_sparse: bool) -> Result<Self, CopyError> {
        disk::make_folders(path).map_err(|error| CopyError::io(path, "create it", error))?;
        let within = Within::open(path).map_err(|error| CopyError::io(path, "open it", error))?;
        Ok(Folder { within, is_sparse })
    }

    /// Creates or empties the file with this key.
    pub(super) fn create(&self, key: &str) -> Result<Out, CopyError> {
        let create = || self.within.create(key);
        let is_first = self.is_sparse && key.contains('/');
        let created = if is_first { Err(ErrorKind::NotFound.into()) } else { create() };
        let created = self.with_folder(key, created, create)?;
        created.map_err(|error| CopyError::io(&self.within.path(key), "create it", error))
    }

    fn create_folder(&self, key: &str) -> Result<(), CopyError> {
        let create = || match self.within.make_folder(key) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            created => created,
        };
        let created = self.with_folder(key, create(), create)?;
        created.map_err(|error| CopyError::io(&self.within.path(key), "create it", error))
    }

    /// What came of `create`, once more if there was no folder for `key`.
    fn with_folder<T>(
        &self,
        key: &str,
        created: io::Result<T>,
        create: impl FnOnce() -> io::Result<T>,
    ) -> Result<io::Result<T>, CopyError> {
        match (created, key.rsplit_once('/')) {
            (Err(error), Some((folder, _))) if error.kind() == ErrorKind::NotFound => {
                self.create_folder(folder)?;
                Ok(create())
            }
            (created, _) => Ok(created),
        }
    }

    /// Opens the file with this key to go on writing.
    pub(super) fn reopen(&self, key: &str) -> Result<Out, CopyError> {
        self.within.reopen(key).map_err(|error| CopyError::io(&self.within.path(key), "open it", error))
    }

    /// Writes a whole file.
    pub(super) fn write(&self, key: &str, bytes: &[u8]) -> Result<(), CopyError> {
        let mut file = self.create(key)?;
        file.write_all(bytes).map_err(|error| self.failed(key, error))
    }

    /// Removes the file with this key, if it is there.
    pub(super) fn remove(&self, key: &str) -> Result<(), CopyError> {
        match self.within.remove(key) {
            Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                Err(CopyError::io(&self.within.path(key), "remove it", error))
            }
            _ => Ok(()),
        }
    }

    /// The error of a failed write.
    pub(super) fn failed(&self, key: &str, error: std::io::Error) -> CopyError {
        CopyError::io(&self.within.path(key), "write it", error)
    }
}
