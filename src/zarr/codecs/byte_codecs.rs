//! The codecs from bytes to bytes that can be decoded, in the spelling that zarrs accepts.

use crate::zarr::json::Value;

/// LZ4 with the four-byte length of numcodecs in front: not in zarrs, decoded by the source room itself.
const LZ4: &str = r#"{"name":"numcodecs.lz4","configuration":{}}"#;

/// HDF5's checksum in the last four bytes. zarrs 0.23.14 leaves the last byte of an odd number of bytes out of the
/// sum, and so refuses every other compressed chunk: taken off by the source room itself as well.
const FLETCHER32: &str = r#"{"name":"numcodecs.fletcher32","configuration":{}}"#;

/// The largest block that C-Blosc takes, and so tensorstore lets a document say.
pub(crate) const MAX_BLOSC_BLOCK: i128 = 715_827_542;

/// Whether the source room decodes this document itself, so that zarrs must not see it.
pub(super) fn is_ours(document: &str) -> bool {
    document == LZ4 || document == FLETCHER32
}

/// The document of a codec from bytes to bytes that decodes what `codec` encoded.
///
/// # Errors
/// One line that names the codec, if it cannot be decoded.
pub(super) fn normalise(codec: &Value<'_>, item_bytes: usize) -> Result<String, String> {
    let name = codec.extension_name().ok_or_else(|| format!("the codec {} has no name", codec.brief()))?;
    let level = |low: i128, high: i128, default: i128| {
        let level = codec.configured("level").and_then(Value::as_integer);
        level.filter(|level| (low..=high).contains(level)).unwrap_or(default)
    };
    let location = |default: &'static str| match codec.configured("location") {
        None => Ok(default),
        Some(value) if value.is_null() => Ok(default),
        Some(value) => match value.string().as_deref() {
            Some("start") => Ok("start"),
            Some("end") => Ok("end"),
            _ => Err(format!("codec {name} with the location {} is not supported", value.brief())),
        },
    };
    match name.as_str() {
        "blosc" | "numcodecs.blosc" => Ok(blosc(codec, item_bytes)),
        "gzip" | "numcodecs.gzip" => Ok(format!(r#"{{"name":"gzip","configuration":{{"level":{}}}}}"#, level(0, 9, 5))),
        "zstd" | "numcodecs.zstd" => {
            let level = level(-131_072, 22, 0);
            let checksum = codec.configured("checksum").is_some_and(|value| value.text() == "true");
            Ok(format!(r#"{{"name":"zstd","configuration":{{"level":{level},"checksum":{checksum}}}}}"#))
        }
        "numcodecs.zlib" | "numcodecs.bz2" => {
            Ok(format!(r#"{{"name":"{name}","configuration":{{"level":{}}}}}"#, level(1, 9, 1)))
        }
        "numcodecs.lz4" => Ok(LZ4.to_owned()),
        "numcodecs.shuffle" => {
            let size = codec.configured("elementsize").and_then(Value::as_u64).unwrap_or(item_bytes as u64);
            Ok(format!(r#"{{"name":"{name}","configuration":{{"elementsize":{size}}}}}"#))
        }
        "numcodecs.fletcher32" => Ok(FLETCHER32.to_owned()),
        "numcodecs.adler32" => {
            Ok(format!(r#"{{"name":"{name}","configuration":{{"location":"{}"}}}}"#, location("start")?))
        }
        "crc32c" => Ok(r#"{"name":"crc32c"}"#.to_owned()),
        // numcodecs puts it at the end unless told otherwise: the same bytes as Zarr's own.
        "numcodecs.crc32c" if location("end")? == "end" => Ok(r#"{"name":"crc32c"}"#.to_owned()),
        _ => Err(format!("codec {name} is not supported")),
    }
}

/// Chunks of blosc describe themselves; the document repeats what the source's says.
fn blosc(codec: &Value<'_>, item_bytes: usize) -> String {
    let text = |key| codec.configured(key).and_then(Value::string);
    let integer = |key| codec.configured(key).and_then(Value::as_integer);
    let cname =
        text("cname").filter(|cname| ["blosclz", "lz4", "lz4hc", "snappy", "zlib", "zstd"].contains(&cname.as_str()));
    let cname = cname.unwrap_or_else(|| "zstd".to_owned());
    let clevel = integer("clevel").filter(|clevel| (0..=9).contains(clevel)).unwrap_or(5);
    let typesize =
        integer("typesize").filter(|size| (1..=255).contains(size)).unwrap_or(item_bytes.clamp(1, 255) as i128);
    let shuffle = match (text("shuffle").as_deref(), integer("shuffle")) {
        (Some("bitshuffle"), _) | (_, Some(2)) => "bitshuffle",
        (Some("shuffle"), _) | (_, Some(1)) => "shuffle",
        (_, Some(-1)) if typesize == 1 => "bitshuffle",
        (_, Some(-1)) => "shuffle",
        _ => "noshuffle",
    };
    let blocksize = integer("blocksize").filter(|size| (0..=MAX_BLOSC_BLOCK).contains(size)).unwrap_or(0);
    format!(
        r#"{{"name":"blosc","configuration":{{"cname":"{cname}","clevel":{clevel},"shuffle":"{shuffle}","typesize":{typesize},"blocksize":{blocksize}}}}}"#
    )
}
