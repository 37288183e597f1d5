//! The types that the rooms above share: what a source array is, and what it becomes in the view or a copy.

/// How chunk indices are spelled as keys below an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyEncoding {
    /// `default` puts `c` in front; `v2` does not (and spells a 0-d chunk `0`).
    pub style: KeyStyle,
    /// `/` or `.`
    pub separator: char,
}

impl KeyEncoding {
    /// The key of the chunk at `indices`, below the array.
    pub fn key(self, indices: &[u64]) -> String {
        let mut key = String::new();
        if self.style == KeyStyle::Default {
            key.push('c');
        }
        for idx in indices {
            if !key.is_empty() {
                key.push(self.separator);
            }
            key.push_str(&idx.to_string());
        }
        if key.is_empty() { "0".into() } else { key }
    }

    /// Whether a path below an array of `rank` axes is that of a folder of chunks, or (`false`) of a chunk; `None` where neither
    /// can be called that.
    pub fn is_folder(self, rank: usize, path: &str) -> Option<bool> {
        let mut parts = path.split(self.separator);
        if self.style == KeyStyle::Default && parts.next() != Some("c") {
            return None;
        }
        let is_index = |part: &str| part.parse::<u64>().is_ok_and(|idx| idx.to_string() == part);
        let n = parts.try_fold(0, |n, part| is_index(part).then_some(n + 1))?;
        // A chunk without axes is called as that of one axis is, where no `c` stands for it.
        let full = if self.style == KeyStyle::V2 { rank.max(1) } else { rank };
        match n < full {
            true => (self.separator == '/').then_some(true),
            false => (n == full).then_some(false),
        }
    }
}

/// The two chunk key encodings of Zarr v3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyStyle {
    /// `c/0/1`
    Default,
    /// `0.1`
    V2,
}

/// How a leaf chunk (an inner chunk of a sharded array, else a chunk) is turned into elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encoding {
    /// Zero or more transposes, `bytes`, then bytes-to-bytes codecs: the decoded stream is the elements,
    /// `item_bytes` each and in the store's own endianness, laid out in C order over the axes `order`.
    Linear {
        /// `order[k]` is the array axis that is k-th slowest in the encoded stream.
        order: Vec<usize>,
        /// Codec documents (JSON objects that zarrs accepts), in encoding order; decode in reverse.
        bytes_to_bytes: Vec<String>,
    },
    /// Anything else zarrs can decode: whole, to C order. Elements come out native-endian
    /// (or untouched where `data_type` is a raw type).
    Opaque {
        /// JSON of the data type under which zarrs decodes (a raw `r<bits>` wherever the codecs allow).
        data_type: String,
        /// JSON of a fill value valid for `data_type`.
        fill_value: String,
        /// Codec documents that zarrs accepts, in encoding order.
        codecs: Vec<String>,
    },
    /// Zero or more transposes, `vlen-utf8` or `vlen-bytes`, then bytes-to-bytes codecs: elements of any length, laid out
    /// in C order over the axes `order`. Only copies read these: decoded leaves differ in size.
    Variable {
        /// As in [`Encoding::Linear`].
        order: Vec<usize>,
        /// As in [`Encoding::Linear`].
        bytes_to_bytes: Vec<String>,
        /// Elements are UTF-8, else just bytes.
        is_text: bool,
    },
}

/// How the shards of a sharded source are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sharding {
    /// The index lies at the end of the shard (else at its start).
    pub index_at_end: bool,
    /// Codec documents of the index, in encoding order (that zarrs accepts).
    pub index_codecs: Vec<String>,
}

/// Everything that reading a source array takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceArray {
    /// Path of the array inside the store, no leading slash; empty for the root.
    pub path: String,
    /// Array shape, elements.
    pub shape: Vec<u64>,
    /// Shape of what one file holds: the chunk, or the shard. Lengths are at least 1.
    pub file_shape: Vec<u64>,
    /// Shape of a leaf chunk: the inner chunk where sharded, else `file_shape`.
    pub leaf_shape: Vec<u64>,
    /// Chunk key encoding of the files.
    pub key_encoding: KeyEncoding,
    /// Bytes per element; a guess where they are of any length.
    pub item_bytes: usize,
    /// One element of fill value, in the byte order of the virtual chunks.
    pub fill: Vec<u8>,
    /// Shards, where the array is sharded.
    pub sharding: Option<Sharding>,
    /// How a leaf chunk is encoded.
    pub encoding: Encoding,
}

impl SourceArray {
    /// The axes of the array in the order in which a leaf's elements are encoded, slowest first.
    pub fn order(&self) -> Vec<usize> {
        match &self.encoding {
            Encoding::Linear { order, .. } | Encoding::Variable { order, .. } => order.clone(),
            Encoding::Opaque { .. } => (0..self.shape.len()).collect(),
        }
    }

    /// Elements are UTF-8 of any length.
    pub fn is_text(&self) -> bool {
        matches!(self.encoding, Encoding::Variable { is_text: true, .. })
    }

    /// Elements are of any length.
    pub fn is_variable(&self) -> bool {
        matches!(self.encoding, Encoding::Variable { .. })
    }
}

/// An array of the view that is cut otherwise than its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualArray {
    /// Where its elements come from.
    pub source: SourceArray,
    /// Virtual chunk shape (the inner chunk where there are shards). Lengths are at least 1.
    pub chunk_shape: Vec<u64>,
    /// Virtual shard shape, a multiple of `chunk_shape`.
    pub shard_shape: Option<Vec<u64>>,
}

/// How the chunks of a copy are encoded: a transpose where `order` is not the identity, `bytes` in the source's
/// endianness, then `bytes_to_bytes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkEncoding {
    /// `order[k]` is the array axis that is k-th slowest in the encoded stream.
    pub order: Vec<usize>,
    /// Codec documents (JSON objects that zarrs accepts) of blosc, gzip, zstd and crc32c, in encoding order.
    pub bytes_to_bytes: Vec<String>,
}

/// An array of a copy that is cut otherwise than its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopiedArray {
    /// Where its elements come from, and its chunks and shards.
    pub array: VirtualArray,
    /// Chunk key encoding of the files: the source's.
    pub key_encoding: KeyEncoding,
    /// How its chunks (the inner ones where there are shards) are encoded.
    pub encoding: ChunkEncoding,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_chunks_and_of_their_folders_are_told_apart() {
        let encoding = |style, separator| KeyEncoding { style, separator };
        let (slashes, dots) = (encoding(KeyStyle::Default, '/'), encoding(KeyStyle::Default, '.'));
        let (v2, v2_dots) = (encoding(KeyStyle::V2, '/'), encoding(KeyStyle::V2, '.'));
        for (encoding, rank, path, expected) in [
            (slashes, 2, "c", Some(true)),
            (slashes, 2, "c/3", Some(true)),
            (slashes, 2, "c/3/10", Some(false)),
            (slashes, 2, "c/3/10/0", None),
            (slashes, 2, "c/03", None),
            (slashes, 2, "3/10", None),
            (slashes, 0, "c", Some(false)),
            (dots, 2, "c.3.10", Some(false)),
            (dots, 2, "c", None),
            (dots, 2, "c/3", None),
            (v2, 2, "3", Some(true)),
            (v2, 2, "3/10", Some(false)),
            (v2, 0, "0", Some(false)),
            (v2_dots, 2, "3.10", Some(false)),
            (v2_dots, 2, "3", None),
            (v2_dots, 1, "zarr.json", None),
        ] {
            assert_eq!(encoding.is_folder(rank, path), expected, "{encoding:?} {rank} {path}");
        }
    }
}
