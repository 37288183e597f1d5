//! Inode numbers. Those of virtual nodes are arithmetic, so that a view of any size needs no table; those of the
//! source's own files are derived from the source's, and remembered while the kernel does.
//!
//! A file has another number at each of its versions: what belongs to a number never changes. Chunks are numbered by slot, an
//! array and some of its versions; where an array has had more versions than a slot has room for, it gets another one.

use crate::view::Node;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The two highest bits tell the kind.
const KIND_SHIFT: u32 = 62;
const DOCUMENT: u64 = 1;
const CHUNK: u64 = 2;
const HOST: u64 = 3;
/// Of chunks, below the kind: the slot, then virtual file and version.
const CHUNK_BITS: u32 = 48;
const MAX_SLOTS: usize = 1 << (KIND_SHIFT - CHUNK_BITS);
/// Of documents: the version, below the directory.
const VERSION_BITS: u32 = 32;

/// Numbers to nodes and back.
#[derive(Debug, Default)]
pub(super) struct Inodes {
    host: Mutex<HashMap<u64, Remembered>>,
    slots: Mutex<Slots>,
}

#[derive(Debug)]
struct Remembered {
    node: Node,
    n_lookups: u64,
}

/// Which chunks have which numbers.
#[derive(Debug, Default)]
struct Slots {
    slots: Vec<Slot>,
    by_array: HashMap<(u32, u32), usize>,
}

/// Files of an array, at as many of its versions as fit beside them into a number.
#[derive(Debug, Clone, Copy)]
struct Slot {
    array: u32,
    /// The versions from this times their number on.
    page: u32,
    file_bits: u32,
}

impl Slot {
    /// Bits of the version that are in the number.
    fn version_bits(self) -> u32 {
        (CHUNK_BITS - self.file_bits).min(u32::BITS - 1)
    }
}

impl Inodes {
    /// The number of a node: the same for the same content, for ever. `end_of_files` tells below what number the files of an
    /// array lie. `None` where there are no more numbers.
    pub(super) fn number(&self, node: &Node, end_of_files: impl Fn(u32) -> u64) -> Option<u64> {
        Some(match node {
            // The root is 1.
            Node::Directory(at) => u64::from(*at) + 1,
            Node::Document { directory, version } => {
                (DOCUMENT << KIND_SHIFT) | (u64::from(*directory) << VERSION_BITS) | u64::from(*version)
            }
            Node::Chunk { array, file, version } => {
                let (slot, nth) = self.slot(*array, *version, end_of_files)?;
                let within = u64::from(*version) & ((1 << slot.version_bits()) - 1);
                (CHUNK << KIND_SHIFT) | ((nth as u64) << CHUNK_BITS) | (within << slot.file_bits) | file
            }
            Node::Host { stamp, .. } => {
                let mut hasher = DefaultHasher::new();
                if stamp.is_directory {
                    (stamp.device, stamp.inode).hash(&mut hasher);
                } else {
                    stamp.hash(&mut hasher);
                }
                (HOST << KIND_SHIFT) | (hasher.finish() & ((1 << KIND_SHIFT) - 1))
            }
        })
    }

    /// Notes that the kernel has the number of a node from a reply that it counts as a look-up.
    pub(super) fn remember(&self, number: u64, node: &Node) {
        if matches!(node, Node::Host { .. }) {
            let mut host = lock(&self.host);
            let known = host.entry(number).or_insert_with(|| Remembered { node: node.clone(), n_lookups: 0 });
            known.node = node.clone();
            known.n_lookups += 1;
        }
    }

    /// The node of a number that the kernel has; `None` where it was never given out, or forgotten.
    pub(super) fn node(&self, number: u64) -> Option<Node> {
        let below_kind = number & ((1 << KIND_SHIFT) - 1);
        match number >> KIND_SHIFT {
            CHUNK => {
                let slot = *lock(&self.slots).slots.get((below_kind >> CHUNK_BITS) as usize)?;
                let low = below_kind & ((1 << CHUNK_BITS) - 1);
                let version = (u64::from(slot.page) << slot.version_bits()) | (low >> slot.file_bits);
                let file = low & ((1 << slot.file_bits) - 1);
                Some(Node::Chunk { array: slot.array, file, version: u32::try_from(version).ok()? })
            }
            HOST => lock(&self.host).get(&number).map(|known| known.node.clone()),
            DOCUMENT => {
                let directory = u32::try_from(below_kind >> VERSION_BITS).ok()?;
                Some(Node::Document { directory, version: below_kind as u32 })
            }
            _ => Some(Node::Directory(u32::try_from(below_kind.checked_sub(1)?).ok()?)),
        }
    }

    /// The kernel drops `n_lookups` of its references.
    pub(super) fn forget(&self, number: u64, n_lookups: u64) {
        if number >> KIND_SHIFT != HOST {
            return;
        }
        let mut host = lock(&self.host);
        if let Some(known) = host.get_mut(&number) {
            known.n_lookups = known.n_lookups.saturating_sub(n_lookups);
            if known.n_lookups == 0 {
                host.remove(&number);
            }
        }
    }

    fn slot(&self, array: u32, version: u32, end_of_files: impl Fn(u32) -> u64) -> Option<(Slot, usize)> {
        let mut slots = lock(&self.slots);
        // The first slot of an array tells how many versions each has room for.
        let first = match slots.by_array.get(&(array, 0)) {
            Some(&nth) => (slots.slots[nth], nth),
            None => {
                let file_bits = u64::BITS - end_of_files(array).saturating_sub(1).leading_zeros();
                slots.add(Slot { array, page: 0, file_bits })?
            }
        };
        let page = version >> first.0.version_bits();
        match slots.by_array.get(&(array, page)) {
            Some(&nth) => Some((slots.slots[nth], nth)),
            None => slots.add(Slot { page, ..first.0 }),
        }
    }

    /// Gives the arrays of a view their slots in order, so that they are the same when it is mounted again.
    pub(super) fn prepare(&self, n_arrays: u32, end_of_files: impl Fn(u32) -> u64) {
        for array in 0..n_arrays {
            let _ = self.slot(array, 0, &end_of_files);
        }
    }
}

impl Slots {
    fn add(&mut self, slot: Slot) -> Option<(Slot, usize)> {
        let nth = self.slots.len();
        if nth == MAX_SLOTS {
            return None;
        }
        self.slots.push(slot);
        self.by_array.insert((slot.array, slot.page), nth);
        Some((slot, nth))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_virtual_nodes_are_distinct_and_lead_back() {
        let inodes = Inodes::default();
        let end_of_files = |array: u32| if array == 7 { 1 << 44 } else { 1000 };
        inodes.prepare(2, end_of_files);
        let chunk = |array, file, version| Node::Chunk { array, file, version };
        let nodes = [
            Node::Directory(0),
            Node::Directory(7),
            Node::Document { directory: 0, version: 0 },
            Node::Document { directory: 7, version: u32::MAX },
            chunk(0, 0, 0),
            chunk(0, 999, 0),
            chunk(0, 0, 1),
            chunk(0, 999, u32::MAX),
            chunk(7, (1 << 44) - 1, 0),
            chunk(7, (1 << 44) - 1, 15),
            chunk(7, (1 << 44) - 1, 16),
            chunk(7, 0, 17),
            chunk(MAX_SLOTS as u32 - 1, 3, 4),
        ];
        let number = |node| inodes.number(node, end_of_files).expect("there are enough");
        let mut numbers: Vec<u64> = nodes.iter().map(number).collect();
        assert_eq!(numbers[0], 1, "the root");
        for (node, number) in nodes.iter().zip(&numbers) {
            assert_eq!(inodes.node(*number).as_ref(), Some(node));
        }
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), nodes.len());
        let given = (0..20_000).filter(|&page| inodes.number(&chunk(7, 1, page * 16), end_of_files).is_some()).count();
        assert!(given > 16_000 && given < MAX_SLOTS, "what is used up is refused, not used twice: {given}");
    }
}
