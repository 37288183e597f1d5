//! One integration binary. Each module is a kind of test.

mod cli;
mod copies;
mod counting;
mod damage;
mod disk;
mod files;
mod following;
mod leaf;
mod partitions;
mod reference;
mod scale;
mod semantics;
mod stores;
mod streams;
mod stress;
mod support;
mod tidy;
mod updates;
mod verify;
