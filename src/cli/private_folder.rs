//! A folder for a mount point that nobody else knows of.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustix::fs::{CWD, RenameFlags, renameat_with, symlink};

/// Nobody else can enter it; gone when dropped.
pub(crate) struct PrivateFolder {
    pub(crate) path: PathBuf,
}

impl PrivateFolder {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let base = std::env::temp_dir();
        for attempt in 0..100 {
            let path = base.join(format!("rechunkfs-{}-{attempt}", std::process::id()));
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {
                    return Ok(Self { path: path.canonicalize()? });
                }
                Err(cause) if cause.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(cause) => {
                    return Err(cause).with_context(|| format!("{} cannot be created", path.display()));
                }
            }
        }
        anyhow::bail!("no free name for a folder in {}", base.display())
    }

    /// Leaves an error for everybody, root included, at the directory `point` in it, which is mounted no more: a symbolic
    /// link to itself. What is missing, or empty, would read as fill value.
    pub(crate) fn close(self, point: &Path) -> std::io::Result<()> {
        let link = self.path.join("closed");
        symlink(point.file_name().unwrap_or_default(), &link)?;
        renameat_with(CWD, &link, CWD, point, RenameFlags::EXCHANGE)?;
        std::fs::remove_dir(&link)
    }
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        // One folder deep, and never into what may be mounted: rmdir alone, no recursion. What was closed stays.
        for entry in std::fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let _ = std::fs::remove_dir(entry.path());
        }
        let _ = std::fs::remove_dir(&self.path);
    }
}
