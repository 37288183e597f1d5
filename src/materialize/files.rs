//! Creating many files below one folder.

use super::CopyError;
use rustix::fs::{AtFlags, Mode, OFlags};
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// The folder of an array that is written.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Names are looked up from here: for many small files that is half of the work.
    opened: OwnedFd,
}

impl Folder {
    /// Opens the folder at `path`, which is created where it is missing.
    pub(super) fn open(path: &Path) -> Result<Self, CopyError> {
        fs::create_dir_all(path).map_err(|error| CopyError::io(path, "create it", error))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened =
            rustix::fs::open(path, flags, Mode::empty()).map_err(|error| CopyError::io(path, "open it", error))?;
        Ok(Folder { path: path.to_owned(), opened })
    }

    /// Creates or empties the file with this key.
    pub(super) fn create(&self, key: &str) -> Result<File, CopyError> {
        let open = || {
            let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::openat(&self.opened, key, flags, Mode::from_raw_mode(0o666))
        };
        let opened = match open() {
            Err(rustix::io::Errno::NOENT) => {
                let folder = self.path.join(key);
                let folder = folder.parent().unwrap_or(&self.path);
                fs::create_dir_all(folder).map_err(|error| CopyError::io(folder, "create it", error))?;
                open()
            }
            opened => opened,
        };
        opened.map(File::from).map_err(|error| CopyError::io(&self.path.join(key), "create it", error))
    }

    /// Opens the file with this key to go on writing.
    pub(super) fn reopen(&self, key: &str) -> Result<File, CopyError> {
        rustix::fs::openat(&self.opened, key, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .map(File::from)
            .map_err(|error| CopyError::io(&self.path.join(key), "open it", error))
    }

    /// Writes a whole file.
    pub(super) fn write(&self, key: &str, bytes: &[u8]) -> Result<(), CopyError> {
        let mut file = self.create(key)?;
        file.write_all(bytes).map_err(|error| self.failed(key, error))
    }

    /// Removes the file with this key, if it is there.
    pub(super) fn remove(&self, key: &str) -> Result<(), CopyError> {
        match rustix::fs::unlinkat(&self.opened, key, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(()),
            Err(error) => Err(CopyError::io(&self.path.join(key), "remove it", error)),
        }
    }

    /// The error of a failed write.
    pub(super) fn failed(&self, key: &str, error: std::io::Error) -> CopyError {
        CopyError::io(&self.path.join(key), "write it", error)
    }
}
