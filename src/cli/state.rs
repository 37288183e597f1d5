//! What is remembered of a mount while it lives: who serves it, and where its log is.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// One mount, as its daemon wrote it down.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) pid: u32,
    /// The kernel's number of the mount: tells it from a later one at the same place.
    pub(crate) mount_id: u64,
    pub(crate) mountpoint: PathBuf,
    pub(crate) source: PathBuf,
    pub(crate) log: Option<PathBuf>,
    pub(crate) memory_bytes: u64,
    pub(crate) threads: usize,
}

/// `$XDG_STATE_HOME/rechunkfs`, made if need be; None where there is no home to write to.
pub(crate) fn folder() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    let folder = base.join("rechunkfs");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).ok()?;
    Some(folder)
}

/// The log of whatever is mounted at `point`: one file per place, so that logs do not pile up.
pub(crate) fn log_file(point: &Path) -> Option<PathBuf> {
    Some(folder()?.join(format!("{}.log", file_name(point))))
}

/// `/data/objects.zarr` as a file name: `data%objects.zarr`.
fn file_name(point: &Path) -> String {
    // File names end at 255 bytes; the end of a path tells more than its beginning.
    const LONGEST: usize = 200;
    let mut name = String::new();
    for &byte in point.as_os_str().as_bytes().iter().skip(1) {
        match byte {
            b'/' => name.push('%'),
            b'.' | b'_' | b'-' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => name.push(byte.into()),
            other => name.push_str(&format!("={other:02x}")),
        }
    }
    name.split_off(name.len().saturating_sub(LONGEST))
}

impl Record {
    fn path(point: &Path) -> Option<PathBuf> {
        Some(folder()?.join(format!("{}.json", file_name(point))))
    }

    /// What is known of the mount at `point`.
    pub(crate) fn read(point: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(Self::path(point)?).ok()?).ok()
    }

    /// Writes it down. A mount works without, so failure is only logged.
    pub(crate) fn write(&self) {
        let text = serde_json::to_vec(self).expect("a record holds text and numbers");
        let Some(path) = Self::path(&self.mountpoint) else {
            return;
        };
        if let Err(cause) = fs::write(&path, text) {
            tracing::warn!("{}: {cause}; `status` will not know the log", path.display());
        }
    }

    /// Forgets it, unless a later mount has taken the place.
    pub(crate) fn forget(&self) {
        if let (Some(path), Some(now)) = (Self::path(&self.mountpoint), Self::read(&self.mountpoint))
            && now.pid == self.pid
        {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_have_names_of_their_own() {
        assert_eq!(file_name(Path::new("/data/objects.zarr")), "data%objects.zarr");
        assert_ne!(file_name(Path::new("/a/b")), file_name(Path::new("/a%b")));
        assert_eq!(file_name(Path::new(&"/x".repeat(500))).len(), 200);
    }
}
