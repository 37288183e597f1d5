//! A file system for tests: shows a directory, and lets faults happen to whoever reads it.
//!
//!     faulty_fs DIRECTORY MOUNTPOINT
//!
//! Read-only; nothing is kept by the kernel, so that each system call of the reader arrives here. What goes wrong is said on
//! standard input, a line at a time, each answered with a line:
//!
//!     KIND RATE [PATH]     of the calls of that kind, this part (0 to 1) goes wrong, of files whose path holds PATH
//!     seed N               the same faults as in another run with N, as far as the calls come in the same order
//!     clear                nothing goes wrong from here on, and what hangs is answered
//!     counts               how many faults of each kind there were, as JSON
//!
//! It ends, and unmounts, with its standard input: it does not outlive the test that started it.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, BufRead, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, OpenFlags,
    ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, Request,
};
use rechunkfs::fuse::session::{Options, Session};
use rechunkfs::fuse::{device, unmount};

/// What can go wrong, and with which calls.
const KINDS: [&str; 13] = [
    "eio-read",
    "short-read",
    "cut-read",
    "garbage-read",
    "slow-read",
    "hang-read", // of the data of a file
    "eio-open",
    "gone-open",
    "denied-open",
    "emfile-open", // of opening one
    "eio-stat",
    "denied-stat",
    "hang-stat", // of looking one up, or at it
];
/// How long something slow takes.
const SLOW: Duration = Duration::from_millis(20);
const THREADS: usize = 8;
/// A change shows at once.
const NEVER: Duration = Duration::ZERO;

/// What goes wrong from now on.
#[derive(Default)]
struct Faults {
    rules: Vec<Rule>,
    random: u64,
    counts: BTreeMap<&'static str, u64>,
    hanging: Vec<Box<dyn FnOnce() + Send>>,
}

struct Rule {
    kind: &'static str,
    rate: f64,
    path: String,
}

impl Faults {
    /// The fault that befalls a call on `path`, if any of `kinds` does.
    fn befalls(&mut self, path: &Path, kinds: &[&str]) -> Option<&'static str> {
        for at in 0..self.rules.len() {
            let Rule { kind, rate, path: part } = &self.rules[at];
            if kinds.contains(kind) && path.to_string_lossy().contains(part.as_str()) {
                let (kind, rate) = (*kind, *rate);
                if self.draw() < rate {
                    *self.counts.entry(kind).or_default() += 1;
                    return Some(kind);
                }
            }
        }
        None
    }

    /// A number from 0 to 1.
    fn draw(&mut self) -> f64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 11) as f64 / (1u64 << 53) as f64
    }

    fn obey(&mut self, line: &str) -> Result<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["clear"] => {
                self.rules.clear();
                // Answered on a thread of their own: each asks for these faults again.
                let hanging = std::mem::take(&mut self.hanging);
                thread::spawn(|| hanging.into_iter().for_each(|answer| answer()));
            }
            ["counts"] => {
                let counts: Vec<String> = self.counts.iter().map(|(kind, n)| format!("\"{kind}\":{n}")).collect();
                return Ok(format!("{{{}}}", counts.join(",")));
            }
            ["seed", seed] => self.random = seed.parse()?,
            [kind, rate, ref path @ ..] if path.len() < 2 => {
                let kind = KINDS.into_iter().find(|known| *known == kind).context("no such kind of fault")?;
                let path = path.first().map(|path| (*path).to_owned()).unwrap_or_default();
                self.rules.push(Rule { kind, rate: rate.parse()?, path });
            }
            _ => bail!("not understood"),
        }
        Ok("ok".to_owned())
    }
}

struct FaultyFs {
    root: PathBuf,
    faults: Arc<Mutex<Faults>>,
    paths: Mutex<HashMap<u64, PathBuf>>,
    open: Mutex<(u64, HashMap<u64, Arc<File>>)>,
}

fn main() -> Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [directory, point] = &arguments[..] else { bail!("faulty_fs DIRECTORY MOUNTPOINT") };
    let root = directory.canonicalize().with_context(|| format!("{}", directory.display()))?;
    let point = point.canonicalize().with_context(|| format!("{}", point.display()))?;
    let faults = Arc::new(Mutex::new(Faults { random: 1, ..Faults::default() }));
    let file_system = FaultyFs { root, faults: Arc::clone(&faults), paths: Mutex::default(), open: Mutex::default() };
    let mounted = device::mount(&point, "faulty_fs".as_ref(), false)?;
    let mount = mounted.mount.clone();
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(io::Result::ok) {
            let answer = lock(&faults).obey(&line).unwrap_or_else(|error| format!("error: {error:#}"));
            println!("{answer}");
            let _ = io::stdout().flush();
        }
        let _ = unmount::detach(&mount);
        // What hangs would keep us.
        std::process::exit(0);
    });
    let options = Options { threads: THREADS, root_and_owner_only: false };
    let session = Session::start(file_system, mounted.device, Some(mounted.mount), options)?;
    session.await_answer()?;
    println!("ready");
    io::stdout().flush()?;
    session.wait()?;
    Ok(())
}

impl FaultyFs {
    fn path(&self, inode: INodeNo) -> Result<PathBuf, Errno> {
        if inode == INodeNo::ROOT {
            return Ok(self.root.clone());
        }
        lock(&self.paths).get(&inode.0).cloned().ok_or(Errno::ESTALE)
    }

    fn befalls(&self, path: &Path, kinds: &[&str]) -> Option<&'static str> {
        lock(&self.faults).befalls(path.strip_prefix(&self.root).unwrap_or(path), kinds)
    }

    fn attributes(&self, path: &Path) -> Result<FileAttr, Errno> {
        match self.befalls(path, &["eio-stat", "denied-stat"]) {
            Some("eio-stat") => return Err(Errno::EIO),
            Some(_) => return Err(Errno::EACCES),
            None => {}
        }
        let metadata = path.symlink_metadata().map_err(Errno::from)?;
        Ok(attributes(&metadata, path == self.root))
    }

    fn find(&self, parent: INodeNo, name: &OsStr) -> Result<FileAttr, Errno> {
        let path = self.path(parent)?.join(name);
        let attributes = self.attributes(&path)?;
        lock(&self.paths).insert(attributes.ino.0, path);
        Ok(attributes)
    }

    /// Has `answer` called now; or, where that is to hang, when it is not any more.
    fn answer(&self, path: &Path, kind: &str, answer: impl FnOnce() + Send + 'static) {
        let mut faults = lock(&self.faults);
        if faults.befalls(path.strip_prefix(&self.root).unwrap_or(path), &[kind]).is_some() {
            faults.hanging.push(Box::new(answer));
        } else {
            drop(faults);
            answer();
        }
    }

    fn read_file(&self, path: &Path, handle: FileHandle, offset: u64, size: usize) -> Result<Vec<u8>, Errno> {
        let file = lock(&self.open).1.get(&handle.0).cloned().ok_or(Errno::EBADF)?;
        let mut bytes = vec![0; size];
        let mut filled = 0;
        while filled < size {
            match file.read_at(&mut bytes[filled..], offset + filled as u64).map_err(Errno::from)? {
                0 => break,
                n => filled += n,
            }
        }
        bytes.truncate(filled);
        match self.befalls(path, &["eio-read", "short-read", "cut-read", "garbage-read", "slow-read"]) {
            Some("eio-read") => return Err(Errno::EIO),
            Some("short-read") => bytes.truncate(filled.div_ceil(3)),
            Some("cut-read") => bytes.clear(),
            Some("garbage-read") => bytes.iter_mut().step_by(7).for_each(|byte| *byte = byte.wrapping_mul(31) ^ 0x5a),
            Some(_) => thread::sleep(SLOW),
            None => {}
        }
        Ok(bytes)
    }
}

fn attributes(metadata: &Metadata, is_root: bool) -> FileAttr {
    let time = |seconds: i64, nanoseconds: i64| {
        SystemTime::UNIX_EPOCH + Duration::new(seconds.max(0).cast_unsigned(), nanoseconds as u32)
    };
    let kind = metadata.file_type();
    FileAttr {
        ino: if is_root { INodeNo::ROOT } else { INodeNo(metadata.ino()) },
        size: metadata.size(),
        blocks: metadata.blocks(),
        atime: time(metadata.atime(), metadata.atime_nsec()),
        mtime: time(metadata.mtime(), metadata.mtime_nsec()),
        ctime: time(metadata.ctime(), metadata.ctime_nsec()),
        crtime: SystemTime::UNIX_EPOCH,
        kind: match () {
            () if kind.is_dir() => FileType::Directory,
            () if kind.is_symlink() => FileType::Symlink,
            () => FileType::RegularFile,
        },
        perm: (metadata.mode() & 0o7777) as u16,
        nlink: 1,
        uid: metadata.uid(),
        gid: metadata.gid(),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

impl Filesystem for FaultyFs {
    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let path = self.path(parent).unwrap_or_default().join(name);
        let found = self.find(parent, name);
        self.answer(&path, "hang-stat", move || match found {
            Ok(attributes) => reply.entry(&NEVER, &attributes, Generation(0)),
            Err(error) => reply.error(error),
        });
    }

    fn getattr(&self, _request: &Request, inode: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        let path = self.path(inode);
        let found = path.clone().and_then(|path| self.attributes(&path));
        self.answer(&path.unwrap_or_default(), "hang-stat", move || match found {
            Ok(attributes) => reply.attr(&NEVER, &attributes),
            Err(error) => reply.error(error),
        });
    }

    fn readlink(&self, _request: &Request, inode: INodeNo, reply: ReplyData) {
        match self.path(inode).and_then(|path| fs::read_link(path).map_err(Errno::from)) {
            Ok(target) => reply.data(target.as_os_str().as_bytes()),
            Err(error) => reply.error(error),
        }
    }

    fn open(&self, _request: &Request, inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let opened = self.path(inode).and_then(|path| {
            match self.befalls(&path, &["eio-open", "gone-open", "denied-open", "emfile-open"]) {
                Some("eio-open") => Err(Errno::EIO),
                Some("gone-open") => Err(Errno::ENOENT),
                Some("denied-open") => Err(Errno::EACCES),
                Some(_) => Err(Errno::EMFILE),
                None => File::open(path).map_err(Errno::from),
            }
        });
        match opened {
            Ok(file) => {
                let mut open = lock(&self.open);
                open.0 += 1;
                let handle = open.0;
                open.1.insert(handle, Arc::new(file));
                // Else the kernel would ask for whole pages, and take a short answer for the end of the file.
                reply.opened(FileHandle(handle), FopenFlags::FOPEN_DIRECT_IO);
            }
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _request: &Request,
        inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let path = self.path(inode).unwrap_or_default();
        let read = self.read_file(&path, handle, offset, size as usize);
        self.answer(&path, "hang-read", move || match read {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        });
    }

    fn release(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        lock(&self.open).1.remove(&handle.0);
        reply.ok();
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn readdir(&self, _request: &Request, inode: INodeNo, _handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listed = self.path(inode).and_then(|path| {
            let entries = fs::read_dir(path).map_err(Errno::from)?;
            let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
            names.sort_unstable();
            Ok(names)
        });
        let names = match listed {
            Ok(names) => names,
            Err(error) => return reply.error(error),
        };
        for (nth, name) in names.iter().enumerate().skip(offset as usize) {
            // What it is tells a look at it. A listing that lacks something for another reason than that it is gone would
            // be a lie of ours.
            let attributes = match self.find(inode, name) {
                Ok(attributes) => attributes,
                Err(error) if error.code() == Errno::ENOENT.code() => continue,
                Err(error) => return reply.error(error),
            };
            if reply.add(attributes.ino, nth as u64 + 1, attributes.kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _request: &Request, _inode: INodeNo, reply: ReplyStatfs) {
        reply.statfs(1 << 20, 0, 0, 1 << 20, 0, 4096, 255, 4096);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
