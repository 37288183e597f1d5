//! TEMPORARY.
pub mod hierarchy;
