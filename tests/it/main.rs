//! One integration binary. Each module is a kind of test.

mod counting;
mod reference;
mod stores;
