//! Codec chains of the source, sorted by how they are read.
//!
//! A chain of transposes, `bytes` and compressors can be entered midway ([`Encoding::Linear`]); any other that is
//! known is decoded whole ([`Encoding::Opaque`]). The spellings that zarr-python accepts and zarrs refuses are put
//! right here. Codecs serve for decoding first, so what only steers compression is filled in where it is missing.

mod array_codecs;
mod byte_codecs;
mod sharding;

use super::data_type::DataType;
use super::json::Value;
use super::types::{Encoding, Sharding};
use array_codecs::Step;

pub(crate) use array_codecs::bytes_document;
pub(crate) use byte_codecs::MAX_BLOSC_BLOCK;

/// Byte order of multi-byte elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endian {
    /// Least significant byte first.
    Little,
    /// Most significant byte first.
    Big,
}

impl Endian {
    /// The byte order of this machine, in which zarrs hands out elements.
    pub const NATIVE: Endian = if cfg!(target_endian = "big") { Endian::Big } else { Endian::Little };

    /// Its name in zarr.json.
    pub fn name(self) -> &'static str {
        match self {
            Endian::Little => "little",
            Endian::Big => "big",
        }
    }
}

/// What the codecs are applied to.
#[derive(Debug, Clone, Copy)]
pub struct Elements<'a> {
    /// Their type.
    pub data_type: &'a DataType,
    /// One element of fill value, little-endian.
    pub fill: &'a [u8],
}

/// How the files of an array are encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// How a leaf chunk is encoded.
    pub encoding: Encoding,
    /// Shards, where the array is sharded.
    pub sharding: Option<Sharding>,
    /// Shape of a leaf chunk.
    pub leaf_shape: Vec<u64>,
    /// Byte order of the elements once decoded; `None` for types that have none.
    pub endian: Option<Endian>,
}

/// Sorts the codecs of an array whose files hold `file_shape` elements (lengths at least 1).
///
/// # Errors
/// One line that names the codec which cannot be decoded.
pub fn classify(codecs: &[Value<'_>], file_shape: &[u64], elements: Elements<'_>) -> Result<Chain, String> {
    let Leaf { codecs: codecs_of_leaf, shape: leaf_shape, sharding } = leaf(codecs, file_shape)?;
    let (encoding, endian) = match linear(codecs_of_leaf, &leaf_shape, elements) {
        Some(linear) => linear,
        None => opaque(codecs_of_leaf, &leaf_shape, elements)?,
    };
    Ok(Chain { encoding, sharding, leaf_shape, endian })
}

/// The codec that turns elements of any length into bytes.
pub fn variable_codec(is_text: bool) -> &'static str {
    if is_text { "vlen-utf8" } else { "vlen-bytes" }
}

/// The same for elements of any length.
///
/// # Errors
/// One line that names the codec which cannot be decoded.
pub fn classify_variable(codecs: &[Value<'_>], file_shape: &[u64], is_text: bool) -> Result<Chain, String> {
    let Leaf { codecs, shape: leaf_shape, sharding } = leaf(codecs, file_shape)?;
    let mut order: Vec<usize> = (0..leaf_shape.len()).collect();
    let mut rest = codecs.iter();
    for codec in rest.by_ref() {
        if array_codecs::is_named(codec, &[variable_codec(is_text)]) {
            let bytes_to_bytes = rest.map(|codec| byte_codecs::normalise(codec, 1)).collect::<Result<_, _>>()?;
            let encoding = Encoding::Variable { order, bytes_to_bytes, is_text };
            return Ok(Chain { encoding, sharding, leaf_shape, endian: None });
        }
        let axes = array_codecs::read_transpose(codec, order.len())?;
        order = axes.iter().filter_map(|axis| order.get(*axis).copied()).collect();
    }
    Err("no codec turns the array into bytes".to_owned())
}

/// The leaves of an array.
struct Leaf<'v, 't> {
    codecs: &'v [Value<'t>],
    shape: Vec<u64>,
    /// The shards that they lie in.
    sharding: Option<Sharding>,
}

fn leaf<'v, 't>(codecs: &'v [Value<'t>], file_shape: &[u64]) -> Result<Leaf<'v, 't>, String> {
    match codecs {
        [only] if only.extension_name().as_deref() == Some("sharding_indexed") => {
            let shard = sharding::read(only, file_shape)?;
            Ok(Leaf { codecs: shard.codecs, shape: shard.chunk_shape, sharding: Some(shard.sharding) })
        }
        _ => Ok(Leaf { codecs, shape: file_shape.to_vec(), sharding: None }),
    }
}

/// The chain as transposes, `bytes`, and codecs on bytes, if it is that.
fn linear(codecs: &[Value<'_>], shape: &[u64], elements: Elements<'_>) -> Option<(Encoding, Option<Endian>)> {
    let item_bytes = elements.data_type.item_bytes();
    let at_bytes = codecs.iter().position(array_codecs::is_bytes)?;
    let (before, rest) = codecs.split_at(at_bytes);
    let (bytes, after) = rest.split_first()?;
    let mut order: Vec<usize> = (0..shape.len()).collect();
    for codec in before {
        match array_codecs::read_step(codec, order.len(), elements.data_type).ok()? {
            Step::Transpose(axes) => order = axes.iter().filter_map(|axis| order.get(*axis).copied()).collect(),
            Step::Identity => {}
            Step::Codec { .. } => return None,
        }
    }
    let endian = array_codecs::endian(bytes, elements.data_type).ok()?;
    let bytes_to_bytes: Option<Vec<String>> =
        after.iter().map(|codec| byte_codecs::normalise(codec, item_bytes).ok()).collect();
    Some((Encoding::Linear { order, bytes_to_bytes: bytes_to_bytes? }, endian))
}

/// The chain as zarrs takes it.
fn opaque(codecs: &[Value<'_>], shape: &[u64], elements: Elements<'_>) -> Result<(Encoding, Option<Endian>), String> {
    let raw = !array_codecs::needs_type(codecs);
    let documents = array_codecs::documents(codecs, shape, elements.data_type, raw)?;
    // A raw type keeps zarrs from swapping, and carries the types that it cannot name.
    let (data_type, fill_value, endian) = if raw {
        let endian = array_codecs::innermost_endian(codecs, elements.data_type)?;
        let mut fill = elements.fill.to_vec();
        if endian == Some(Endian::Big) {
            elements.data_type.swap(&mut fill);
        }
        let numbers: Vec<String> = fill.iter().map(u8::to_string).collect();
        (format!("\"r{}\"", 8 * fill.len()), format!("[{}]", numbers.join(",")), endian)
    } else {
        let (data_type, fill_value) = array_codecs::named_type(elements)?;
        (data_type, fill_value, elements.data_type.has_endianness().then_some(Endian::NATIVE))
    };
    Ok((Encoding::Opaque { data_type, fill_value, codecs: documents }, endian))
}

#[cfg(test)]
mod tests;
