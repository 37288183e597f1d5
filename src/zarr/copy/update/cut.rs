//! How an array of a copy is cut and encoded, as far as it can be written like that again.

use crate::zarr::array::ArrayNode;
use crate::zarr::codecs::{Endian, bytes_document};
use crate::zarr::copy::endian_of;
use crate::zarr::data_type::DataType;
use crate::zarr::json::{self, Value};
use crate::zarr::project::Stored;
use crate::zarr::stored;
use crate::zarr::types::{ChunkEncoding, CopiedArray, Encoding, Sharding, VirtualArray};

/// Codecs that give the same bytes again, however they were written.
const WRITTEN: [&str; 4] = ["blosc", "gzip", "zstd", "crc32c"];

/// An array of the source, cut and encoded as the copy has it.
#[derive(Debug, Clone)]
pub(super) struct Cut {
    pub(super) copied: CopiedArray,
    /// What the copy's document says of its axes.
    dimension_names: Vec<Option<String>>,
    /// How the copy's document spells it.
    chunk_grid: String,
    chunk_key_encoding: String,
    codecs: String,
}

impl Cut {
    /// What the document of the array says, spelled as it is in the copy.
    pub(super) fn stored(&self) -> Stored {
        Stored {
            chunk_grid: self.chunk_grid.clone(),
            chunk_key_encoding: self.chunk_key_encoding.clone(),
            codecs: self.codecs.clone(),
        }
    }

    /// Whether `node` has the same axes, by name.
    pub(super) fn has_dimensions_of(&self, node: &ArrayNode) -> bool {
        self.dimension_names == node.dimension_names && node.dimension_names.iter().all(Option::is_some)
    }
}

/// `ours` cut and encoded as `theirs`, whose document is `document`; or why it cannot be.
pub(super) fn cut_like(ours: &ArrayNode, theirs: &ArrayNode, document: &Value<'_>) -> Result<Cut, String> {
    let (source, serializer) = ours.cut(true)?;
    let (target, their_serializer) =
        theirs.cut(true).map_err(|why| format!("the copy's chunks cannot be written: {why}"))?;
    if serializer != their_serializer {
        let order = |document: &str| endian_of(document).map_or("without a byte order", Endian::name);
        return Err(format!(
            "its elements are {} in the source, {} in the copy",
            order(serializer),
            order(their_serializer)
        ));
    }
    if target.sharding.as_ref().is_some_and(|sharding| !is_written(sharding)) {
        return Err("its shards in the copy have an index that is not at their end under a checksum".to_owned());
    }
    let (order, bytes_to_bytes) = match &target.encoding {
        Encoding::Linear { order, bytes_to_bytes } | Encoding::Variable { order, bytes_to_bytes, .. } => {
            (order.clone(), bytes_to_bytes.clone())
        }
        Encoding::Opaque { .. } => {
            return Err(format!("its codecs in the copy, {}, are none of copies", theirs.codecs.join(", ")));
        }
    };
    let is_foreign = |codec: &&String| {
        let name = json::parse(codec).ok().and_then(|codec| codec.extension_name());
        !name.is_some_and(|name| WRITTEN.contains(&name.as_str()))
    };
    if let Some(codec) = bytes_to_bytes.iter().find(is_foreign) {
        return Err(format!("its codec in the copy, {codec}, is none of copies"));
    }
    let array = VirtualArray {
        source: source.clone(),
        chunk_shape: target.leaf_shape.clone(),
        shard_shape: target.sharding.as_ref().map(|_| target.file_shape.clone()),
    };
    let text = |key: &str| document.get(key).map_or("null", Value::text).to_owned();
    Ok(Cut {
        copied: CopiedArray {
            array,
            key_encoding: target.key_encoding,
            encoding: ChunkEncoding { order, bytes_to_bytes },
        },
        dimension_names: ours.dimension_names.clone(),
        chunk_grid: text("chunk_grid"),
        chunk_key_encoding: text("chunk_key_encoding"),
        codecs: text("codecs"),
    })
}

/// Whether shards of copies have such an index.
fn is_written(sharding: &Sharding) -> bool {
    let index_codecs = [bytes_document(Some(Endian::Little)), r#"{"name":"crc32c"}"#.to_owned()];
    sharding.index_at_end && sharding.index_codecs == index_codecs
}

/// In what the elements of two arrays are of different kinds, so that none of the chunks of one can be of use to the other.
pub(super) fn other_elements(
    (ours, our_document): (&ArrayNode, &Value<'_>),
    (theirs, their_document): (&ArrayNode, &Value<'_>),
) -> Option<&'static str> {
    if ours.shape.len() != theirs.shape.len() {
        return Some("number of axes");
    }
    let types = (our_document.get("data_type"), their_document.get("data_type"));
    if !stored::is_same_extension(types.0, types.1) {
        return Some("data type");
    }
    let is_same_fill = match (fill(ours), fill(theirs)) {
        (Some(ours), Some(theirs)) => ours == theirs,
        _ => match (our_document.get("fill_value"), their_document.get("fill_value")) {
            (Some(ours), Some(theirs)) => json::same(ours, theirs),
            (ours, theirs) => ours.is_none() && theirs.is_none(),
        },
    };
    (!is_same_fill).then_some("fill value")
}

/// The bits of the fill value, little-endian.
fn fill(node: &ArrayNode) -> Option<Vec<u8>> {
    let swapped = |data_type: &DataType, fill: &[u8]| {
        let mut fill = fill.to_vec();
        data_type.swap(&mut fill);
        fill
    };
    match (&node.readable, &node.strings) {
        (Ok(array), _) if array.endian == Some(Endian::Big) => Some(swapped(&array.data_type, &array.source.fill)),
        (Ok(array), _) => Some(array.source.fill.clone()),
        (Err(_), Some(Ok(strings))) => Some(strings.source.fill.clone()),
        _ => None,
    }
}
