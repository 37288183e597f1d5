//! The documents of a store as they were read: pure data, filled by the source room.

use std::collections::BTreeMap;

/// The name of every metadata document of Zarr v3.
pub const DOCUMENT: &str = "zarr.json";
/// Zarr v2 documents: a v2 source is shown as v3, and a reader that finds both would take chunks for what they are not.
pub const V2_DOCUMENTS: [&str; 4] = [".zarray", ".zgroup", ".zattrs", ".zmetadata"];

/// All nodes of a store, by path inside it: no leading slash, the root is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hierarchy {
    /// The documents of each node.
    pub nodes: BTreeMap<String, NodeDocs>,
}

/// One document and when it was last modified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its text.
    pub text: String,
    /// Modification time, nanoseconds since 1970.
    pub mtime_ns: i128,
}

/// The documents of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeDocs {
    /// `zarr.json`; documents of Zarr v2 beside it do not count.
    V3(Document),
    /// `.zarray` and perhaps `.zattrs`.
    V2Array {
        /// `.zarray`
        array: Document,
        /// `.zattrs`
        attributes: Option<Document>,
    },
    /// `.zgroup` and perhaps `.zattrs`.
    V2Group {
        /// `.zgroup`
        group: Document,
        /// `.zattrs`
        attributes: Option<Document>,
    },
}

impl NodeDocs {
    /// When the newest of its documents was modified, nanoseconds since 1970.
    pub fn mtime_ns(&self) -> i128 {
        match self {
            NodeDocs::V3(document) => document.mtime_ns,
            NodeDocs::V2Array { array: document, attributes } | NodeDocs::V2Group { group: document, attributes } => {
                attributes.as_ref().map_or(document.mtime_ns, |a| a.mtime_ns.max(document.mtime_ns))
            }
        }
    }
}

impl Hierarchy {
    /// The newest modification at or below the node `path`: a consolidated copy is as new as what it copies.
    pub fn mtime_ns_below(&self, path: &str) -> Option<i128> {
        self.nodes.iter().filter(|(key, _)| *key == path || below(key, path).is_some()).map(|(_, n)| n.mtime_ns()).max()
    }
}

/// The part of `path` below the node `ancestor`, if it lies there.
pub fn below<'p>(path: &'p str, ancestor: &str) -> Option<&'p str> {
    match ancestor {
        "" => (!path.is_empty()).then_some(path),
        _ => path.strip_prefix(ancestor)?.strip_prefix('/'),
    }
}
