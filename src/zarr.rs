//! Names and documents: source metadata in, virtual metadata out. No I/O; never panics on what a file can contain.
//!
//! Bottom up: `json` and `splice` read and change texts; `data_type`, `fill`, `codecs` and `array` understand one
//! array; `v2` turns documents of Zarr v2 into those of v3; `layout`, `select` and `chunking` settle what the user
//! wants; `consolidated` and `project` write the documents of the view, `copy` those of a copy. `stored` tells whether two
//! documents mean the same chunk files.

pub mod array;
mod chunking;
pub mod codecs;
mod consolidated;
pub mod copy;
pub mod data_type;
pub mod fill;
pub mod hierarchy;
pub mod json;
pub mod layout;
mod minifloat;
mod naming;
pub mod project;
mod select;
mod settled;
pub mod show;
pub mod size;
pub mod splice;
pub mod stored;
mod types;
pub mod v2;

pub use array::{ArrayNode, Readable, Strings};
pub use copy::update::{Asked, Came, CopyUpdate, Origin, Paths, project_update};
pub use copy::{CopyProjection, project_copy};
pub use hierarchy::{Document, Hierarchy, NodeDocs};
pub use layout::{Layout, LayoutError};
pub use project::{Nodes, Passed, Projection, project, project_again, read_nodes};
pub use settled::Settled;
pub use size::{Size, format_bytes, parse_size};
pub use types::{ChunkEncoding, CopiedArray, Encoding, KeyEncoding, KeyStyle, Sharding, SourceArray, VirtualArray};
