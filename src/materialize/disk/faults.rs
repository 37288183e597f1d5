//! Simulated disks: they fail wherever they are told to, or lose power there, and with it what was not synced.
//!
//! Names keep their order, as on file systems with a journal: syncing a folder makes all names last that were given before.
//! Bytes last once their file is synced, or everything is, and not before; syncing a file does nothing for its name.

use super::Act;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirEntryExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

static DISKS: Mutex<Vec<Arc<Disk>>> = Mutex::new(Vec::new());

/// What happens at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// What is done there fails, and all after it is well.
    Fails,
    /// The power is cut, with this left.
    Cut(Left),
}

/// What is left after the power was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// What was synced.
    Synced,
    /// All names, and of bytes what was synced.
    Names,
    /// Everything, and half of what was being done: as after a kill.
    All,
}

/// A disk, all that lies below a folder.
#[derive(Debug)]
pub(super) struct Disk {
    root: PathBuf,
    /// Holds inodes without a name, under their numbers: none may come to stand for another file.
    aside: PathBuf,
    state: Mutex<State>,
}

/// Names below the root: whether it is a folder, and the inode number.
type Names = BTreeMap<PathBuf, (bool, u64)>;

#[derive(Debug, Default)]
struct State {
    /// What was done so far.
    n: u64,
    fault: Option<(u64, Fault)>,
    /// What was about to be done at the fault.
    met: Option<String>,
    is_off: bool,
    /// What is on disk for good.
    names: Names,
    bytes: HashMap<u64, Vec<u8>>,
}

/// Whether to do it.
pub(super) fn before(path: &Path, act: &Act<'_>) -> io::Result<bool> {
    let found = lock(&DISKS).iter().find(|disk| path.starts_with(&disk.root)).map(Arc::clone);
    found.map_or(Ok(true), |disk| disk.before(path, act))
}

impl Disk {
    /// All below `root` is a disk from here on, and what is there is there for good.
    pub(super) fn new(root: &Path, aside: &Path) -> Arc<Self> {
        fs::create_dir_all(aside).unwrap();
        let disk = Disk { root: root.canonicalize().unwrap(), aside: aside.to_owned(), state: Mutex::default() };
        disk.settle(&mut lock(&disk.state));
        let disk = Arc::new(disk);
        lock(&DISKS).push(Arc::clone(&disk));
        disk
    }

    /// Lets `fault` happen at point `at`, counted from 1.
    pub(super) fn expect(&self, at: u64, fault: Fault) {
        let mut state = lock(&self.state);
        (state.n, state.fault) = (0, Some((at, fault)));
    }

    /// What was about to be done when the fault happened, if it did.
    pub(super) fn met(&self) -> Option<String> {
        lock(&self.state).met.clone()
    }

    /// Points that have been passed.
    pub(super) fn n(&self) -> u64 {
        lock(&self.state).n
    }

    /// From here on nothing fails. After a cut there is what is left.
    pub(super) fn mend(&self) {
        let mut state = lock(&self.state);
        if let Some((_, Fault::Cut(left))) = state.fault
            && state.is_off
        {
            self.restore(&state, left);
        }
        (state.n, state.is_off, state.fault, state.met) = (0, false, None, None);
        self.settle(&mut state);
    }

    fn before(&self, path: &Path, act: &Act<'_>) -> io::Result<bool> {
        let fails = || Err(io::Error::from(rustix::io::Errno::IO));
        let mut state = lock(&self.state);
        if state.is_off {
            return fails();
        }
        state.n += 1;
        if let Some((at, fault)) = state.fault
            && at == state.n
        {
            state.met = Some(format!("{:.60} {}", format!("{act:?}"), path.display()));
            if fault == Fault::Cut(Left::All) {
                half(path, act);
            }
            state.is_off = fault != Fault::Fails;
            return fails();
        }
        match act {
            Act::Remove => self.keep(path),
            Act::RenameTo(to) => self.keep(to),
            Act::RemoveAll => {
                tree(path).iter().filter(|(_, entry)| !entry.0).for_each(|(name, _)| self.keep(&path.join(name)));
            }
            Act::Sync(file) => {
                state.bytes.insert(file.metadata()?.ino(), contents(file)?);
            }
            Act::SyncFolder => state.names = tree(&self.root),
            Act::SyncAll => self.settle(&mut state),
            Act::Create | Act::Write(..) | Act::Change | Act::MakeFolder => {}
        }
        Ok(!matches!(act, Act::Sync(_) | Act::SyncFolder | Act::SyncAll))
    }

    /// Keeps the inode of a file that may be about to lose its name.
    fn keep(&self, path: &Path) {
        let found = fs::symlink_metadata(path);
        if let Some(found) = found.ok().filter(fs::Metadata::is_file) {
            drop(fs::hard_link(path, self.aside.join(found.ino().to_string())));
        }
    }

    /// All that is there is there for good.
    fn settle(&self, state: &mut State) {
        state.names = tree(&self.root);
        let files = state.names.iter().filter(|(_, entry)| !entry.0);
        // What has lost its name meanwhile need not last.
        let bytes = files.filter_map(|(path, entry)| Some((entry.1, fs::read(self.root.join(path)).ok()?)));
        let bytes: Vec<(u64, Vec<u8>)> = bytes.collect();
        state.bytes.extend(bytes);
    }

    /// Gives the inodes the names and the bytes that are left of them.
    fn restore(&self, state: &State, left: Left) {
        let now = tree(&self.root);
        let aside = |inode: u64| self.aside.join(inode.to_string());
        for (path, (is_folder, inode)) in now.iter().rev() {
            let path = self.root.join(path);
            if !is_folder && aside(*inode).exists() {
                fs::remove_file(path).unwrap();
            } else {
                fs::rename(path, aside(*inode)).unwrap();
            }
        }
        let names = if left == Left::Synced { &state.names } else { &now };
        for (path, (is_folder, inode)) in names {
            let path = self.root.join(path);
            if *is_folder {
                if aside(*inode).is_dir() { fs::rename(aside(*inode), path) } else { fs::create_dir(path) }.unwrap();
                continue;
            }
            fs::hard_link(aside(*inode), &path).unwrap();
            if left != Left::All {
                fs::write(path, state.bytes.get(inode).map_or(&[][..], Vec::as_slice)).unwrap();
            }
        }
        fs::remove_dir_all(&self.aside).unwrap();
        fs::create_dir(&self.aside).unwrap();
    }
}

impl Disk {
    /// The folder is an ordinary one again.
    pub(super) fn retire(self: &Arc<Self>) {
        lock(&DISKS).retain(|disk| !Arc::ptr_eq(disk, self));
        fs::remove_dir_all(&self.aside).unwrap();
    }
}

/// Does half of it.
fn half(path: &Path, act: &Act<'_>) {
    match act {
        Act::Write(file, Some(offset), bytes) => file.write_all_at(&bytes[..bytes.len() / 2], *offset).unwrap(),
        Act::Write(file, None, bytes) => {
            let mut file: &File = file;
            file.write_all(&bytes[..bytes.len() / 2]).unwrap();
        }
        Act::RemoveAll => {
            let names = tree(path);
            let files = names.iter().filter(|(_, entry)| !entry.0).step_by(2);
            files.for_each(|(name, _)| fs::remove_file(path.join(name)).unwrap());
        }
        _ => {}
    }
}

/// All below a folder. What goes while it is looked at may be there or not.
fn tree(root: &Path) -> Names {
    let mut names = Names::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(root.join(&folder)) else { continue };
        for entry in entries.map_while(Result::ok) {
            let Ok(file_type) = entry.file_type() else { continue };
            let path = folder.join(entry.file_name());
            names.insert(path.clone(), (file_type.is_dir(), entry.ino()));
            if file_type.is_dir() {
                folders.push(path);
            }
        }
    }
    names
}

/// Of a file that may be open to write only.
fn contents(file: &File) -> io::Result<Vec<u8>> {
    fs::read(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
