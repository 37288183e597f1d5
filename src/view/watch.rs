//! What is looked at to learn that the documents of a source have changed, or what of it is shown as it is.

use super::host::HostStamp;
use super::times::Times;
use crate::source::Store;
use crate::zarr::Projection;
use crate::zarr::hierarchy::{DOCUMENT, V2_DOCUMENTS};
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Of an array that is shown as it is, so many files and directories are looked at.
const MAX_ENTRIES: usize = 256;

/// A document that changed within this time may have changed since it was read.
const RECENT: Duration = Duration::from_secs(60);

/// The files and directories that tell of a change of the hierarchy.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Watch {
    paths: Vec<PathBuf>,
    /// Keys of groups whose names are listed: there are no directories to look at.
    listed: Vec<String>,
}

/// What was found at one look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// Tells this state from any other.
    pub(super) digest: u64,
    /// Something has changed a short time ago.
    pub(super) is_recent: bool,
}

impl Watch {
    /// What to look at for the nodes of `projection`: their documents, the directories of groups, and where the documents of
    /// further nodes would be.
    pub(super) fn new(store: &Store, projection: &Projection) -> Self {
        let left_out = projection.left_out.iter().map(|array| &array.path);
        let nodes = projection.group_paths.iter().chain(&projection.array_paths).chain(left_out);
        let nodes: HashSet<PathBuf> = nodes.map(|path| store.path(path)).collect();
        let mut paths: Vec<PathBuf> = nodes.iter().map(|node| node.join(DOCUMENT)).collect();
        let found = HostStamp::of_files(store, &paths);
        for node in nodes.iter().zip(found).filter(|(_, found)| found.is_err()).map(|(node, _)| node) {
            paths.extend(V2_DOCUMENTS.iter().map(|name| node.join(name)));
        }
        let mut listed = Vec::new();
        match store {
            Store::Disk { .. } => {
                for group in projection.group_paths.iter().map(|path| store.path(path)) {
                    let entries = std::fs::read_dir(&group).into_iter().flatten().flatten();
                    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_file()));
                    for directory in directories.map(|entry| entry.path()).filter(|path| !nodes.contains(path)) {
                        paths.extend([DOCUMENT, ".zarray", ".zgroup"].iter().map(|name| directory.join(name)));
                    }
                    paths.push(group);
                }
            }
            Store::Objects(objects) if objects.is_listed() => listed.clone_from(&projection.group_paths),
            Store::Objects(_) => {}
        }
        paths.sort_unstable();
        Watch { paths, listed }
    }

    /// How many files are looked at.
    pub(super) fn len(&self) -> u64 {
        (self.paths.len() + self.listed.len()) as u64
    }

    /// Looks at all of it.
    ///
    /// # Errors
    /// Any failure but that something is not there.
    pub(super) fn look(&self, store: &Store) -> io::Result<Seen> {
        let mut hasher = DefaultHasher::new();
        let mut latest_ns = 0;
        for (path, found) in self.paths.iter().zip(HostStamp::of_files(store, &self.paths)) {
            let stamp = found.map(Some).or_else(|error| match error {
                super::ViewError::NotFound => Ok(None),
                super::ViewError::Io(error) => {
                    Err(io::Error::new(error.kind(), format!("{}: {error}", path.display())))
                }
                other => Err(io::Error::other(other)),
            })?;
            latest_ns = latest_ns.max(stamp.map_or(0, |stamp| stamp.changed_ns));
            stamp.hash(&mut hasher);
        }
        if let Some(objects) = store.objects() {
            for group in &self.listed {
                objects.entries(group)?.folders.hash(&mut hasher);
            }
        }
        let now_ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64);
        // An object does not tell when it changed by our clock.
        let is_recent = store.objects().is_some() || latest_ns > now_ns - RECENT.as_nanos() as i64;
        Ok(Seen { digest: hasher.finish(), is_recent })
    }
}

/// The times of what is at and below each of the directories that are shown as they are; of a very large one, of its first
/// entries.
pub(super) fn times_below(store: &Store, paths: &[&str]) -> Vec<Times> {
    let mut all = vec![Times::default(); paths.len()];
    match store {
        Store::Disk { .. } => {
            for (times, path) in all.iter_mut().zip(paths) {
                let mut left = MAX_ENTRIES;
                add_below(store, &store.path(path), times, &mut left);
            }
        }
        Store::Objects(objects) if objects.is_listed() => {
            for (times, found) in all.iter_mut().zip(objects.first_below_each(paths, MAX_ENTRIES)) {
                let found = found.unwrap_or_default();
                found.iter().for_each(|(_, state)| times.add(state.mtime_ns, state.stamp.to_raw()));
            }
        }
        Store::Objects(_) => {}
    }
    all
}

fn add_below(store: &Store, path: &Path, times: &mut Times, left: &mut usize) {
    let Ok(stamp) = HostStamp::of(store, path) else { return };
    times.add(stamp.mtime_ns, stamp.identity());
    if !stamp.is_directory {
        return;
    }
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        if *left == 0 {
            return;
        }
        *left -= 1;
        add_below(store, &entry.path(), times, left);
    }
}
