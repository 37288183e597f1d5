//! Whether this machine lets us mount.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::device::{self, MountError};

/// What mounting takes, and whether it is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// /dev/fuse exists.
    pub has_device: bool,
    /// We may open it ourselves.
    pub device_opens: bool,
    /// fusermount3, on the PATH.
    pub helper: Option<PathBuf>,
    /// It is setuid root, without which it cannot mount for others.
    pub helper_is_setuid: bool,
    /// We are root (perhaps only of a container).
    pub is_root: bool,
    /// /etc/fuse.conf lets users open their mounts to others.
    pub user_allow_other: bool,
}

impl Machine {
    /// Looks around; mounts nothing.
    pub fn look() -> Self {
        let device = Path::new("/dev/fuse");
        let helper = device::find_helper();
        let helper_is_setuid = helper
            .as_deref()
            .and_then(|file| fs::metadata(file).ok())
            .is_some_and(|metadata| metadata.uid() == 0 && metadata.mode() & libc::S_ISUID != 0);
        Self {
            has_device: fs::metadata(device).is_ok_and(|metadata| metadata.file_type().is_char_device()),
            device_opens: fs::OpenOptions::new().read(true).write(true).open(device).is_ok(),
            helper,
            helper_is_setuid,
            is_root: rustix::process::geteuid().is_root(),
            user_allow_other: allows_other(&fs::read_to_string("/etc/fuse.conf").unwrap_or_default()),
        }
    }

    /// What stands in the way, as far as can be told without trying.
    pub fn check(&self, allow_other: bool) -> Result<(), MountError> {
        if !self.has_device {
            return Err(MountError::NoDevice);
        }
        // Root mounts directly; should that be forbidden (a container), the helper is tried and tells.
        if !self.is_root && self.helper.is_none() {
            return Err(MountError::NoHelper);
        }
        if !self.is_root && !self.helper_is_setuid {
            return Err(MountError::HelperWithoutRights);
        }
        if allow_other && !self.is_root && !self.user_allow_other {
            return Err(MountError::OthersNotAllowed);
        }
        Ok(())
    }
}

fn allows_other(fuse_conf: &str) -> bool {
    fuse_conf.lines().any(|line| line.trim() == "user_allow_other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commented_line_allows_nothing() {
        assert!(!allows_other("#user_allow_other\nmount_max = 1000\n"));
        assert!(allows_other("# who\n user_allow_other \n"));
    }

    #[test]
    fn what_is_missing_is_named_with_its_remedy() {
        let whole = Machine {
            has_device: true,
            device_opens: true,
            helper: Some("/usr/bin/fusermount3".into()),
            helper_is_setuid: true,
            is_root: false,
            user_allow_other: false,
        };
        assert!(whole.check(false).is_ok());
        let check = |machine: Machine, allow_other| machine.check(allow_other).unwrap_err().to_string();
        assert!(check(whole.clone(), true).contains("user_allow_other"));
        assert!(check(Machine { helper: None, ..whole.clone() }, false).contains("apt install fuse3"));
        assert!(check(Machine { has_device: false, ..whole.clone() }, false).contains("modprobe fuse"));
        assert!(Machine { helper: None, is_root: true, ..whole }.check(true).is_ok());
    }
}
