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

/// What `look` finds once it is no longer young, or after some patience whatever it finds.
pub(super) fn settled<T, E>(mut look: impl FnMut() -> Result<T, E>, is_young: impl Fn(&T) -> bool) -> Result<T, E> {
    let began = Instant::now();
    loop {
        let found = look()?;
        if !is_young(&found) || began.elapsed() > PATIENCE {
            return Ok(found);
        }
        std::thread::sleep(YOUNG);
    }
}

/// By the time of change, which nobody can set. One in the future tells nothing.
pub(super) fn is_young(metadata: &Metadata) -> bool {
    let changed = Duration::new(metadata.ctime().max(0).cast_unsigned(), metadata.ctime_nsec().max(0) as u32);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now < changed + YOUNG
}
