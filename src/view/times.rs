//! Modification times of what is computed from many files.

/// The last digits of a time, about a millisecond, are a digest of all files that it stands for.
const DIGEST_MASK: u64 = (1 << 20) - 1;

/// The times of a set of files: in whatever order they are added, the same set gives the same time, and a set in which a file
/// has changed, come or gone another one, even where the latest of them is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Times {
    latest_ns: i64,
    digest: u64,
}

impl Times {
    /// Adds a file, or whatever `identity` tells from all else.
    pub(super) fn add(&mut self, time_ns: i64, identity: u64) {
        self.latest_ns = self.latest_ns.max(time_ns);
        self.digest = self.digest.wrapping_add(mixed(identity));
    }

    /// Adds another set.
    pub(super) fn merge(&mut self, other: Times) {
        self.latest_ns = self.latest_ns.max(other.latest_ns);
        self.digest = self.digest.wrapping_add(other.digest);
    }

    /// The modification time of what is computed from the set, nanoseconds since 1970.
    pub(super) fn time_ns(self) -> i64 {
        ((self.latest_ns.max(0).cast_unsigned() & !DIGEST_MASK) | (self.digest & DIGEST_MASK)).cast_signed()
    }
}

/// Every bit of the result depends on every bit of `x` (the finalizer of SplitMix64: Steele, Lea, Flood, OOPSLA 2014).
fn mixed(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(files: &[(i64, u64)]) -> i64 {
        let mut times = Times::default();
        files.iter().for_each(|&(time_ns, identity)| times.add(time_ns, identity));
        times.time_ns()
    }

    #[test]
    fn a_time_is_the_latest_within_a_millisecond_and_moves_with_any_of_the_files() {
        let noon = 1_700_000_000_123_456_789;
        let all = [(noon, 1), (noon - 1_000_000_000, 2), (5, 3)];
        assert!((noon - time(&all)).abs() < 1 << 20);
        assert_eq!(time(&all), time(&[all[2], all[0], all[1]]));
        for fewer in [&all[..2], &all[..1]] {
            assert_ne!(time(fewer), time(&all));
        }
        assert_ne!(time(&[all[0], (all[1].0, 7), all[2]]), time(&all), "an older one was replaced by one as old");
        assert_eq!(time(&[]), 0);
    }
}
