//! Buffers of tiles, used again instead of being given back to the kernel.
//!
//! Fresh memory costs a page fault and a cleared page every 4 KiB: for tiles that come and go, a third of the time that
//! building them takes.

#![expect(unsafe_code, reason = "madvise has no safe wrapper")]

use super::Ticket;
use std::ops::{Deref, DerefMut};

/// Smaller buffers are the allocator's business.
const LEAST_BYTES: u64 = 1 << 20;
/// From here on the allocator maps a buffer by itself, and huge pages find room in it.
const HUGE_FROM_BYTES: usize = 8 << 20;

/// Bytes for which [`Ticket::buffer`] pays: a few lengths only, so that the buffer of one tile fits the next. At most
/// an eighth more than asked for.
pub fn rounded(len: u64) -> u64 {
    if len < LEAST_BYTES { len } else { len.next_multiple_of(len.next_power_of_two() / 16) }
}

/// Bytes, and the ticket that pays for them. Goes back to the cache's stock when dropped.
pub struct Buffer {
    bytes: Vec<u8>,
    len: usize,
    ticket: Ticket,
}

impl Buffer {
    /// `used_before`, which must be `rounded(len)` long, or fresh memory.
    pub(super) fn new(used_before: Option<Vec<u8>>, len: usize, ticket: Ticket) -> Self {
        let mut bytes = used_before.unwrap_or_else(|| fresh(rounded(len as u64) as usize));
        if cfg!(debug_assertions) {
            // Whatever is not written shows, also where memory happens to be clear.
            bytes.fill(0xDB);
        }
        Buffer { bytes, len, ticket }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.ticket.stock.put(std::mem::take(&mut self.bytes));
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buffer").field("len", &self.len).finish_non_exhaustive()
    }
}

/// Cleared memory, in huge pages where the kernel has them.
fn fresh(len: usize) -> Vec<u8> {
    const PAGE_BYTES: usize = 4096;
    let mut bytes = vec![0; len];
    if len >= HUGE_FROM_BYTES {
        let skipped = bytes.as_ptr().align_offset(PAGE_BYTES);
        let within = (len - skipped) / PAGE_BYTES * PAGE_BYTES;
        // SAFETY: the range lies in the vector, and the advice changes how its pages are backed, not what they hold.
        // Where it is refused, pages are small.
        let _ = unsafe {
            let start = bytes.as_mut_ptr().add(skipped);
            rustix::mm::madvise(start.cast(), within, rustix::mm::Advice::LinuxHugepage)
        };
    }
    bytes
}

/// Buffers that nobody uses.
#[derive(Default)]
pub(super) struct Stock {
    buffers: Vec<Vec<u8>>,
    bytes: u64,
}

impl Stock {
    /// Adds one, if it is worth keeping.
    fn put(&mut self, buffer: Vec<u8>) {
        if buffer.len() as u64 >= LEAST_BYTES {
            self.bytes += buffer.len() as u64;
            self.buffers.push(buffer);
        }
    }

    /// Takes one of exactly `bytes`.
    pub(super) fn take(&mut self, bytes: u64) -> Option<Vec<u8>> {
        let at = self.buffers.iter().rposition(|buffer| buffer.len() as u64 == bytes)?;
        self.bytes -= bytes;
        Some(self.buffers.swap_remove(at))
    }

    /// Takes as many as fit into `bytes`.
    pub(super) fn split(&mut self, bytes: u64) -> Stock {
        let mut part = Stock::default();
        for at in (0..self.buffers.len()).rev() {
            if part.bytes + self.buffers[at].len() as u64 <= bytes {
                let buffer = self.buffers.swap_remove(at);
                self.bytes -= buffer.len() as u64;
                part.put(buffer);
            }
        }
        part
    }

    pub(super) fn merge(&mut self, other: Stock) {
        self.bytes += other.bytes;
        self.buffers.extend(other.buffers);
    }

    /// Takes out what lies above `bytes`.
    pub(super) fn trim(&mut self, bytes: u64) -> Stock {
        let mut surplus = Stock::default();
        while self.bytes > bytes
            && let Some(buffer) = self.buffers.pop()
        {
            self.bytes -= buffer.len() as u64;
            surplus.put(buffer);
        }
        surplus
    }
}

#[cfg(test)]
mod tests {
    use super::super::Cache;
    use super::*;
    use std::sync::{Arc, mpsc};

    const MIB: usize = 1 << 20;

    fn take(cache: &Arc<Cache<u32, Arc<Buffer>>>, bytes: usize) -> Ticket {
        let (send, receive) = mpsc::channel();
        cache.request(rounded(bytes as u64), move |ticket| drop(send.send(ticket)));
        receive.try_recv().expect("there is room")
    }

    #[test]
    fn rounding_adds_an_eighth_at_most_and_nothing_to_the_small() {
        for len in [0, 1, 1000, (1 << 20) - 1] {
            assert_eq!(rounded(len), len);
        }
        for len in (1 << 20..1 << 27).step_by(99_991) {
            let rounded = rounded(len);
            assert!((len..=len + len / 8).contains(&rounded), "{len} became {rounded}");
            assert_eq!(super::rounded(rounded), rounded);
        }
    }

    #[test]
    fn an_evicted_entry_leaves_its_buffer_to_the_next_ticket() {
        let cache = Cache::new(10 * MIB as u64);
        let first = take(&cache, 8 * MIB).buffer(8 * MIB);
        let address = first.as_ptr();
        cache.insert(1, Arc::new(first));
        let again = take(&cache, 8 * MIB - 5).buffer(8 * MIB - 5);
        assert!(cache.get(&1).is_none());
        assert_eq!((again.as_ptr(), again.len()), (address, 8 * MIB - 5));
    }

    #[test]
    fn what_is_kept_for_later_stays_within_the_bound() {
        let cache: Arc<Cache<u32, Arc<Buffer>>> = Cache::new(10 * MIB as u64);
        drop(take(&cache, 8 * MIB).buffer(8 * MIB));
        assert_eq!(cache.lock().stock.bytes, 8 * MIB as u64);
        let held = take(&cache, 4 * MIB);
        let stock = cache.lock().stock.bytes;
        let used = cache.usage().used_bytes;
        assert!(stock + used <= 10 * MIB as u64, "{stock} in stock, {used} used");
        drop(held);
    }
}
