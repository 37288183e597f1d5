//! The codecs of a source as far as a copy can have them: what encodes again without loss, and what zarr-python and
//! tensorstore both read. Anything else becomes zstd, with a notice.

use super::codec::{self, Codec};
use super::{Chunks, identity};
use crate::zarr::json::{self, Value};
use crate::zarr::naming::display_path;
use crate::zarr::types::{ChunkEncoding, Encoding};

/// Codecs that a copy can do with, and filters that leave no trace in what is decoded; numcodecs' spellings likewise.
const UNREMARKABLE: [&str; 10] =
    ["transpose", "bytes", "endian", "bitround", "quantize", "blosc", "gzip", "zlib", "zstd", "crc32c"];

/// Codecs that compute: what they encode again need not decode to the same values.
const COMPUTING: [&str; 4] = ["numcodecs.fixedscaleoffset", "zfp", "zarrs.zfp", "numcodecs.zfpy"];

/// How the chunks of a copy are encoded whose source has the codecs `list`.
pub(super) fn encoding(chunks: Chunks<'_>, list: &[Value<'_>], notices: &mut Vec<String>) -> ChunkEncoding {
    let array = display_path(&chunks.source.path);
    let names = innermost(list);
    if names.iter().any(|name| name == "numcodecs.quantize") {
        notices.push(format!("{array}: filter numcodecs.quantize is left out: its values are kept as they are"));
    }
    let (order, kept) = match &chunks.source.encoding {
        Encoding::Linear { order, bytes_to_bytes } | Encoding::Variable { order, bytes_to_bytes, .. } => {
            (order.clone(), keep_all(bytes_to_bytes, chunks))
        }
        Encoding::Opaque { .. } => (identity(chunks.source), Err(of_opaque(&names))),
    };
    let bytes_to_bytes = match kept {
        Ok(Kept { documents, gzip_level }) => {
            if let Some(level) = gzip_level {
                notices.push(format!("{array}: codec numcodecs.zlib becomes gzip, level {level}"));
            }
            documents
        }
        Err(reason) => {
            notices.push(format!("{array}: {reason}; its chunks are compressed with zstd, level 3"));
            vec![codec::DEFAULT.document(chunks.type_bytes())]
        }
    };
    ChunkEncoding { order, bytes_to_bytes }
}

struct Kept {
    documents: Vec<String>,
    /// The level of zlib, which has become gzip.
    gzip_level: Option<i128>,
}

/// The codecs as they stand, if a copy can have all of them; else why not.
fn keep_all(documents: &[String], chunks: Chunks<'_>) -> Result<Kept, String> {
    let mut kept = Kept { documents: Vec::with_capacity(documents.len()), gzip_level: None };
    for document in documents {
        let unread = |what: &str| format!("codec {what} is not kept: not every reader has it");
        let codec = json::parse(document).map_err(|_| unread(document))?;
        let name = codec.extension_name().unwrap_or_default();
        kept.documents.push(match name.as_str() {
            "blosc" if codec.configured("cname").and_then(Value::string).as_deref() == Some("snappy") => {
                return Err(unread("blosc with snappy"));
            }
            "blosc" if chunks.n_bytes > codec::MAX_BLOSC_BYTES => {
                return Err("codec blosc is not kept: it takes no chunks of 2 GiB".to_owned());
            }
            "blosc" | "gzip" | "zstd" | "crc32c" => document.clone(),
            // The same compression in another wrapping.
            "numcodecs.zlib" => {
                let level = codec.configured("level").and_then(Value::as_integer).unwrap_or(1);
                kept.gzip_level = Some(level);
                Codec::Gzip { level }.document(chunks.type_bytes())
            }
            name => return Err(unread(name)),
        });
    }
    Ok(kept)
}

/// Why a chain that is decoded whole cannot be kept.
fn of_opaque(names: &[String]) -> String {
    let is_odd = |name: &&String| !UNREMARKABLE.contains(&name.strip_prefix("numcodecs.").unwrap_or(name));
    match names.iter().find(is_odd) {
        Some(name) if COMPUTING.contains(&name.as_str()) => {
            format!("codec {name} is not kept: encoded again, values could change")
        }
        Some(name) => format!("codec {name} is not kept: not every reader has it"),
        None => "codec sharding_indexed is not kept among other codecs or inside itself".to_owned(),
    }
}

/// The names of the codecs, those inside shards in the place of `sharding_indexed`.
fn innermost(list: &[Value<'_>]) -> Vec<String> {
    let mut names = Vec::new();
    for codec in list {
        let name = codec.extension_name().unwrap_or_default();
        match codec.configured("codecs").and_then(Value::elements) {
            Some(inner) if name == "sharding_indexed" => names.extend(innermost(inner)),
            _ => names.push(name),
        }
    }
    names
}
