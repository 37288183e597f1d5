//! Links that lead out of the source, where they must not be followed.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::sync::Arc;

/// What may be shown: everything that a path leads to, or only what lies below a directory.
///
/// Whoever may write to a source can put a link into it. Where others than the one who mounts may read the view, that link
/// would show them whatever its owner may read.
#[derive(Debug, Clone, Default)]
pub struct Bounds(Option<Arc<Path>>);

impl Bounds {
    /// Only what lies below `root` (canonical).
    pub fn within(root: &Path) -> Self {
        Bounds(Some(root.into()))
    }

    /// Whether there are any.
    pub fn are_set(&self) -> bool {
        self.0.is_some()
    }

    /// Looks where something that was opened lies, whatever path has led to it: it stays what it is, whoever changes the path
    /// meanwhile.
    ///
    /// # Errors
    /// [`io::ErrorKind::PermissionDenied`] where it lies elsewhere.
    pub fn check(&self, opened: impl AsFd) -> io::Result<()> {
        let Some(root) = &self.0 else { return Ok(()) };
        let place = std::fs::read_link(format!("/proc/self/fd/{}", opened.as_fd().as_raw_fd()))?;
        if place.starts_with(root) {
            return Ok(());
        }
        let why =
            "a link leads out of the source, which is not followed where others may read; bind-mount what it leads to";
        Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
    }
}
