//! Looking at files that somebody may be writing just now.
//!
//! File systems tell time by a clock with ticks of some milliseconds. A file that was changed within the tick in which it
//! is looked at can be changed once more without any sign: of such a state nothing may be kept.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Some ticks.
const YOUNG: Duration = Duration::from_millis(40);
/// Whoever writes for longer than this is left to it.
const PATIENCE: Duration = Duration::from_secs(2);

/// What `look` finds once it has settled, or after some patience whatever it finds.
pub(super) fn settled<T, E>(mut look: impl FnMut() -> Result<T, E>, is_settling: impl Fn(&T) -> bool) -> Result<T, E> {
    let began = Instant::now();
    loop {
        let found = look()?;
        if !is_settling(&found) || began.elapsed() > PATIENCE {
            return Ok(found);
        }
        std::thread::sleep(YOUNG);
    }
}

/// Changed within some ticks, by the time of change, which nobody can set.
pub(super) fn is_settling(metadata: &Metadata) -> bool {
    age_ns(metadata).unsigned_abs() < YOUNG.as_nanos() as u64
}

/// The same, or changed in the future: a clock goes wrong, and waiting does not help. Such a file is copied as any other, but
/// nothing is written down of its state.
pub(super) fn is_young(metadata: &Metadata) -> bool {
    age_ns(metadata) < YOUNG.as_nanos() as i64
}

fn age_ns(metadata: &Metadata) -> i64 {
    let changed_ns = metadata.ctime().saturating_mul(1_000_000_000).saturating_add(metadata.ctime_nsec());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (now.as_nanos() as i64).saturating_sub(changed_ns)
}
