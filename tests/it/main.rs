//! The integration tests, in one binary.

/// The program as a user meets it: bad input, mounting, unmounting, signals.
mod cli;
/// A small store, the program, and a mount that never outlives its test.
mod support;
