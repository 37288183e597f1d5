//! `unmount`: ends one mount, or all of the user's.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use rechunkfs::fuse::unmount::unmount;
use rechunkfs::mounts::{self, Mount};

use super::config::UnmountConfig;
use super::state::Record;
use super::{FAILED, output};

/// Runs `unmount`.
pub(crate) fn run(config: &UnmountConfig) -> anyhow::Result<ExitCode> {
    let points: Vec<PathBuf> = match &config.mountpoint {
        Some(point) => {
            vec![mounts::resolve(point).with_context(|| format!("{}", point.display()))?]
        }
        None => own_mounts()?.into_iter().map(|mount| mount.point).collect(),
    };
    let mut done = Vec::new();
    let mut failures = Vec::new();
    for point in &points {
        match end(point, config.lazy) {
            Ok(()) => done.push(point.display().to_string()),
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    failures.iter().for_each(|failure| output::error(failure));
    if config.json {
        output::json("unmount", serde_json::json!({ "unmounted": done, "errors": failures }));
    } else if config.mountpoint.is_none() {
        let list = if done.is_empty() { "nothing".to_owned() } else { done.join(", ") };
        output::text(&format!("unmounted: {list}\n"));
    }
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

fn end(point: &Path, lazy: bool) -> anyhow::Result<()> {
    let record = Record::read(point);
    let mount = unmount(point, lazy)?;
    let Some(record) = record.filter(|record| record.mount_id == mount.id) else {
        return Ok(());
    };
    // Whoever mounts again at once, or removes the source, should not meet the old daemon. Detached, it may
    // have readers to serve, and stays as long as they do.
    let end = Instant::now() + Duration::from_secs(5);
    while !lazy && lives(&record) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    if !lives(&record) {
        record.forget();
    }
    Ok(())
}

/// Whether the daemon that wrote the record runs. A number may be given again, so the name counts, too.
pub(crate) fn lives(record: &Record) -> bool {
    std::fs::read_to_string(format!("/proc/{}/stat", record.pid))
        .is_ok_and(|stat| stat.contains("(rechunkfs)") && !stat.contains(") Z"))
}

/// Mounts of this user; all, for root.
pub(crate) fn own_mounts() -> anyhow::Result<Vec<Mount>> {
    let user = rustix::process::getuid();
    let own = |mount: &Mount| user.is_root() || mount.owner().is_none_or(|owner| owner == user.as_raw());
    Ok(mounts::list()?.into_iter().filter(|mount| mount.is_ours() && own(mount)).collect())
}
