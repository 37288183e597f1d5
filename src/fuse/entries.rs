//! What the kernel is told of a node, and for how long it may keep it.

use super::FileSystem;
use crate::view::{Node, Stat, ViewError};
use fuser::{FileAttr, FileType, INodeNo};
use std::ffi::OsStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long the kernel may keep what cannot change while mounted. (`Duration::MAX` overflows in the kernel.)
const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);
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

    /// The number of a node.
    pub(super) fn number(&self, node: &Node) -> Result<u64, ViewError> {
        self.inodes.number(node, |array| self.view.end_of_files(array)).ok_or(ViewError::OutOfNumbers)
    }

    pub(super) fn lookup_entry(&self, parent: INodeNo, name: &OsStr) -> Result<(FileAttr, Duration), ViewError> {
        let parent = self.node(parent)?;
        match self.view.lookup(&parent, name) {
            Ok((node, stat)) => {
                let number = self.number(&node)?;
                self.inodes.remember(number, &node);
                Ok((self.attributes(number, stat), self.attributes_ttl(&node)))
            }
            Err(ViewError::NotFound) => Ok((self.negative(), self.entry_ttl())),
            Err(error) => Err(error),
        }
    }

    pub(super) fn fresh_attributes(&self, inode: INodeNo) -> Result<(FileAttr, Duration), ViewError> {
        let node = self.node(inode)?;
        let stat = self.view.restat(&node)?;
        Ok((self.attributes(inode.0, stat), self.attributes_ttl(&node)))
    }

    /// How long the kernel may keep a name, and that there is none: until the source is looked at again.
    pub(super) fn entry_ttl(&self) -> Duration {
        self.view.refresh().unwrap_or(FOREVER)
    }

    /// How long it may keep the attributes of a node: those of a file are those of one version of it.
    pub(super) fn attributes_ttl(&self, node: &Node) -> Duration {
        match node {
            Node::Host { stamp, .. } if stamp.is_directory => self.entry_ttl(),
            // Found out only for those who ask.
            Node::Directory(_) => {
                if self.view.refresh().is_some() {
                    Duration::ZERO
                } else {
                    FOREVER
                }
            }
            Node::Document { .. } | Node::Chunk { .. } | Node::Host { .. } => FOREVER,
        }
    }
}
