//! Looking at files that somebody may be writing just now.
//!
//! File systems tell time by a clock with ticks of some milliseconds. A file that was changed within the tick in which it
//! is looked at can be changed once more without any sign: of such a state nothing may be kept.

use crate::source::YOUNG;
use std::time::{Duration, Instant};

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
