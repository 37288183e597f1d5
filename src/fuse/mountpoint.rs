//! The directory under a mount: checked before, closed (mode 000) while and after, so that a view that
//! is not mounted never looks like an empty store.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::unmount;
use crate::mounts::{self, is_within};

mod error;

pub use error::MountPointError;

/// A mount point that passed its checks; nothing has been changed yet.
#[derive(Debug)]
pub struct Checked {
    path: PathBuf,
    exists: bool,
    /// What to tell the user, though it does not stop us.
    pub warnings: Vec<String>,
}

/// Checks `path` as a place for a view of `source` (canonical). Changes nothing, except that a stale mount
/// of ours is cleared if `replace_stale`.
pub fn check(path: &Path, source: &Path, replace_stale: bool) -> Result<Checked, MountPointError> {
    let io_error = |doing| move |cause| MountPointError::Io { path: path.to_owned(), doing, cause };
    let point = mounts::resolve(path).map_err(|cause| match cause.kind() {
        io::ErrorKind::NotFound => match fs::symlink_metadata(path) {
            Ok(_) => MountPointError::NotADirectory { path: path.to_owned() },
            Err(_) => {
                MountPointError::NoParent { path: path.to_owned(), parent: path.parent().unwrap_or(path).to_owned() }
            }
        },
        _ => io_error("cannot be looked up")(cause),
    })?;
    if is_within(&point, source) || is_within(source, &point) {
        return Err(MountPointError::OverlapsSource { path: point, source_path: source.to_owned() });
    }
    refuse_mounted(&point, replace_stale)?;
    let exists = match fs::metadata(&point) {
        Ok(metadata) if !metadata.is_dir() => {
            return Err(MountPointError::NotADirectory { path: point });
        }
        Ok(_) => {
            refuse_full(&point)?;
            true
        }
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => false,
        Err(cause) => return Err(io_error("cannot be looked at")(cause)),
    };
    let warnings =
        network_warning(if exists { &point } else { point.parent().unwrap_or(&point) }).into_iter().collect();
    Ok(Checked { path: point, exists, warnings })
}

fn refuse_mounted(point: &Path, replace_stale: bool) -> Result<(), MountPointError> {
    let path = point.to_owned();
    loop {
        let mount = match mounts::at(point) {
            Ok(Some(mount)) if mount.fs_type != "autofs" => mount,
            Ok(_) => return Ok(()),
            Err(cause) => {
                return Err(MountPointError::Io { path, doing: "the mount table cannot be read", cause });
            }
        };
        let stale = is_stale(point);
        match (stale, mount.is_ours()) {
            // There may be another mount beneath, hence the loop.
            (true, true) if replace_stale => {
                unmount::detach(&mount).map_err(|cause| MountPointError::Replace { path: path.clone(), cause })?
            }
            (true, true) => return Err(MountPointError::Stale { path }),
            (true, false) => {
                return Err(MountPointError::StaleForeign { path, fs_type: mount.fs_type });
            }
            (false, true) => {
                return Err(MountPointError::AlreadyOurs { path, source_path: mount.source });
            }
            (false, false) => {
                return Err(MountPointError::AlreadyMounted { path, fs_type: mount.fs_type });
            }
        }
    }
}

/// Whether a FUSE mount's process is gone. Asks the file system: not for mounts that may hang.
pub fn is_stale(point: &Path) -> bool {
    matches!(fs::metadata(point), Err(cause) if cause.raw_os_error() == Some(libc::ENOTCONN))
}

fn refuse_full(point: &Path) -> Result<(), MountPointError> {
    match fs::read_dir(point) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(MountPointError::NotEmpty { path: point.to_owned() }),
        },
        // Closed: as an earlier run leaves it. Only an owner gets further, and then looks again.
        Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(cause) => Err(MountPointError::Io { path: point.to_owned(), doing: "cannot be listed", cause }),
    }
}

/// On a network file system other machines see the directory underneath, never the view.
fn network_warning(folder: &Path) -> Option<String> {
    let name = match u64::try_from(rustix::fs::statfs(folder).ok()?.f_type).ok()? & 0xFFFF_FFFF {
        0x6969 => "NFS",
        0x517B | 0xFF53_4D42 | 0xFE53_4D42 => "SMB",
        0x0BD0_0BD0 => "Lustre",
        0x00C3_6400 => "Ceph",
        0x5346_414F | 0x6B41_4653 => "AFS",
        0x4750_4653 => "GPFS",
        0x1983_0326 => "BeeGFS",
        0x0102_1997 => "9P",
        _ => return None,
    };
    Some(format!(
        "{} is on a network file system ({name}): the view is visible on this machine only, others see a closed \
         directory; a local mount point (below /tmp, say) is quicker",
        folder.display()
    ))
}

/// A mount point in our hands: open, so that the directory underneath is reachable once it is covered.
#[derive(Debug)]
pub struct MountPoint {
    path: PathBuf,
    underneath: File,
    /// Made by us: removed again should mounting fail.
    created: bool,
    /// As found: put back should mounting fail.
    mode: u32,
}

impl Checked {
    /// Canonical.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Creates the directory if need be and opens it.
    pub fn take(self) -> Result<MountPoint, MountPointError> {
        let path = self.path;
        let io_error = |doing| {
            let path = path.clone();
            move |cause| MountPointError::Io { path, doing, cause }
        };
        if !self.exists {
            fs::DirBuilder::new().mode(0o700).create(&path).map_err(io_error("cannot be created"))?;
        }
        let mode = fs::metadata(&path).map_err(io_error("cannot be looked at"))?.mode() & 0o7777;
        // fusermount3 wants to see that the caller may write there, so a closed directory is opened for
        // the moment of mounting. Whoever is root mounts without it, and never opens what is closed.
        if !rustix::process::geteuid().is_root() && mode & 0o700 != 0o700 {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode | 0o700))
                .map_err(io_error("is closed (mode 000) and not yours"))?;
        }
        let open = || rustix::fs::open(&path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let underneath = File::from(open().map_err(|cause| io_error("cannot be opened")(cause.into()))?);
        let point = MountPoint { path, underneath, created: !self.exists, mode };
        if let Err(error) = refuse_full(&point.path) {
            point.give_back();
            return Err(error);
        }
        Ok(point)
    }
}

impl MountPoint {
    /// Canonical.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sets mode 000 on the directory underneath, covered or not. Returns a line for the user where there is
    /// something to say.
    pub fn close(&self) -> Option<String> {
        let path = self.path.display();
        match self.underneath.set_permissions(fs::Permissions::from_mode(0o000)) {
            Ok(()) if self.mode == 0 => None,
            Ok(()) => Some(format!(
                "the directory under {path} now has mode 000 and keeps it after unmounting, so that a missing mount \
                 is an error to readers, not an empty store (rmdir removes it)"
            )),
            Err(cause) => Some(format!(
                "the directory under {path} cannot be closed ({cause}): while nothing is mounted there, it looks like \
                 an empty store"
            )),
        }
    }

    /// Leaves things as they were found: nothing was mounted after all.
    pub fn give_back(self) {
        let result = match self.created {
            true => fs::remove_dir(&self.path),
            false => self.underneath.set_permissions(fs::Permissions::from_mode(self.mode)),
        };
        if let Err(cause) = result {
            tracing::warn!("{}: cannot be put back as it was: {cause}", self.path.display());
        }
    }
}
