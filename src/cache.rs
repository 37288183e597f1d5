//! A least-recently-used cache bounded in bytes, and the tickets by which builders ask for memory. Knows no Zarr.
//!
//! Every byte counted here is held by a [`Ticket`]: a builder asks for all that it will need before it allocates, the
//! ticket travels with what was built, and dropping the last owner gives the bytes back. So what readers still hold
//! of an evicted entry stays counted, and the sum never passes the capacity. Requests are granted first come, first
//! served; cached entries make room for them, oldest first. Whoever holds a ticket must never wait for another one.
//!
//! Large buffers are used again: what an evicted entry held goes to the next ticket, so that a full cache asks the
//! kernel for no fresh pages. Between the two it lies in the stock, within the same bound.

mod buffer;
pub mod disk;

use crate::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use buffer::Stock;
pub use buffer::{Buffer, rounded};
use lru::LruCache;
use std::collections::VecDeque;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The cache. Entries must own the tickets of their memory.
pub struct Cache<K, V> {
    state: Mutex<State<K, V>>,
    capacity_bytes: u64,
    this: Weak<Self>,
}

struct State<K, V> {
    entries: LruCache<K, V>,
    used_bytes: u64,
    /// Buffers that nobody uses; with `used_bytes` never above the capacity.
    stock: Stock,
    waiting: VecDeque<Request>,
    /// Somebody is granting; a release meanwhile only counts, and the one who grants looks again.
    granting: bool,
    evicted: u64,
}

struct Request {
    bytes: u64,
    granted: Box<dyn FnOnce(Ticket) + Send>,
}

/// The right to hold a number of bytes. Gives them back when dropped.
pub struct Ticket {
    bytes: u64,
    /// Buffers to use again; part of `bytes`.
    stock: Stock,
    home: Option<Arc<dyn Release>>,
}

trait Release: Send + Sync {
    fn release(&self, bytes: u64, stock: Stock);
}

/// What a cache stands at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Usage {
    /// The bound.
    pub capacity_bytes: u64,
    /// Held by entries, readers and builders together.
    pub used_bytes: u64,
    /// Entries held.
    pub entries: u64,
    /// Entries evicted so far.
    pub evicted: u64,
    /// Builders waiting for memory.
    pub waiting: u64,
}

impl<K: Hash + Eq + Send + 'static, V: Clone + Send + 'static> Cache<K, V> {
    /// An empty cache.
    pub fn new(capacity_bytes: u64) -> Arc<Self> {
        Arc::new_cyclic(|this| Cache {
            state: Mutex::new(State {
                entries: LruCache::unbounded(),
                used_bytes: 0,
                stock: Stock::default(),
                waiting: VecDeque::new(),
                granting: false,
                evicted: 0,
            }),
            capacity_bytes,
            this: Weak::clone(this),
        })
    }

    /// The bound, bytes.
    pub fn capacity_bytes(&self) -> u64 {
        self.capacity_bytes
    }

    /// Looks an entry up, and makes it the most recently used.
    pub fn get(&self, key: &K) -> Option<V> {
        self.lock().entries.get(key).cloned()
    }

    /// Keeps an entry; one under the same key is dropped.
    pub fn insert(&self, key: K, value: V) {
        let replaced = self.lock().entries.push(key, value);
        drop(replaced);
        // What was being built could not make room; as an entry it can, and nothing else may ever be released.
        self.grant();
    }

    /// Asks for `bytes` and calls `granted`, on this thread or on the one that makes room. Never blocks.
    ///
    /// Asking for more than the capacity is granted when nothing else is held: the caller must not do so.
    pub fn request(&self, bytes: u64, granted: impl FnOnce(Ticket) + Send + 'static) {
        self.lock().waiting.push_back(Request { bytes, granted: Box::new(granted) });
        self.grant();
    }

    /// Takes `bytes` if that is possible at once, and nobody else waits.
    pub fn try_request(&self, bytes: u64) -> Option<Ticket> {
        loop {
            let mut state = self.lock();
            if !state.waiting.is_empty() || state.granting {
                return None;
            }
            if state.used_bytes + bytes <= self.capacity_bytes {
                return Some(self.issue(state, bytes));
            }
            let victim = state.entries.pop_lru()?;
            state.evicted += 1;
            drop(state);
            drop(victim);
        }
    }

    /// Makes an entry the first to be evicted.
    pub fn demote(&self, key: &K) {
        self.lock().entries.demote(key);
    }

    /// What it stands at.
    pub fn usage(&self) -> Usage {
        let state = self.lock();
        Usage {
            capacity_bytes: self.capacity_bytes,
            used_bytes: state.used_bytes,
            entries: state.entries.len() as u64,
            evicted: state.evicted,
            waiting: state.waiting.len() as u64,
        }
    }

    /// Grants what can be granted, evicting as needed.
    fn grant(&self) {
        let mut state = self.lock();
        if state.granting {
            return;
        }
        state.granting = true;
        while let Some(first) = state.waiting.front() {
            let fits = state.used_bytes + first.bytes <= self.capacity_bytes || state.used_bytes == 0;
            if fits && let Some(request) = state.waiting.pop_front() {
                let ticket = self.issue(state, request.bytes);
                // Whoever panics here must not keep all others from being granted.
                let _ = catch_unwind(AssertUnwindSafe(|| (request.granted)(ticket)));
            } else if let Some(victim) = state.entries.pop_lru() {
                state.evicted += 1;
                // Dropping it may release its ticket, which takes the lock.
                drop(state);
                drop(victim);
            } else {
                break;
            }
            state = self.lock();
        }
        state.granting = false;
    }

    /// A ticket, for which there is room.
    fn issue(&self, mut state: MutexGuard<'_, State<K, V>>, bytes: u64) -> Ticket {
        state.used_bytes += bytes;
        let stock = state.stock.split(bytes);
        let left_bytes = self.capacity_bytes.saturating_sub(state.used_bytes);
        let surplus = state.stock.trim(left_bytes);
        drop(state);
        // Unmapping takes its time.
        drop(surplus);
        let home = self.this.upgrade().map(|this| this as Arc<dyn Release>);
        Ticket { bytes, stock, home }
    }

    fn lock(&self) -> MutexGuard<'_, State<K, V>> {
        // Nothing that can panic runs under the lock, so a poisoned one is still consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq + Send + 'static, V: Clone + Send + 'static> Release for Cache<K, V> {
    fn release(&self, bytes: u64, stock: Stock) {
        let mut state = self.lock();
        state.used_bytes -= bytes;
        state.stock.merge(stock);
        let left_bytes = self.capacity_bytes.saturating_sub(state.used_bytes);
        let surplus = state.stock.trim(left_bytes);
        drop(state);
        drop(surplus);
        self.grant();
    }
}

impl Ticket {
    /// Cuts `bytes` (at most all) off into a ticket of its own.
    pub fn split(&mut self, bytes: u64) -> Ticket {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        drop(self.stock.trim(self.bytes));
        Ticket { bytes, stock: Stock::default(), home: self.home.clone() }
    }

    /// A buffer of `len` bytes, paid from this ticket with [`rounded`] bytes. It holds anything: zeros, or what an
    /// evicted entry held.
    pub fn buffer(&mut self, len: usize) -> Buffer {
        let bytes = rounded(len as u64);
        let used_before = self.stock.take(bytes);
        let ticket = self.split(bytes);
        Buffer::new(used_before, len, ticket)
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(home) = self.home.take()
            && self.bytes > 0
        {
            home.release(self.bytes, std::mem::take(&mut self.stock));
        }
    }
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticket").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl<K, V> std::fmt::Debug for Cache<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("capacity_bytes", &self.capacity_bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    type TestCache = Cache<u32, Arc<Ticket>>;

    fn take(cache: &Arc<TestCache>, bytes: u64) -> mpsc::Receiver<Ticket> {
        let (send, receive) = mpsc::channel();
        cache.request(bytes, move |ticket| drop(send.send(ticket)));
        receive
    }

    #[test]
    fn the_oldest_entries_make_room() {
        let cache = TestCache::new(100);
        for key in 0..5 {
            let ticket = take(&cache, 20).try_recv().expect("there is room");
            cache.insert(key, Arc::new(ticket));
        }
        assert!(cache.get(&0).is_some(), "entry 0 is now the youngest");
        let held = take(&cache, 40).try_recv().expect("two entries make room");
        assert_eq!((0..5).filter(|key| cache.get(key).is_some()).collect::<Vec<_>>(), [0, 3, 4]);
        assert_eq!(cache.usage().used_bytes, 100);
        drop(held);
        assert_eq!(cache.usage().used_bytes, 60);
    }

    #[test]
    fn requests_wait_their_turn_and_are_granted_when_readers_let_go() {
        let cache = TestCache::new(100);
        cache.insert(1, Arc::new(take(&cache, 80).try_recv().expect("room")));
        let reader = cache.get(&1).expect("cached");
        let large = take(&cache, 90);
        let small = take(&cache, 10);
        assert!(large.try_recv().is_err(), "evicted, but a reader still holds it");
        assert!(small.try_recv().is_err(), "first come, first served, even where it would fit");
        drop(reader);
        let large = large.try_recv().expect("granted by the reader's release");
        assert!(small.try_recv().is_ok());
        drop(large);
        assert_eq!(cache.usage().used_bytes, 0);
    }

    #[test]
    fn an_entry_makes_room_for_a_request_that_came_while_it_was_built() {
        let cache = TestCache::new(100);
        let built = take(&cache, 60).try_recv().expect("room");
        let waiting = take(&cache, 50);
        assert!(waiting.try_recv().is_err(), "nothing to evict yet");
        cache.insert(1, Arc::new(built));
        assert!(waiting.try_recv().is_ok(), "nobody would look again");
    }

    #[test]
    fn one_who_panics_when_granted_keeps_nobody_else_from_being_granted() {
        let cache = TestCache::new(100);
        let held = take(&cache, 80).try_recv().expect("room");
        cache.request(50, |_ticket| panic!("this one is meant to panic"));
        let waiting = take(&cache, 70);
        drop(held);
        assert!(waiting.try_recv().is_ok());
        drop(waiting);
        assert_eq!(cache.usage().used_bytes, 0);
    }

    #[test]
    fn a_ticket_can_be_split_and_all_of_it_comes_back() {
        let cache = TestCache::new(100);
        let mut ticket = take(&cache, 70).try_recv().expect("room");
        let part = ticket.split(30);
        drop(ticket);
        assert_eq!(cache.usage().used_bytes, 30);
        drop(part);
        assert_eq!(cache.usage().used_bytes, 0);
    }
}
