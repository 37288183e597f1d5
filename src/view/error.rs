//! What can go wrong behind the one door. The mount turns each into an errno.

use crate::cache::disk::DiskError;
use crate::source::SourceError;
use std::io;
use std::sync::Arc;

/// A failed look-up, listing or read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ViewError {
    /// Provably absent. The only error that readers may take for "no such chunk".
    #[error("no such file")]
    NotFound,
    /// A name was looked up in something that is no directory.
    #[error("not a directory")]
    NotADirectory,
    /// A directory was read as a file.
    #[error("is a directory")]
    IsADirectory,
    /// A source chunk could not be read or decoded.
    #[error(transparent)]
    Source(Arc<SourceError>),
    /// A file that is shown as it is in the source is no longer what it was when it was looked up.
    #[error("changed since it was looked up; open it again")]
    Stale,
    /// The source has changed so often that inode numbers are used up.
    #[error("no more inode numbers after so many changes; unmount and mount again")]
    OutOfNumbers,
    /// The operating system refused.
    #[error("{0}")]
    Io(Arc<io::Error>),
    /// Nothing can be kept on disk where that was asked for.
    #[error(transparent)]
    Disk(Arc<DiskError>),
    /// What was built for a read was evicted again and again before the read could be answered.
    #[error("array '{array}', virtual chunk {key}: memory is too small for this read; mount with a larger --memory")]
    Starved {
        /// Array path.
        array: String,
        /// What is read of it.
        key: String,
    },
    /// Nothing has come from the source for a long time.
    #[error(
        "array '{array}', virtual chunk {key}: the source has not answered for {seconds} s (--read-timeout); see whether its disk or server hangs"
    )]
    TimedOut {
        /// Array path.
        array: String,
        /// What is read of it.
        key: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// A build panicked.
    #[error("array '{array}': internal error while building a virtual chunk; please report it")]
    Panicked {
        /// Array path.
        array: String,
    },
    /// More arrays than inode numbers have room for.
    #[error("{n_arrays} arrays to rechunk, at most {limit} can be; choose some with --array")]
    TooManyArrays {
        /// Asked for.
        n_arrays: usize,
        /// The limit.
        limit: usize,
    },
    /// The view cannot be opened within the memory allowed.
    #[error("--memory {given} is too small: this store needs at least {needed} (largest source chunk decoded: {leaf})")]
    TooLittleMemory {
        /// What was allowed.
        given: String,
        /// What is needed.
        needed: String,
        /// Decoded size of the largest source chunk.
        leaf: String,
    },
}

impl From<SourceError> for ViewError {
    fn from(error: SourceError) -> Self {
        ViewError::Source(Arc::new(error))
    }
}

impl From<DiskError> for ViewError {
    fn from(error: DiskError) -> Self {
        ViewError::Disk(Arc::new(error))
    }
}

impl From<Arc<SourceError>> for ViewError {
    fn from(error: Arc<SourceError>) -> Self {
        ViewError::Source(error)
    }
}

impl ViewError {
    /// What it is counted as.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            ViewError::NotFound | ViewError::NotADirectory | ViewError::IsADirectory => "not found",
            ViewError::Stale => "changed",
            ViewError::Source(error) => error.kind(),
            ViewError::Io(_) | ViewError::Disk(_) => "input or output",
            ViewError::TimedOut { .. } => "timed out",
            ViewError::Starved { .. } | ViewError::TooLittleMemory { .. } => "too little memory",
            ViewError::Panicked { .. } => "internal error",
            ViewError::OutOfNumbers | ViewError::TooManyArrays { .. } => "too many",
        }
    }

    /// `NotFound` for what is provably absent, else the error as it is.
    pub(super) fn from_host(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ViewError::NotFound,
            _ => ViewError::Io(Arc::new(error)),
        }
    }
}
