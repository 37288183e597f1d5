//! TEMPORARY: a pass-through file system in the place of the real adapter. Keep the module list.

pub mod device;
pub mod holders;
pub mod machine;
pub mod mountpoint;
pub mod session;
pub mod signals;
pub mod unmount;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use fuser::*;

/// Shows the source as it is.
pub struct FileSystem {
    view: Arc<crate::view::View>,
    paths: Mutex<(Vec<PathBuf>, HashMap<PathBuf, u64>)>,
}

const TTL: Duration = Duration::from_secs(1);

impl FileSystem {
    /// As the real one.
    pub fn new(view: Arc<crate::view::View>) -> Self {
        let root = view.source.clone();
        Self { paths: Mutex::new((vec![root.clone()], HashMap::from([(root, 1)]))), view }
    }

    fn path(&self, ino: INodeNo) -> PathBuf {
        self.paths.lock().unwrap().0[ino.0 as usize - 1].clone()
    }

    fn ino(&self, path: PathBuf) -> u64 {
        let mut paths = self.paths.lock().unwrap();
        if let Some(&ino) = paths.1.get(&path) {
            return ino;
        }
        paths.0.push(path.clone());
        let ino = paths.0.len() as u64;
        paths.1.insert(path, ino);
        ino
    }

    fn attr(&self, path: PathBuf) -> Result<FileAttr, Errno> {
        let meta = std::fs::metadata(&path).map_err(Errno::from)?;
        let dir = meta.is_dir();
        Ok(FileAttr {
            ino: INodeNo(self.ino(path)),
            size: meta.len(),
            blocks: meta.blocks(),
            atime: SystemTime::UNIX_EPOCH,
            mtime: SystemTime::UNIX_EPOCH,
            ctime: SystemTime::UNIX_EPOCH,
            crtime: SystemTime::UNIX_EPOCH,
            kind: if dir { FileType::Directory } else { FileType::RegularFile },
            perm: if dir { 0o555 } else { 0o444 },
            nlink: 1,
            uid: rustix::process::getuid().as_raw(),
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }
}

impl Filesystem for FileSystem {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.attr(self.path(parent).join(name)) {
            Ok(attr) => reply.entry(&TTL, &attr, Generation(0)),
            Err(errno) => reply.error(errno),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attr(self.path(ino)) {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut buf = vec![0; size as usize];
        match std::fs::File::open(self.path(ino)).and_then(|file| file.read_at(&mut buf, offset)) {
            Ok(n) => reply.data(&buf[..n]),
            Err(error) => reply.error(error.into()),
        }
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let dir = self.path(ino);
        for (at, entry) in std::fs::read_dir(&dir).unwrap().flatten().enumerate().skip(offset as usize) {
            let kind = if entry.path().is_dir() { FileType::Directory } else { FileType::RegularFile };
            if reply.add(INodeNo(self.ino(entry.path())), at as u64 + 1, kind, entry.file_name()) {
                break;
            }
        }
        reply.ok();
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let json = self.view.status_json();
        match (ino.0 == 1 && name == "user.rechunkfs.status", size) {
            (false, _) => reply.error(Errno::ENODATA),
            (true, 0) => reply.size(json.len() as u32),
            (true, _) => reply.data(json.as_bytes()),
        }
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(1, 0, 0, 1, 0, 4096, 255, 4096);
    }
}
