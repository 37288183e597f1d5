//! What a layout has come to: lengths become numbers once, and stay so while a view is shown.

use super::array::ArrayNode;
use super::types::VirtualArray;
use std::collections::BTreeMap;

/// Chunk shape, and shard shape where there are shards.
type Shapes = (Vec<u64>, Option<Vec<u64>>);

/// Lengths that are settled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settled {
    /// By array path.
    shapes: BTreeMap<String, Shapes>,
    /// What `full` is, by dimension name.
    full: BTreeMap<String, u64>,
}

impl Settled {
    /// The shapes of an array's chunks and shards, if they are settled and still fit it.
    pub(super) fn shapes(&self, array: &ArrayNode) -> Option<Shapes> {
        self.shapes.get(&array.path).filter(|(chunk_shape, _)| chunk_shape.len() == array.shape.len()).cloned()
    }

    /// What `full` is on an axis: where that is not settled, the length that it has.
    pub(super) fn full(&self, array: &ArrayNode, axis: usize) -> u64 {
        let settled = array.dimension_names.get(axis).and_then(|name| self.full.get(name.as_ref()?));
        settled.or(array.shape.get(axis)).copied().unwrap_or(1)
    }

    /// Settles the lengths of `arrays`, which were made of `nodes`, where they were not before.
    pub(super) fn add(&mut self, nodes: &[ArrayNode], arrays: &[VirtualArray]) {
        for array in arrays {
            let Some(node) = nodes.iter().find(|node| node.path == array.source.path) else { continue };
            for (axis, name) in node.dimension_names.iter().enumerate() {
                if let Some(name) = name {
                    let full = self.full(node, axis);
                    self.full.insert(name.clone(), full);
                }
            }
            self.shapes.insert(node.path.clone(), (array.chunk_shape.clone(), array.shard_shape.clone()));
        }
    }
}
