//! Filters and compressors of v2 as codecs of v3, in encoding order.

use super::dtype::Dtype;
use crate::zarr::codecs::{Endian, bytes_document};
use crate::zarr::json::Value;
use crate::zarr::splice::{self, Edit};

/// Filters that take arrays to arrays, by numcodecs' names.
const ON_ARRAYS: &[&str] = &["delta", "fixedscaleoffset", "quantize", "bitround", "astype"];

/// Filters that take bytes to bytes.
const ON_BYTES: &[&str] = &[
    "shuffle",
    "fletcher32",
    "adler32",
    "crc32",
    "crc32c",
    "jenkins_lookup3",
    "zlib",
    "gzip",
    "bz2",
    "lzma",
    "zstd",
    "blosc",
    "lz4",
];

/// Compressors that take arrays to bytes.
const TO_BYTES: &[&str] = &["pcodec", "zfpy"];

/// The codecs of v3. `fortran_rank` is the number of axes of an array in Fortran order.
pub(super) fn codecs(
    dtype: &Dtype,
    fortran_rank: Option<usize>,
    filters: &[Value<'_>],
    compressor: Option<&Value<'_>>,
) -> Result<Vec<String>, String> {
    let mut codecs = Vec::new();
    if let Some(rank) = fortran_rank.filter(|rank| *rank > 1) {
        let order: Vec<u64> = (0..rank as u64).rev().collect();
        codecs.push(format!(r#"{{"name": "transpose", "configuration": {{"order": {}}}}}"#, splice::lengths(&order)));
    }
    // The filter that makes |O into bytes is the serializer itself.
    let filters = if dtype.serializer.is_some() { filters.get(1..).unwrap_or_default() } else { filters };
    let mut endian = dtype.endian;
    let mut is_bytes = false;
    for codec in filters.iter().chain(compressor) {
        let id = codec.get("id").and_then(Value::string).ok_or_else(|| format!("the codec {}", codec.brief()))?;
        if ON_ARRAYS.contains(&id.as_str()) && !is_bytes && dtype.serializer.is_none() {
            endian = encoded_endian(codec).or(endian);
            codecs.push(numcodecs(&id, codec)?);
        } else if TO_BYTES.contains(&id.as_str()) && !is_bytes && dtype.serializer.is_none() {
            is_bytes = true;
            codecs.push(numcodecs(&id, codec)?);
        } else if ON_BYTES.contains(&id.as_str()) {
            if !is_bytes {
                is_bytes = true;
                codecs.push(serializer(dtype, endian));
            }
            codecs.push(on_bytes(&id, codec, dtype)?);
        } else {
            return Err(format!("the codec {id}{}", if is_bytes { " after codecs on bytes" } else { "" }));
        }
    }
    if !is_bytes {
        codecs.push(serializer(dtype, endian));
    }
    Ok(codecs)
}

fn serializer(dtype: &Dtype, endian: Option<Endian>) -> String {
    match dtype.serializer {
        Some(name) => format!(r#"{{"name": "{name}"}}"#),
        None => bytes_document(endian),
    }
}

/// The byte order of what a filter writes, where it says so.
fn encoded_endian(codec: &Value<'_>) -> Option<Endian> {
    let written = ["astype", "encode_dtype"].iter().find_map(|key| codec.get(key)?.string())?;
    match written.chars().next()? {
        '>' => Some(Endian::Big),
        '<' => Some(Endian::Little),
        _ => None,
    }
}

/// A codec that v3 knows under numcodecs' name, with its configuration as it is.
fn numcodecs(id: &str, codec: &Value<'_>) -> Result<String, String> {
    let configuration = splice::edit_object(codec.text(), &[("id", Edit::Remove)]);
    let configuration = configuration.map_err(|_| format!("the codec {}", codec.brief()))?;
    Ok(format!(r#"{{"name": "numcodecs.{id}", "configuration": {configuration}}}"#))
}

fn on_bytes(id: &str, codec: &Value<'_>, dtype: &Dtype) -> Result<String, String> {
    let integer = |key: &str, default: i128| codec.get(key).and_then(Value::as_integer).unwrap_or(default);
    match id {
        "gzip" => {
            let level = integer("level", 1).clamp(0, 9);
            Ok(format!(r#"{{"name": "gzip", "configuration": {{"level": {level}}}}}"#))
        }
        "zstd" => {
            let level = integer("level", 0).clamp(-131_072, 22);
            let checksum = codec.get("checksum").is_some_and(|value| value.text() == "true");
            Ok(format!(r#"{{"name": "zstd", "configuration": {{"level": {level}, "checksum": {checksum}}}}}"#))
        }
        "blosc" => Ok(blosc(codec, dtype.item_bytes.unwrap_or(1))),
        _ => numcodecs(id, codec),
    }
}

/// v3 spells the shuffle, and the size of what it shuffles.
fn blosc(codec: &Value<'_>, item_bytes: usize) -> String {
    let integer = |key: &str, default: i128| codec.get(key).and_then(Value::as_integer).unwrap_or(default);
    let cname = codec.get("cname").and_then(Value::string).unwrap_or_else(|| "lz4".to_owned());
    let shuffle = match integer("shuffle", 1) {
        0 => "noshuffle",
        2 => "bitshuffle",
        -1 if item_bytes == 1 => "bitshuffle",
        _ => "shuffle",
    };
    format!(
        r#"{{"name": "blosc", "configuration": {{"typesize": {}, "cname": {}, "clevel": {}, "shuffle": "{shuffle}", "blocksize": {}}}}}"#,
        item_bytes.clamp(1, 255),
        splice::quote(&cname),
        integer("clevel", 5).clamp(0, 9),
        integer("blocksize", 0).max(0),
    )
}
