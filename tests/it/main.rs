//! One integration binary. Each module is a kind of test.

mod cli;
mod counting;
mod disk;
mod reference;
mod semantics;
mod stores;
mod stress;
mod support;
mod tidy;
