//! Who keeps a mount busy. Only /proc is read, by name: a dead or hung mount cannot hang the search.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::mounts::is_within;

/// Reading /proc/PID/maps can wait for a process that is itself waiting; then we go with what was found.
const SEARCH_TIME: Duration = Duration::from_secs(3);

/// A process with something open below a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// Its short name.
    pub name: String,
    /// Working directory, open file or mapped file.
    pub file: PathBuf,
}

/// All processes that can be looked into and hold something at or below `point`; one file for each.
pub fn find(point: &Path) -> Vec<Holder> {
    let (send, receive) = mpsc::channel();
    let point = point.to_owned();
    std::thread::spawn(move || {
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        for pid in processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
            if let Some(holder) = look_into(pid, &point)
                && send.send(holder).is_err()
            {
                return;
            }
        }
    });
    let end = Instant::now() + SEARCH_TIME;
    let mut holders = Vec::new();
    while let Ok(holder) = receive.recv_timeout(end.saturating_duration_since(Instant::now())) {
        holders.push(holder);
    }
    holders
}

fn look_into(pid: u32, point: &Path) -> Option<Holder> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let open_files = fs::read_dir(process.join("fd")).into_iter().flatten().flatten().map(|entry| entry.path());
    let links = ["cwd", "root", "exe"].map(|name| process.join(name)).into_iter().chain(open_files);
    let file = links
        .filter_map(|link| fs::read_link(link).ok())
        .find(|target| is_within(target, point))
        .or_else(|| mapped_file(&process, point))?;
    let name = fs::read_to_string(process.join("comm")).unwrap_or_default().trim().to_owned();
    Some(Holder { pid, name, file })
}

fn mapped_file(process: &Path, point: &Path) -> Option<PathBuf> {
    let maps = fs::read_to_string(process.join("maps")).ok()?;
    let paths = maps.lines().filter_map(|line| Some(Path::new(&line[line.find('/')?..])));
    paths.filter(|path| is_within(path, point)).map(Path::to_owned).next()
}

/// `python3 (4711) with /mnt/x/c.0.0, and 2 more`.
pub fn describe(holders: &[Holder]) -> String {
    const SHOWN: usize = 3;
    if holders.is_empty() {
        return "a process that cannot be looked into from here (as root, `fuser -vm` names it)".to_owned();
    }
    let mut shown: Vec<String> = holders
        .iter()
        .take(SHOWN)
        .map(|holder| format!("{} (process {}) with {}", holder.name, holder.pid, holder.file.display()))
        .collect();
    if holders.len() > SHOWN {
        shown.push(format!("{} more", holders.len() - SHOWN));
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_this_process_by_an_open_file() {
        let folder = tempfile::tempdir().unwrap();
        let point = folder.path().canonicalize().unwrap();
        let open = fs::File::create(point.join("held")).unwrap();
        let holders = find(&point);
        drop(open);
        assert_eq!(holders.len(), 1);
        assert_eq!((holders[0].pid, holders[0].file.clone()), (std::process::id(), point.join("held")));
    }
}
