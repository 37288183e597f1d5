//! Every error to its errno, in one exhaustive match; a panic to EIO.

use crate::view::{SourceError, ViewError};
use fuser::Errno;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// For look-ups: absence is ENOENT, and nothing else is.
pub(super) fn of(error: &ViewError) -> Errno {
    match error {
        ViewError::NotFound => Errno::ENOENT,
        ViewError::NotADirectory => Errno::ENOTDIR,
        ViewError::IsADirectory => Errno::EISDIR,
        ViewError::Stale => Errno::ESTALE,
        ViewError::OutOfNumbers | ViewError::TimedOut { .. } => Errno::EIO,
        ViewError::Source(error) => of_source(error),
        ViewError::Io(error) => of_io(error),
        ViewError::Starved { .. } | ViewError::TooLittleMemory { .. } => Errno::ENOMEM,
        ViewError::Panicked { .. } | ViewError::TooManyArrays { .. } | ViewError::Disk(_) => Errno::EIO,
    }
}

/// For what was found before: that it is gone now is a change, not absence. Readers take ENOENT, ENOTDIR and EISDIR
/// for a missing chunk, and fill in.
pub(super) fn of_open(error: &ViewError) -> Errno {
    match error {
        ViewError::NotFound => Errno::ESTALE,
        other => of(other),
    }
}

fn of_source(error: &SourceError) -> Errno {
    match error {
        SourceError::Changed { .. } => Errno::ESTALE,
        SourceError::Io { error, .. } => of_io(error),
        SourceError::Corrupt { .. } | SourceError::Torn { .. } | SourceError::Unsupported { .. } => Errno::EIO,
    }
}

/// The system's own errno where it tells more than EIO and cannot be mistaken for absence.
fn of_io(error: &std::io::Error) -> Errno {
    match error.raw_os_error() {
        Some(
            code @ (libc::EACCES
            | libc::EPERM
            | libc::EMFILE
            | libc::ENFILE
            | libc::ENOMEM
            | libc::ENAMETOOLONG
            | libc::ESTALE),
        ) => Errno::from_i32(code),
        None if error.kind() == std::io::ErrorKind::PermissionDenied => Errno::EACCES,
        _ => Errno::EIO,
    }
}

/// A panic must not take the session's thread with it: the reply, dropped on the way, has then answered EIO.
pub(super) fn guarded(request: &str, body: impl FnOnce()) {
    let drilled = || {
        crate::drill::at(request);
        body();
    };
    if catch_unwind(AssertUnwindSafe(drilled)).is_err() {
        tracing::error!("a {request} panicked and was answered with EIO; this is a bug");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn no_failure_looks_like_absence() {
        for code in 1..134 {
            let io = || std::io::Error::from_raw_os_error(code);
            let source = SourceError::Io { array: "a".into(), key: "c.0".into(), action: "read it", error: io() };
            for error in [ViewError::Io(Arc::new(io())), ViewError::Source(Arc::new(source))] {
                for errno in [of(&error), of_open(&error)] {
                    assert!(![libc::ENOENT, libc::ENOTDIR, libc::EISDIR].contains(&errno.code()), "errno {code}");
                }
            }
        }
    }
}
