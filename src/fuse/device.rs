//! Mounting, by ourselves: straight where we may, else through fusermount3.
//!
//! fuser can mount, but what it mounts it also unmounts, and 0.18 may then unmount somebody else's file
//! system at the same path, or leave ours. So it only ever gets a descriptor.

use std::ffi::{CString, OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, IoSliceMut};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::mount::MountFlags;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType, recvmsg, socketpair,
};
use rustix::process::{getgid, getuid};

use crate::mounts::{self, FS_TYPE, Mount};

const DEVICE: &str = "/dev/fuse";
/// The kernel checks modes where others may come. Where nobody may it need not, and asks for attributes less often: whoever
/// looks up a name below a directory would have to find out its time first.
const FOR_OTHERS: &str = ",allow_other,default_permissions";

/// Why mounting failed.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// No FUSE here.
    #[error(
        "{DEVICE} is missing: load the module (sudo modprobe fuse), or start the container with --device {DEVICE}; {WITHOUT}"
    )]
    NoDevice,
    /// Neither the right to mount nor the helper that has it.
    #[error("fusermount3 is missing: install it (sudo apt install fuse3); {OR_IN_A_NAMESPACE}; {WITHOUT}")]
    NoHelper,
    /// The helper is there and cannot help.
    #[error(
        "fusermount3 is not setuid root, so only root can mount here: sudo chmod u+s $(which fusermount3); {OR_IN_A_NAMESPACE}; {WITHOUT}"
    )]
    HelperWithoutRights,
    /// The administrator has not allowed it.
    #[error(
        "--allow-other and --allow-root need a line `user_allow_other` in /etc/fuse.conf (the administrator adds it); or mount without them"
    )]
    OthersNotAllowed,
    /// The helper refused.
    #[error("mounting at {} failed: {message}{}", path.display(), remedy(message))]
    Refused {
        /// Where.
        path: PathBuf,
        /// What fusermount3 says.
        message: String,
    },
    /// The system refused.
    #[error("mounting at {} failed: {cause}{}", path.display(), remedy(&cause.to_string()))]
    Io {
        /// Where.
        path: PathBuf,
        /// What it says.
        cause: io::Error,
    },
    /// Mounted, but not to be found.
    #[error("{} was mounted and has vanished: was it unmounted at once?", path.display())]
    Vanished {
        /// Where.
        path: PathBuf,
    },
    /// `/dev/fd/N` that is none.
    #[error(
        "/dev/fd/{number} is not an open {DEVICE}: whoever mounts has to open it, and hand it over to this process"
    )]
    NotOurDevice {
        /// N.
        number: i32,
    },
}

/// Root of a user namespace may mount in it, without a helper.
const OR_IN_A_NAMESPACE: &str =
    "or, where users may open /dev/fuse, mount in a namespace of your own: unshare -Umr rechunkfs exec ...";

/// What can be had on a machine that cannot mount.
pub const WITHOUT: &str = "without it nothing can be mounted, only written to disk (`materialize`)";

fn remedy(message: &str) -> &'static str {
    if message.contains("user_allow_other") {
        " (or mount without --allow-other and --allow-root)"
    } else if message.contains("Permission denied") {
        "; may you open /dev/fuse? (ls -l /dev/fuse)"
    } else if message.contains("Operation not permitted") {
        "; is this a container? It needs --cap-add SYS_ADMIN --device /dev/fuse, or a descriptor as /dev/fd/N"
    } else {
        ""
    }
}

/// A fresh mount, and the descriptor through which its requests come.
#[derive(Debug)]
pub struct Mounted {
    /// For the session; closing it kills the mount.
    pub device: OwnedFd,
    /// As the kernel lists it.
    pub mount: Mount,
}

/// Mounts at `point` (canonical); `source` is shown as the device in mount tables.
pub fn mount(point: &Path, source: &Path, allow_other: bool) -> Result<Mounted, MountError> {
    let device = match mount_directly(point, source, allow_other) {
        Err(cause @ (Errno::PERM | Errno::ACCESS)) => mount_through_helper(point, source, allow_other, cause)?,
        Err(Errno::NOENT | Errno::NODEV | Errno::NXIO) => return Err(MountError::NoDevice),
        Err(cause) => {
            return Err(MountError::Io { path: point.to_owned(), cause: cause.into() });
        }
        Ok(device) => device,
    };
    match mounts::at(point) {
        Ok(Some(mount)) => Ok(Mounted { device, mount }),
        Ok(None) => Err(MountError::Vanished { path: point.to_owned() }),
        Err(cause) => Err(MountError::Io { path: point.to_owned(), cause }),
    }
}

fn mount_directly(point: &Path, source: &Path, allow_other: bool) -> Result<OwnedFd, Errno> {
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .open(DEVICE)
        .map_err(|cause| Errno::from_io_error(&cause).unwrap_or(Errno::IO))?;
    let options = format!(
        "fd={},rootmode=40000,user_id={},group_id={}{}",
        device.as_raw_fd(),
        getuid().as_raw(),
        getgid().as_raw(),
        if allow_other { FOR_OTHERS } else { "" }
    );
    let options = CString::new(options).expect("numbers and names hold no NUL");
    let flags = MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOATIME;
    rustix::mount::mount(source, point, FS_TYPE, flags, options.as_c_str())?;
    Ok(device.into())
}

/// fusermount3 is setuid root: it mounts, and sends the descriptor over a socket.
///
/// `cause` is why we could not do so ourselves.
fn mount_through_helper(point: &Path, source: &Path, allow_other: bool, cause: Errno) -> Result<OwnedFd, MountError> {
    let io_error = |cause: io::Error| MountError::Io { path: point.to_owned(), cause };
    let helper = match find_helper() {
        Some(helper) => helper,
        // The helper has no rights that root lacks.
        None if rustix::process::geteuid().is_root() => return Err(io_error(cause.into())),
        None => return Err(MountError::NoHelper),
    };
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::empty(), None)
        .map_err(|cause| io_error(cause.into()))?;
    fcntl_setfd(&ours, FdFlags::CLOEXEC).map_err(|cause| io_error(cause.into()))?;
    let mut options = OsString::from("ro,nodev,nosuid,noatime,subtype=rechunkfs,fsname=");
    options.push(escape(source.as_os_str()));
    if allow_other {
        options.push(FOR_OTHERS);
    }
    let child = Command::new(helper)
        .arg("-o")
        .arg(options)
        .arg("--")
        .arg(point)
        .env("_FUSE_COMMFD", theirs.as_raw_fd().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(io_error)?;
    // Or we would wait for a message that nobody else can send.
    drop(theirs);
    let device = receive_descriptor(&ours);
    let output = child.wait_with_output().map_err(io_error)?;
    match device {
        Ok(Some(device)) if output.status.success() => Ok(device),
        Err(cause) => Err(io_error(cause)),
        _ => {
            let message = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
            Err(MountError::Refused { path: point.to_owned(), message })
        }
    }
}

/// In fusermount3's option list a comma in a name would start another option.
fn escape(name: &OsStr) -> OsString {
    let mut escaped = Vec::with_capacity(name.len());
    for &byte in name.as_bytes() {
        if byte == b',' || byte == b'\\' {
            escaped.push(b'\\');
        }
        escaped.push(byte);
    }
    OsString::from_vec(escaped)
}

fn receive_descriptor(socket: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    let mut byte = [0_u8];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    Ok(ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    }))
}

/// fusermount3, or its predecessor, on the PATH.
pub fn find_helper() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    ["fusermount3", "fusermount"]
        .into_iter()
        .flat_map(|name| std::env::split_paths(&path).map(move |folder| folder.join(name)))
        .find(|file| file.is_file())
}

/// Takes over descriptor `number`, a FUSE device that whoever started us has opened and mounted.
///
/// Call it once, before anything else is opened.
#[expect(unsafe_code, reason = "an inherited descriptor is only a number")]
pub fn inherited(number: i32) -> Result<OwnedFd, MountError> {
    let device_number = std::fs::metadata(format!("/proc/self/fd/{number}")).map(|metadata| metadata.rdev());
    if number < 3 || device_number.ok() != Some(libc::makedev(10, 229)) {
        return Err(MountError::NotOurDevice { number });
    }
    // SAFETY: the descriptor is open, as was just seen, and it is not one of ours: we have not opened
    // /dev/fuse in this process. So nobody else in it owns the number.
    let device = File::from(unsafe { OwnedFd::from_raw_fd(number) });
    // Children (fusermount3, say) must not keep the connection alive.
    fcntl_setfd(&device, FdFlags::CLOEXEC).map_err(|_| MountError::NotOurDevice { number })?;
    Ok(device.into())
}

/// Lets go of every FUSE device that this process has open, as its end would, which a thread in a system call of a source that
/// hangs keeps from coming: readers get an error and need not wait for that call. Call it last: requests go nowhere then.
#[expect(unsafe_code, reason = "the descriptors are not ours but the session's")]
pub fn let_go() {
    let Ok(nowhere) = File::open("/dev/null") else { return };
    for entry in std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if std::fs::read_link(entry.path()).is_ok_and(|path| path == Path::new(DEVICE))
            && let Some(number) = number
        {
            // SAFETY: its owner, the session, goes on to own a descriptor with this number, which is open, as dup2 leaves
            // no time at which it is not; and it is not closed here.
            let mut device = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
            let _ = rustix::io::dup2(&nowhere, &mut device);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_in_a_path_starts_no_option() {
        assert_eq!(escape(OsStr::new(r"a,b\c")), OsStr::new(r"a\,b\\c"));
    }
}
