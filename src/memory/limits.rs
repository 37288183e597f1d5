//! What machine, cgroups and batch system leave us, the tightest first.

use std::fs;
use std::path::{Path, PathBuf};

use crate::mounts::{self, Mount};

/// How much memory there is for us, and who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// What may still be taken.
    pub bytes: u64,
    /// Who sets it, for messages.
    pub by: String,
}

/// The smallest of all limits upon this process.
///
/// The machine counts with MemAvailable, not MemTotal: what other people's jobs hold is not ours to
/// plan with. A cgroup counts with its limit less what its processes hold beyond page cache, for the
/// same reason.
pub fn tightest_limit() -> Limit {
    let machine = meminfo_available().map(|bytes| Limit { bytes, by: "this machine (MemAvailable)".to_owned() });
    machine
        .into_iter()
        .chain(cgroup_limits())
        .chain(slurm_limit(std::env::var("SLURM_MEM_PER_NODE").ok().as_deref()))
        .min_by_key(|limit| limit.bytes)
        // Without /proc nothing is known: a modest machine is the harmless guess.
        .unwrap_or(Limit { bytes: 4 << 30, by: "a guess (no /proc/meminfo)".to_owned() })
}

fn meminfo_available() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Slurm speaks in MiB; 0 stands for the whole node.
fn slurm_limit(mem_per_node: Option<&str>) -> Option<Limit> {
    let mib: u64 = mem_per_node?.trim().parse().ok()?;
    (mib > 0).then(|| Limit { bytes: mib.saturating_mul(1 << 20), by: "SLURM_MEM_PER_NODE".to_owned() })
}

fn cgroup_limits() -> Vec<Limit> {
    let membership = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mounts = mounts::list().unwrap_or_default();
    let mut limits = Vec::new();
    for line in membership.lines() {
        // `hierarchy:controllers:path`; the unified hierarchy has no controllers.
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let unified = controllers.is_empty();
        if !unified && !controllers.split(',').any(|controller| controller == "memory") {
            continue;
        }
        let found = mounts.iter().find(|mount| match unified {
            true => mount.fs_type == "cgroup2",
            false => mount.fs_type == "cgroup" && mount.options.split(',').any(|option| option == "memory"),
        });
        if let Some(mount) = found {
            limits.extend(limits_up_the_tree(mount, Path::new(path), unified));
        }
    }
    limits
}

fn limits_up_the_tree(mount: &Mount, path: &Path, unified: bool) -> Vec<Limit> {
    // In a container the hierarchy's root may be mounted somewhere up the path, or the path may lie
    // outside of what is visible; then what is visible is all there is to see.
    let below = path.strip_prefix(&mount.root).unwrap_or(Path::new(""));
    let mut folder = mount.point.join(below);
    if !folder.is_dir() {
        folder = mount.point.clone();
    }
    let mut limits = Vec::new();
    while folder.starts_with(&mount.point) {
        limits.extend(limit_of(&folder, unified));
        if !folder.pop() {
            break;
        }
    }
    limits
}

fn limit_of(folder: &Path, unified: bool) -> Option<Limit> {
    let (limit_file, usage_file, cache_key) = match unified {
        true => ("memory.max", "memory.current", "file "),
        false => ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache "),
    };
    let number = |file: &str| -> Option<u64> { fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok() };
    // `max` does not parse; v1 spells "no limit" as a number near 2^63.
    let limit = number(limit_file).filter(|&bytes| bytes < 1 << 60)?;
    let cache = fs::read_to_string(folder.join("memory.stat"))
        .ok()
        .and_then(|stat| stat.lines().find_map(|line| line.strip_prefix(cache_key)?.parse::<u64>().ok()))
        .unwrap_or(0);
    let held = number(usage_file).unwrap_or(0).saturating_sub(cache);
    let file: PathBuf = folder.join(limit_file);
    Some(Limit { bytes: limit.saturating_sub(held), by: format!("the cgroup limit {}", file.display()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slurm_counts_in_mib_and_zero_means_everything() {
        assert_eq!(slurm_limit(Some("2048")).unwrap().bytes, 2 << 30);
        assert_eq!(slurm_limit(Some("0")), None);
        assert_eq!(slurm_limit(None), None);
    }

    #[test]
    fn a_limit_above_us_counts_even_where_ours_is_unlimited() {
        let tree = tempfile::tempdir().unwrap();
        let leaf = tree.path().join("job/step");
        fs::create_dir_all(&leaf).unwrap();
        fs::write(leaf.join("memory.max"), "max\n").unwrap();
        fs::write(tree.path().join("job/memory.max"), "1000000\n").unwrap();
        fs::write(tree.path().join("job/memory.current"), "400000\n").unwrap();
        fs::write(tree.path().join("job/memory.stat"), "anon 100000\nfile 300000\n").unwrap();
        let mount = Mount {
            id: 1,
            device: "0:1".to_owned(),
            root: "/".into(),
            point: tree.path().to_owned(),
            fs_type: "cgroup2".to_owned(),
            source: "cgroup2".into(),
            options: "rw".to_owned(),
        };
        let limits = limits_up_the_tree(&mount, Path::new("/job/step"), true);
        assert_eq!(limits.iter().map(|limit| limit.bytes).collect::<Vec<_>>(), [900_000]);
    }
}
