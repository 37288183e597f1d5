//! What the kernel is told of a node, and for how long it may keep it.

use super::FileSystem;
use crate::view::{Node, Stat, ViewError};
use fuser::{FileAttr, FileType, INodeNo};
use std::ffi::OsStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long the kernel may keep what cannot change while mounted. (`Duration::MAX` overflows in the kernel.)
const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);
/// How long it may keep what is shown as it is in the source.
pub(super) const HOST_TTL: Duration = Duration::from_secs(2);
/// CPython sizes its read buffer by this; larger would turn reads of small inner chunks into large ones.
pub(super) const BLOCK_BYTES: u32 = 4096;

impl FileSystem {
    pub(super) fn attributes(&self, inode: u64, stat: Stat) -> FileAttr {
        let nanoseconds = u64::try_from(stat.mtime_ns).unwrap_or(0);
        let time: SystemTime = UNIX_EPOCH + Duration::from_nanos(nanoseconds);
        FileAttr {
            ino: INodeNo(inode),
            size: stat.size_bytes,
            blocks: stat.size_bytes.div_ceil(512),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind: if stat.is_directory { FileType::Directory } else { FileType::RegularFile },
            perm: if stat.is_directory { 0o555 } else { 0o444 },
            nlink: if stat.is_directory { 2 } else { 1 },
            uid: self.owner.0,
            gid: self.owner.1,
            rdev: 0,
            blksize: BLOCK_BYTES,
            flags: 0,
        }
    }

    /// A successful look-up of nothing: unlike ENOENT, the kernel remembers it.
    pub(super) fn negative(&self) -> FileAttr {
        self.attributes(0, Stat { is_directory: false, size_bytes: 0, mtime_ns: 0 })
    }

    pub(super) fn node(&self, inode: INodeNo) -> Result<Node, ViewError> {
        self.inodes.node(inode.0).ok_or(ViewError::Stale)
    }

    pub(super) fn lookup_entry(&self, parent: INodeNo, name: &OsStr) -> Result<(FileAttr, Duration), ViewError> {
        let parent = self.node(parent)?;
        match self.view.lookup(&parent, name) {
            Ok((node, stat)) => Ok((self.attributes(self.inodes.remember(&node), stat), ttl(&node))),
            Err(ViewError::NotFound) => {
                Ok((self.negative(), if self.view.is_settled(&parent) { FOREVER } else { HOST_TTL }))
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn fresh_attributes(&self, inode: INodeNo) -> Result<(FileAttr, Duration), ViewError> {
        let node = self.node(inode)?;
        let (node, stat) = self.view.restat(&node)?;
        self.inodes.renew(inode.0, &node);
        Ok((self.attributes(inode.0, stat), ttl(&node)))
    }
}

/// How long the kernel may keep an entry and its attributes.
pub(super) fn ttl(node: &Node) -> Duration {
    match node {
        Node::Document(_) | Node::Chunk { .. } => FOREVER,
        Node::Directory(_) | Node::Host { .. } => HOST_TTL,
    }
}
