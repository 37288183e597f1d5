//! One integration binary. Each module is a kind of test.

mod access;
mod cli;
mod copies;
mod counting;
mod damage;
mod disk;
mod faults;
mod faulty;
mod files;
mod flips;
mod following;
mod fuse_model;
mod fuzz;
mod hostile;
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
