//! The source store: the only room that reads it, and the only one that knows zarrs.
//!
//! Files are opened read-only and read with `pread`, never mapped: a file that is truncated while it is read must
//! be an error, not a signal. Whatever cannot be read or decoded is a [`SourceError`], never a guess.

mod blosc;
mod bounds;
mod calls;
mod codecs;
mod contents;
mod counters;
mod error;
mod fletcher32;
mod objects;
mod reader;
mod shard;
mod stamp;
mod stamps;
mod state;
mod store;
mod stream;
mod strings;

pub mod hierarchy;

pub use bounds::Bounds;
pub use calls::Calls;
pub use codecs::{leaf_bytes, most_scratch_bytes};
pub use contents::Contents;
pub use counters::{CounterValues, Counters};
pub use error::SourceError;
pub use objects::{Entries, Got, Objects, Part, Requests};
pub use reader::{ArrayReader, Folder, Workspace};
pub use stamp::Stamp;
pub use stamps::Stamps;
pub use state::{FileState, YOUNG};
pub use store::{StorageOption, Store};
pub use strings::{FoundStrings, Strings};
