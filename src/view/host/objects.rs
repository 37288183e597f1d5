//! The same of a store behind a URL: keys that end in a name are files, and what they have before it are directories.

use super::{Emit, HostStamp, ViewError};
use crate::source::{FileState, Got, Objects, Part};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Is not looked for as a directory.
const DOCUMENTS: [&str; 5] = ["zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata"];
/// Zarr's own directory of the chunks of an array.
const CHUNKS: &str = "c";

fn directory(key: &str) -> HostStamp {
    HostStamp { is_directory: true, device: 0, inode: digest(key, 0), size_bytes: 0, mtime_ns: 0, changed_ns: 0 }
}

fn file(key: &str, state: FileState) -> HostStamp {
    HostStamp {
        is_directory: false,
        device: 0,
        // Objects with the same bytes may have the same ETag.
        inode: digest(key, state.stamp.to_raw()),
        size_bytes: state.size_bytes,
        mtime_ns: state.mtime_ns,
        changed_ns: 0,
    }
}

/// Stands for the inode number, which tells files from each other.
fn digest(key: &str, state: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (key, state).hash(&mut hasher);
    hasher.finish()
}

/// Names that are no text are those of no object.
fn key(path: &Path) -> Result<&str, ViewError> {
    path.to_str().ok_or(ViewError::NotFound)
}

pub(super) fn look(objects: &Objects, path: &Path) -> Result<HostStamp, ViewError> {
    let key = key(path)?;
    if objects.is_node(key) {
        return Ok(directory(key));
    }
    // Where nobody lists, names tell: servers of directories deny what is asked of one.
    let by_name = if objects.is_listed() { None } else { objects.is_folder_of_chunks(key) };
    if by_name == Some(true) {
        return Ok(directory(key));
    }
    let state = objects.state(key).map_err(ViewError::from_host)?;
    if state.stamp.is_present() {
        return Ok(file(key, state));
    }
    if by_name == Some(false) {
        return Err(ViewError::NotFound);
    }
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let is_directory = if DOCUMENTS.contains(&name) {
        false
    } else if objects.is_listed() {
        !objects.first_below(key, 1).map_err(ViewError::from_host)?.is_empty()
    } else {
        // What nobody lists is taken for a directory where chunks may be below it; one that is not there is none of them.
        name == CHUNKS || (!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()))
    };
    if is_directory { Ok(directory(key)) } else { Err(ViewError::NotFound) }
}

pub(super) fn look_at_all(objects: &Objects, paths: &[PathBuf]) -> Vec<Result<HostStamp, ViewError>> {
    let keys: Vec<String> = paths.iter().map(|path| path.to_string_lossy().into_owned()).collect();
    let stamp = |(key, state): (&String, io::Result<FileState>)| match state.map_err(ViewError::from_host)? {
        state if state.stamp.is_present() => Ok(file(key, state)),
        _ => Err(ViewError::NotFound),
    };
    keys.iter().zip(objects.states(&keys)).map(stamp).collect()
}

pub(super) fn read(
    objects: &Objects,
    path: &Path,
    stamp: &HostStamp,
    offset: u64,
    len: u64,
) -> Result<Vec<u8>, ViewError> {
    let len = len.min(stamp.size_bytes.saturating_sub(offset));
    if len == 0 {
        return Ok(Vec::new());
    }
    let key = key(path)?;
    let got = objects.get(key, Part::From(offset, len)).map_err(|error| ViewError::Io(Arc::new(error)))?;
    // One that could be looked up and is gone now has changed; it must not look absent.
    let Got { state, offset: at, bytes } = got.ok_or(ViewError::Stale)?;
    if file(key, state) != *stamp {
        return Err(ViewError::Stale);
    }
    if (at, bytes.len() as u64) != (offset, len) {
        return Err(ViewError::Io(Arc::new(io::Error::other("the server gave another range than was asked for"))));
    }
    Ok(bytes)
}

/// Positions count the names, in order.
pub(super) fn list(objects: &Objects, path: &Path, from: u64, emit: Emit<'_>) -> Result<(), ViewError> {
    let key = key(path)?;
    let found = objects.entries(key).map_err(|error| ViewError::Io(Arc::new(error)))?;
    let below = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}/{name}") };
    let dots = [".", ".."].map(|name| (name.to_owned(), directory(&below(name))));
    // A key can be both; it is a directory then, as on disk it must be.
    let folders: HashSet<String> = found.folders.into_iter().collect();
    let files = found.objects.into_iter().filter(|(name, _)| !folders.contains(name));
    let files = files.map(|(name, state)| {
        let stamp = file(&below(&name), state);
        (name, stamp)
    });
    let mut all: Vec<(String, HostStamp)> = files.collect();
    all.extend(folders.into_iter().map(|name| {
        let stamp = directory(&below(&name));
        (name, stamp)
    }));
    all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    for (position, (name, stamp)) in (1..).zip(dots.into_iter().chain(all)).skip(from as usize) {
        if !emit(position, OsStr::new(&name), Some(stamp)) {
            break;
        }
    }
    Ok(())
}
