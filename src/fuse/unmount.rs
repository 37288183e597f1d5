//! Unmounting what is ours, and nothing else.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use super::{device, holders};
use crate::mounts::{self, Mount};

/// Why a mount stays.
#[derive(Debug, thiserror::Error)]
pub enum UnmountError {
    /// Nothing there.
    #[error("{} is not mounted; nothing was done", path.display())]
    NotMounted {
        /// Where.
        path: PathBuf,
    },
    /// Somebody else's.
    #[error("{} is not a rechunkfs mount but {fs_type}; nothing was done (umount {} would unmount it)",
        path.display(), path.display())]
    NotOurs {
        /// Where.
        path: PathBuf,
        /// What it is.
        fs_type: String,
    },
    /// Files are open.
    #[error("{} is in use by {holders}; close that first, or detach it now and let it finish: rechunkfs unmount --lazy {}",
        path.display(), path.display())]
    Busy {
        /// Where.
        path: PathBuf,
        /// Process and file, as text.
        holders: String,
    },
    /// Not allowed to.
    #[error("{} was mounted by another user; ask them, or unmount it as root", path.display())]
    NotAllowed {
        /// Where.
        path: PathBuf,
    },
    /// Anything else.
    #[error("{} cannot be unmounted: {message}", path.display())]
    Refused {
        /// Where.
        path: PathBuf,
        /// What the system says.
        message: String,
    },
}

/// Unmounts the view at `point` (as [`mounts::resolve`] spells it), `lazy` or not at all where it is in use.
pub fn unmount(point: &Path, lazy: bool) -> Result<Mount, UnmountError> {
    let path = point.to_owned();
    let mount = match mounts::at(point) {
        Ok(Some(mount)) if mount.is_ours() => mount,
        Ok(Some(mount)) => {
            return Err(UnmountError::NotOurs { path, fs_type: mount.fs_type });
        }
        Ok(None) => return Err(UnmountError::NotMounted { path }),
        Err(cause) => {
            return Err(UnmountError::Refused { path, message: cause.to_string() });
        }
    };
    if lazy {
        detach(&mount)?;
    } else {
        remove(&mount, UnmountFlags::empty())?;
    }
    Ok(mount)
}

/// Takes `mount` out of the tree; whoever has files open keeps them until closed. No harm is done
/// where it is gone already, or where something else is mounted over it by now.
pub fn detach(mount: &Mount) -> Result<(), UnmountError> {
    match mounts::at(&mount.point) {
        Ok(Some(now)) if now.id == mount.id => remove(mount, UnmountFlags::DETACH),
        Ok(_) => Ok(()),
        Err(cause) => Err(UnmountError::Refused { path: mount.point.clone(), message: cause.to_string() }),
    }
}

fn remove(mount: &Mount, flags: UnmountFlags) -> Result<(), UnmountError> {
    let path = mount.point.clone();
    match rustix::mount::unmount(&mount.point, flags | UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(()),
        Err(Errno::BUSY) => Err(busy(path)),
        Err(Errno::PERM) => remove_through_helper(mount, flags.contains(UnmountFlags::DETACH)),
        Err(cause) => Err(UnmountError::Refused { path, message: cause.to_string() }),
    }
}

fn remove_through_helper(mount: &Mount, lazy: bool) -> Result<(), UnmountError> {
    let path = mount.point.clone();
    let user = rustix::process::getuid().as_raw();
    if mount.owner().is_some_and(|owner| owner != user) {
        return Err(UnmountError::NotAllowed { path });
    }
    let Some(helper) = device::find_helper() else {
        return Err(UnmountError::Refused {
            path,
            message: "fusermount3 is missing (sudo apt install fuse3)".to_owned(),
        });
    };
    let mut command = Command::new(helper);
    command.arg("-u");
    if lazy {
        command.arg("-z");
    }
    let output = command.arg("--").arg(&mount.point).stdin(Stdio::null()).output();
    let message = match output {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; "),
        Err(cause) => cause.to_string(),
    };
    if message.contains("busy") { Err(busy(path)) } else { Err(UnmountError::Refused { path, message }) }
}

fn busy(path: PathBuf) -> UnmountError {
    let holders = holders::describe(&holders::find(&path));
    UnmountError::Busy { path, holders }
}
