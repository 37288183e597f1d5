//! The state of a source chunk file, as one look finds it.

use super::Stamp;
use rustix::fs::Stat;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// State of one source chunk file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileState {
    /// Tells this state from any other.
    pub stamp: Stamp,
    /// Bytes on disk; 0 where absent.
    pub size_bytes: u64,
    /// Modification time, nanoseconds since 1970; 0 where absent.
    pub mtime_ns: i64,
    /// Time of the last change of anything about it, renaming included, likewise. Nobody can set it.
    pub changed_ns: i64,
}

/// Files changed within this time are young: some ticks of the clock by which file systems tell time.
pub const YOUNG: Duration = Duration::from_millis(40);

/// A file that changed within this time may be in the middle of being written.
const RECENT: Duration = Duration::from_secs(10);

impl FileState {
    /// There is no such file.
    pub const ABSENT: FileState = FileState { stamp: Stamp::ABSENT, size_bytes: 0, mtime_ns: 0, changed_ns: 0 };

    /// Changed so short a time ago that a change to come could leave the same times: its stamp does not tell the two
    /// states apart. So are files changed in the future: a clock goes wrong, and waiting does not help.
    pub fn is_young(&self) -> bool {
        self.stamp.is_present() && self.age_ns() < YOUNG.as_nanos() as i64
    }

    /// Young, and soon no longer.
    pub fn is_settling(&self) -> bool {
        self.is_young() && self.age_ns() > -(YOUNG.as_nanos() as i64)
    }

    /// Changed so short a time ago that somebody may still be writing it.
    pub fn is_recent(&self) -> bool {
        self.stamp.is_present() && self.age_ns() < RECENT.as_nanos() as i64
    }

    /// Since its last change; negative where that lies in the future.
    fn age_ns(&self) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64);
        now.saturating_sub(self.changed_ns)
    }
}

impl From<&Stat> for FileState {
    fn from(stat: &Stat) -> Self {
        let ns = |seconds: i64, nanoseconds: i64| seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds);
        FileState {
            stamp: Stamp::of_stat(stat),
            size_bytes: stat.st_size.max(0).cast_unsigned(),
            mtime_ns: ns(stat.st_mtime, stat.st_mtime_nsec as i64),
            changed_ns: ns(stat.st_ctime, stat.st_ctime_nsec as i64),
        }
    }
}
