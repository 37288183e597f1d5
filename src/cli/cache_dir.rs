//! Where decoded data is kept on disk: which folders will do, and what is said of one.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use rechunkfs::mounts::is_within;
use rechunkfs::view::{CacheDir, DiskUsage};
use serde_json::{Value, json};

use super::report::bytes;

/// How long a view that ends may go on writing.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The folder `path`, which need not exist yet, for a view of `source` (canonical).
pub(crate) fn checked(path: &Path, limit_bytes: u64, source: &Path) -> anyhow::Result<CacheDir> {
    let path = resolve(path)?;
    if is_within(&path, source) || is_within(source, &path) {
        bail!(
            "--cache-dir {} and the source {} lie within each other; name another folder",
            path.display(),
            source.display()
        );
    }
    Ok(CacheDir { path, limit_bytes })
}

/// What is kept must not be hidden by the mount, nor the mount be among what is kept.
pub(crate) fn refuse_within(kept: Option<&CacheDir>, point: &Path) -> anyhow::Result<()> {
    match kept {
        Some(CacheDir { path, .. }) if is_within(path, point) || is_within(point, path) => bail!(
            "--cache-dir {} and the mount point {} lie within each other; name another folder",
            path.display(),
            point.display()
        ),
        _ => Ok(()),
    }
}

/// Absolute, and with no link in the part that exists.
pub(crate) fn resolve(path: &Path) -> std::io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let mut resolved = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(resolved.pop()),
            _ => resolved.push(component),
        }
        resolved = resolved.canonicalize().unwrap_or(resolved);
    }
    Ok(resolved)
}

/// What `mount` says.
pub(crate) fn line(usage: &DiskUsage) -> String {
    let DiskUsage { folder, used_bytes, limit_bytes } = usage;
    format!("kept in {}: {} of {}\n", folder.display(), bytes(*used_bytes), bytes(*limit_bytes))
}

/// The same for a program.
pub(crate) fn json(usage: &DiskUsage) -> Value {
    json!({ "folder": usage.folder, "used_bytes": usage.used_bytes, "limit_bytes": usage.limit_bytes })
}
