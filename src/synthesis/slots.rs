//! Scratch memory for decoding: set aside, shared, and used again.

use super::lock;
use crate::source::Workspace;
use std::sync::{Condvar, Mutex, PoisonError};

/// Scratch memory, set aside when the view is opened. Whoever holds some only decodes and places, and never waits.
#[derive(Debug)]
pub struct Slots {
    total_bytes: u64,
    free: Mutex<Free>,
    freed: Condvar,
}

#[derive(Debug)]
struct Free {
    /// Below zero for a while, where it has become less.
    bytes: i64,
    /// Beyond the total, in the place of what those hold who hang.
    extra_bytes: i64,
    /// Used before, and used again: fresh memory costs about as much as what is decoded into it. Part of `bytes`.
    kept: Vec<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    buffer: Vec<u8>,
    workspace: Workspace,
}

impl Kept {
    fn bytes(&self) -> u64 {
        self.buffer.len() as u64 + self.workspace.bytes()
    }
}

impl Slots {
    /// `total_bytes` of scratch; must be enough for the largest group ([`super::most_scratch_bytes`]).
    pub fn new(total_bytes: u64) -> Self {
        let free = Free { bytes: total_bytes as i64, extra_bytes: 0, kept: Vec::new() };
        Slots { total_bytes, free: Mutex::new(free), freed: Condvar::new() }
    }

    /// Adds `bytes` to what there is, in the place of what is held by those who hang in a system call.
    pub fn set_extra_bytes(&self, bytes: u64) {
        let mut free = lock(&self.free);
        free.bytes += bytes as i64 - free.extra_bytes;
        free.extra_bytes = bytes as i64;
        free.trim();
        drop(free);
        self.freed.notify_all();
    }

    /// Runs `work` with a buffer of `len` bytes of scratch, with anything in it, and the right to `more` bytes besides.
    pub fn with<T>(&self, len: usize, more: u64, work: impl FnOnce(&mut [u8]) -> T) -> T {
        let mut slot = self.take((len as u64).saturating_add(more), len);
        work(&mut slot.buffer()[..len])
    }

    /// Waits for `bytes` of scratch, of which the first `buffer_len` are a buffer with anything in it. What the workspace
    /// keeps is part of them.
    pub fn take(&self, bytes: u64, buffer_len: usize) -> Slot<'_> {
        let bytes = bytes.min(self.total_bytes);
        let mut free = lock(&self.free);
        while free.bytes < bytes as i64 {
            free = self.freed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        free.bytes -= bytes as i64;
        let mut kept = free.kept.pop().unwrap_or_default();
        free.trim();
        drop(free);
        if kept.buffer.len() < buffer_len || kept.bytes() > bytes {
            kept.buffer = Vec::new();
            kept.buffer = vec![0; buffer_len];
        }
        if kept.bytes() > bytes {
            kept.workspace = Workspace::default();
        }
        Slot { slots: self, bytes, kept }
    }
}

impl Free {
    /// Keeps no more than is free.
    fn trim(&mut self) {
        while !self.kept.is_empty() && self.kept.iter().map(Kept::bytes).sum::<u64>() as i64 > self.bytes {
            self.kept.pop();
        }
    }
}

/// Scratch in use.
#[derive(Debug)]
pub struct Slot<'a> {
    slots: &'a Slots,
    bytes: u64,
    kept: Kept,
}

impl Slot<'_> {
    /// The buffer, which may be longer than was asked for.
    pub fn buffer(&mut self) -> &mut [u8] {
        &mut self.kept.buffer
    }

    /// The buffer, and what reading into it takes.
    pub fn parts(&mut self) -> (&mut [u8], &mut Workspace) {
        (&mut self.kept.buffer, &mut self.kept.workspace)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut free = lock(&self.slots.free);
        free.bytes += self.bytes as i64;
        free.kept.push(std::mem::take(&mut self.kept));
        free.trim();
        drop(free);
        self.slots.freed.notify_all();
    }
}
