//! What can go wrong with a source chunk. Each message names the array, the key and, where there is one, the remedy.

use std::io;

/// A source chunk that could not be read or decoded.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The operating system refused.
    #[error("array '{array}', chunk file {key}: cannot {action}: {error}")]
    Io {
        /// Array path.
        array: String,
        /// Key of the file within the array.
        key: String,
        /// What was tried.
        action: &'static str,
        /// The cause.
        error: io::Error,
    },
    /// The bytes are not what the array's metadata says they are.
    #[error("array '{array}', chunk file {key}: {why}; the file is damaged or was written with other metadata")]
    Corrupt {
        /// Array path.
        array: String,
        /// Key of the file within the array.
        key: String,
        /// What is wrong.
        why: String,
    },
    /// The bytes make no sense, of a file that was changed so short a time ago that somebody may be writing it.
    #[error(
        "array '{array}', chunk file {key}: {why}; the file was changed seconds ago: it is being written, or was left half-written"
    )]
    Torn {
        /// Array path.
        array: String,
        /// Key of the file within the array.
        key: String,
        /// What is wrong.
        why: String,
    },
    /// The file is not, or no longer, in the state that was asked for.
    #[error(
        "array '{array}', chunk file {key}: changed since it was looked at; open the virtual chunk again to see the new data"
    )]
    Changed {
        /// Array path.
        array: String,
        /// Key of the file within the array.
        key: String,
    },
    /// The metadata describes something that cannot be decoded.
    #[error("array '{array}': {why}")]
    Unsupported {
        /// Array path.
        array: String,
        /// What, and why.
        why: String,
    },
}

impl SourceError {
    /// What it is counted as.
    pub fn kind(&self) -> &'static str {
        match self {
            SourceError::Io { .. } => "input or output",
            SourceError::Corrupt { .. } => "damaged",
            SourceError::Torn { .. } => "half-written",
            SourceError::Changed { .. } => "changed",
            SourceError::Unsupported { .. } => "unsupported",
        }
    }

    /// It may pass: somebody may be writing the file.
    pub fn is_torn(&self) -> bool {
        matches!(self, SourceError::Torn { .. })
    }
}
