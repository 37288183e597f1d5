//! (to come)

pub mod hierarchy;
