//! rechunkfs shows a Zarr store through another chunking, without copying it.
//!
//! ```text
//!   source store --> source --> synthesis --> cache --> view --> fuse (mount)
//!        zarr.json --> zarr (virtual documents) ----------^
//! ```
//!
//! What the view of a store will be can be asked without mounting, or reading, anything but its documents:
//!
//! ```
//! use rechunkfs::source::hierarchy;
//! use rechunkfs::zarr::{Layout, project};
//!
//! # let store = tempfile::tempdir()?;
//! # let document = r#"{"zarr_format": 3, "node_type": "array", "shape": [1000, 100], "data_type": "float32",
//! #     "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1000, 1]}},
//! #     "chunk_key_encoding": {"name": "default"}, "fill_value": "NaN",
//! #     "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}], "dimension_names": ["object", "epoch"]}"#;
//! # std::fs::write(store.path().join("zarr.json"), document)?;
//! let layout = Layout { chunks: vec!["object=15,epoch=full".into()], ..Layout::default() };
//! let projection = project(&hierarchy::read(store.path())?, &layout)?;
//! assert_eq!(projection.arrays[0].chunk_shape, [15, 100]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Modules, bottom up; arrows only point down (see docs/ARCHITECTURE.md).

pub mod cache;
mod drill;
pub mod fuse;
pub mod geometry;
pub mod materialize;
pub mod memory;
pub mod mounts;
pub mod source;
mod sync;
pub mod synthesis;
pub mod view;
pub mod zarr;
