//! What kind of file system a store lies on.

use std::path::Path;

/// Magic numbers of file systems that go over a network (linux/magic.h and the file systems' own sources): NFS, SMB and CIFS,
/// AFS, Ceph, Lustre, GPFS, BeeGFS, OCFS2, 9p, FUSE (sshfs and the like).
const REMOTE: [u64; 12] = [
    0x6969,
    0x517b,
    0xff53_4d42,
    0xfe53_4d42,
    0x5346_414f,
    0x00c3_6400,
    0x0bd0_0bd0,
    0x4750_4653,
    0x1983_0326,
    0x7461_636f,
    0x0102_1997,
    0x6573_5546,
];

/// Whether a path lies on a file system that goes over a network.
pub(crate) fn is_remote(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|found| REMOTE.contains(&(found.f_type as u64 & 0xffff_ffff)))
}
