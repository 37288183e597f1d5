//! How much memory we may use: what was asked for, against what machine, cgroups and batch system leave.

mod limits;

pub use limits::{Limit, tightest_limit};

use crate::zarr::{Size, parse_size};

/// Below this no view has room: code, thread stacks and request buffers take about half. How much more a
/// store needs, opening its view tells.
pub const MINIMUM_BYTES: u64 = 64 * 1024 * 1024;

/// What is taken where the user says nothing: a share of what is left, and never more than a bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Default {
    share: f64,
    cap_bytes: u64,
}

impl Default {
    /// For work that goes on beside other work, for months: a quarter, at most 8 GiB.
    pub const BESIDE: Default = Default { share: 0.25, cap_bytes: 8 << 30 };
    /// For work that the machine is there for: a half, at most 32 GiB.
    pub const ALONE: Default = Default { share: 0.5, cap_bytes: 32 << 30 };
}

/// Where that share is less than this, this is taken if it leaves as much again.
const DEFAULT_FLOOR_BYTES: u64 = 128 * 1024 * 1024;

/// What `--memory` asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MemoryRequest {
    /// A fixed amount.
    Bytes(u64),
    /// A share, 0 to 1, of what is left.
    Share(f64),
}

/// How much the process may take, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    /// The bound on the whole process.
    pub bytes: u64,
    /// What there is to share.
    pub limit: Limit,
}

/// Why there is no budget.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// Not a size.
    #[error("`{text}` is not an amount of memory; write 512M, 2GiB or 25%")]
    Syntax {
        /// As typed.
        text: String,
    },
    /// Less than the least.
    #[error("--memory {asked_mib} MiB is too small: at least {needed_mib} MiB are needed")]
    TooSmall {
        /// What was asked for.
        asked_mib: u64,
        /// What would do.
        needed_mib: u64,
    },
    /// There is too little on this machine, or in this job.
    #[error(
        "{left_mib} MiB of memory are left by {by}, at least {needed_mib} MiB are needed: ask for more, or give an amount with --memory"
    )]
    NoneLeft {
        /// What is left.
        left_mib: u64,
        /// Who sets the limit.
        by: String,
        /// What would do.
        needed_mib: u64,
    },
}

const MIB: u64 = 1024 * 1024;

impl std::str::FromStr for MemoryRequest {
    type Err = MemoryError;

    fn from_str(text: &str) -> Result<Self, MemoryError> {
        match parse_size(text) {
            Ok(Size::Bytes(bytes)) => Ok(Self::Bytes(bytes)),
            Ok(Size::Percent(percent)) if percent > 0.0 => Ok(Self::Share(percent / 100.0)),
            _ => Err(MemoryError::Syntax { text: text.to_owned() }),
        }
    }
}

impl Budget {
    /// Settles the bound for this process. An amount given is taken as given: the user may know better
    /// than MemAvailable; only [`Budget::overcommits`] says so.
    pub fn settle(request: Option<MemoryRequest>, default: Default) -> Result<Self, MemoryError> {
        Self::within(request, default, tightest_limit())
    }

    fn within(request: Option<MemoryRequest>, default: Default, limit: Limit) -> Result<Self, MemoryError> {
        let share_of_limit = |share: f64| (limit.bytes as f64 * share) as u64;
        let bytes = match request {
            Some(MemoryRequest::Bytes(bytes)) if bytes < MINIMUM_BYTES => {
                return Err(MemoryError::TooSmall { asked_mib: bytes / MIB, needed_mib: MINIMUM_BYTES / MIB });
            }
            Some(MemoryRequest::Bytes(bytes)) => bytes,
            Some(MemoryRequest::Share(share)) => share_of_limit(share),
            None => share_of_limit(default.share).clamp(DEFAULT_FLOOR_BYTES.min(limit.bytes / 2), default.cap_bytes),
        };
        if bytes < MINIMUM_BYTES {
            return Err(MemoryError::NoneLeft {
                left_mib: limit.bytes / MIB,
                by: limit.by,
                needed_mib: MINIMUM_BYTES / MIB,
            });
        }
        Ok(Self { bytes, limit })
    }

    /// Whether more was asked for than there is.
    pub fn overcommits(&self) -> bool {
        self.bytes > self.limit.bytes
    }
}

/// Threads for decoding: the CPUs of this job (the standard library heeds affinity and cgroup quotas).
pub fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Makes the allocator give memory back, so that the process stays within the bound that the user set.
///
/// glibc's own choice is one arena per thread and a threshold for mmap that grows up to 32 MiB with
/// what is freed: tiles of a few MiB then lie in arenas that never shrink, and RSS creeps to a
/// multiple of what is in use. Call this first thing in the process.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "mallopt has no safe wrapper")]
pub fn tame_allocator() {
    const MMAP_THRESHOLD_BYTES: libc::c_int = 4 * 1024 * 1024;
    const TRIM_THRESHOLD_BYTES: libc::c_int = 8 * 1024 * 1024;
    // SAFETY: mallopt takes two integers and touches nothing but malloc's own settings; a value it
    // dislikes is refused by return code, which leaves the default in place.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
        libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES);
    }
}

/// Other C libraries have no such settings.
#[cfg(not(target_env = "gnu"))]
pub fn tame_allocator() {}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1024 * MIB;

    fn limit(bytes: u64) -> Limit {
        Limit { bytes, by: "the test".to_owned() }
    }

    #[test]
    fn amounts_and_shares_are_read() {
        let read = |text: &str| text.parse::<MemoryRequest>();
        assert_eq!(read("512M").unwrap(), MemoryRequest::Bytes(512 * MIB));
        assert_eq!(read("2GiB").unwrap(), MemoryRequest::Bytes(2 * GIB));
        assert_eq!(read("1.5g").unwrap(), MemoryRequest::Bytes(3 * GIB / 2));
        assert_eq!(read("25%").unwrap(), MemoryRequest::Share(0.25));
        for wrong in ["", "x", "-1G", "101%", "0%", "5Q", "99999999999T"] {
            assert!(read(wrong).is_err(), "{wrong} was taken");
        }
    }

    #[test]
    fn the_default_is_a_quarter_up_to_eight_gib() {
        let settle = |bytes| Budget::within(None, Default::BESIDE, limit(bytes)).map(|budget| budget.bytes);
        assert_eq!(settle(16 * GIB).unwrap(), 4 * GIB);
        assert_eq!(settle(1024 * GIB).unwrap(), 8 * GIB);
        let alone = |bytes| Budget::within(None, Default::ALONE, limit(bytes)).map(|budget| budget.bytes);
        assert_eq!((alone(16 * GIB).unwrap(), alone(1024 * GIB).unwrap()), (8 * GIB, 32 * GIB));
        assert_eq!(settle(300 * MIB).unwrap(), DEFAULT_FLOOR_BYTES);
        assert_eq!(settle(200 * MIB).unwrap(), 100 * MIB);
        assert!(settle(100 * MIB).unwrap_err().to_string().contains("at least 64 MiB"));
    }

    #[test]
    fn an_amount_is_taken_as_given_unless_it_cannot_work() {
        let budget = Budget::within(Some(MemoryRequest::Bytes(3 * GIB)), Default::BESIDE, limit(GIB)).unwrap();
        assert!(budget.bytes == 3 * GIB && budget.overcommits());
        let error = Budget::within(Some(MemoryRequest::Bytes(MIB)), Default::BESIDE, limit(GIB)).unwrap_err();
        assert_eq!(error.to_string(), "--memory 1 MiB is too small: at least 64 MiB are needed");
    }
}
