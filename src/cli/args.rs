//! What can be typed. Nothing below `cli` sees these types: see `config`.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, value_parser};
use clap_complete::Shell;
use rechunkfs::memory::MemoryRequest;
use rechunkfs::zarr::layout::parse_size;

/// Shows a Zarr store through another chunking, without copying it.
#[derive(Parser)]
#[command(name = "rechunkfs", version, arg_required_else_help = true, max_term_width = 100, after_help = EXAMPLE)]
pub struct Cli {
    /// Set by `mount` for the copy of itself that stays.
    #[arg(long, hide = true)]
    pub daemon_child: bool,
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLE: &str = "Example:
  rechunkfs mount epochs.zarr ./objects.zarr --along epoch
  python -c \"import xarray as xr; print(xr.open_zarr('objects.zarr'))\"
  rechunkfs unmount ./objects.zarr

Exit codes: 0 done, 1 failed, 2 usage; `exec` ends with its command's.";

#[derive(Subcommand)]
pub enum Command {
    /// Show arrays, chunks, codecs and how full a store is, and a layout to try
    Inspect(InspectArgs),
    /// Serve the view of a store at a mount point, in the background
    Mount(MountArgs),
    /// Mount, run a command, unmount; ends with the command's exit code
    Exec(ExecArgs),
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
    pub fn json(&self) -> bool {
        match self {
            Self::Inspect(args) => args.json,
            Self::Mount(args) => args.json,
            Self::Status(args) => args.json,
            Self::Unmount(args) => args.json,
            Self::Exec(_) | Self::Completions { .. } | Self::Man => false,
        }
    }
}

#[derive(Args)]
pub struct InspectArgs {
    /// The store: a directory with zarr.json, .zgroup or .zarray
    pub source: PathBuf,
    /// Which arrays (a glob on the full path; ** crosses groups; may be repeated)
    #[arg(long, value_name = "GLOB")]
    pub array: Vec<String>,
    /// One JSON result on stdout
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

#[derive(Args)]
pub struct MountArgs {
    /// The store: a directory with zarr.json, .zgroup or .zarray
    pub source: PathBuf,
    /// An empty directory, or one to create; or /dev/fd/N, a FUSE descriptor opened and mounted by another
    pub mountpoint: PathBuf,
    #[command(flatten)]
    pub layout: LayoutArgs,
    #[command(flatten)]
    pub resources: ResourceArgs,
    /// Stay in the foreground; Ctrl-C unmounts [default: return when the mount answers]
    #[arg(short, long, help_heading = "Mount")]
    pub foreground: bool,
    /// Mount nothing; print what would be shown, and what a first read and a sweep would cost
    #[arg(short = 'n', long, help_heading = "Mount")]
    pub dry_run: bool,
    /// Let all users read the view [default: you alone]
    #[arg(long, help_heading = "Mount", conflicts_with = "allow_root")]
    pub allow_other: bool,
    /// Let root read the view, too
    #[arg(long, help_heading = "Mount")]
    pub allow_root: bool,
    /// Clear a stale mount of ours (its process is gone) that is in the way
    #[arg(long, help_heading = "Mount")]
    pub replace_stale: bool,
    /// One JSON result on stdout
    #[arg(long, help_heading = "Output")]
    pub json: bool,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Args)]
pub struct ExecArgs {
    /// The store: a directory with zarr.json, .zgroup or .zarray
    pub source: PathBuf,
    /// The command; {} in it stands for the view's path (also in $RECHUNKFS_VIEW)
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
    #[command(flatten)]
    pub layout: LayoutArgs,
    #[command(flatten)]
    pub resources: ResourceArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Args)]
pub struct StatusArgs {
    /// Which mount [default: list them all]
    pub mountpoint: Option<PathBuf>,
    /// One JSON result on stdout
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

#[derive(Args)]
pub struct UnmountArgs {
    /// Which mount
    #[arg(required_unless_present = "all")]
    pub mountpoint: Option<PathBuf>,
    /// Detach it now; whoever has files open may finish
    #[arg(long)]
    pub lazy: bool,
    /// All mounts of yours (as root: everybody's)
    #[arg(long, conflicts_with = "mountpoint")]
    pub all: bool,
    /// One JSON result on stdout
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

#[derive(Args)]
#[command(next_help_heading = "Layout")]
pub struct LayoutArgs {
    /// All of this dimension in each chunk, the rest chosen
    #[arg(long, value_name = "DIM")]
    pub along: Option<String>,
    /// Chunk lengths, as object=15,epoch=full: a number, full, source or auto; axis numbers where dimensions
    /// have no names; ARRAY:SPEC for one array (may be repeated) [default: source]
    #[arg(long, value_name = "SPEC")]
    pub chunks: Vec<String>,
    /// What `auto` aims at
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = parse_size)]
    pub chunk_size: u64,
    /// Shard lengths, likewise; full rounds up to whole chunks [default: no shards]
    #[arg(long, value_name = "SPEC")]
    pub shards: Vec<String>,
    /// Which arrays to rechunk (a glob on the full path; ** crosses groups; may be repeated)
    /// [default: those of two axes or more that have the dimensions named]
    #[arg(long, value_name = "GLOB")]
    pub array: Vec<String>,
    /// Which arrays to pass through as they are (may be repeated)
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
}

#[derive(Args)]
#[command(next_help_heading = "Resources")]
pub struct ResourceArgs {
    /// Memory for the whole process: 512M, 2GiB, 25% [default: a quarter, at most 8 GiB, of what machine, cgroups
    /// and Slurm leave]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<MemoryRequest>,
    /// Threads for decoding [default: the CPUs of this job]
    #[arg(short = 'j', long, value_name = "N", value_parser = value_parser!(NonZeroUsize))]
    pub threads: Option<NonZeroUsize>,
}

#[derive(Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Log more (-vv: much more)
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// No warnings, log errors only
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Where to log [default: in the background $XDG_STATE_HOME/rechunkfs (see `status`), else stderr]
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
}
