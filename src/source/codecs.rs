//! From the encoded bytes of a leaf chunk to its elements, through zarrs.

use super::SourceError;
use crate::zarr::{Encoding, SourceArray};
use std::borrow::Cow;
use std::num::NonZeroU64;
use std::sync::Arc;
use zarrs::array::{
    ArrayToBytesCodecTraits, BytesRepresentation, BytesToBytesCodecTraits, Codec, CodecChain, CodecOptions, DataType,
    FillValue, FillValueMetadata,
};
use zarrs::metadata::v3::MetadataV3;

/// One bytes-to-bytes codec.
#[derive(Debug, Clone)]
pub(super) enum BytesCodec {
    /// zarrs decodes it.
    Zarrs(Arc<dyn BytesToBytesCodecTraits>),
    /// numcodecs' LZ4: a little-endian length, then one LZ4 block. zarrs has no such codec.
    NumcodecsLz4,
    /// HDF5's checksum, which zarrs gets wrong for odd lengths.
    Fletcher32,
}

/// How the leaves of an array are decoded.
#[derive(Debug)]
pub(super) enum LeafCodec {
    /// The stream is the elements: any byte range can be read straight from the file.
    Raw,
    /// Blosc alone: blocks can be decoded one by one.
    Blosc(BytesCodec),
    /// Bytes-to-bytes codecs that decode the stream as a whole.
    Stream {
        /// In encoding order.
        codecs: Vec<BytesCodec>,
        /// What each codec decodes to.
        decoded: Vec<BytesRepresentation>,
    },
    /// A whole chain, decoded to C order by zarrs.
    Opaque {
        /// The chain.
        chain: Arc<CodecChain>,
        /// Leaf shape.
        shape: Vec<NonZeroU64>,
        /// What zarrs takes the elements for.
        data_type: DataType,
        /// Fill value of that type.
        fill_value: FillValue,
    },
}

impl LeafCodec {
    /// Builds the codecs of `array`; an error names what zarrs refuses.
    pub(super) fn new(array: &SourceArray) -> Result<Self, SourceError> {
        let refuse = |why: String| SourceError::Unsupported { array: array.path.clone(), why };
        match &array.encoding {
            Encoding::Linear { bytes_to_bytes, .. } => {
                let codecs = bytes_to_bytes
                    .iter()
                    .map(|json| bytes_codec(json))
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(refuse)?;
                if codecs.is_empty() {
                    return Ok(LeafCodec::Raw);
                }
                if let [only] = codecs.as_slice()
                    && is_blosc(&bytes_to_bytes[0])
                {
                    return Ok(LeafCodec::Blosc(only.clone()));
                }
                let mut decoded = vec![BytesRepresentation::FixedSize(leaf_bytes(array))];
                for codec in &codecs {
                    let last = decoded[decoded.len() - 1];
                    decoded.push(match codec {
                        BytesCodec::Zarrs(codec) => codec.encoded_representation(&last),
                        BytesCodec::NumcodecsLz4 | BytesCodec::Fletcher32 => BytesRepresentation::UnboundedSize,
                    });
                }
                Ok(LeafCodec::Stream { codecs, decoded })
            }
            Encoding::Opaque { data_type, fill_value, codecs } => {
                let chain = chain(codecs).map_err(refuse)?;
                let data_type = data_type_of(data_type).map_err(refuse)?;
                let fill: FillValueMetadata =
                    serde_json::from_str(fill_value).map_err(|e| refuse(format!("fill value {fill_value}: {e}")))?;
                let fill_value =
                    data_type.fill_value_v3(&fill).map_err(|e| refuse(format!("fill value {fill_value}: {e}")))?;
                let shape = non_zero(&array.leaf_shape);
                Ok(LeafCodec::Opaque { chain: Arc::new(chain), shape, data_type, fill_value })
            }
        }
    }

    /// Decodes a whole leaf. The caller checks the length of what comes out.
    pub(super) fn decode(&self, encoded: Vec<u8>, n_bytes: u64) -> Result<Vec<u8>, String> {
        let options = options();
        match self {
            LeafCodec::Raw => Ok(encoded),
            LeafCodec::Blosc(codec) => codec.decode(encoded, &BytesRepresentation::FixedSize(n_bytes), &options),
            LeafCodec::Stream { codecs, decoded } => codecs
                .iter()
                .zip(decoded)
                .rev()
                .try_fold(encoded, |bytes, (codec, decoded)| codec.decode(bytes, decoded, &options)),
            LeafCodec::Opaque { chain, shape, data_type, fill_value } => chain
                .decode(Cow::Owned(encoded), shape, data_type, fill_value, &options)
                .map_err(|e| e.to_string())?
                .into_fixed()
                .map(Cow::into_owned)
                .map_err(|e| e.to_string()),
        }
    }
}

impl BytesCodec {
    /// Decodes one step.
    pub(super) fn decode(
        &self,
        encoded: Vec<u8>,
        decoded: &BytesRepresentation,
        options: &CodecOptions,
    ) -> Result<Vec<u8>, String> {
        match self {
            BytesCodec::Zarrs(codec) => {
                codec.decode(Cow::Owned(encoded), decoded, options).map(Cow::into_owned).map_err(|e| e.to_string())
            }
            BytesCodec::Fletcher32 => super::fletcher32::decode(encoded),
            BytesCodec::NumcodecsLz4 => {
                let (head, body) = encoded.split_first_chunk::<4>().ok_or("an LZ4 chunk shorter than its header")?;
                let n_bytes = u64::from(u32::from_le_bytes(*head));
                if decoded.size().is_some_and(|expected| expected != n_bytes) {
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

fn is_blosc(json: &str) -> bool {
    metadata(json).is_ok_and(|codec| codec.name() == "blosc")
}

fn metadata(json: &str) -> Result<MetadataV3, String> {
    serde_json::from_str(json).map_err(|e| format!("codec {json}: {e}"))
}

fn bytes_codec(json: &str) -> Result<BytesCodec, String> {
    let metadata = metadata(json)?;
    match metadata.name() {
        "numcodecs.lz4" => return Ok(BytesCodec::NumcodecsLz4),
        "numcodecs.fletcher32" => return Ok(BytesCodec::Fletcher32),
        _ => {}
    }
    match Codec::from_metadata(&metadata).map_err(|e| format!("codec {json}: {e}"))? {
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
