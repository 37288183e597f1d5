//! `sharding_indexed`: what a shard holds, and how its index is read.

use super::array_codecs;
use super::byte_codecs;
use crate::zarr::data_type::{DataType, ItemLayout};
use crate::zarr::json::Value;
use crate::zarr::splice;
use crate::zarr::types::Sharding;

/// A shard, as `sharding_indexed` describes it.
pub(super) struct Shard<'v, 't> {
    pub(super) chunk_shape: Vec<u64>,
    pub(super) codecs: &'v [Value<'t>],
    pub(super) sharding: Sharding,
}

/// Reads `sharding_indexed` on chunks (or outer shards) of `shape`.
pub(super) fn read<'v, 't>(codec: &'v Value<'t>, shape: &[u64]) -> Result<Shard<'v, 't>, String> {
    let unreadable = |key: &str| format!("codec sharding_indexed has an unreadable {key}");
    let chunk_shape =
        codec.configured("chunk_shape").and_then(Value::as_lengths).ok_or_else(|| unreadable("chunk_shape"))?;
    let chunk_shape: Vec<u64> = chunk_shape.into_iter().map(|length| length.max(1)).collect();
    let divides =
        chunk_shape.len() == shape.len() && chunk_shape.iter().zip(shape).all(|(inner, outer)| outer % inner == 0);
    if !divides {
        return Err(format!("codec sharding_indexed: chunks {chunk_shape:?} do not divide shards {shape:?}"));
    }
    let codecs = codec.configured("codecs").and_then(Value::elements).ok_or_else(|| unreadable("codecs"))?;
    let index_codecs =
        codec.configured("index_codecs").and_then(Value::elements).ok_or_else(|| unreadable("index_codecs"))?;
    let index_at_end = match codec.configured("index_location").map(Value::string) {
        None | Some(None) => true,
        Some(Some(place)) if place == "end" => true,
        Some(Some(place)) if place == "start" => false,
        Some(Some(_)) => return Err(unreadable("index_location")),
    };
    let index_codecs = read_index_codecs(index_codecs)?;
    Ok(Shard { chunk_shape, codecs, sharding: Sharding { index_at_end, index_codecs } })
}

/// The index must have a known size: `bytes`, then checksums.
fn read_index_codecs(codecs: &[Value<'_>]) -> Result<Vec<String>, String> {
    let refused = || "codec sharding_indexed has an index that is not plain bytes with checksums".to_owned();
    let (bytes, checksums) =
        codecs.split_first().filter(|(first, _)| array_codecs::is_bytes(first)).ok_or_else(refused)?;
    let index_type =
        DataType { name: "uint64".to_owned(), layout: ItemLayout::Integer { bytes: 8, signed: false, bits: 64 } };
    let mut documents = vec![array_codecs::bytes_document(array_codecs::endian(bytes, &index_type)?)];
    for checksum in checksums {
        if !array_codecs::is_named(
            checksum,
            &["crc32c", "numcodecs.crc32c", "numcodecs.adler32", "numcodecs.fletcher32"],
        ) {
            return Err(refused());
        }
        documents.push(byte_codecs::normalise(checksum, 8)?);
    }
    Ok(documents)
}

/// `sharding_indexed` as zarrs takes it.
pub(super) fn document(codec: &Value<'_>, shape: &[u64], data_type: &DataType, raw: bool) -> Result<String, String> {
    let shard = read(codec, shape)?;
    let codecs = array_codecs::documents(shard.codecs, &shard.chunk_shape, data_type, raw)?;
    Ok(format!(
        r#"{{"name":"sharding_indexed","configuration":{{"chunk_shape":{},"codecs":[{}],"index_codecs":[{}],"index_location":"{}"}}}}"#,
        splice::lengths(&shard.chunk_shape),
        codecs.join(","),
        shard.sharding.index_codecs.join(","),
        if shard.sharding.index_at_end { "end" } else { "start" },
    ))
}
