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
    /// Most files have a folder to themselves, so that it is created first.
    is_sparse: bool,
}

impl Folder {
    /// Opens the folder at `path`, which is created where it is missing. It is `is_sparse` where the keys of files mostly
    /// name a folder for each.
    pub(super) fn open(path: &Path, is_sparse: bool) -> Result<Self, CopyError> {
        fs::create_dir_all(path).map_err(|error| CopyError::io(path, "create it", error))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened =
            rustix::fs::open(path, flags, Mode::empty()).map_err(|error| CopyError::io(path, "open it", error))?;
        Ok(Folder { path: path.to_owned(), opened, is_sparse })
    }

    /// Creates or empties the file with this key.
    pub(super) fn create(&self, key: &str) -> Result<File, CopyError> {
        let open = || {
            let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::openat(&self.opened, key, flags, Mode::from_raw_mode(0o666))
        };
        let opened = if self.is_sparse && key.contains('/') { Err(rustix::io::Errno::NOENT) } else { open() };
        let opened = match (opened, key.rsplit_once('/')) {
            (Err(rustix::io::Errno::NOENT), Some((folder, _))) => {
                self.create_folder(folder)?;
                open()
            }
            (opened, _) => opened,
        };
        opened.map(File::from).map_err(|error| CopyError::io(&self.path.join(key), "create it", error))
    }

    fn create_folder(&self, key: &str) -> Result<(), CopyError> {
        let create = || match rustix::fs::mkdirat(&self.opened, key, Mode::from_raw_mode(0o777)) {
            Err(rustix::io::Errno::EXIST) => Ok(()),
            created => created,
        };
        let created = match (create(), key.rsplit_once('/')) {
            (Err(rustix::io::Errno::NOENT), Some((above, _))) => {
                self.create_folder(above)?;
                create()
            }
            (created, _) => created,
        };
        created.map_err(|error| CopyError::io(&self.path.join(key), "create it", error))
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
