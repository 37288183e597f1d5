//! From the encoded bytes of a leaf chunk to its elements, through zarrs.

use super::SourceError;
use super::blosc;
use super::stream::{self, Format};
use crate::zarr::{Encoding, SourceArray};
use std::borrow::Cow;
use std::num::NonZeroU64;
use std::sync::Arc;
use zarrs::array::{
    ArrayToBytesCodecTraits, BytesRepresentation, BytesToBytesCodecTraits, Codec, CodecChain, CodecOptions, DataType,
    FillValue, FillValueMetadata,
};
use zarrs::metadata::v3::MetadataV3;

/// Bytes of a stream that are read at a time.
pub(super) const READ_BYTES: u64 = 256 << 10;

/// One bytes-to-bytes codec.
#[derive(Debug, Clone)]
pub(super) enum BytesCodec {
    /// zarrs decodes it.
    Zarrs(Arc<dyn BytesToBytesCodecTraits>),
    /// zarrs would allocate by what a zstd frame claims, end at the first gzip member, and take a zlib stream that is
    /// cut off for a whole one.
    Stream(Format),
    /// zarrs decodes it too, but would allocate by what the header claims.
    Blosc(Arc<dyn BytesToBytesCodecTraits>),
    /// numcodecs' LZ4: a little-endian length, then one LZ4 block. zarrs has no such codec.
    NumcodecsLz4,
    /// HDF5's checksum, which zarrs gets wrong for odd lengths.
    Fletcher32,
}

/// Bytes-to-bytes codecs in encoding order, each with what it decodes to.
pub(super) type Steps = Vec<(BytesCodec, BytesRepresentation)>;

/// How the leaves of an array are decoded.
#[derive(Debug)]
pub(super) enum LeafCodec {
    /// The stream is the elements: any byte range can be read straight from the file.
    Raw,
    /// Blosc alone: blocks can be decoded one by one.
    Blosc(BytesCodec),
    /// A compressed stream of the elements, decoded from its start to the last wanted byte; and what is wrapped round
    /// it, usually nothing, else a checksum.
    Stream(Format, Steps),
    /// Bytes-to-bytes codecs that must be decoded whole.
    Whole(Steps),
    /// A chain that zarrs decodes to C order; and what is wrapped round it.
    Opaque {
        /// The chain, up to the codec that turns elements into bytes.
        chain: Arc<CodecChain>,
        /// Leaf shape.
        shape: Vec<NonZeroU64>,
        /// What zarrs takes the elements for.
        data_type: DataType,
        /// Fill value of that type.
        fill_value: FillValue,
        /// The codecs after it.
        after: Steps,
    },
    /// What is wrapped round elements of any length, in encoding order: see [`super::strings`].
    Variable(Vec<BytesCodec>),
}

impl LeafCodec {
    /// Builds the codecs of `array`; an error names what zarrs refuses.
    pub(super) fn new(array: &SourceArray) -> Result<Self, SourceError> {
        let refuse = |why: String| SourceError::Unsupported { array: array.path.clone(), why };
        let leaf_bytes = leaf_bytes(array);
        match &array.encoding {
            Encoding::Linear { bytes_to_bytes, .. } => {
                let mut steps =
                    steps(bytes_to_bytes, BytesRepresentation::FixedSize(leaf_bytes), leaf_bytes).map_err(refuse)?;
                Ok(match steps.first() {
                    None => LeafCodec::Raw,
                    Some((blosc @ BytesCodec::Blosc(_), _)) if steps.len() == 1 => LeafCodec::Blosc(blosc.clone()),
                    Some((BytesCodec::Stream(format), _)) => {
                        let format = *format;
                        steps.remove(0);
                        LeafCodec::Stream(format, steps)
                    }
                    Some(_) => LeafCodec::Whole(steps),
                })
            }
            Encoding::Opaque { data_type, fill_value, codecs } => {
                let n_after = codecs.iter().rev().take_while(|json| bytes_codec(json).is_ok()).count();
                let (codecs, after) = codecs.split_at(codecs.len() - n_after);
                let chain = chain(codecs).map_err(refuse)?;
                let data_type = data_type_of(data_type).map_err(refuse)?;
                let fill: FillValueMetadata =
                    serde_json::from_str(fill_value).map_err(|e| refuse(format!("fill value {fill_value}: {e}")))?;
                let fill_value =
                    data_type.fill_value_v3(&fill).map_err(|e| refuse(format!("fill value {fill_value}: {e}")))?;
                let shape = non_zero(&array.leaf_shape);
                let encoded =
                    chain.encoded_representation(&shape, &data_type, &fill_value).map_err(|e| refuse(e.to_string()))?;
                let after = steps(after, encoded, leaf_bytes).map_err(refuse)?;
                Ok(LeafCodec::Opaque { chain: Arc::new(chain), shape, data_type, fill_value, after })
            }
            Encoding::Variable { bytes_to_bytes, .. } => {
                let codecs = bytes_to_bytes.iter().map(|json| bytes_codec(json)).collect::<Result<_, _>>();
                codecs.map(LeafCodec::Variable).map_err(refuse)
            }
        }
    }

    /// Decodes a whole leaf. The caller checks the length of what comes out.
    pub(super) fn decode(&self, encoded: Vec<u8>, n_bytes: u64) -> Result<Vec<u8>, String> {
        match self {
            LeafCodec::Raw => Ok(encoded),
            LeafCodec::Blosc(codec) => codec.decode(encoded, BytesRepresentation::FixedSize(n_bytes)),
            LeafCodec::Stream(format, after) => {
                stream::decode_all(*format, &unwrap(after, encoded)?, n_bytes).map_err(|e| e.to_string())
            }
            LeafCodec::Whole(steps) => unwrap(steps, encoded),
            LeafCodec::Opaque { chain, shape, data_type, fill_value, after } => chain
                .decode(Cow::Owned(unwrap(after, encoded)?), shape, data_type, fill_value, &options())
                .map_err(|e| e.to_string())?
                .into_fixed()
                .map(Cow::into_owned)
                .map_err(|e| e.to_string()),
            LeafCodec::Variable(_) => Err("its elements are of any length".to_owned()),
        }
    }

    /// Most memory that reading `out_bytes` of a leaf takes besides them; its Blosc blocks are of `block_bytes`.
    pub(super) fn scratch_bytes(&self, out_bytes: u64, leaf_bytes: u64, block_bytes: u64) -> u64 {
        // Encoded, decoded, and a step between.
        let decoding = |n_bytes: u64| n_bytes.saturating_mul(3).saturating_add(1 << 20);
        match self {
            LeafCodec::Raw => 0,
            // Miniature chunk and decoded blocks, which reach beyond the range at both ends; and C-Blosc's own two.
            LeafCodec::Blosc(_) => {
                let decoded_bytes = out_bytes.saturating_add(2 * block_bytes).min(leaf_bytes);
                2 * (decoded_bytes + block_bytes) + (1 << 20)
            }
            LeafCodec::Stream(format, after) if after.is_empty() => READ_BYTES + format.decoder_bytes(leaf_bytes),
            LeafCodec::Stream(..) | LeafCodec::Whole(_) | LeafCodec::Opaque { .. } | LeafCodec::Variable(_) => {
                decoding(leaf_bytes)
            }
        }
    }
}

/// Takes off codecs, the last one first.
pub(super) fn unwrap(steps: &Steps, encoded: Vec<u8>) -> Result<Vec<u8>, String> {
    steps.iter().rev().try_fold(encoded, |bytes, (codec, decoded)| codec.decode(bytes, *decoded))
}

/// Most bytes that a sound chunk of `n_bytes` has at any step: codecs expand what they cannot compress by little. More
/// is damage, and must not become memory.
pub(super) fn most_encoded_bytes(n_bytes: u64) -> u64 {
    n_bytes.saturating_add(n_bytes / 2).saturating_add(1 << 20)
}

/// Most memory that reading any part of a leaf of `array` takes besides that part.
pub fn most_scratch_bytes(array: &SourceArray) -> u64 {
    let leaf_bytes = leaf_bytes(array);
    // Blocks of half the leaf: one that is a single longer block is decoded with what is left to others.
    LeafCodec::new(array).map_or(0, |codec| codec.scratch_bytes(leaf_bytes, leaf_bytes, leaf_bytes / 2))
}

impl BytesCodec {
    /// Decodes one step to at most `most_bytes`; `None` where it is more, or says that it is.
    pub(super) fn decode_up_to(&self, encoded: Vec<u8>, most_bytes: u64) -> Result<Option<Vec<u8>>, String> {
        let claim = match self {
            BytesCodec::Stream(format) => {
                return stream::decode_up_to(*format, &encoded, most_bytes).map_err(|e| e.to_string());
            }
            BytesCodec::Blosc(_) => encoded.get(4..8),
            BytesCodec::NumcodecsLz4 => encoded.get(..4),
            BytesCodec::Zarrs(_) | BytesCodec::Fletcher32 => None,
        };
        if claim.is_some_and(|word| u64::from(u32::from_le_bytes([word[0], word[1], word[2], word[3]])) > most_bytes) {
            return Ok(None);
        }
        let decoded = self.decode(encoded, BytesRepresentation::BoundedSize(most_bytes))?;
        Ok((decoded.len() as u64 <= most_bytes).then_some(decoded))
    }

    /// Decodes one step.
    fn decode(&self, encoded: Vec<u8>, decoded: BytesRepresentation) -> Result<Vec<u8>, String> {
        match self {
            BytesCodec::Zarrs(codec) | BytesCodec::Blosc(codec) => {
                if matches!(self, BytesCodec::Blosc(_)) {
                    blosc::check_claim(&encoded, decoded.size().unwrap_or(u64::MAX))?;
                }
                codec.decode(Cow::Owned(encoded), &decoded, &options()).map(Cow::into_owned).map_err(|e| e.to_string())
            }
            BytesCodec::Stream(format) => {
                let most_bytes = decoded.size().unwrap_or(u64::MAX);
                stream::decode_all(*format, &encoded, most_bytes).map_err(|e| e.to_string())
            }
            BytesCodec::Fletcher32 => super::fletcher32::decode(encoded),
            BytesCodec::NumcodecsLz4 => {
                let (head, body) = encoded.split_first_chunk::<4>().ok_or("an LZ4 chunk shorter than its header")?;
                let n_bytes = u64::from(u32::from_le_bytes(*head));
                if decoded.size().is_some_and(|most_bytes| n_bytes > most_bytes) {
                    return Err(format!("the LZ4 header says {n_bytes} bytes"));
                }
                lz4_flex::block::decompress(body, n_bytes as usize).map_err(|e| e.to_string())
            }
        }
    }
}

/// Decodes a shard index: `shape` with a last axis of two (offset, length), or (`u64::MAX`, `u64::MAX`) where missing.
pub(super) struct IndexCodec {
    chain: CodecChain,
    shape: Vec<NonZeroU64>,
    data_type: DataType,
    fill_value: FillValue,
    /// Bytes of the encoded index.
    pub(super) encoded_bytes: u64,
}

impl IndexCodec {
    /// For shards of `n_inner[axis]` inner chunks.
    pub(super) fn new(codecs: &[String], n_inner: &[u64]) -> Result<Self, String> {
        let chain = chain(codecs)?;
        let mut shape = non_zero(n_inner);
        shape.push(NonZeroU64::MIN.saturating_add(1));
        let data_type = data_type_of("\"uint64\"")?;
        let fill_value = FillValue::from(u64::MAX);
        let encoded = chain.encoded_representation(&shape, &data_type, &fill_value).map_err(|e| e.to_string())?;
        let BytesRepresentation::FixedSize(encoded_bytes) = encoded else {
            return Err("the shard index has no fixed size".into());
        };
        Ok(IndexCodec { chain, shape, data_type, fill_value, encoded_bytes })
    }

    /// Pairs of offset and length, in C order.
    pub(super) fn decode(&self, encoded: Vec<u8>) -> Result<Vec<(u64, u64)>, String> {
        let bytes = self
            .chain
            .decode(Cow::Owned(encoded), &self.shape, &self.data_type, &self.fill_value, &options())
            .map_err(|e| e.to_string())?
            .into_fixed()
            .map_err(|e| e.to_string())?;
        let word = |b: &[u8]| u64::from_ne_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]);
        Ok(bytes.chunks_exact(16).map(|pair| (word(&pair[..8]), word(&pair[8..]))).collect())
    }
}

impl std::fmt::Debug for IndexCodec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IndexCodec").field("encoded_bytes", &self.encoded_bytes).finish_non_exhaustive()
    }
}

/// Bytes of a decoded leaf; saturates.
pub fn leaf_bytes(array: &SourceArray) -> u64 {
    array.leaf_shape.iter().fold(array.item_bytes as u64, |n, &len| n.saturating_mul(len))
}

/// One thread a chunk: parallelism is over chunks.
fn options() -> CodecOptions {
    CodecOptions::default().with_concurrent_target(1)
}

fn metadata(json: &str) -> Result<MetadataV3, String> {
    serde_json::from_str(json).map_err(|e| format!("codec {json}: {e}"))
}

/// The codecs of `documents`, the first of which decodes to `decoded`.
fn steps(documents: &[String], mut decoded: BytesRepresentation, leaf_bytes: u64) -> Result<Steps, String> {
    let mut steps = Steps::new();
    for json in documents {
        let codec = bytes_codec(json)?;
        let encoded = match &codec {
            BytesCodec::Zarrs(codec) | BytesCodec::Blosc(codec) => codec.encoded_representation(&decoded),
            _ => BytesRepresentation::UnboundedSize,
        };
        steps.push((codec, decoded));
        decoded = match encoded {
            BytesRepresentation::FixedSize(_) => encoded,
            // Bounds are those of zarrs' encoders; others may have written the chunk.
            _ => BytesRepresentation::BoundedSize(most_encoded_bytes(leaf_bytes)),
        };
    }
    Ok(steps)
}

fn bytes_codec(json: &str) -> Result<BytesCodec, String> {
    let metadata = metadata(json)?;
    if let Some(format) = Format::of(metadata.name()) {
        return Ok(BytesCodec::Stream(format));
    }
    match metadata.name() {
        "numcodecs.lz4" => return Ok(BytesCodec::NumcodecsLz4),
        "numcodecs.fletcher32" => return Ok(BytesCodec::Fletcher32),
        _ => {}
    }
    match Codec::from_metadata(&metadata).map_err(|e| format!("codec {json}: {e}"))? {
        Codec::BytesToBytes(codec) if metadata.name() == "blosc" => Ok(BytesCodec::Blosc(codec)),
        Codec::BytesToBytes(codec) => Ok(BytesCodec::Zarrs(codec)),
        _ => Err(format!("codec {json} stands where only bytes-to-bytes codecs may")),
    }
}

fn chain(codecs: &[String]) -> Result<CodecChain, String> {
    let metadata = codecs.iter().map(|json| metadata(json)).collect::<Result<Vec<_>, _>>()?;
    CodecChain::from_metadata(&metadata).map_err(|e| e.to_string())
}

fn data_type_of(json: &str) -> Result<DataType, String> {
    let metadata: MetadataV3 = serde_json::from_str(json).map_err(|e| format!("data type {json}: {e}"))?;
    DataType::from_metadata(&metadata).map_err(|e| format!("data type {json}: {e}"))
}

fn non_zero(shape: &[u64]) -> Vec<NonZeroU64> {
    shape.iter().map(|&len| NonZeroU64::new(len).unwrap_or(NonZeroU64::MIN)).collect()
}
