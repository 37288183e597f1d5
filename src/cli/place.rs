//! Where a view appears: a directory that we mount on, or a descriptor that somebody else mounted.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use rechunkfs::fuse::mountpoint::{Checked, MountPoint};
use rechunkfs::fuse::session::{self, Session};
use rechunkfs::fuse::{FileSystem, device, unmount};
use rechunkfs::mounts::Mount;
use rechunkfs::view::View;

use super::config::Access;
use super::output;

/// Mounted; nobody answers yet.
pub(crate) struct Place {
    device: OwnedFd,
    /// None where somebody else mounted.
    pub(crate) mount: Option<Mount>,
    underneath: Option<MountPoint>,
}

/// Mounted, and it answers.
pub(crate) struct Serving {
    pub(crate) session: Session,
    pub(crate) mount: Option<Mount>,
    /// What the user should know of the directory underneath.
    pub(crate) note: Option<String>,
}

impl Place {
    /// Mounts at a directory that was checked.
    pub(crate) fn at(checked: Checked, source: &Path, access: Access) -> anyhow::Result<Self> {
        let underneath = checked.take()?;
        match device::mount(underneath.path(), source, access != Access::Owner) {
            Ok(mounted) => {
                Ok(Self { device: mounted.device, mount: Some(mounted.mount), underneath: Some(underneath) })
            }
            Err(cause) => {
                underneath.give_back();
                Err(cause.into())
            }
        }
    }

    /// Somebody else has mounted, and handed over the descriptor.
    pub(crate) fn handed_over(device: OwnedFd) -> Self {
        Self { device, mount: None, underneath: None }
    }

    /// Serves `view` there, and closes the directory underneath. After a failure nothing stays mounted, and
    /// the directory is as it was.
    pub(crate) fn serve(self, view: Arc<View>, options: session::Options) -> anyhow::Result<Serving> {
        let file_system = FileSystem::new(view);
        let file_system = if self.mount.is_some() { file_system } else { file_system.refusing_writers() };
        let file_system = if options.root_and_owner_only { file_system.closed_to_others() } else { file_system };
        let started = Session::start(file_system, self.device, self.mount.clone(), options)
            .and_then(|session| session.await_answer().map(|()| session))
            .context("the mount does not answer");
        match started {
            Ok(session) => {
                // Let go of it then: an open directory would make this process one of the mount's users.
                let note = self.underneath.and_then(|underneath| underneath.close());
                Ok(Serving { session, mount: self.mount, note })
            }
            Err(error) => {
                clear_away(self.mount.as_ref());
                if let Some(underneath) = self.underneath {
                    underneath.give_back();
                }
                Err(error)
            }
        }
    }
}

/// Takes a mount of ours down, whoever uses it.
pub(crate) fn clear_away(mount: Option<&Mount>) {
    if let Some(mount) = mount
        && let Err(cause) = unmount::detach(mount)
    {
        output::warning(&cause.to_string());
    }
}
