//! rechunkfs shows a Zarr store through another chunking, without copying it.
//!
//! ```text
//!   source store --> source --> synthesis --> cache --> view --> fuse (mount)
//!        zarr.json --> zarr (virtual documents) ----------^
//! ```
//!
//! Modules, bottom up; arrows only point down (see docs/ARCHITECTURE.md).

pub mod cache;
pub mod fuse;
pub mod geometry;
pub mod memory;
pub mod mounts;
pub mod source;
pub mod synthesis;
pub mod view;
pub mod zarr;
