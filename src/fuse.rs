//! The mount: unpack a request, ask the view, reply. No decisions of its own.

pub mod device;
mod entries;
mod errno;
pub mod holders;
mod inodes;
pub mod machine;
pub mod mountpoint;
pub mod session;
pub mod signals;
pub mod unmount;

use crate::view::{Node, View};
use entries::BLOCK_BYTES;
use errno::guarded;
use fuser::{
    AccessFlags, BsdFileFlags, Errno, FileHandle, FileType, Filesystem, Generation, INodeNo, InitFlags, IoctlFlags,
    KernelConfig, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr,
    Request, TimeOrNow, WriteFlags,
};
use inodes::Inodes;
use std::ffi::OsStr;
use std::sync::Arc;
use std::time::SystemTime;

/// The extended attribute of the root that tells what the mount has done.
pub const STATUS_ATTRIBUTE: &str = "user.rechunkfs.status";
/// Requests that the kernel sends ahead; beyond 64 others measured no gain.
const MAX_BACKGROUND: u16 = 64;

/// A view as a FUSE file system.
#[derive(Debug)]
pub struct FileSystem {
    view: Arc<View>,
    inodes: Inodes,
    owner: (u32, u32),
    no_open: bool,
    no_opendir: bool,
    /// Whether each file that is opened is to be heard of.
    hears_of_opens: bool,
    /// Of the modes of files and directories, those bits that stand.
    mode_mask: u16,
}

impl FileSystem {
    /// Serves `view`; everything belongs to the user of this process.
    pub fn new(view: Arc<View>) -> Self {
        let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let inodes = Inodes::default();
        inodes.prepare(view.n_arrays(), |array| view.end_of_files(array));
        FileSystem { view, inodes, owner, no_open: false, no_opendir: false, hears_of_opens: false, mode_mask: 0o777 }
    }

    /// For a mount that somebody else has made: it may not be read-only, and what a program writes into the kernel's pages of a
    /// file, others would read until the kernel tried to write it back. So nobody opens a file to write.
    pub fn refusing_writers(self) -> Self {
        FileSystem { hears_of_opens: true, ..self }
    }

    /// For a mount that the kernel opens to all, and that is to be the owner's and root's. Requests can be refused, but what the
    /// kernel has kept it gives away without one: unless modes forbid it.
    pub fn closed_to_others(self) -> Self {
        FileSystem { mode_mask: 0o700, ..self }
    }
}

impl Filesystem for FileSystem {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // One by one: the call takes all of its flags or none, and older kernels lack some.
        for wanted in [
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_AUTO_INVAL_DATA,
            InitFlags::FUSE_ASYNC_DIO,
            InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP,
        ] {
            let _ = config.add_capabilities(wanted);
        }
        let _ = config.set_max_background(MAX_BACKGROUND);
        self.no_open = config.capabilities().contains(InitFlags::FUSE_NO_OPEN_SUPPORT);
        self.no_opendir = config.capabilities().contains(InitFlags::FUSE_NO_OPENDIR_SUPPORT);
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        guarded("lookup", || match self.lookup_entry(parent, name) {
            Ok((attributes, ttl)) => reply.entry_with_ttls(&ttl, &self.entry_ttl(), &attributes, Generation(0)),
            Err(error) => reply.error(errno::of(&error)),
        });
    }

    fn forget(&self, _request: &Request, inode: INodeNo, n_lookups: u64) {
        guarded("forget", || self.inodes.forget(inode.0, n_lookups));
    }

    fn getattr(&self, _request: &Request, inode: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        guarded("getattr", || match self.fresh_attributes(inode) {
            Ok((attributes, ttl)) => reply.attr(&ttl, &attributes),
            Err(error) => reply.error(errno::of_open(&error)),
        });
    }

    fn open(&self, _request: &Request, _inode: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if flags.acc_mode() != OpenAccMode::O_RDONLY {
            reply.error(Errno::EROFS);
        } else if self.no_open && !self.hears_of_opens {
            // Tells the kernel, once, that opening needs no request: two round trips fewer for each file.
            reply.error(Errno::ENOSYS);
        } else {
            reply.opened(FileHandle(0), fuser::FopenFlags::FOPEN_KEEP_CACHE);
        }
    }

    fn opendir(&self, _request: &Request, _inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        if self.no_opendir {
            reply.error(Errno::ENOSYS);
        } else {
            reply.opened(FileHandle(0), fuser::FopenFlags::empty());
        }
    }

    fn read(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        guarded("read", || match self.node(inode) {
            Ok(node) => self.view.read(
                &node,
                offset,
                u64::from(size),
                Box::new(move |bytes| match bytes {
                    Ok(bytes) => reply.data(bytes),
                    Err(error) => reply.error(errno::of_open(&error)),
                }),
            ),
            Err(error) => reply.error(errno::of_open(&error)),
        });
    }

    fn readdir(&self, _request: &Request, inode: INodeNo, _handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        guarded("readdir", || {
            let listed = self.node(inode).and_then(|node| {
                self.view.list(&node, offset, &mut |entry| {
                    let kind = if entry.is_directory { FileType::Directory } else { FileType::RegularFile };
                    let number = entry.node.as_ref().and_then(|node| self.number(node).ok()).unwrap_or(inode.0);
                    !reply.add(INodeNo(number), entry.next, kind, entry.name)
                })
            });
            match listed {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(errno::of_open(&error)),
            }
        });
    }

    fn readdirplus(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        guarded("readdirplus", || {
            let listed = self.node(inode).and_then(|node| {
                self.view.list(&node, offset, &mut |entry| {
                    // Inode 0 gives the name alone: no look-up is counted for it.
                    let found = entry.node.as_ref().zip(entry.stat);
                    let found = found.and_then(|(node, stat)| Some((node, stat, self.number(node).ok()?)));
                    let mut attributes = self.negative();
                    attributes.kind = if entry.is_directory { FileType::Directory } else { FileType::RegularFile };
                    if let Some((_, stat, number)) = found {
                        attributes = self.attributes(number, stat);
                    }
                    let keep = self.entry_ttl();
                    let is_full = reply.add(attributes.ino, entry.next, entry.name, &keep, &attributes, Generation(0));
                    if let Some((node, _, number)) = found
                        && !is_full
                    {
                        self.inodes.remember(number, node);
                    }
                    !is_full
                })
            });
            match listed {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(errno::of_open(&error)),
            }
        });
    }

    fn statfs(&self, _request: &Request, _inode: INodeNo, reply: ReplyStatfs) {
        // That of the source: all zeros confuse programs that look for room, and there is none to write in anyway.
        match self.view.source_directory().map(rustix::fs::statvfs) {
            Some(Ok(host)) => {
                reply.statfs(host.f_blocks, 0, 0, host.f_files, 0, host.f_bsize as u32, 255, host.f_frsize as u32)
            }
            Some(Err(_)) | None => reply.statfs(0, 0, 0, 0, 0, BLOCK_BYTES, 255, BLOCK_BYTES),
        }
    }

    fn getxattr(&self, _request: &Request, inode: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        if inode != INodeNo::ROOT || name != STATUS_ATTRIBUTE {
            return reply.error(Errno::ENODATA);
        }
        guarded("getxattr", || {
            let status = self.view.status_json();
            match size as usize {
                0 => reply.size(status.len() as u32),
                room if room < status.len() => reply.error(Errno::ERANGE),
                _ => reply.data(status.as_bytes()),
            }
        });
    }

    // No list of attributes: copying tools would take the status along.
    fn listxattr(&self, _request: &Request, _inode: INodeNo, size: u32, reply: ReplyXattr) {
        if size == 0 { reply.size(0) } else { reply.data(&[]) }
    }

    // Asked at every open by CPython before 3.14: answer without a word in the log.
    fn ioctl(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _flags: IoctlFlags,
        _command: u32,
        _input: &[u8],
        _size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    // Asked for access(2) and chdir(2), where the kernel does not heed modes by itself.
    fn access(&self, _request: &Request, inode: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        guarded("access", || {
            let is_directory = match self.node(inode) {
                Ok(Node::Directory(_)) => true,
                Ok(Node::Host { stamp, .. }) => stamp.is_directory,
                Ok(_) => false,
                Err(error) => return reply.error(errno::of_open(&error)),
            };
            if mask.contains(AccessFlags::W_OK) {
                reply.error(Errno::EROFS);
            } else if mask.contains(AccessFlags::X_OK) && !is_directory {
                reply.error(Errno::EACCES);
            } else {
                reply.ok();
            }
        });
    }

    // ENOSYS on these tells the kernel, once, to do without asking.
    fn flush(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn lseek(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _offset: i64,
        _whence: i32,
        reply: ReplyLseek,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn fsync(&self, _request: &Request, _inode: INodeNo, _handle: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsyncdir(&self, _request: &Request, _inode: INodeNo, _handle: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn readlink(&self, _request: &Request, _inode: INodeNo, reply: ReplyData) {
        reply.error(Errno::EINVAL);
    }

    // The kernel refuses writes on a read-only mount by itself; a descriptor mounted by someone else may not be one.
    fn setattr(
        &self,
        _: &Request,
        _: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        reply.error(Errno::EROFS);
    }

    fn mknod(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn mkdir(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn unlink(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn rmdir(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn symlink(&self, _: &Request, _: INodeNo, _: &OsStr, _: &std::path::Path, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn rename(&self, _: &Request, _: INodeNo, _: &OsStr, _: INodeNo, _: &OsStr, _: RenameFlags, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        reply.error(Errno::EROFS);
    }

    fn create(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        reply.error(Errno::EROFS);
    }

    fn fallocate(&self, _: &Request, _: INodeNo, _: FileHandle, _: u64, _: u64, _: i32, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn setxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: &[u8], _: i32, _: u32, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn removexattr(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }
}
