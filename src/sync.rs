//! What threads share: the standard library's, and `shuttle`'s where it tries the orders of their steps (the package `shuttle`).

pub(crate) use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
pub(crate) use std::thread;
