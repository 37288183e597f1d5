//! `mount`: reads the store, mounts the view, serves it until somebody unmounts.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use rechunkfs::fuse::machine::Machine;
use rechunkfs::fuse::signals::{self, Signals};
use rechunkfs::fuse::{device, mountpoint, session};
use rechunkfs::mounts::{self, Mount};
use rechunkfs::view::DiskUsage;

use super::config::{Access, MountConfig, Role, Target};
use super::daemon::{self, Progress};
use super::open::open_view;
use super::place::{self, Place, Serving};
use super::report::{self, ViewReport};
use super::state::{self, Record};
use super::{FAILED, cache_dir, logging, output};

/// Runs `mount`.
pub(crate) fn run(config: &MountConfig) -> anyhow::Result<ExitCode> {
    if config.dry_run {
        return dry_run(config);
    }
    let directory = match &config.target {
        Target::Directory(directory) => Some(directory.as_path()),
        Target::Descriptor(_) => None,
    };
    if directory.is_some() {
        Machine::look().check(config.access != Access::Owner)?;
    }
    match config.role {
        Role::Launcher => daemon::launch(directory),
        Role::Daemon => {
            let progress = Progress::to_launcher()?;
            Ok(serve(config, &progress).unwrap_or_else(|error| {
                progress.failed(&error);
                ExitCode::from(FAILED)
            }))
        }
        Role::Foreground | Role::Attached => serve(config, &Progress::silent()),
    }
}

fn dry_run(config: &MountConfig) -> anyhow::Result<ExitCode> {
    logging::start(&config.view.log, None)?;
    let (view, report) = open_view(&config.view, None, &Progress::silent())?;
    if config.json {
        let mut result = report.json();
        result["dry_run"] = true.into();
        result["costs"] = report::costs_json(&view);
        output::json("mount", result);
    } else {
        output::text(&format!("{}{}nothing was mounted (--dry-run)\n", report.text(), report::costs_text(&view)));
    }
    Ok(ExitCode::SUCCESS)
}

fn serve(config: &MountConfig, progress: &Progress) -> anyhow::Result<ExitCode> {
    let target = claim(config)?;
    let log = start_log(config)?;
    let signals = Signals::install()?;
    if config.role == Role::Attached {
        signals::terminate_at_eof();
    }
    let (view, report) = open_view(&config.view, config.view.cache_dir.clone(), progress)?;
    let kept = view.disk_usage();
    progress.doing("mounting");
    let served = Served::default();
    let place = signals.arm(
        || match target {
            Claimed::Descriptor(device) => Ok(Place::handed_over(device)),
            Claimed::Directory(checked) => Place::at(checked, &config.view.source, config.access),
        },
        |place| Box::new(on_signal(place.mount.clone(), Arc::clone(&served))),
    )?;
    let options =
        session::Options { threads: config.view.threads, root_and_owner_only: config.access == Access::OwnerAndRoot };
    let Serving { session, mount, note } = place.serve(Arc::clone(&view), options)?;
    if let Some(note) = note.filter(|_| !config.view.log.quiet) {
        output::note(&note);
    }
    remember(config, &served, mount.as_ref(), log.clone());
    tracing::info!("serving {} at {}", config.view.source.display(), place_name(mount.as_ref()));
    let ready = progress.ready(&ready_text(config, &report, kept.as_ref(), mount.as_ref(), log.as_deref()));
    if config.role == Role::Attached {
        // As a daemon's: the program's folder is not ours to hold.
        let _ = std::env::set_current_dir("/");
    }
    let ended = match ready {
        Ok(()) => session.wait().context("the mount failed"),
        Err(error) => {
            place::clear_away(mount.as_ref());
            Err(error)
        }
    };
    forget(&served);
    view.finish(cache_dir::PATIENCE);
    match &ended {
        Ok(()) => tracing::info!("unmounted"),
        Err(error) => tracing::error!("{error:#}"),
    }
    ended.map(|()| ExitCode::SUCCESS)
}

/// A target that nothing speaks against.
enum Claimed {
    Directory(mountpoint::Checked),
    Descriptor(OwnedFd),
}

/// Comes first: afterwards the descriptor's number might be one of ours, and a wrong mount point is told
/// before the store is read.
fn claim(config: &MountConfig) -> anyhow::Result<Claimed> {
    match &config.target {
        Target::Directory(directory) => Ok(Claimed::Directory(check_directory(config, directory)?)),
        Target::Descriptor(number) => Ok(Claimed::Descriptor(device::inherited(*number)?)),
    }
}

/// The record of a mount, for whoever is last to forget it.
type Served = Arc<Mutex<Option<Record>>>;

fn remember(config: &MountConfig, served: &Served, mount: Option<&Mount>, log: Option<PathBuf>) {
    let record = mount.map(|mount| record(config, mount, log));
    if let Some(record) = &record {
        record.write();
    }
    *served.lock().unwrap_or_else(PoisonError::into_inner) = record;
}

fn forget(served: &Served) {
    if let Some(record) = served.lock().unwrap_or_else(PoisonError::into_inner).take() {
        record.forget();
    }
}

fn check_directory(config: &MountConfig, directory: &Path) -> anyhow::Result<mountpoint::Checked> {
    let checked = mountpoint::check(directory, &config.view.source, config.replace_stale)?;
    cache_dir::refuse_within(config.view.cache_dir.as_ref(), checked.path())?;
    if !config.view.log.quiet {
        checked.warnings.iter().for_each(|warning| output::warning(warning));
    }
    Ok(checked)
}

/// Returns where the log goes, if to a file.
fn start_log(config: &MountConfig) -> anyhow::Result<Option<PathBuf>> {
    let in_state_folder = match &config.target {
        _ if config.role == Role::Foreground => None,
        Target::Directory(directory) => state::log_file(&mounts::resolve(directory)?),
        Target::Descriptor(number) => state::log_file(Path::new(&format!("/dev/fd/{number}"))),
    };
    logging::start(&config.view.log, in_state_folder.as_deref())?;
    Ok(config.view.log.file.clone().or(in_state_folder))
}

/// The first signal unmounts, the second ends the process on the spot.
fn on_signal(mount: Option<Mount>, served: Served) -> impl FnMut(i32, bool) + Send + 'static {
    move |signal, first| {
        if !first {
            session::end(signals::exit_code(signal));
        }
        tracing::info!("signal {signal}: unmounting");
        let served = Arc::clone(&served);
        session::stop(mount.as_ref(), move || forget(&served));
    }
}

fn record(config: &MountConfig, mount: &Mount, log: Option<PathBuf>) -> Record {
    Record {
        pid: std::process::id(),
        mount_id: mount.id,
        mountpoint: mount.point.clone(),
        source: config.view.source.clone(),
        log,
        memory_bytes: config.view.budget.bytes,
        threads: config.view.threads,
    }
}

fn place_name(mount: Option<&Mount>) -> String {
    mount.map_or_else(|| "a descriptor that was handed over".to_owned(), |mount| mount.point.display().to_string())
}

fn ready_text(
    config: &MountConfig,
    report: &ViewReport,
    kept: Option<&DiskUsage>,
    mount: Option<&Mount>,
    log: Option<&Path>,
) -> String {
    if config.json {
        let mut result = report.json();
        result["source"] = config.view.source.display().to_string().into();
        result["mountpoint"] = mount.map(|mount| mount.point.display().to_string()).into();
        result["log"] = log.map(|log| log.display().to_string()).into();
        result["pid"] = std::process::id().into();
        result["memory_bytes"] = config.view.budget.bytes.into();
        result["threads"] = config.view.threads.into();
        result["cache"] = kept.map(cache_dir::json).into();
        return output::json_text("mount", result);
    }
    let how_to_end = match (mount, config.role) {
        (Some(_), Role::Foreground) => "unmount with Ctrl-C".to_owned(),
        (Some(mount), _) => format!("unmount with: rechunkfs unmount {}", quoted(&mount.point)),
        (None, _) => "whoever mounted it unmounts it".to_owned(),
    };
    let kept = kept.map(cache_dir::line).unwrap_or_default();
    format!("{}{kept}mounted: {}\n{how_to_end}\n", report.text(), place_name(mount))
}

/// As a shell takes it.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,=:@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
