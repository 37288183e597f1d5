//! `mount`: reads the store, mounts the view, serves it until somebody unmounts.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use rechunkfs::fuse::machine::Machine;
use rechunkfs::fuse::mountpoint::{self, MountPoint};
use rechunkfs::fuse::session::{self, Session};
use rechunkfs::fuse::signals::{self, Signals};
use rechunkfs::fuse::{FileSystem, device, unmount};
use rechunkfs::mounts::Mount;
use rechunkfs::source::hierarchy;
use rechunkfs::view::{self, View};
use rechunkfs::zarr;

use super::config::{Access, MountConfig, Role, Target, ViewConfig};
use super::daemon::{self, Progress};
use super::report::{self, ViewReport};
use super::state::{self, Record};
use super::{logging, output};

/// Runs `mount`.
pub fn run(config: &MountConfig) -> anyhow::Result<ExitCode> {
    if config.dry_run {
        return dry_run(config);
    }
    let directory = match &config.target {
        Target::Directory(directory) => Some(directory.as_path()),
        Target::Descriptor(_) => None,
    };
    match config.role {
        Role::Launcher => daemon::launch(directory),
        Role::Daemon => serve(config, &Progress::to_launcher()?),
        Role::Foreground => serve(config, &Progress::silent()),
    }
}

fn dry_run(config: &MountConfig) -> anyhow::Result<ExitCode> {
    logging::start(&config.view.log, None)?;
    let (view, report) = open_view(&config.view, &Progress::silent())?;
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

/// Opens the view of a source, with its report; warnings go to stderr.
pub fn open_view(config: &ViewConfig, progress: &Progress) -> anyhow::Result<(Arc<View>, ViewReport)> {
    let warn = |text: &str| if !config.log.quiet { output::warning(text) };
    if config.budget.overcommits() {
        warn(&format!(
            "--memory asks for {}, {} leaves {}",
            report::bytes(config.budget.bytes),
            config.budget.limit.by,
            report::bytes(config.budget.limit.bytes)
        ));
    }
    progress.doing(&format!("reading the metadata of {}", config.source.display()));
    let hierarchy = hierarchy::read(&config.source)?;
    let projection = zarr::project(&hierarchy, &config.layout)?;
    for warning in &projection.warnings {
        warn(warning);
    }
    let report = ViewReport::new(&projection);
    progress.doing("opening the view");
    let options = view::Options { memory_bytes: config.budget.bytes, threads: config.threads };
    let view = View::open(&config.source, projection, options)?;
    for slow in report::slow_first_reads(&view) {
        warn(&slow);
    }
    Ok((view, report))
}

/// A mount of ours with what is underneath, or somebody else's.
pub struct Place {
    pub device: OwnedFd,
    pub mount: Option<Mount>,
    underneath: Option<MountPoint>,
}

impl Place {
    /// Mounts at a directory that was checked.
    pub fn at(checked: mountpoint::Checked, source: &Path, access: Access) -> anyhow::Result<Self> {
        let underneath = checked.take()?;
        match device::mount(underneath.path(), source, access != Access::Owner) {
            Ok(mounted) => {
                Ok(Self { device: mounted.device, mount: Some(mounted.mount), underneath: Some(underneath) })
            }
            Err(cause) => {
                underneath.give_back();
                Err(cause.into())
            }
        }
    }

    /// After a failure: nothing stays mounted, and the directory is as it was.
    fn clear_away(mount: Option<&Mount>, underneath: Option<MountPoint>) {
        if let Some(mount) = mount
            && let Err(cause) = unmount::detach(mount)
        {
            output::warning(&cause.to_string());
        }
        if let Some(underneath) = underneath {
            underneath.give_back();
        }
    }
}

fn serve(config: &MountConfig, progress: &Progress) -> anyhow::Result<ExitCode> {
    // First of all: afterwards the number might be one of ours.
    let handed_over = match config.target {
        Target::Descriptor(number) => Some(device::inherited(number)?),
        Target::Directory(_) => None,
    };
    let checked = match &config.target {
        Target::Directory(directory) => Some(check_directory(config, directory)?),
        Target::Descriptor(_) => None,
    };
    let log = start_log(config)?;
    let signals = Signals::install()?;
    let (view, report) = open_view(&config.view, progress)?;

    progress.doing("mounting");
    let record_path: Arc<std::sync::Mutex<Option<Record>>> = Arc::default();
    let place = signals.arm(
        || match (handed_over, checked) {
            (Some(device), _) => Ok(Place { device, mount: None, underneath: None }),
            (None, Some(checked)) => Place::at(checked, &config.view.source, config.access),
            (None, None) => unreachable!("a target is a directory or a descriptor"),
        },
        |place| Box::new(on_signal(place.mount.clone(), Arc::clone(&record_path))),
    )?;
    let Place { device, mount, underneath } = place;
    let options = session::Options {
        threads: config.view.threads,
        root_and_owner_only: config.access == Access::OwnerAndRoot,
    };
    let started = Session::start(FileSystem::new(view), device, mount.clone(), options)
        .and_then(|session| session.await_answer().map(|()| session));
    let session = match started.context("the mount does not answer") {
        Ok(session) => session,
        Err(error) => {
            Place::clear_away(mount.as_ref(), underneath);
            return Err(error);
        }
    };
    if let Some(note) = underneath.as_ref().and_then(MountPoint::close).filter(|_| !config.view.log.quiet) {
        output::note(&note);
    }
    let record = mount.as_ref().map(|mount| record(config, mount, log.clone()));
    if let Some(record) = &record {
        record.write();
    }
    *record_path.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = record.clone();
    tracing::info!("serving {} at {}", config.view.source.display(), place_name(mount.as_ref()));
    let ended = match progress.ready(&ready_text(config, &report, mount.as_ref(), log.as_deref())) {
        Ok(()) => session.wait().context("the mount failed"),
        Err(error) => {
            Place::clear_away(mount.as_ref(), None);
            Err(error)
        }
    };
    if let Some(record) = record {
        record.forget();
    }
    match &ended {
        Ok(()) => tracing::info!("unmounted"),
        Err(error) => tracing::error!("{error:#}"),
    }
    ended.map(|()| ExitCode::SUCCESS)
}

fn check_directory(config: &MountConfig, directory: &Path) -> anyhow::Result<mountpoint::Checked> {
    Machine::look().check(config.access != Access::Owner)?;
    let checked = mountpoint::check(directory, &config.view.source, config.replace_stale)?;
    if !config.view.log.quiet {
        checked.warnings.iter().for_each(|warning| output::warning(warning));
    }
    Ok(checked)
}

/// Returns where the log goes, if to a file.
fn start_log(config: &MountConfig) -> anyhow::Result<Option<PathBuf>> {
    let in_state_folder = match &config.target {
        _ if config.role != Role::Daemon => None,
        Target::Directory(directory) => state::log_file(&rechunkfs::mounts::resolve(directory)?),
        Target::Descriptor(number) => state::log_file(Path::new(&format!("/dev/fd/{number}"))),
    };
    logging::start(&config.view.log, in_state_folder.as_deref())?;
    Ok(config.view.log.file.clone().or(in_state_folder))
}

/// The first signal unmounts, the second ends the process on the spot.
fn on_signal(
    mount: Option<Mount>,
    record: Arc<std::sync::Mutex<Option<Record>>>,
) -> impl FnMut(i32, bool) + Send + 'static {
    move |signal, first| {
        if !first {
            std::process::exit(signals::exit_code(signal));
        }
        tracing::info!("signal {signal}: unmounting");
        let record = Arc::clone(&record);
        session::stop(mount.as_ref(), move || {
            if let Ok(Some(record)) = record.lock().map(|mut record| record.take()) {
                record.forget();
            }
        });
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

fn ready_text(config: &MountConfig, report: &ViewReport, mount: Option<&Mount>, log: Option<&Path>) -> String {
    if config.json {
        let mut result = report.json();
        result["source"] = config.view.source.display().to_string().into();
        result["mountpoint"] = mount.map(|mount| mount.point.display().to_string()).into();
        result["log"] = log.map(|log| log.display().to_string()).into();
        result["pid"] = std::process::id().into();
        result["memory_bytes"] = config.view.budget.bytes.into();
        result["threads"] = config.view.threads.into();
        return output::json_text("mount", result);
    }
    let how_to_end = match (mount, config.role) {
        (Some(_), Role::Foreground) => "unmount with Ctrl-C".to_owned(),
        (Some(mount), _) => format!("unmount with: rechunkfs unmount {}", quoted(&mount.point)),
        (None, _) => "whoever mounted it unmounts it".to_owned(),
    };
    format!("{}mounted: {}\n{how_to_end}\n", report.text(), place_name(mount))
}

/// As a shell takes it.
pub fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,=:@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
