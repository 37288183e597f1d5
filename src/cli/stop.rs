//! What a signal does to a copy or a comparison: it is asked to stop, and ended where that takes too long.

use std::sync::Arc;
use std::time::Duration;

use rechunkfs::fuse::signals::Signals;
use rechunkfs::materialize::Progress;

/// How long after a signal the work may take to stop by itself.
const PATIENCE: Duration = Duration::from_millis(800);

/// From here on the first signal asks whatever adds to `progress` to stop. A second one, or time, ends the process with
/// the code that `last_word` returns once it has said why.
pub(crate) fn arm(signals: &Signals, progress: &Arc<Progress>, last_word: fn() -> u8) -> std::io::Result<()> {
    let stopping = Arc::clone(progress);
    let complete = Arc::clone(progress);
    let end = move || {
        // What a copy has replaced may take long to remove; the copy itself is there.
        std::process::exit(if complete.is_complete() { 0 } else { i32::from(last_word()) })
    };
    signals.arm(
        || Ok(()),
        |()| {
            Box::new(move |_, first| {
                stopping.stop();
                if !first {
                    end();
                }
                let end = end.clone();
                std::thread::spawn(move || {
                    std::thread::sleep(PATIENCE);
                    end();
                });
            })
        },
    )
}
