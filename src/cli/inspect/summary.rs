//! What `inspect` tells of an array, taken from the documents: the one place here that knows their types.

use rechunkfs::zarr::ArrayNode;

/// One array.
pub(crate) struct ArraySummary {
    pub(crate) path: String,
    pub(crate) shape: Vec<u64>,
    pub(crate) dimensions: Vec<Option<String>>,
    pub(crate) data_type: String,
    pub(crate) codecs: Vec<String>,
    /// None where the array cannot be rechunked, hence its chunks are not known.
    pub(crate) cut: Option<Cut>,
    /// Why it cannot be rechunked.
    pub(crate) reason: Option<String>,
}

/// How an array is cut.
pub(crate) struct Cut {
    /// The inner chunks, where there are shards.
    pub(crate) chunks: Vec<u64>,
    pub(crate) shards: Option<Vec<u64>>,
}

impl From<ArrayNode> for ArraySummary {
    fn from(node: ArrayNode) -> Self {
        let (cut, reason) = match node.readable {
            Ok(readable) => {
                let source = readable.source;
                let shards = source.sharding.map(|_| source.file_shape);
                (Some(Cut { chunks: source.leaf_shape, shards }), None)
            }
            Err(reason) => (None, Some(reason)),
        };
        Self {
            path: node.path,
            shape: node.shape,
            dimensions: node.dimension_names,
            data_type: node.data_type,
            codecs: node.codecs,
            cut,
            reason,
        }
    }
}

impl ArraySummary {
    /// How many chunk files, or shards, a full array has.
    pub(crate) fn files_expected(&self) -> Option<u64> {
        let cut = self.cut.as_ref()?;
        let file = cut.shards.as_ref().unwrap_or(&cut.chunks);
        let counts = self.shape.iter().zip(file).map(|(&length, &file)| length.div_ceil(file.max(1)));
        Some(counts.fold(1, u64::saturating_mul))
    }
}
