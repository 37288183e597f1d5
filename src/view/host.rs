//! Files and directories shown as they are in the source: byte for byte, and never through a Zarr library.

mod objects;

use super::{Node, Stat, View, ViewError};
use crate::source::Store;
use rustix::fs::{Mode, OFlags, RawDir, SeekFrom};
use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Buffer for directory entries.
const LIST_BYTES: usize = 32 << 10;

/// The state of a host file when it was looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HostStamp {
    /// A directory (else a regular file).
    pub is_directory: bool,
    /// Device.
    pub device: u64,
    /// Inode number on that device.
    pub inode: u64,
    /// Bytes.
    pub size_bytes: u64,
    /// Modification time, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Time of the last change of anything about it, likewise.
    pub changed_ns: i64,
}

impl HostStamp {
    /// Looks at `path` of a store, following symbolic links, for what is to be shown: where the store is confined, within it.
    pub(super) fn within(store: &Store, path: &Path) -> Result<Self, ViewError> {
        if !store.is_confined() {
            return Self::of(store, path);
        }
        let opened = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        let opened = File::from(opened.map_err(|error| ViewError::from_host(error.into()))?);
        store.check(&opened).map_err(|error| ViewError::Io(Arc::new(error)))?;
        opened.metadata().map(|metadata| Self::from(&metadata)).map_err(ViewError::from_host)
    }

    /// Looks at `path` of a store, following symbolic links.
    pub(super) fn of(store: &Store, path: &Path) -> Result<Self, ViewError> {
        match store {
            Store::Disk { .. } => Self::on_disk(path),
            Store::Objects(objects) => objects::look(objects, path),
        }
    }

    fn on_disk(path: &Path) -> Result<Self, ViewError> {
        std::fs::metadata(path).map(|metadata| Self::from(&metadata)).map_err(ViewError::from_host)
    }

    /// Looks at files, many at once where each look takes long.
    pub(super) fn of_files(store: &Store, paths: &[PathBuf]) -> Vec<Result<Self, ViewError>> {
        match store {
            Store::Disk { .. } => paths.iter().map(|path| Self::on_disk(path)).collect(),
            Store::Objects(objects) => objects::look_at_all(objects, paths),
        }
    }

    /// Tells this state from any other.
    pub(super) fn identity(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    /// As `stat` tells it.
    pub(super) fn stat(&self) -> Stat {
        Stat { is_directory: self.is_directory, size_bytes: self.size_bytes, mtime_ns: self.mtime_ns }
    }
}

impl From<&Metadata> for HostStamp {
    fn from(metadata: &Metadata) -> Self {
        let ns = |seconds: i64, nanoseconds: i64| seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds);
        HostStamp {
            is_directory: metadata.is_dir(),
            device: metadata.dev(),
            inode: metadata.ino(),
            size_bytes: metadata.size(),
            mtime_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl View {
    /// What is at `path` now.
    pub(super) fn host_node(&self, path: &Path) -> Result<(Node, Stat), ViewError> {
        let stamp = HostStamp::within(&self.store, path).map_err(|error| self.absence(error))?;
        Ok((Node::Host { path: path.into(), stamp }, stamp.stat()))
    }
}

/// Reads up to `len` bytes from `offset`; fewer only at the end of the file.
pub(super) fn read(store: &Store, path: &Path, stamp: &HostStamp, offset: u64, len: u64) -> Result<Vec<u8>, ViewError> {
    if let Store::Objects(objects) = store {
        return objects::read(objects, path, stamp, offset, len);
    }
    // A file that could be looked up and is gone now has changed; it must not look absent.
    // And opening a named pipe must not wait for a writer.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(|error| {
        match ViewError::from_host(error) {
            ViewError::NotFound => ViewError::Stale,
            other => other,
        }
    })?;
    store.check(&file).map_err(|error| ViewError::Io(Arc::new(error)))?;
    let check = || match file.metadata() {
        Ok(metadata) if HostStamp::from(&metadata) == *stamp => Ok(()),
        Ok(_) => Err(ViewError::Stale),
        Err(error) => Err(ViewError::Io(Arc::new(error))),
    };
    check()?;
    let len = len.min(stamp.size_bytes.saturating_sub(offset));
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, offset).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => ViewError::Stale,
        _ => ViewError::Io(Arc::new(error)),
    })?;
    // What was read must be of the state in which it was looked up, all of it.
    check()?;
    Ok(bytes)
}

/// Receives the position after an entry, its name, and its state where the listing tells it.
pub(super) type Emit<'a> = &'a mut dyn FnMut(u64, &OsStr, Option<HostStamp>) -> bool;

/// Lists `path` from the host's own position `from`.
pub(super) fn list(store: &Store, path: &Path, from: u64, emit: Emit<'_>) -> Result<(), ViewError> {
    if let Store::Objects(objects) = store {
        return objects::list(objects, path, from, emit);
    }
    let failed = |error: rustix::io::Errno| ViewError::Io(Arc::new(error.into()));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty()).map_err(failed)?;
    store.check(&directory).map_err(|error| ViewError::Io(Arc::new(error)))?;
    if from > 0 {
        rustix::fs::seek(&directory, SeekFrom::Start(from)).map_err(failed)?;
    }
    let mut buffer = [MaybeUninit::uninit(); LIST_BYTES];
    let mut entries = RawDir::new(&directory, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(failed)?;
        if !emit(entry.next_entry_cookie(), OsStr::from_bytes(entry.file_name().to_bytes()), None) {
            break;
        }
    }
    Ok(())
}
