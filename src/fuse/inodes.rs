//! Inode numbers. Those of virtual nodes are arithmetic, so that a view of any size needs no table; those of the
//! source's own files are derived from the source's, and remembered while the kernel does.

use crate::view::Node;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The two highest bits tell the kind.
const KIND_SHIFT: u32 = 62;
const CHUNK: u64 = 2;
const HOST: u64 = 3;
/// Below the kind: the array, then the virtual file.
const FILE_BITS: u32 = 48;
const ARRAY_BITS: u32 = KIND_SHIFT - FILE_BITS;

/// Rechunked arrays that can be numbered.
pub(super) const MAX_ARRAYS: u64 = 1 << ARRAY_BITS;

/// Numbers to nodes and back.
#[derive(Debug, Default)]
pub(super) struct Inodes {
    host: Mutex<HashMap<u64, Remembered>>,
}

#[derive(Debug)]
struct Remembered {
    node: Node,
    n_lookups: u64,
}

impl Inodes {
    /// The number of a node: the same for the same content, for ever.
    pub(super) fn number(&self, node: &Node) -> u64 {
        match node {
            // The root is 1.
            Node::Directory(at) => 2 * u64::from(*at) + 1,
            Node::Document(at) => 2 * u64::from(*at) + 2,
            Node::Chunk { array, file } => {
                debug_assert!(u64::from(*array) < MAX_ARRAYS && *file < 1 << FILE_BITS);
                (CHUNK << KIND_SHIFT) | (u64::from(*array) << FILE_BITS) | file
            }
            Node::Host { stamp, .. } => {
                let mut hasher = DefaultHasher::new();
                (stamp.device, stamp.inode).hash(&mut hasher);
                (HOST << KIND_SHIFT) | (hasher.finish() & ((1 << KIND_SHIFT) - 1))
            }
        }
    }

    /// The number of a node, for a reply that the kernel counts as a look-up.
    pub(super) fn remember(&self, node: &Node) -> u64 {
        let number = self.number(node);
        if matches!(node, Node::Host { .. }) {
            let mut host = self.lock();
            let known = host.entry(number).or_insert_with(|| Remembered { node: node.clone(), n_lookups: 0 });
            known.node = node.clone();
            known.n_lookups += 1;
        }
        number
    }

    /// Replaces what is remembered under `number` by its present state.
    pub(super) fn renew(&self, number: u64, node: &Node) {
        if let Some(known) = self.lock().get_mut(&number) {
            known.node = node.clone();
        }
    }

    /// The node of a number that the kernel has; `None` where it was never given out, or forgotten.
    pub(super) fn node(&self, number: u64) -> Option<Node> {
        match number >> KIND_SHIFT {
            CHUNK => {
                let array = ((number >> FILE_BITS) & (MAX_ARRAYS - 1)) as u32;
                Some(Node::Chunk { array, file: number & ((1 << FILE_BITS) - 1) })
            }
            HOST => self.lock().get(&number).map(|known| known.node.clone()),
            _ if number == 0 => None,
            _ if number % 2 == 1 => Some(Node::Directory((number / 2) as u32)),
            _ => Some(Node::Document((number / 2 - 1) as u32)),
        }
    }

    /// The kernel drops `n_lookups` of its references.
    pub(super) fn forget(&self, number: u64, n_lookups: u64) {
        if number >> KIND_SHIFT != HOST {
            return;
        }
        let mut host = self.lock();
        if let Some(known) = host.get_mut(&number) {
            known.n_lookups = known.n_lookups.saturating_sub(n_lookups);
            if known.n_lookups == 0 {
                host.remove(&number);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Remembered>> {
        self.host.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_virtual_nodes_are_distinct_and_lead_back() {
        let inodes = Inodes::default();
        let nodes = [
            Node::Directory(0),
            Node::Directory(7),
            Node::Document(0),
            Node::Document(7),
            Node::Chunk { array: 0, file: 0 },
            Node::Chunk { array: MAX_ARRAYS as u32 - 1, file: (1 << FILE_BITS) - 1 },
        ];
        let mut numbers: Vec<u64> = nodes.iter().map(|node| inodes.number(node)).collect();
        assert_eq!(numbers[0], 1, "the root");
        for (node, number) in nodes.iter().zip(&numbers) {
            assert_eq!(inodes.node(*number).as_ref(), Some(node));
        }
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), nodes.len());
    }
}
