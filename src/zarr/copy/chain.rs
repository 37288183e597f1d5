//! The chain of codecs that a `--codecs` asks for, and what it comes to for one array.

use super::codec::{self, Codec};
use super::spec::Problem;
use super::{Chunks, identity};
use crate::zarr::codecs::Endian;
use crate::zarr::json::{self, Value};
use crate::zarr::naming::display_path;
use crate::zarr::size::format_bytes;
use crate::zarr::types::ChunkEncoding;

/// Codecs after which values are others than before, so that a copy would not hold what the source holds.
const LOSSY: [&str; 10] = [
    "bitround",
    "numcodecs.bitround",
    "numcodecs.quantize",
    "numcodecs.fixedscaleoffset",
    "numcodecs.astype",
    "cast_value",
    "scale_offset",
    "zfp",
    "zarrs.zfp",
    "numcodecs.zfpy",
];

/// Transposes, `bytes` and codecs on bytes, as they were asked for: not every array may fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Chain {
    /// The order of each transpose, in encoding order.
    transposes: Vec<Vec<u64>>,
    /// The byte order that `bytes` has, where it says.
    endian: Option<Endian>,
    codecs: Vec<Codec>,
}

impl Chain {
    pub(super) fn of(codecs: Vec<Codec>) -> Self {
        Chain { codecs, ..Chain::default() }
    }

    /// Reads a JSON list of codecs.
    pub(super) fn read(text: &str) -> Result<Self, Problem> {
        let list = json::parse(text).map_err(|error| Problem::new(format!("no JSON: {error}"), Problem::LIST))?;
        let list = list.elements().ok_or_else(|| Problem::new("no JSON list", Problem::LIST))?;
        let mut chain = Chain::default();
        let mut has_bytes = false;
        for codec in list {
            let name = codec.extension_name();
            let name = name.ok_or_else(|| Problem::new(format!("{} is no codec", codec.brief()), Problem::LIST))?;
            match name.as_str() {
                "transpose" | "bytes" if has_bytes || !chain.codecs.is_empty() => {
                    let problem = format!("{name} stands after a codec that gives bytes");
                    return Err(Problem::new(problem, "put transposes first, then bytes once, then the others"));
                }
                "transpose" => chain.transposes.push(read_transpose(codec)?),
                "bytes" => {
                    has_bytes = true;
                    chain.endian = read_endian(codec)?;
                }
                _ => match Codec::read(&name, codec)? {
                    Some(codec) => chain.codecs.push(codec),
                    None => return Err(refusal(&name)),
                },
            }
        }
        Ok(chain)
    }

    /// What it comes to for one array.
    pub(super) fn encoding(&self, chunks: Chunks<'_>) -> Result<ChunkEncoding, Problem> {
        let Chunks { source, endian, n_bytes } = chunks;
        let array = || display_path(&source.path);
        let mut order = identity(source);
        for transpose in &self.transposes {
            order = permuted(&order, transpose).ok_or_else(|| {
                let rank = order.len();
                let order = transpose.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
                Problem::new(
                    format!("the order [{order}] of transpose does not fit {}, which has {rank} axes", array()),
                    "name each axis once, counted from 0",
                )
            })?;
        }
        if let (Some(wanted), Some(own)) = (self.endian, endian)
            && wanted != own
        {
            let problem =
                format!("bytes is {}-endian, {} is {}-endian and stays so", wanted.name(), array(), own.name());
            return Err(Problem::new(problem, "leave the endian out"));
        }
        let is_blosc = |codec: &Codec| matches!(codec, Codec::Blosc { .. });
        if n_bytes > codec::MAX_BLOSC_BYTES && self.codecs.iter().any(is_blosc) {
            let size = format_bytes(u128::from(n_bytes));
            let problem = format!("a chunk of {} is {size}, more than blosc takes", array());
            return Err(Problem::new(problem, "use zstd, or give smaller --chunks"));
        }
        let bytes_to_bytes = self.codecs.iter().map(|codec| codec.document(chunks.type_bytes())).collect();
        Ok(ChunkEncoding { order, bytes_to_bytes })
    }
}

/// The axes of `order` taken in the order `by`, if that names each once.
fn permuted(order: &[usize], by: &[u64]) -> Option<Vec<usize>> {
    let places: Option<Vec<usize>> = by.iter().map(|place| usize::try_from(*place).ok()).collect();
    let places = places.filter(|places| places.len() == order.len())?;
    let is_whole = (0..order.len()).all(|place| places.contains(&place));
    is_whole.then(|| places.iter().filter_map(|place| order.get(*place).copied()).collect())
}

fn read_transpose(codec: &Value<'_>) -> Result<Vec<u64>, Problem> {
    codec::check_members("transpose", codec, &["order"])?;
    codec.configured("order").and_then(Value::as_lengths).ok_or_else(|| {
        Problem::new("transpose has no readable order", r#"write its "configuration": {"order": [1, 0]}"#)
    })
}

fn read_endian(codec: &Value<'_>) -> Result<Option<Endian>, Problem> {
    codec::check_members("bytes", codec, &["endian"])?;
    let Some(value) = codec.configured("endian").filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    let known = [Endian::Little, Endian::Big].into_iter();
    let endian = known.into_iter().find(|endian| value.string().as_deref() == Some(endian.name()));
    let problem = || Problem::new(format!("bytes has the endian {}", value.brief()), "leave the endian out");
    endian.map(Some).ok_or_else(problem)
}

fn refusal(name: &str) -> Problem {
    match name {
        "sharding_indexed" => {
            Problem::new("shards are no part of --codecs", "leave sharding_indexed out, give --shards")
        }
        _ if LOSSY.contains(&name) => {
            Problem::new(format!("codec {name} changes values, and a copy holds the source's"), "leave it out")
        }
        _ => Problem::new(
            format!("codec {name:?} is none that zarr-python and tensorstore both read"),
            "use blosc, zstd, gzip, crc32c",
        ),
    }
}
