//! Names and documents: source metadata in, virtual metadata out. No I/O; never panics on what a file can contain.

pub mod array;
pub mod codecs;
pub mod data_type;
pub mod fill;
pub mod hierarchy;
pub mod json;
mod minifloat;
pub mod splice;
mod types;

pub use types::{Encoding, KeyEncoding, KeyStyle, Sharding, SourceArray, VirtualArray};
