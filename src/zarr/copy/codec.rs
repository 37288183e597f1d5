//! The four codecs on bytes that a copy may have: standard ones of Zarr v3, read by zarr-python, tensorstore and zarrs.

use crate::zarr::codecs::MAX_BLOSC_BLOCK;
use crate::zarr::json::Value;
use std::ops::RangeInclusive;

use super::spec::Problem;

/// The compressors inside Blosc. Snappy is none of them: zarr-python's Blosc is built without it.
pub(super) const CNAMES: [&str; 5] = ["blosclz", "lz4", "lz4hc", "zlib", "zstd"];
const SHUFFLES: [&str; 3] = ["noshuffle", "shuffle", "bitshuffle"];

pub(super) const GZIP_LEVELS: RangeInclusive<i128> = 0..=9;
pub(super) const ZSTD_LEVELS: RangeInclusive<i128> = -131_072..=22;
pub(super) const BLOSC_LEVELS: RangeInclusive<i128> = 0..=9;

/// Most bytes that C-Blosc takes: 2^31 - 1 less its header.
pub(super) const MAX_BLOSC_BYTES: u64 = (1 << 31) - 17;

/// What takes the place of codecs that cannot be kept.
pub(super) const DEFAULT: Codec = Codec::Zstd { level: 3, checksum: false };

/// A codec on bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Codec {
    Blosc {
        cname: &'static str,
        level: i128,
        /// What suits the item size where it is missing, likewise the type size.
        shuffle: Option<&'static str>,
        type_bytes: Option<i128>,
        block_bytes: i128,
    },
    Gzip {
        level: i128,
    },
    Zstd {
        level: i128,
        checksum: bool,
    },
    Crc32c,
}

impl Codec {
    pub(super) fn blosc(cname: &'static str, level: i128, shuffle: Option<&'static str>) -> Self {
        Codec::Blosc { cname, level, shuffle, type_bytes: None, block_bytes: 0 }
    }

    /// Its document, for elements of `item_bytes`; 0 where they have no one size.
    pub(super) fn document(&self, item_bytes: usize) -> String {
        match self {
            Codec::Blosc { cname, level, shuffle, type_bytes, block_bytes } => {
                let shuffle = shuffle.unwrap_or(match item_bytes {
                    // Bytes of one element cannot be sorted, its bits can: what zarr-python and numcodecs choose.
                    1 => "bitshuffle",
                    2..=255 => "shuffle",
                    // Blosc cannot say how long these are, or nobody can.
                    _ => "noshuffle",
                });
                let type_bytes = type_bytes.unwrap_or(item_bytes.clamp(1, 255) as i128);
                format!(
                    r#"{{"name":"blosc","configuration":{{"cname":"{cname}","clevel":{level},"shuffle":"{shuffle}","typesize":{type_bytes},"blocksize":{block_bytes}}}}}"#
                )
            }
            Codec::Gzip { level } => format!(r#"{{"name":"gzip","configuration":{{"level":{level}}}}}"#),
            Codec::Zstd { level, checksum } => {
                format!(r#"{{"name":"zstd","configuration":{{"level":{level},"checksum":{checksum}}}}}"#)
            }
            Codec::Crc32c => r#"{"name":"crc32c"}"#.to_owned(),
        }
    }

    /// Reads one of a JSON list, `None` if it is another codec. Here nothing is let pass: what was meant to steer
    /// compression would be lost without a word.
    pub(super) fn read(name: &str, codec: &Value<'_>) -> Result<Option<Self>, Problem> {
        let members = |known: &[&str]| check_members(name, codec, known);
        let integer = |key: &str, range: RangeInclusive<i128>, default| match codec.configured(key) {
            None => Ok(default),
            Some(value) => value.as_integer().filter(|number| range.contains(number)).ok_or_else(|| {
                Problem::new(
                    format!("{name} has the {key} {}", value.brief()),
                    format!("write a whole number from {} to {}", range.start(), range.end()),
                )
            }),
        };
        Ok(Some(match name {
            "blosc" => {
                members(&["cname", "clevel", "shuffle", "typesize", "blocksize"])?;
                let type_bytes = codec.configured("typesize").map(|_| integer("typesize", 1..=255, 1)).transpose()?;
                Codec::Blosc {
                    cname: codec.configured("cname").map_or(Ok("zstd"), |value| cname(&spelling(value)))?,
                    level: integer("clevel", BLOSC_LEVELS, 5)?,
                    shuffle: codec.configured("shuffle").map(|value| shuffle(&spelling(value))).transpose()?,
                    type_bytes,
                    block_bytes: integer("blocksize", 0..=MAX_BLOSC_BLOCK, 0)?,
                }
            }
            "gzip" => {
                members(&["level"])?;
                Codec::Gzip { level: integer("level", GZIP_LEVELS, 5)? }
            }
            "zstd" => {
                members(&["level", "checksum"])?;
                let checksum = match codec.configured("checksum").map(Value::text) {
                    None | Some("false") => false,
                    Some("true") => true,
                    Some(_) => {
                        return Err(Problem::new("the checksum of zstd is no truth value", "write true or false"));
                    }
                };
                Codec::Zstd { level: integer("level", ZSTD_LEVELS, 3)?, checksum }
            }
            "crc32c" => {
                members(&[])?;
                Codec::Crc32c
            }
            _ => return Ok(None),
        }))
    }
}

/// What a string says, else how the value is spelled.
fn spelling(value: &Value<'_>) -> String {
    value.string().unwrap_or_else(|| value.brief())
}

pub(super) fn cname(text: &str) -> Result<&'static str, Problem> {
    CNAMES.into_iter().find(|known| *known == text).ok_or_else(|| {
        let problem = match text {
            "snappy" => "zarr-python's blosc has no snappy".to_owned(),
            _ => format!("blosc has no compressor {text:?}"),
        };
        Problem::new(problem, format!("use {}", CNAMES.join(", ")))
    })
}

pub(super) fn shuffle(text: &str) -> Result<&'static str, Problem> {
    SHUFFLES
        .into_iter()
        .find(|known| *known == text)
        .ok_or_else(|| Problem::new(format!("blosc has no shuffle {text:?}"), format!("use {}", SHUFFLES.join(", "))))
}

/// A codec may have a name and a configuration, and that the members in `known`.
pub(super) fn check_members(name: &str, codec: &Value<'_>, known: &[&str]) -> Result<(), Problem> {
    let configuration = codec.get("configuration");
    if configuration.is_some_and(|configuration| !configuration.is_object()) {
        return Err(Problem::new(format!("the configuration of {name} is no JSON object"), "write {} or leave it out"));
    }
    let of_codec = codec.members().iter().filter(|member| !["name", "configuration"].contains(&member.key.as_str()));
    let configured = configuration.map_or(&[][..], |configuration| configuration.members());
    let configured = configured.iter().filter(|member| !known.contains(&member.key.as_str()));
    match of_codec.chain(configured).next() {
        None => Ok(()),
        Some(member) if known.is_empty() => {
            Err(Problem::new(format!("{name} has no member {:?}", member.key), "leave it out"))
        }
        Some(member) => Err(Problem::new(
            format!("{name} has no member {:?}", member.key),
            format!("its configuration may have {}", known.join(", ")),
        )),
    }
}
