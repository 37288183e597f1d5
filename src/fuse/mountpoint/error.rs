//! Why a place is no mount point, with the remedy.

use std::io;
use std::path::PathBuf;

use crate::fuse::unmount;

/// Why nothing can be mounted there; each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum MountPointError {
    /// The folder above does not exist.
    #[error("{}: the folder above does not exist; create it first: mkdir -p {}", path.display(), parent.display())]
    NoParent {
        /// As typed.
        path: PathBuf,
        /// What to create.
        parent: PathBuf,
    },
    /// A file, or a link to nothing.
    #[error("{} is not a directory; name an empty directory, or one that does not exist yet", path.display())]
    NotADirectory {
        /// Where.
        path: PathBuf,
    },
    /// It would hide what is there.
    #[error("{} is not empty; name an empty directory, or one that does not exist yet", path.display())]
    NotEmpty {
        /// Where.
        path: PathBuf,
    },
    /// A rechunkfs mount is there and alive.
    #[error("{} is mounted already (a view of {}); unmount it first: rechunkfs unmount {}",
        path.display(), source_path.display(), path.display())]
    AlreadyOurs {
        /// Where.
        path: PathBuf,
        /// What it shows.
        source_path: PathBuf,
    },
    /// Some other file system is there.
    #[error("{} is mounted already ({fs_type}); name a directory below it, or another one", path.display())]
    AlreadyMounted {
        /// Where.
        path: PathBuf,
        /// By what.
        fs_type: String,
    },
    /// A mount whose process is gone.
    #[error("{} is a stale mount (its process is gone); clear it: rechunkfs unmount --lazy {} (or mount with --replace-stale)",
        path.display(), path.display())]
    Stale {
        /// Where.
        path: PathBuf,
    },
    /// A stale mount of another program.
    #[error("{} is a stale mount of another program ({fs_type}); clear it: fusermount3 -u -z {}", path.display(), path.display())]
    StaleForeign {
        /// Where.
        path: PathBuf,
        /// By what.
        fs_type: String,
    },
    /// The view would contain itself, or hide its source.
    #[error("the mount point {} and the source {} lie within each other; name a directory outside the source",
        path.display(), source_path.display())]
    OverlapsSource {
        /// Where.
        path: PathBuf,
        /// The source.
        source_path: PathBuf,
    },
    /// Clearing a stale mount failed.
    #[error("{}: the stale mount cannot be cleared: {cause}", path.display())]
    Replace {
        /// Where.
        path: PathBuf,
        /// What unmounting says.
        cause: unmount::UnmountError,
    },
    /// Anything else that the system says.
    #[error("{}: {doing}: {cause}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the system says.
        cause: io::Error,
    },
}
