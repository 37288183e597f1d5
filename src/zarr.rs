//! Names and documents: source metadata in, virtual metadata out. No I/O; never panics on what a file can contain.

pub mod json;
pub mod splice;
mod types;

pub use types::{Encoding, KeyEncoding, KeyStyle, Sharding, SourceArray, VirtualArray};
