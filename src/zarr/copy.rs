//! From the documents of a source and a layout to those of a copy: the grid that a view would have, the source's chunk
//! keys, and codecs that zarr-python and tensorstore both read.

mod append;
mod chain;
mod codec;
mod keep;
mod spec;
pub mod update;

use super::codecs::Endian;
use super::hierarchy::Hierarchy;
use super::json::{self, Value};
use super::layout::{Layout, LayoutError};
use super::project::{self, Projection, Rechunked, Stored};
use super::splice;
use super::types::{ChunkEncoding, CopiedArray, KeyEncoding, KeyStyle, SourceArray};
use spec::{Specs, Wish};

/// The index of a shard of a copy is stored, so that it is worth a checksum.
const INDEX_CODECS: &str = r#"{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}"#;

/// A copy as its documents describe it.
#[derive(Debug, Clone, PartialEq)]
pub struct CopyProjection {
    /// As of a view, but with the copy's documents: the source's chunk key encoding, and the codecs of `copied`.
    pub projection: Projection,
    /// How each of `projection.arrays` is written, in their order.
    pub copied: Vec<CopiedArray>,
    /// One line each: codecs of the source that could not be kept, and what takes their place.
    pub notices: Vec<String>,
    /// One line each: arrays of which an append to the source touches most chunks, and the layout under which it would not.
    pub appends: Vec<String>,
}

/// What an array of a copy is made of.
#[derive(Clone, Copy)]
struct Chunks<'a> {
    source: &'a SourceArray,
    /// Byte order of its elements, which stays as it is; `None` for types that have none.
    endian: Option<Endian>,
    /// Bytes of a decoded chunk; saturates.
    n_bytes: u64,
}

impl Chunks<'_> {
    /// Bytes per element, as codecs should know it; 0 where elements have no one size.
    fn type_bytes(self) -> usize {
        if self.source.is_variable() { 0 } else { self.source.item_bytes }
    }
}

/// The copy of `hierarchy` through `layout`, its chunks encoded as `codecs` (each `--codecs SPEC`) say, else as the
/// source's.
///
/// # Errors
/// [`LayoutError`]: one line that names the thing and the remedy.
pub fn project_copy(hierarchy: &Hierarchy, layout: &Layout, codecs: &[String]) -> Result<CopyProjection, LayoutError> {
    let nodes = project::read_nodes_for(project::COPY, hierarchy)?;
    let specs = Specs::read(codecs, &nodes.arrays)?;
    let arrays = nodes.arrays.clone();
    let (mut copied, mut notices) = (Vec::new(), Vec::new());
    let projection = project::project_nodes(nodes, layout, None, |rechunked| {
        let (array, stored) = as_copied(rechunked, &specs, &mut notices)?;
        copied.push(array);
        Ok(stored)
    })?;
    specs.check_used(&projection.arrays)?;
    let appends = update::appends(&arrays, &copied);
    Ok(CopyProjection { projection, copied, notices, appends })
}

/// How an array of a copy is written, and what its document says of that.
fn as_copied(
    rechunked: &Rechunked<'_>,
    specs: &Specs,
    notices: &mut Vec<String>,
) -> Result<(CopiedArray, Stored), LayoutError> {
    let encoding = encoding(rechunked, specs, notices)?;
    let array = rechunked.array.clone();
    let key_encoding = array.source.key_encoding;
    let codecs = codec_documents(&encoding, rechunked.serializer);
    let stored = Stored::new(&array, key_document(key_encoding), &codecs, INDEX_CODECS);
    Ok((CopiedArray { array, key_encoding, encoding }, stored))
}

fn encoding(rechunked: &Rechunked<'_>, specs: &Specs, notices: &mut Vec<String>) -> Result<ChunkEncoding, LayoutError> {
    let source = &rechunked.array.source;
    let item_bytes = source.item_bytes as u64;
    let chunks = Chunks {
        source,
        endian: endian_of(rechunked.serializer),
        n_bytes: rechunked.array.chunk_shape.iter().fold(item_bytes, |n, length| n.saturating_mul(*length)),
    };
    match specs.wish(&source.path) {
        Some((text, Wish::Chain(chain))) => chain.encoding(chunks).map_err(|problem| problem.of(text)),
        Some((_, Wish::Source)) | None => {
            let document = json::parse(rechunked.text).map_err(|error| LayoutError::json(&source.path, &error))?;
            let list = document.get("codecs").and_then(Value::elements).unwrap_or_default();
            Ok(keep::encoding(chunks, list, notices))
        }
    }
}

/// The byte order that a `bytes` document gives.
fn endian_of(bytes: &str) -> Option<Endian> {
    let document = json::parse(bytes).ok()?;
    let name = document.configured("endian")?.string()?;
    [Endian::Little, Endian::Big].into_iter().find(|endian| endian.name() == name)
}

fn key_document(encoding: KeyEncoding) -> String {
    let name = match encoding.style {
        KeyStyle::Default => "default",
        KeyStyle::V2 => "v2",
    };
    format!(r#"{{"name": "{name}", "configuration": {{"separator": "{}"}}}}"#, encoding.separator)
}

/// The chain of a chunk, `bytes` spelled as given.
fn codec_documents(encoding: &ChunkEncoding, bytes: &str) -> String {
    let mut documents = Vec::new();
    if encoding.order.iter().enumerate().any(|(place, axis)| place != *axis) {
        let axes: Vec<u64> = encoding.order.iter().map(|axis| *axis as u64).collect();
        documents.push(format!(r#"{{"name": "transpose", "configuration": {{"order": {}}}}}"#, splice::lengths(&axes)));
    }
    documents.push(bytes.to_owned());
    documents.extend(encoding.bytes_to_bytes.iter().cloned());
    documents.join(", ")
}

fn identity(source: &SourceArray) -> Vec<usize> {
    (0..source.shape.len()).collect()
}

#[cfg(test)]
mod tests;
