//! The cache, by itself.
