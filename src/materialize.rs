//! Writes the view of a store to disk: all cores busy, memory bounded, restartable.
//!
//! An array is made in *units*: target chunks, or the shards that hold them, or parts of shards where these are large.
//! Tiles (see [`crate::geometry::Tiling`]) are decoded and placed into units; units that are whole are encoded and
//! written. Everything lies in a folder beside the target until it is complete; every few seconds what was written is
//! synced and named in a journal, from which a later run goes on. The bytes that are written depend on the source, the
//! layout and the codecs alone.

mod array;
mod commits;
mod disk;
mod done;
mod earlier;
mod encode;
mod engine;
mod error;
mod files;
mod forecast;
mod journal;
mod known;
mod look;
mod making;
mod partition;
mod passed;
mod place;
mod plan;
mod progress;
mod record;
mod room;
mod run;
mod shards;
mod site;
mod spool;
mod standing;
mod strings;
mod trial;
pub mod update;
pub mod verify;
mod write;

pub use error::CopyError;
pub use forecast::{ArrayForecast, Forecast, forecast};
pub use known::Words;
pub use partition::{Share, copy_share, finish};
pub use progress::Progress;
pub use run::copy;
pub use site::{PARTIAL_SUFFIX, partial_of};
pub use trial::{Cheaper, Trial};
pub use update::{ArrayUpdate, Kind, Sources, UpdatePlan, Updated, create, is_there, plan_update, update};
pub use verify::{Comparison, Sample, VerifyOptions, verify};

use crate::source::Store;
use std::path::PathBuf;

/// What is copied where, and with what means.
#[derive(Debug, Clone)]
pub struct Options {
    /// The source store; the path of a directory is canonical.
    pub source: Store,
    /// Where the copy is to be.
    pub target: PathBuf,
    /// Bound on the memory of the whole process, bytes.
    pub memory_bytes: u64,
    /// Threads that decode and encode.
    pub threads: usize,
    /// Where temporary files go [default: beside the target].
    pub temp: Option<PathBuf>,
    /// Go on with what an earlier run left.
    pub resume: bool,
    /// Replace what is at the target, once the copy is complete.
    pub overwrite: bool,
    /// Leave out what draws on source chunks that cannot be read.
    pub keep_going: bool,
    /// Compare the complete copy with the source before it is published.
    pub verify: bool,
    /// The source may go on while it is copied: each of its chunks is copied in one state, and what changes after that is
    /// left to the next update.
    pub lives: bool,
    /// With which words layout and codecs were asked for: the copy remembers them.
    pub words: Words,
    /// Tiles are no larger than this even where memory allows; tests make seams and slabs of small stores with it.
    pub max_tile_bytes: Option<u64>,
    /// Temporary files are used wherever a source chunk would be decoded more than once: for tests.
    pub always_spool: bool,
}

/// How a copy ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// It went on with what an earlier run left.
    pub is_resumed: bool,
    /// What could not be read, and so was left out.
    pub failures: Vec<String>,
    /// Where the copy lies that lacks this: it is not put in the target's place, for what it lacks reads as fill value.
    pub incomplete: Option<PathBuf>,
    /// What was found where the copy was verified: no difference.
    pub comparison: Option<Comparison>,
}
