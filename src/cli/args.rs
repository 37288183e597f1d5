//! What can be typed. Nothing below `cli` sees these types: see `config`.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, value_parser};
use clap_complete::Shell;
use rechunkfs::materialize::Share;
use rechunkfs::memory::MemoryRequest;
use rechunkfs::zarr::{Size, parse_size};

/// Beyond, `never` says it better.
/// Bounds of `--read-timeout`.
const LEAST_READ_TIMEOUT: Duration = Duration::from_secs(1);
const MOST_READ_TIMEOUT: Duration = Duration::from_secs(86_400);
const MAX_REFRESH: Duration = Duration::from_secs(365 * 86_400);

/// Shows a Zarr store through another chunking, without copying it; or writes the copy.
#[derive(Parser)]
#[command(name = "rechunkfs", version, arg_required_else_help = true, max_term_width = 100, after_help = EXAMPLE)]
pub(crate) struct Cli {
    /// Set by `mount` for the copy of itself that stays.
    #[arg(long, hide = true)]
    pub(crate) daemon_child: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLE: &str = "Example:
  rechunkfs mount epochs.zarr ./objects.zarr --along epoch
  python -c \"import xarray as xr; print(xr.open_zarr('objects.zarr'))\"
  rechunkfs unmount ./objects.zarr

Exit codes: 0 done, 1 failed, 2 usage, 3 verify found differences, 4 stopped and resumable; `exec` ends with its
command's.";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Show arrays, chunks, codecs and how full a store is, and a layout to try
    Inspect(InspectArgs),
    /// Serve the view of a store at a mount point, in the background
    Mount(MountArgs),
    /// Mount, run a command, unmount; ends with the command's exit code
    Exec(ExecArgs),
    /// Write the view to disk: a copy in the layout, in bounded memory, restartable
    Materialize(MaterializeArgs),
    /// Compare two stores whatever their chunks and codecs: documents, and every element bit for bit
    Verify(VerifyArgs),
    /// Show mounts, or one of them; without any: can this machine mount?
    Status(StatusArgs),
    /// End a mount
    #[command(visible_alias = "umount")]
    Unmount(UnmountArgs),
    /// Print the completions for a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Print the manual page
    #[command(hide = true)]
    Man,
}

impl Command {
    /// Whether the result is wanted as JSON, errors included.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Inspect(args) => args.json,
            Self::Mount(args) => args.json,
            Self::Materialize(args) => args.json,
            Self::Verify(args) => args.json,
            Self::Status(args) => args.json,
            Self::Unmount(args) => args.json,
            Self::Exec(_) | Self::Completions { .. } | Self::Man => false,
        }
    }
}

#[derive(Args)]
pub(crate) struct InspectArgs {
    /// The store: a directory with zarr.json, .zgroup or .zarray, a zip archive of one, or a URL (s3, gs,
    /// az, http, https)
    pub(crate) source: PathBuf,
    #[command(flatten)]
    pub(crate) storage: StorageArgs,
    /// Which arrays (a glob on the full path; ** crosses groups; may be repeated)
    #[arg(long, value_name = "GLOB")]
    pub(crate) array: Vec<String>,
    /// One JSON result on stdout
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct MountArgs {
    /// The store: a directory with zarr.json, .zgroup or .zarray, a zip archive of one, or a URL (s3, gs,
    /// az, http, https)
    pub(crate) source: PathBuf,
    /// An empty directory, or one to create; or /dev/fd/N, a FUSE descriptor opened and mounted by another
    pub(crate) mountpoint: PathBuf,
    #[command(flatten)]
    pub(crate) layout: LayoutArgs,
    #[command(flatten)]
    pub(crate) resources: ResourceArgs,
    /// Stay in the foreground; Ctrl-C unmounts [default: return when the mount answers]
    #[arg(short, long, help_heading = "Mount")]
    pub(crate) foreground: bool,
    /// Mount nothing; print what would be shown, and what a first read and a sweep would cost
    #[arg(short = 'n', long, help_heading = "Mount")]
    pub(crate) dry_run: bool,
    /// Let all users read the view [default: you alone]
    #[arg(long, help_heading = "Mount", conflicts_with = "allow_root")]
    pub(crate) allow_other: bool,
    /// Let root read the view, too
    #[arg(long, help_heading = "Mount")]
    pub(crate) allow_root: bool,
    /// Clear a stale mount of ours (its process is gone) that is in the way
    #[arg(long, help_heading = "Mount")]
    pub(crate) replace_stale: bool,
    /// Stay, and unmount when standard input ends: for a program that is to have the mount as long as it lives
    #[arg(long, help_heading = "Mount", conflicts_with = "foreground")]
    pub(crate) until_eof: bool,
    /// One JSON result on stdout
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Args)]
pub(crate) struct ExecArgs {
    /// The store: a directory with zarr.json, .zgroup or .zarray, a zip archive of one, or a URL (s3, gs,
    /// az, http, https)
    pub(crate) source: PathBuf,
    /// The command; {} in it stands for the view's path (also in $RECHUNKFS_VIEW)
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
    #[command(flatten)]
    pub(crate) layout: LayoutArgs,
    #[command(flatten)]
    pub(crate) resources: ResourceArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Args)]
pub(crate) struct MaterializeArgs {
    /// The store: a directory with zarr.json, .zgroup or .zarray, a zip archive of one, or a URL (s3, gs,
    /// az, http, https)
    pub(crate) source: PathBuf,
    /// The copy: a directory that is not there yet, or empty
    pub(crate) target: PathBuf,
    #[command(flatten)]
    pub(crate) layout: LayoutArgs,
    /// Codecs of the chunks: source, none, zstd[:LEVEL], blosc:CNAME[:LEVEL[:SHUFFLE]], gzip[:LEVEL] or a JSON list of
    /// Zarr v3 codecs; ARRAY=SPEC for one array (may be repeated) [default: source, where that is lossless]
    #[arg(long, value_name = "SPEC", help_heading = "Copy")]
    pub(crate) codecs: Vec<String>,
    /// Write nothing; print what the copy would take, by a sample of two seconds
    #[arg(short = 'n', long, help_heading = "Copy")]
    pub(crate) dry_run: bool,
    /// Go on with an unfinished copy; start one where there is none
    #[arg(long, help_heading = "Copy")]
    pub(crate) resume: bool,
    /// Replace the store at TARGET, once the copy is complete; an unfinished copy at once
    #[arg(long, help_heading = "Copy")]
    pub(crate) overwrite: bool,
    /// Bring the copy at TARGET up to date with SOURCE, in its own layout: what has changed is done again, while it is read.
    /// Make it where there is none
    #[arg(long, help_heading = "Copy", conflicts_with = "overwrite")]
    pub(crate) update: bool,
    /// Make the K-th of N shares of the copy, K from 1: each in a run of its own, on any machine, at any time; --finish then
    /// makes the copy of them
    #[arg(long, value_name = "K/N", help_heading = "Copy", conflicts_with_all = ["update", "keep_going", "verify"])]
    pub(crate) partition: Option<Share>,
    /// Put the copy that was made in shares (--partition) in its place; an error while a share is missing
    #[arg(long, help_heading = "Copy", conflicts_with_all = ["update", "keep_going", "partition", "dry_run"])]
    pub(crate) finish: bool,
    /// Leave out the chunks that draw on source chunks which cannot be read; the exit code is 1 all the same
    #[arg(long, help_heading = "Copy")]
    pub(crate) keep_going: bool,
    /// Compare the complete copy with the source before it appears at TARGET, as `verify` does
    #[arg(long, help_heading = "Copy", conflicts_with = "keep_going")]
    pub(crate) verify: bool,
    /// Stop, as at a signal, when standard input ends: for a program that is to have the copy end with it
    #[arg(long, help_heading = "Copy")]
    pub(crate) until_eof: bool,
    /// Memory for the whole process: 512M, 2GiB, 25% [default: a half, at most 32 GiB, of what machine, cgroups and
    /// Slurm leave]
    #[arg(long, value_name = "SIZE", help_heading = "Resources")]
    pub(crate) memory: Option<MemoryRequest>,
    #[command(flatten)]
    pub(crate) storage: StorageArgs,
    /// Threads for decoding and encoding [default: the CPUs of this job]
    #[arg(short = 'j', long, value_name = "N", value_parser = value_parser!(NonZeroUsize), help_heading = "Resources")]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Where temporary files go, should there be any (see --dry-run); created where it is missing [default: beside
    /// TARGET]
    #[arg(long, value_name = "DIR", help_heading = "Resources")]
    pub(crate) temp: Option<PathBuf>,
    /// One JSON result on stdout, progress as JSON lines on stderr
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Args)]
pub(crate) struct VerifyArgs {
    /// A store: a directory with zarr.json, .zgroup or .zarray, a zip archive of one, or a URL (s3, gs,
    /// az, http, https)
    pub(crate) source: PathBuf,
    /// Another, or a mount
    pub(crate) target: PathBuf,
    /// Compare this many chunks (or shards) of TARGET, drawn at random, and all documents [default: everything]
    #[arg(long, value_name = "N", help_heading = "Comparison")]
    pub(crate) sample: Option<u64>,
    /// Draw the sample that an earlier run drew [default: another one each time]
    #[arg(long, value_name = "S", requires = "sample", help_heading = "Comparison")]
    pub(crate) seed: Option<u64>,
    /// Stop, as at a signal, when standard input ends: for a program that is to have the comparison end with it
    #[arg(long, help_heading = "Comparison")]
    pub(crate) until_eof: bool,
    /// Memory for the whole process: 512M, 2GiB, 25% [default: a half, at most 32 GiB, of what machine, cgroups and
    /// Slurm leave]
    #[arg(long, value_name = "SIZE", help_heading = "Resources")]
    pub(crate) memory: Option<MemoryRequest>,
    #[command(flatten)]
    pub(crate) storage: StorageArgs,
    /// Threads for decoding and comparing [default: the CPUs of this job]
    #[arg(short = 'j', long, value_name = "N", value_parser = value_parser!(NonZeroUsize), help_heading = "Resources")]
    pub(crate) threads: Option<NonZeroUsize>,
    /// One JSON result on stdout, progress as JSON lines on stderr
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Args)]
pub(crate) struct StatusArgs {
    /// Which mount [default: list them all]
    pub(crate) mountpoint: Option<PathBuf>,
    /// One JSON result on stdout
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct UnmountArgs {
    /// Which mount
    #[arg(required_unless_present = "all")]
    pub(crate) mountpoint: Option<PathBuf>,
    /// Detach it now; whoever has files open may finish
    #[arg(long)]
    pub(crate) lazy: bool,
    /// All mounts of yours (as root: everybody's)
    #[arg(long, conflicts_with = "mountpoint")]
    pub(crate) all: bool,
    /// One JSON result on stdout
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
}

#[derive(Args)]
#[command(next_help_heading = "Layout")]
pub(crate) struct LayoutArgs {
    /// All of this dimension in each chunk, the rest chosen
    #[arg(long, value_name = "DIM")]
    pub(crate) along: Option<String>,
    /// Chunk lengths, as object=15,epoch=full: a number, full, source or auto; axis numbers where dimensions
    /// have no names; ARRAY:SPEC for one array (may be repeated) [default: source]
    #[arg(long, value_name = "SPEC")]
    pub(crate) chunks: Vec<String>,
    /// What `auto` aims at
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = plain_size)]
    pub(crate) chunk_size: u64,
    /// Shard lengths, likewise; full rounds up to whole chunks [default: no shards]
    #[arg(long, value_name = "SPEC")]
    pub(crate) shards: Vec<String>,
    /// Which arrays to rechunk (a glob on the full path; ** crosses groups; may be repeated)
    /// [default: those of two axes or more that have the dimensions named]
    #[arg(long, value_name = "GLOB")]
    pub(crate) array: Vec<String>,
    /// Which arrays to pass through as they are (may be repeated)
    #[arg(long, value_name = "GLOB")]
    pub(crate) exclude: Vec<String>,
}

#[derive(Args)]
#[command(next_help_heading = "Resources")]
pub(crate) struct ResourceArgs {
    /// How soon a change of the source shows: seconds, 0 for at once, or never for a source that is finished [default: 2; on
    /// network file systems 15, of a URL 60]
    #[arg(long, value_name = "SECONDS", value_parser = parse_refresh, help_heading = "Resources")]
    pub(crate) refresh: Option<Refresh>,
    /// A read becomes an error when the source has not answered for so long; decoding takes the time that it takes [default: 60]
    #[arg(long, value_name = "SECONDS", value_parser = parse_read_timeout, help_heading = "Resources")]
    pub(crate) read_timeout: Option<Duration>,
    /// Memory for the whole process: 512M, 2GiB, 25% [default: a quarter, at most 8 GiB, of what machine, cgroups
    /// and Slurm leave]
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<MemoryRequest>,
    #[command(flatten)]
    pub(crate) storage: StorageArgs,
    /// Keep decoded data in this folder, too, and for the next mount; created where it is missing [default: off]
    #[arg(long, value_name = "DIR")]
    pub(crate) cache_dir: Option<PathBuf>,
    /// Bound on what all mounts keep there, and never more than 90 % of what is free
    #[arg(long, value_name = "SIZE", default_value = "16GiB", value_parser = plain_size, requires = "cache_dir")]
    pub(crate) cache_size: u64,
    /// Threads for decoding [default: the CPUs of this job]
    #[arg(short = 'j', long, value_name = "N", value_parser = value_parser!(NonZeroUsize))]
    pub(crate) threads: Option<NonZeroUsize>,
}

#[derive(Args)]
pub(crate) struct StorageArgs {
    /// An option of a source behind a URL, as endpoint=http://host:9000, region=..., skip_signature=true (anonymous); may be
    /// repeated. Everybody can see it: give secrets by the environment (AWS_SECRET_ACCESS_KEY and so on)
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_storage_option, help_heading = "Resources")]
    pub(crate) storage_option: Vec<(String, String)>,
}

#[derive(Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// Log more (-vv: much more)
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// No warnings, log errors only
    #[arg(short, long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Where to log [default: in the background $XDG_STATE_HOME/rechunkfs (see `status`), else stderr]
    #[arg(long, value_name = "FILE")]
    pub(crate) log_file: Option<PathBuf>,
    /// How the log is written: a line of text, or a JSON object a line
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "text")]
    pub(crate) log_format: LogFormat,
}

/// What a line of the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

fn plain_size(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        Size::Bytes(bytes) => Ok(bytes),
        Size::Percent(_) => Err(format!("{text:?} is a share of nothing here; write for example 4MiB")),
    }
}

/// How soon a change of the source shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refresh {
    Never,
    After(Duration),
}

fn parse_storage_option(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("KEY=VALUE is wanted")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn parse_refresh(text: &str) -> Result<Refresh, String> {
    if text == "never" {
        return Ok(Refresh::Never);
    }
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let seconds = seconds.filter(|seconds| *seconds <= MAX_REFRESH);
    seconds.map(Refresh::After).ok_or_else(|| "give seconds, such as 2 or 0.5, or never".to_owned())
}

fn parse_read_timeout(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let seconds = seconds.filter(|seconds| (LEAST_READ_TIMEOUT..=MOST_READ_TIMEOUT).contains(seconds));
    seconds.ok_or_else(|| "give seconds, such as 60, from 1 to 86400".to_owned())
}
