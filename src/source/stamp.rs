//! What tells one state of a source chunk file from another.

use std::fs::Metadata;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;

/// A digest of (device, inode, size, mtime, ctime), or [`Stamp::ABSENT`].
///
/// Eight bytes, because one is kept for every source chunk file visited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp(u64);

impl Stamp {
    /// There is no such file.
    pub const ABSENT: Stamp = Stamp(0);

    /// The stamp of an existing file. Never [`Stamp::ABSENT`].
    pub fn of(file: &Metadata) -> Self {
        // The keys of `DefaultHasher::new` are fixed, so that a stamp means the same in every process.
        let mut hasher = DefaultHasher::new();
        (file.dev(), file.ino(), file.size()).hash(&mut hasher);
        (file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()).hash(&mut hasher);
        Stamp(hasher.finish() | 1)
    }

    /// The file existed.
    pub fn is_present(self) -> bool {
        self != Stamp::ABSENT
    }
}
