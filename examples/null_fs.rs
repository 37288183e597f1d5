//! The yardstick for the mount: the tree of a view, answered from memory.
//!
//!     null_fs MOUNTPOINT --grid 3153,1,1,1 --chunk-bytes 480000 [--array lightcurves] [--copy VIEW]
//!
//! A root with one array, its chunk files `c.0.0.0.0` to the grid's end, all of the same zeros. With `--copy` the documents
//! are those of a mounted view, so that Zarr readers can open it. It tells the kernel whatever spares requests (no open, no
//! opendir, everything kept for ever), mounts and serves as rechunkfs does, and does nothing else: what reading through
//! FUSE costs at least. Stays until unmounted (`rechunkfs unmount`, `umount`), or a signal ends it.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use clap::Parser;
use fuser::{
    AccessFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo, InitFlags, IoctlFlags,
    KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyIoctl, ReplyOpen, ReplyXattr, Request,
};
use rechunkfs::fuse::session::{Options, Session, stop};
use rechunkfs::fuse::{device, signals};

const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);
const ROOT_DOCUMENT: u64 = 2;
const ARRAY: u64 = 3;
const ARRAY_DOCUMENT: u64 = 4;
/// Chunk `i` has the inode `FIRST_CHUNK + i`.
const FIRST_CHUNK: u64 = 16;
const DOCUMENT: &str = "zarr.json";

#[derive(Parser)]
#[command(about = "A file system in the shape of a view, answered from memory")]
struct Args {
    mountpoint: PathBuf,
    /// Number of chunks along each axis
    #[arg(long, value_delimiter = ',', required = true)]
    grid: Vec<u64>,
    #[arg(long)]
    chunk_bytes: usize,
    /// Name of the array's directory
    #[arg(long, default_value = "lightcurves")]
    array: String,
    /// A mounted view whose documents to show
    #[arg(long, value_name = "VIEW")]
    copy: Option<PathBuf>,
    #[arg(long, default_value_t = 16)]
    threads: usize,
}

struct NullFs {
    grid: Vec<u64>,
    n_chunks: u64,
    array: String,
    chunk: Vec<u8>,
    root_document: Vec<u8>,
    array_document: Vec<u8>,
    started: SystemTime,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let document = |path: &str| match &args.copy {
        Some(view) => fs::read(view.join(path).join(DOCUMENT)).with_context(|| format!("{}/{path}", view.display())),
        None => Ok(b"{}".to_vec()),
    };
    let file_system = NullFs {
        n_chunks: args.grid.iter().product(),
        root_document: document("")?,
        array_document: document(&args.array)?,
        // Written, not only promised: the kernel's page of zeros is no memory.
        chunk: vec![1; args.chunk_bytes].into_iter().map(|byte: u8| byte - 1).collect(),
        grid: args.grid,
        array: args.array,
        started: SystemTime::now(),
    };
    let point = args.mountpoint.canonicalize().with_context(|| format!("{}", args.mountpoint.display()))?;
    let caught = signals::Signals::install()?;
    let mounted = caught.arm(
        || device::mount(&point, "null_fs".as_ref(), false),
        |mounted| {
            let mount = mounted.mount.clone();
            Box::new(move |_, _| stop(Some(&mount), || ()))
        },
    )?;
    let options = Options { threads: args.threads, root_and_owner_only: false };
    Session::start(file_system, mounted.device, Some(mounted.mount), options)?.wait()?;
    Ok(())
}

impl NullFs {
    fn attributes(&self, inode: u64) -> FileAttr {
        let is_directory = inode == INodeNo::ROOT.0 || inode == ARRAY;
        let size = match inode {
            ROOT_DOCUMENT => self.root_document.len(),
            ARRAY_DOCUMENT => self.array_document.len(),
            FIRST_CHUNK.. => self.chunk.len(),
            _ => 0,
        } as u64;
        FileAttr {
            ino: INodeNo(inode),
            size,
            blocks: size.div_ceil(512),
            atime: self.started,
            mtime: self.started,
            ctime: self.started,
            crtime: self.started,
            kind: if is_directory { FileType::Directory } else { FileType::RegularFile },
            perm: if is_directory { 0o555 } else { 0o444 },
            nlink: if is_directory { 2 } else { 1 },
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    /// 0, which the kernel remembers as "no such file", where there is none.
    fn find(&self, parent: u64, name: &OsStr) -> u64 {
        let name = name.to_str().unwrap_or_default();
        match (parent, name) {
            (1, DOCUMENT) => ROOT_DOCUMENT,
            (1, name) if name == self.array => ARRAY,
            (ARRAY, DOCUMENT) => ARRAY_DOCUMENT,
            (ARRAY, name) => self.chunk_of(name).map_or(0, |chunk| FIRST_CHUNK + chunk),
            _ => 0,
        }
    }

    fn chunk_of(&self, name: &str) -> Option<u64> {
        let (mut chunk, mut idxs) = (0, name.strip_prefix("c.")?.split('.'));
        for len in &self.grid {
            let idx: u64 = idxs.next()?.parse().ok()?;
            if idx >= *len {
                return None;
            }
            chunk = chunk * len + idx;
        }
        idxs.next().is_none().then_some(chunk)
    }

    /// Writes the name of a chunk.
    fn name(&self, chunk: u64, name: &mut String) {
        use std::fmt::Write;
        name.clear();
        name.push('c');
        let mut below = self.n_chunks;
        let mut rest = chunk;
        for len in &self.grid {
            below /= len;
            let _ = write!(name, ".{}", rest / below);
            rest %= below;
        }
    }

    /// Gives `add` (inode, position after, name) from `offset` on, until it is full.
    fn list(&self, directory: u64, offset: u64, mut add: impl FnMut(u64, u64, &str) -> bool) {
        let first = [(directory, "."), (1, "..")];
        let entries = match directory {
            1 => vec![first[0], first[1], (ROOT_DOCUMENT, DOCUMENT), (ARRAY, &self.array)],
            _ => vec![first[0], first[1], (ARRAY_DOCUMENT, DOCUMENT)],
        };
        let n_first = entries.len() as u64;
        for (at, (inode, name)) in (1..).zip(entries).skip(offset as usize) {
            if add(inode, at, name) {
                return;
            }
        }
        let mut name = String::new();
        let chunks = if directory == ARRAY { offset.saturating_sub(n_first)..self.n_chunks } else { 0..0 };
        for chunk in chunks {
            self.name(chunk, &mut name);
            if add(FIRST_CHUNK + chunk, n_first + chunk + 1, &name) {
                return;
            }
        }
    }
}

impl Filesystem for NullFs {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for wanted in [
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_ASYNC_DIO,
        ] {
            let _ = config.add_capabilities(wanted);
        }
        let _ = config.set_max_background(64);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        reply.entry(&FOREVER, &self.attributes(self.find(parent.0, name)), Generation(0));
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FOREVER, &self.attributes(inode.0));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let bytes = match inode.0 {
            ROOT_DOCUMENT => &self.root_document,
            ARRAY_DOCUMENT => &self.array_document,
            _ => &self.chunk,
        };
        let start = bytes.len().min(offset as usize);
        reply.data(&bytes[start..bytes.len().min(start + size as usize)]);
    }

    fn readdir(&self, _: &Request, inode: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        self.list(inode.0, offset, |inode, next, name| {
            let kind = self.attributes(inode).kind;
            reply.add(INodeNo(inode), next, kind, name)
        });
        reply.ok();
    }

    fn readdirplus(&self, _: &Request, inode: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        self.list(inode.0, offset, |inode, next, name| {
            let mut attributes = self.attributes(inode);
            if name == "." || name == ".." {
                // The name alone: no look-up is counted for it.
                attributes.ino = INodeNo(0);
            }
            reply.add(attributes.ino, next, name, &FOREVER, &attributes, Generation(0))
        });
        reply.ok();
    }

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENODATA);
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }
}
