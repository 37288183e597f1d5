//! The door through which copies change a disk: nothing else in this room creates, writes, renames, removes or syncs. In
//! tests a simulated disk stands behind it (`disk/faults.rs`), which fails, or loses power, wherever it is told to.

use faults::before;
use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags, RenameFlags, Timespec, Timestamps, UTIME_NOW};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What is about to be done.
#[derive(Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "only simulated disks look at it"))]
enum Act<'a> {
    Create,
    /// These bytes, here, or where the file stands.
    Write(&'a File, Option<u64>, &'a [u8]),
    /// Length, room, or times.
    Change,
    MakeFolder,
    RenameTo(&'a Path),
    Remove,
    RemoveAll,
    Sync(&'a File),
    SyncFolder,
    SyncAll,
}

/// A file that is written.
#[derive(Debug)]
pub(super) struct Out {
    file: File,
    path: PathBuf,
}

/// Creates or empties a file.
pub(super) fn create(path: &Path) -> io::Result<Out> {
    before(path, &Act::Create)?;
    Ok(Out { file: File::create(path)?, path: path.to_owned() })
}

/// Creates a file that is not there, to write and to read.
pub(super) fn create_new(path: &Path) -> io::Result<Out> {
    before(path, &Act::Create)?;
    let file = OpenOptions::new().create_new(true).read(true).write(true).open(path)?;
    Ok(Out { file, path: path.to_owned() })
}

/// Opens a file that is there, to write and to read.
pub(super) fn open(path: &Path) -> io::Result<Out> {
    Ok(Out { file: OpenOptions::new().read(true).write(true).open(path)?, path: path.to_owned() })
}

/// Opens a file to lock it; it is created where it is missing.
pub(super) fn open_or_create(path: &Path) -> io::Result<File> {
    if !path.exists() {
        before(path, &Act::Create)?;
    }
    // NFS wants reading for a lock that is shared, and writing for one that is not.
    OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)
}

/// Writes a whole file.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<Out> {
    let mut out = create(path)?;
    out.write_all(bytes)?;
    Ok(out)
}

/// Creates a folder where there is nothing.
pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    before(path, &Act::MakeFolder)?;
    fs::create_dir(path)
}

/// Creates a folder and those above it, as far as they are missing.
pub(super) fn make_folders(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    before(path, &Act::MakeFolder)?;
    fs::create_dir_all(path)
}

/// Gives a file or a folder another name.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    before(from, &Act::RenameTo(to))?;
    fs::rename(from, to)
}

/// The same, where nothing may be replaced, or where the two change places.
pub(super) fn rename_with(from: &Path, to: &Path, flags: RenameFlags) -> io::Result<()> {
    before(from, &Act::RenameTo(to))?;
    Ok(rustix::fs::renameat_with(rustix::fs::CWD, from, rustix::fs::CWD, to, flags)?)
}

/// Gives a file a second name that no file has.
pub(super) fn link(from: &Path, to: &Path) -> io::Result<()> {
    before(to, &Act::Create)?;
    fs::hard_link(from, to)
}

/// Removes a file.
pub(super) fn remove_file(path: &Path) -> io::Result<()> {
    before(path, &Act::Remove)?;
    fs::remove_file(path)
}

/// Removes a folder that is empty.
pub(super) fn remove_folder(path: &Path) -> io::Result<()> {
    before(path, &Act::Remove)?;
    fs::remove_dir(path)
}

/// Removes a folder with all that is in it.
pub(super) fn remove_all(path: &Path) -> io::Result<()> {
    before(path, &Act::RemoveAll)?;
    fs::remove_dir_all(path)
}

/// Sets the times of a folder to now. Whoever may write there may do that.
pub(super) fn touch(path: &Path) -> io::Result<()> {
    before(path, &Act::Change)?;
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    Ok(rustix::fs::futimens(&File::open(path)?, &times)?)
}

/// Makes the entries of a folder last.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    if before(path, &Act::SyncFolder)? { File::open(path)?.sync_all() } else { Ok(()) }
}

/// Makes all last that is on the file system of a folder.
pub(super) fn sync_all(path: &Path) -> io::Result<()> {
    if before(path, &Act::SyncAll)? { Ok(rustix::fs::syncfs(File::open(path)?)?) } else { Ok(()) }
}

impl Out {
    /// To read, and to look at.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Writes these bytes at this place, wherever the file stands.
    pub(super) fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        before(&self.path, &Act::Write(&self.file, Some(offset), bytes))?;
        self.file.write_all_at(bytes, offset)
    }

    /// Writes all that `from` still has.
    pub(super) fn copy(&mut self, from: &mut File) -> io::Result<u64> {
        before(&self.path, &Act::Write(&self.file, None, &[]))?;
        io::copy(from, &mut self.file)
    }

    /// Sets its length.
    pub(super) fn set_len(&self, bytes: u64) -> io::Result<()> {
        before(&self.path, &Act::Change)?;
        self.file.set_len(bytes)
    }

    /// Reserves room for so many bytes, where the file system can.
    pub(super) fn reserve(&self, bytes: u64) -> io::Result<()> {
        before(&self.path, &Act::Change)?;
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, bytes.max(1)) {
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
            reserved => Ok(reserved?),
        }
    }

    /// Makes its bytes last.
    pub(super) fn sync(&self) -> io::Result<()> {
        if before(&self.path, &Act::Sync(&self.file))? { self.file.sync_data() } else { Ok(()) }
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        before(&self.path, &Act::Write(&self.file, None, bytes))?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Read for Out {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.file.read(bytes)
    }
}

impl Seek for Out {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// A folder, held open: names are looked up from here, which for many small files is half of the work.
#[derive(Debug)]
pub(super) struct Within {
    opened: OwnedFd,
    path: PathBuf,
}

impl Within {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Within { opened: rustix::fs::open(path, flags, Mode::empty())?, path: path.to_owned() })
    }

    /// Where a key lies.
    pub(super) fn path(&self, key: &str) -> PathBuf {
        self.path.join(key)
    }

    /// Creates or empties a file.
    pub(super) fn create(&self, key: &str) -> io::Result<Out> {
        let path = self.path(key);
        before(&path, &Act::Create)?;
        let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.opened, key, flags, Mode::from_raw_mode(0o666))?;
        Ok(Out { file: file.into(), path })
    }

    /// Opens a file that is there, to go on writing.
    pub(super) fn reopen(&self, key: &str) -> io::Result<Out> {
        let file = rustix::fs::openat(&self.opened, key, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Out { file: file.into(), path: self.path(key) })
    }

    /// Creates a folder where there is nothing.
    pub(super) fn make_folder(&self, key: &str) -> io::Result<()> {
        before(&self.path(key), &Act::MakeFolder)?;
        Ok(rustix::fs::mkdirat(&self.opened, key, Mode::from_raw_mode(0o777))?)
    }

    /// Removes a file.
    pub(super) fn remove(&self, key: &str) -> io::Result<()> {
        before(&self.path(key), &Act::Remove)?;
        Ok(rustix::fs::unlinkat(&self.opened, key, AtFlags::empty())?)
    }
}

/// Other disks than simulated ones see to their faults themselves.
#[cfg(not(test))]
mod faults {
    use super::Act;
    use std::io;
    use std::path::Path;

    /// Whether to do it.
    #[expect(clippy::unnecessary_wraps, reason = "simulated disks fail")]
    pub(super) fn before(_: &Path, _: &Act<'_>) -> io::Result<bool> {
        Ok(true)
    }
}

#[cfg(test)]
mod faults;
#[cfg(test)]
mod tests;
