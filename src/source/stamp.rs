//! What tells one state of a source chunk file from another.

use rustix::fs::Stat;
use std::fs::Metadata;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;

/// A digest of (inode, size, mtime, ctime), of (ETag, size) of an object, or [`Stamp::ABSENT`].
///
/// Not of the device, whose number is another one on each machine that mounts a network file system: shares of a copy that
/// are made on several of them must agree. Eight bytes, because one is kept for every source chunk file visited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp(u64);

impl Stamp {
    /// There is no such file.
    pub const ABSENT: Stamp = Stamp(1);

    /// The stamp of an existing file. Never [`Stamp::ABSENT`].
    pub fn of(file: &Metadata) -> Self {
        let times = [file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()];
        Self::digest([file.ino(), file.size()], times)
    }

    /// The same of what the system says of it.
    pub(super) fn of_stat(file: &Stat) -> Self {
        let times = [file.st_mtime, file.st_mtime_nsec as i64, file.st_ctime, file.st_ctime_nsec as i64];
        Self::digest([file.st_ino, file.st_size.cast_unsigned()], times)
    }

    /// The stamp of an object: of its ETag, or of the time at which it was put where it has none.
    pub(super) fn of_object(tag: Option<&str>, size_bytes: u64, put_s: i64) -> Self {
        let mut hasher = DefaultHasher::new();
        match tag {
            Some(tag) => (size_bytes, tag).hash(&mut hasher),
            None => (size_bytes, put_s).hash(&mut hasher),
        }
        Stamp(hasher.finish() | 2)
    }

    fn digest(file: [u64; 2], times: [i64; 4]) -> Self {
        // The keys of `DefaultHasher::new` are fixed, so that a stamp means the same in every process.
        let mut hasher = DefaultHasher::new();
        (file[0], file[1]).hash(&mut hasher);
        (times[0], times[1], times[2], times[3]).hash(&mut hasher);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_the_same_whichever_way_a_file_is_looked_at() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let stat = rustix::fs::stat(file.path()).expect("looked at");
        assert_eq!(Stamp::of(&file.as_file().metadata().expect("looked at")), Stamp::of_stat(&stat));
    }
}
