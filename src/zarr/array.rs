//! Zarr v3 array documents: what the view and the layout need to know of a source array.

mod strings;

use super::codecs::{self, Elements, Endian};
use super::data_type::{self, DataType};
use super::fill;
use super::json::{Kind, Value};
use super::types::{KeyEncoding, KeyStyle, SourceArray};

/// Members that an array document may have; any other must say that it need not be understood.
const KNOWN_MEMBERS: &[&str] = &[
    "zarr_format",
    "node_type",
    "shape",
    "data_type",
    "chunk_grid",
    "chunk_key_encoding",
    "fill_value",
    "codecs",
    "attributes",
    "storage_transformers",
    "dimension_names",
];

/// A source array as its document describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct ArrayNode {
    /// Path inside the store, no leading slash; empty for the root.
    pub path: String,
    /// Array shape, elements.
    pub shape: Vec<u64>,
    /// A name for each axis that has one.
    pub dimension_names: Vec<Option<String>>,
    /// Name of the data type.
    pub data_type: String,
    /// Names of the codecs, in encoding order; those inside shards follow theirs in brackets.
    pub codecs: Vec<String>,
    /// How it is read, or one line why it cannot be rechunked.
    pub readable: Result<Readable, String>,
    /// Of arrays whose elements are of any length, which `readable` refuses: how a copy reads it, or why it cannot.
    pub strings: Option<Result<Strings, String>>,
}

/// A source array of strings or bytes of any length, which a copy can rechunk.
#[derive(Debug, Clone, PartialEq)]
pub struct Strings {
    /// How its elements are read.
    pub source: SourceArray,
    /// The document of the codec that turns its elements into bytes.
    pub codec: String,
}

impl ArrayNode {
    /// How its elements are read, and the codec that turns them into bytes; those of any length only `with_strings`. Else
    /// why it cannot be rechunked.
    pub(super) fn cut(&self, with_strings: bool) -> Result<(&SourceArray, &str), &str> {
        match (&self.readable, &self.strings) {
            (Ok(readable), _) => Ok((&readable.source, &readable.virtual_codec)),
            (Err(_), Some(Ok(strings))) if with_strings => Ok((&strings.source, &strings.codec)),
            (Err(_), Some(Err(reason))) if with_strings => Err(reason),
            (Err(reason), _) => Err(reason),
        }
    }
}

/// A source array that can be rechunked.
#[derive(Debug, Clone, PartialEq)]
pub struct Readable {
    /// How its elements are read.
    pub source: SourceArray,
    /// The document of the `bytes` codec of its virtual chunks.
    pub virtual_codec: String,
    /// What its elements are.
    pub data_type: DataType,
    /// Byte order of its elements once decoded; `None` for types that have none.
    pub endian: Option<Endian>,
}

/// Reads an array document.
///
/// # Errors
/// One line, when the document is no array document at all; an array that merely cannot be rechunked is not an error.
pub fn read(path: &str, document: &Value<'_>) -> Result<ArrayNode, String> {
    let shape = document.get("shape").and_then(Value::as_lengths).ok_or("it has no readable shape")?;
    let dimension_names = match document.get("dimension_names").and_then(Value::elements) {
        Some(names) if names.len() == shape.len() => names.iter().map(Value::string).collect(),
        Some(names) => {
            return Err(format!("it has {} axes and {} dimension names", shape.len(), names.len()));
        }
        None => vec![None; shape.len()],
    };
    let named = |key| document.get(key).and_then(Value::extension_name);
    Ok(ArrayNode {
        path: path.to_owned(),
        readable: readable(path, document, &shape),
        strings: strings::read(path, document, &shape),
        shape,
        dimension_names,
        data_type: named("data_type").unwrap_or_else(|| "unknown".to_owned()),
        codecs: codec_names(document.get("codecs")),
    })
}

fn codec_names(codecs: Option<&Value<'_>>) -> Vec<String> {
    let codecs = codecs.and_then(Value::elements).unwrap_or_default();
    let describe = |codec: &Value<'_>| {
        let name = codec.extension_name().unwrap_or_else(|| "unknown".to_owned());
        match codec.configured("codecs") {
            Some(inner) => format!("{name}[{}]", codec_names(Some(inner)).join(", ")),
            None => name,
        }
    };
    codecs.iter().map(describe).collect()
}

/// Nothing in the document may ask for what we do not know.
fn check_members(document: &Value<'_>) -> Result<(), String> {
    for member in document.members() {
        let optional = member.value.get("must_understand").is_some_and(|value| value.kind == Kind::Bool(false));
        if !KNOWN_MEMBERS.contains(&member.key.as_str()) && !optional {
            return Err(format!("its zarr.json has the unknown member {:?}", member.key));
        }
    }
    if document.get("storage_transformers").and_then(Value::elements).is_some_and(|list| !list.is_empty()) {
        return Err("its storage_transformers are not supported".to_owned());
    }
    Ok(())
}

fn readable(path: &str, document: &Value<'_>, shape: &[u64]) -> Result<Readable, String> {
    check_members(document)?;
    let data_type = data_type::parse(document.get("data_type").ok_or("it has no data_type")?)?;
    let fill_value = document.get("fill_value").ok_or("it has no fill_value")?;
    let mut fill = fill::parse(fill_value, &data_type)?;
    let file_shape = regular_grid(document.get("chunk_grid").ok_or("it has no chunk_grid")?, shape)?;
    let key_encoding = key_encoding(document.get("chunk_key_encoding").ok_or("it has no chunk_key_encoding")?)?;
    let list = document.get("codecs").and_then(Value::elements).ok_or("it has no list of codecs")?;
    let chain = codecs::classify(list, &file_shape, Elements { data_type: &data_type, fill: &fill })?;
    if chain.endian == Some(Endian::Big) {
        data_type.swap(&mut fill);
    }
    let source = SourceArray {
        path: path.to_owned(),
        shape: shape.to_vec(),
        file_shape,
        leaf_shape: chain.leaf_shape,
        key_encoding,
        item_bytes: data_type.item_bytes(),
        fill,
        sharding: chain.sharding,
        encoding: chain.encoding,
    };
    Ok(Readable { source, virtual_codec: codecs::bytes_document(chain.endian), data_type, endian: chain.endian })
}

/// The chunk shape of a regular grid.
fn regular_grid(grid: &Value<'_>, shape: &[u64]) -> Result<Vec<u64>, String> {
    let name = grid.extension_name().ok_or("its chunk_grid has no name")?;
    if name != "regular" {
        return Err(format!("its chunk grid is {name}, not regular"));
    }
    let chunk_shape = grid.configured("chunk_shape").and_then(Value::as_lengths);
    let chunk_shape = chunk_shape.ok_or("its chunk_shape cannot be read")?;
    if chunk_shape.len() != shape.len() {
        return Err(format!("its chunk_shape has {} axes, its shape {}", chunk_shape.len(), shape.len()));
    }
    // zarr-python writes 0 for axes without elements; any length cuts those into no chunks.
    Ok(chunk_shape.into_iter().map(|length| length.max(1)).collect())
}

fn key_encoding(encoding: &Value<'_>) -> Result<KeyEncoding, String> {
    let name = encoding.extension_name().ok_or("its chunk_key_encoding has no name")?;
    let (style, default) = match name.as_str() {
        "default" => (KeyStyle::Default, '/'),
        "v2" => (KeyStyle::V2, '.'),
        _ => return Err(format!("its chunk key encoding {name} is not known")),
    };
    let separator = match encoding.configured("separator") {
        None => default,
        Some(value) => match value.string().as_deref() {
            Some("/") => '/',
            Some(".") => '.',
            _ => return Err(format!("its chunk keys are separated by {}", value.brief())),
        },
    };
    Ok(KeyEncoding { style, separator })
}

#[cfg(test)]
mod tests;
