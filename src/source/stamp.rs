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
    pub const ABSENT: Stamp = Stamp(1);

    /// The stamp of an existing file. Never [`Stamp::ABSENT`].
    pub fn of(file: &Metadata) -> Self {
        // The keys of `DefaultHasher::new` are fixed, so that a stamp means the same in every process.
        let mut hasher = DefaultHasher::new();
        (file.dev(), file.ino(), file.size()).hash(&mut hasher);
        (file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()).hash(&mut hasher);
        Stamp(hasher.finish() | 2)
    }

    /// The file existed.
    pub fn is_present(self) -> bool {
        self != Stamp::ABSENT
    }

    /// As a number, never 0: for tables in which 0 means that nothing is known.
    pub fn to_raw(self) -> u64 {
        self.0
    }

    /// Inverse of [`Stamp::to_raw`]; `None` for 0.
    pub fn from_raw(raw: u64) -> Option<Self> {
        (raw != 0).then_some(Stamp(raw))
    }
}
