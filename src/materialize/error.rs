//! Why a copy failed, or stopped. Each message names the thing and the remedy.

use super::verify::Comparison;
use crate::source::SourceError;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A copy, or a comparison, that did not come to its end.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CopyError {
    /// A source chunk cannot be read.
    #[error("{0}")]
    Source(Arc<SourceError>),
    /// The source is not what it was when the copy began.
    #[error(
        "{what} changed while it was copied: a copy must be of one state of its source; copy again when the source is at rest (--overwrite)"
    )]
    Changed {
        /// Array and key, or file, or document.
        what: String,
        /// As the source has it, if it is a source chunk.
        error: Option<Arc<SourceError>>,
    },
    /// The source does not hold still for as long as it takes to copy something of it.
    #[error("{what} changed again each time it was copied")]
    Restless {
        /// Array and key, or file.
        what: String,
    },
    /// The operating system refused.
    #[error("{}: cannot {action}: {error}", path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The cause.
        error: Arc<io::Error>,
    },
    /// The disk or the quota is used up.
    #[error("{}: {error}: make room, and then go on", path.display())]
    Full {
        /// What could not be written.
        path: PathBuf,
        /// The cause.
        error: Arc<io::Error>,
    },
    /// Not even one chunk at a time fits.
    #[error(
        "array '{array}': {needed} of memory are needed for {what}, {given} are allowed: give more --memory, or {remedy}"
    )]
    TooLittleMemory {
        /// Array path.
        array: String,
        /// What would do.
        needed: String,
        /// What is allowed.
        given: String,
        /// What takes it.
        what: &'static str,
        /// Another way.
        remedy: &'static str,
    },
    /// Going through it would not end.
    #[error(
        "array '{array}': {n} parts to go through one after the other, which would take years; choose larger chunks"
    )]
    Endless {
        /// Array path.
        array: String,
        /// Tiles.
        n: u64,
    },
    /// Codecs that cannot be built.
    #[error("array '{array}': {why}")]
    Codec {
        /// Array path.
        array: String,
        /// What is wrong.
        why: String,
    },
    /// Something is at the place of the copy.
    #[error("{}: exists already; name another TARGET, or replace it with --overwrite", .0.display())]
    TargetExists(PathBuf),
    /// What is there must not be replaced.
    #[error("{}: {why}; remove it yourself, or name another TARGET", path.display())]
    NotReplaced {
        /// The target.
        path: PathBuf,
        /// Why not.
        why: &'static str,
    },
    /// One lies within the other.
    #[error("{} lies within {}: name a TARGET apart from the source", inner.display(), outer.display())]
    Nested {
        /// Within.
        inner: PathBuf,
        /// Around.
        outer: PathBuf,
    },
    /// An earlier run did not finish.
    #[error("{}: an unfinished copy is there: go on with --resume, or start afresh with --overwrite", .0.display())]
    Unfinished(PathBuf),
    /// An unfinished copy is made in shares.
    #[error(
        "{}: an unfinished copy in shares is there: go on with --partition K/N --resume, and --finish; or start afresh with --overwrite alone", .0.display()
    )]
    InShares(PathBuf),
    /// Shares of another copy.
    #[error("{}: the unfinished copy in shares is another one: {what}; give all shares the same arguments, or start afresh: remove that folder", partial.display())]
    OtherPlan {
        /// The unfinished copy.
        partial: PathBuf,
        /// What differs.
        what: String,
    },
    /// An earlier run did not finish its share.
    #[error("{}: share {share} was begun: go on with --resume, or make it afresh with --overwrite", folder.display())]
    ShareUnfinished {
        /// The folder of the share.
        folder: PathBuf,
        /// Which one.
        share: String,
    },
    /// Another run is at this share.
    #[error("{}: another run is making share {share}; wait for it to end", folder.display())]
    ShareBusy {
        /// The folder of the share.
        folder: PathBuf,
        /// Which one.
        share: String,
    },
    /// There are no shares to put together.
    #[error("{}: there is no unfinished copy in shares; begin with --partition 1/N", .0.display())]
    NoShares(PathBuf),
    /// Some shares are not made.
    #[error("{}: not all shares are made: {missing}; run each with --partition and --resume, then --finish", partial.display())]
    MissingShares {
        /// The unfinished copy.
        partial: PathBuf,
        /// Which ones.
        missing: String,
    },
    /// Another run is at it.
    #[error("{}: another run is writing this copy; wait for it to end", .0.display())]
    Busy(PathBuf),
    /// The unfinished copy is of something else.
    #[error("the unfinished copy {} cannot be resumed: {what}; start afresh with --overwrite", partial.display())]
    CannotResume {
        /// The unfinished copy.
        partial: PathBuf,
        /// What differs.
        what: String,
    },
    /// A store that is to be compared, or its documents, cannot be read.
    #[error("{0}")]
    Store(String),
    /// The copy is not what its source is, or that cannot be told.
    #[error(
        "the copy is not verified: {}; nothing was published, the unfinished copy is {}", comparison.summary(), store.display()
    )]
    Unverified {
        /// The unfinished copy.
        store: PathBuf,
        /// What was found.
        comparison: Box<Comparison>,
    },
    /// A bug.
    #[error("internal error; please report it, with the panic that was logged before")]
    Panicked,
    /// The user said so.
    #[error("stopped")]
    Stopped,
}

impl CopyError {
    /// Does `work`, of which a panic is an error too: threads beside it are to stop, and the copy to end in order.
    pub(super) fn of_panic<T>(work: impl FnOnce() -> Result<T, CopyError>) -> Result<T, CopyError> {
        catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(CopyError::Panicked))
    }

    /// Going on later makes sense.
    pub fn is_resumable(&self) -> bool {
        matches!(self, CopyError::Stopped | CopyError::Full { .. } | CopyError::Restless { .. })
    }

    /// A failure of the file system at `path`.
    pub(super) fn io(path: &Path, action: &'static str, error: impl Into<io::Error>) -> Self {
        let error = Arc::new(error.into());
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                CopyError::Full { path: path.to_owned(), error }
            }
            _ => CopyError::Io { path: path.to_owned(), action, error },
        }
    }

    /// A failure to read the source.
    pub(super) fn source(error: Arc<SourceError>) -> Self {
        let changed = match &*error {
            SourceError::Changed { array, key } => Some(format!("array '{array}', chunk file {key}")),
            _ => None,
        };
        match changed {
            Some(what) => CopyError::Changed { what, error: Some(error) },
            None => CopyError::Source(error),
        }
    }

    /// Something of the source, other than a chunk of it that is read, has changed.
    pub(super) fn changed(what: impl Into<String>) -> Self {
        CopyError::Changed { what: what.into(), error: None }
    }

    /// The source chunk that cannot be read, or is no longer what it was, if that is it.
    pub(super) fn unread(&self) -> Option<Arc<SourceError>> {
        match self {
            CopyError::Source(error) => Some(Arc::clone(error)),
            CopyError::Changed { error, .. } => error.clone(),
            _ => None,
        }
    }
}

impl From<SourceError> for CopyError {
    fn from(error: SourceError) -> Self {
        CopyError::source(Arc::new(error))
    }
}
