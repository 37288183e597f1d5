//! What a file system has room for, as far as it is ours: free space, and quotas.

use crate::mounts;
use nix::sys::quota::{QuotaType, quotactl_get};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Quotas are counted in these, by all file systems.
const QUOTA_BLOCK_BYTES: u64 = 1024;

/// Bytes that can still be written to the file system of `folder`; `None` where it does not say.
pub(super) fn free_bytes(folder: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(folder).ok()?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    Some(quota_bytes(folder).map_or(free, |left| left.min(free)))
}

/// Bytes that are left of the quotas of this user and of the group that files in `folder` get. File systems that others
/// serve do not tell, and neither do those without a device of their own; what projects may take is in their free space.
fn quota_bytes(folder: &Path) -> Option<u64> {
    let metadata = std::fs::metadata(folder).ok()?;
    let device = format!("{}:{}", rustix::fs::major(metadata.dev()), rustix::fs::minor(metadata.dev()));
    let mount = mounts::list().ok()?.into_iter().find(|mount| mount.device == device)?;
    let group = if metadata.mode() & SET_GROUP == 0 { rustix::process::getegid().as_raw() } else { metadata.gid() };
    let owners = [(QuotaType::USRQUOTA, rustix::process::geteuid().as_raw()), (QuotaType::GRPQUOTA, group)];
    let left = owners.into_iter().filter_map(|(of, id)| {
        let quota = quotactl_get(of, mount.source.as_path(), i32::from_ne_bytes(id.to_ne_bytes())).ok()?;
        left_bytes(quota.blocks_hard_limit()?, quota.occupied_space()?)
    });
    left.min()
}

/// Files in a folder with this mode get its group.
const SET_GROUP: u32 = 0o2000;

/// What is left of a quota; `None` where there is no limit.
fn left_bytes(limit_blocks: u64, taken_bytes: u64) -> Option<u64> {
    let limit_bytes = limit_blocks.checked_mul(QUOTA_BLOCK_BYTES)?;
    (limit_blocks > 0).then(|| limit_bytes.saturating_sub(taken_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_leaves_what_is_not_taken_and_none_leaves_everything() {
        assert_eq!(left_bytes(10, 1024), Some(9 * 1024));
        assert_eq!(left_bytes(10, 20 * 1024), Some(0));
        assert_eq!(left_bytes(0, 5), None);
        let folder = tempfile::tempdir().expect("a folder");
        let free = free_bytes(folder.path()).expect("it says so");
        let found = rustix::fs::statvfs(folder.path()).expect("it says so");
        assert!(free <= found.f_blocks.saturating_mul(found.f_frsize));
    }
}
