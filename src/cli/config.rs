//! What the commands need, made once from what was typed. No clap type from here on.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use rechunkfs::materialize::{Sample, Share};
use rechunkfs::memory::{self, Budget, default_threads};
use rechunkfs::source::{StorageOption, Store};
use rechunkfs::view::{CacheDir, READ_TIMEOUT};
use rechunkfs::zarr::layout::Layout;

use super::{args, cache_dir, filesystem};

/// How soon a change of the source shows unless the user says otherwise,
const REFRESH: Duration = Duration::from_secs(2);
/// and where each look goes over a network.
const REMOTE_REFRESH: Duration = Duration::from_secs(15);
/// Or each look is a request, perhaps one that is paid for.
const URL_REFRESH: Duration = Duration::from_secs(60);

/// Threads of a copy or a comparison that wait for a server most of the time.
const REMOTE_THREADS: usize = 32;

/// What to show, and with what means.
pub(crate) struct ViewConfig {
    /// Canonical, or a URL.
    pub(crate) source: PathBuf,
    pub(crate) store: Store,
    pub(crate) layout: Layout,
    pub(crate) budget: Budget,
    pub(crate) threads: usize,
    pub(crate) cache_dir: Option<CacheDir>,
    /// After this time a change of the source shows; `None` where none ever does.
    pub(crate) refresh: Option<Duration>,
    /// After this time a read is given up for which the source does not answer.
    pub(crate) read_timeout: Duration,
    pub(crate) log: LogConfig,
}

/// How much is said, and where it is logged.
pub(crate) struct LogConfig {
    pub(crate) verbosity: u8,
    pub(crate) quiet: bool,
    /// Absolute.
    pub(crate) file: Option<PathBuf>,
    pub(crate) is_json: bool,
}

/// Where a view appears.
pub(crate) enum Target {
    /// At a directory.
    Directory(PathBuf),
    /// Wherever the one who opened this descriptor mounted it.
    Descriptor(i32),
}

/// Who may read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Owner,
    OwnerAndRoot,
    All,
}

/// `mount`.
pub(crate) struct MountConfig {
    pub(crate) view: ViewConfig,
    pub(crate) target: Target,
    pub(crate) access: Access,
    pub(crate) replace_stale: bool,
    pub(crate) dry_run: bool,
    pub(crate) role: Role,
    pub(crate) json: bool,
}

/// Which part of a mount this process plays.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Serves, under the user's eyes.
    Foreground,
    /// Serves, for a program that started us, as long as that holds our stdin open.
    Attached,
    /// Starts the daemon, and waits until it answers.
    Launcher,
    /// Serves; started by a launcher.
    Daemon,
}

/// `exec`.
pub(crate) struct ExecConfig {
    pub(crate) view: ViewConfig,
    pub(crate) command: Vec<OsString>,
}

/// `materialize`.
pub(crate) struct CopyConfig {
    pub(crate) store: Store,
    /// Canonical, or a URL.
    pub(crate) source: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) layout: Layout,
    pub(crate) codecs: Vec<String>,
    pub(crate) budget: Budget,
    pub(crate) threads: usize,
    /// Absolute.
    pub(crate) temp: Option<PathBuf>,
    pub(crate) dry_run: bool,
    pub(crate) resume: bool,
    pub(crate) overwrite: bool,
    pub(crate) update: bool,
    pub(crate) partition: Option<Share>,
    pub(crate) finish: bool,
    pub(crate) keep_going: bool,
    pub(crate) verify: bool,
    pub(crate) until_eof: bool,
    pub(crate) json: bool,
    pub(crate) log: LogConfig,
}

/// `verify`.
pub(crate) struct VerifyConfig {
    pub(crate) source: Store,
    pub(crate) target: Store,
    pub(crate) sample: Option<Sample>,
    pub(crate) budget: Budget,
    pub(crate) threads: usize,
    pub(crate) until_eof: bool,
    pub(crate) json: bool,
    pub(crate) log: LogConfig,
}

/// `inspect`.
pub(crate) struct InspectConfig {
    pub(crate) source: PathBuf,
    pub(crate) storage_options: Vec<StorageOption>,
    pub(crate) array_globs: Vec<String>,
    pub(crate) json: bool,
}

/// `unmount`.
pub(crate) struct UnmountConfig {
    /// None: all.
    pub(crate) mountpoint: Option<PathBuf>,
    pub(crate) lazy: bool,
    pub(crate) json: bool,
}

impl ViewConfig {
    fn new(
        source: &Path,
        layout: args::LayoutArgs,
        resources: &args::ResourceArgs,
        output: args::OutputArgs,
    ) -> anyhow::Result<Self> {
        let store = open_source(source, &resources.storage.storage_option)?;
        let source = store.name();
        Ok(Self {
            cache_dir: resources
                .cache_dir
                .as_deref()
                .map(|path| cache_dir::checked(path, resources.cache_size, &source))
                .transpose()?,
            refresh: match resources.refresh {
                Some(args::Refresh::Never) => None,
                Some(args::Refresh::After(refresh)) => Some(refresh),
                None if Store::is_url(&source) => Some(URL_REFRESH),
                None if filesystem::is_remote(&source) => Some(REMOTE_REFRESH),
                None => Some(REFRESH),
            },
            store,
            source,
            read_timeout: resources.read_timeout.unwrap_or(READ_TIMEOUT),
            layout: layout.into(),
            budget: Budget::settle(resources.memory, memory::Default::BESIDE)?,
            threads: resources.threads.map_or_else(default_threads, usize::from),
            log: LogConfig::new(output)?,
        })
    }
}

impl From<args::LayoutArgs> for Layout {
    fn from(args: args::LayoutArgs) -> Self {
        Self {
            along: args.along,
            chunks: args.chunks,
            chunk_size_bytes: args.chunk_size,
            shards: args.shards,
            array_globs: args.array,
            exclude_globs: args.exclude,
        }
    }
}

impl LogConfig {
    fn new(output: args::OutputArgs) -> anyhow::Result<Self> {
        let file = output.log_file.map(std::path::absolute).transpose()?;
        let is_json = output.log_format == args::LogFormat::Json;
        Ok(Self { verbosity: output.verbose, quiet: output.quiet, file, is_json })
    }
}

impl CopyConfig {
    pub(crate) fn new(args: args::MaterializeArgs) -> anyhow::Result<Self> {
        anyhow::ensure!(
            !Store::is_url(&args.target),
            "the target {} is a URL, and copies are made in directories; put the complete copy there with the tools of that store",
            args.target.display()
        );
        let store = open_source(&args.source, &args.storage.storage_option)?;
        Ok(Self {
            source: store.name(),
            threads: args.threads.map_or_else(|| copying_threads([&store]), usize::from),
            store,
            target: args.target,
            layout: args.layout.into(),
            codecs: args.codecs,
            budget: Budget::settle(args.memory, memory::Default::ALONE)?,
            temp: args.temp,
            dry_run: args.dry_run,
            resume: args.resume,
            overwrite: args.overwrite,
            update: args.update,
            partition: args.partition,
            finish: args.finish,
            keep_going: args.keep_going,
            verify: args.verify,
            until_eof: args.until_eof,
            json: args.json,
            log: LogConfig::new(args.output)?,
        })
    }
}

impl VerifyConfig {
    pub(crate) fn new(args: args::VerifyArgs) -> anyhow::Result<Self> {
        let (source, target) = (&args.source, &args.target);
        let options = &args.storage.storage_option;
        anyhow::ensure!(
            options.is_empty() || Store::is_url(source) || Store::is_url(target),
            "--storage-option is for a store behind a URL; {} and {} are paths",
            source.display(),
            target.display()
        );
        let of = |store: &Path| if Store::is_url(store) { options.as_slice() } else { &[] };
        let source = open_source(source, of(source))?;
        let target = match Store::is_url(target) {
            true => open_source(target, options)?,
            false => {
                let canonical = target.canonicalize();
                let target = canonical.with_context(|| format!("the target {} cannot be opened", target.display()))?;
                Store::open(&target, &[])?
            }
        };
        Ok(Self {
            threads: args.threads.map_or_else(|| copying_threads([&source, &target]), usize::from),
            source,
            target,
            sample: args.sample.map(|chunks| Sample { chunks, seed: args.seed.unwrap_or_else(any_seed) }),
            budget: Budget::settle(args.memory, memory::Default::ALONE)?,
            until_eof: args.until_eof,
            json: args.json,
            log: LogConfig::new(args.output)?,
        })
    }
}

/// Another one each time, and short enough to be typed again.
fn any_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_nanos()) ^ (now.as_secs() & 0xffff)
}

/// The store at a path or a URL.
pub(crate) fn open_source(source: &Path, options: &[StorageOption]) -> anyhow::Result<Store> {
    if Store::is_url(source) {
        return Ok(Store::open(source, options)?);
    }
    anyhow::ensure!(
        options.is_empty(),
        "--storage-option is for a source behind a URL; {} is a path",
        source.display()
    );
    Ok(Store::open(&canonical_source(source)?, &[])?)
}

/// Threads of a copy or a comparison: those that wait for a server leave the CPUs to others.
fn copying_threads<const N: usize>(stores: [&Store; N]) -> usize {
    let is_remote = stores.iter().any(|store| store.is_remote());
    default_threads().max(if is_remote { REMOTE_THREADS } else { 0 })
}

/// The daemon leaves the working directory, so paths must hold without it.
fn canonical_source(source: &Path) -> anyhow::Result<PathBuf> {
    source.canonicalize().with_context(|| format!("the source {} cannot be opened", source.display()))
}

impl MountConfig {
    pub(crate) fn new(args: args::MountArgs, as_daemon: bool) -> anyhow::Result<Self> {
        let target = Target::new(args.mountpoint);
        if matches!(target, Target::Descriptor(_)) && (args.allow_other || args.allow_root) {
            bail!(
                "--allow-other and --allow-root are for whoever mounts, who has decided already where a descriptor is handed over"
            );
        }
        let mut view = ViewConfig::new(&args.source, args.layout, &args.resources, args.output)?;
        if args.allow_other {
            // Links that lead out of the source are not followed where others may read the view.
            view.store = view.store.confined();
        }
        Ok(Self {
            target,
            access: match (args.allow_other, args.allow_root) {
                (true, _) => Access::All,
                (false, true) => Access::OwnerAndRoot,
                (false, false) => Access::Owner,
            },
            replace_stale: args.replace_stale,
            dry_run: args.dry_run,
            role: match (as_daemon, args.foreground, args.until_eof) {
                (true, ..) => Role::Daemon,
                (false, true, _) => Role::Foreground,
                (false, false, true) => Role::Attached,
                (false, false, false) => Role::Launcher,
            },
            json: args.json,
            view,
        })
    }
}

impl Target {
    fn new(mountpoint: PathBuf) -> Self {
        let number = mountpoint.to_str().and_then(|text| text.strip_prefix("/dev/fd/")?.parse().ok());
        number.map_or(Self::Directory(mountpoint), Self::Descriptor)
    }
}

impl ExecConfig {
    pub(crate) fn new(args: args::ExecArgs) -> anyhow::Result<Self> {
        Ok(Self {
            view: ViewConfig::new(&args.source, args.layout, &args.resources, args.output)?,
            command: args.command,
        })
    }
}

impl From<args::InspectArgs> for InspectConfig {
    fn from(args: args::InspectArgs) -> Self {
        Self {
            source: args.source,
            storage_options: args.storage.storage_option,
            array_globs: args.array,
            json: args.json,
        }
    }
}

impl From<args::UnmountArgs> for UnmountConfig {
    fn from(args: args::UnmountArgs) -> Self {
        Self { mountpoint: args.mountpoint, lazy: args.lazy, json: args.json }
    }
}
