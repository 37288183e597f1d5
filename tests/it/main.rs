//! One integration binary. Each module is a kind of test.

mod reference;
mod stores;
