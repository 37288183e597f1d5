//! From the elements of a target chunk to its encoded bytes, through zarrs.

mod small;

use crate::geometry::{Region, c_strides};
use crate::synthesis::{CopyAxis, copy_strided};
use crate::zarr::ChunkEncoding;
use small::Small;
use std::borrow::Cow;
use std::sync::Arc;
use zarrs::array::{BytesToBytesCodecTraits, Codec, CodecOptions};
use zarrs::metadata::v3::MetadataV3;

/// One of the codecs that a chunk goes through.
#[derive(Debug)]
struct Step {
    codec: Arc<dyn BytesToBytesCodecTraits>,
    /// The same for small chunks.
    small: Option<Small>,
}

/// Encodes the chunks of one target array. One thread a chunk; the result depends on the elements alone.
#[derive(Debug)]
pub(super) struct Encoder {
    order: Vec<usize>,
    steps: Vec<Step>,
    /// The largest level of a zstd step: it decides how much memory encoding takes.
    zstd_level: Option<i64>,
    is_lz4: bool,
}

impl Encoder {
    /// Builds the codecs; the error names the one that cannot be had.
    pub(super) fn new(encoding: &ChunkEncoding) -> Result<Self, String> {
        let mut steps = Vec::new();
        let mut zstd_level = None;
        for json in &encoding.bytes_to_bytes {
            let metadata: MetadataV3 = serde_json::from_str(json).map_err(|e| format!("codec {json}: {e}"))?;
            if metadata.name() == "zstd" {
                let level = metadata.configuration().and_then(|c| c.get("level")).and_then(serde_json::Value::as_i64);
                zstd_level = zstd_level.max(Some(level.unwrap_or(3)));
            }
            match Codec::from_metadata(&metadata).map_err(|e| format!("codec {json}: {e}"))? {
                Codec::BytesToBytes(codec) => steps.push(Step { codec, small: Small::of(&metadata) }),
                _ => return Err(format!("codec {json} stands where only bytes-to-bytes codecs may")),
            }
        }
        let is_lz4 = encoding.bytes_to_bytes.iter().any(|json| json.contains(r#""lz4""#));
        Ok(Encoder { order: encoding.order.clone(), steps, zstd_level, is_lz4 })
    }

    /// Encoded chunks are their elements.
    pub(super) fn is_plain(&self) -> bool {
        self.steps.is_empty()
    }

    /// There is no cheaper compressor.
    pub(super) fn is_lz4(&self) -> bool {
        self.is_lz4
    }

    /// Most memory that encoding a chunk of `chunk_bytes` takes.
    pub(super) fn scratch_bytes(&self, chunk_bytes: u64) -> u64 {
        // The elements put in order; encoded, and a step between.
        let gathered = chunk_bytes;
        let encoded = if self.steps.is_empty() { 0 } else { chunk_bytes.saturating_add(chunk_bytes / 8) + (1 << 20) };
        let most_context: u64 = match self.zstd_level {
            None => 0,
            Some(..=4) => 8 << 20,
            Some(5..=12) => 40 << 20,
            Some(13..=17) => 90 << 20,
            Some(_) => 900 << 20,
        };
        let context = most_context.min(chunk_bytes.saturating_mul(12) + (1 << 20));
        gathered + encoded.saturating_mul(self.steps.len().min(2) as u64) + context
    }

    /// The elements of `chunk` in encoded order, out of the bytes of `around`, which holds it, in C order.
    pub(super) fn gather<'a>(
        &self,
        around: &Region,
        bytes: &'a [u8],
        chunk: &Region,
        item_bytes: usize,
    ) -> Cow<'a, [u8]> {
        let rank = chunk.rank();
        let shape: Vec<usize> = chunk.shape().iter().map(|&len| len as usize).collect();
        let n_bytes = shape.iter().product::<usize>() * item_bytes;
        let strides: Vec<usize> =
            c_strides(&around.shape()).iter().map(|&stride| stride as usize * item_bytes).collect();
        let from: usize = (0..rank).map(|a| (chunk.start[a] - around.start[a]) as usize * strides[a]).sum();
        let mut axes = vec![CopyAxis { n: 0, source: 0, target: 0 }; rank];
        let mut target = item_bytes;
        for &axis in self.order.iter().rev() {
            axes[axis] = CopyAxis { n: shape[axis], source: strides[axis], target };
            target *= shape[axis];
        }
        if axes.iter().all(|axis| axis.n == 1 || axis.source == axis.target) {
            return Cow::Borrowed(&bytes[from..from + n_bytes]);
        }
        let mut gathered = vec![0; n_bytes];
        copy_strided(bytes, from, &mut gathered, 0, &axes, item_bytes);
        Cow::Owned(gathered)
    }

    /// Encodes the elements of a chunk that are in encoded order.
    pub(super) fn encode<'a>(&self, elements: Cow<'a, [u8]>) -> Result<Cow<'a, [u8]>, String> {
        let options = CodecOptions::default().with_concurrent_target(1);
        self.steps.iter().try_fold(elements, |bytes, step| match step.small.and_then(|small| small.encode(&bytes)) {
            Some(encoded) => encoded.map(Cow::Owned),
            None => step.codec.encode(bytes, &options).map_err(|error| error.to_string()),
        })
    }
}

/// Whether `bytes` are nothing but the element `fill`, bit for bit.
pub(super) fn is_fill(bytes: &[u8], fill: &[u8]) -> bool {
    let n = fill.len().min(bytes.len());
    // Equal to itself one element on: a comparison of memory, which ends at the first difference.
    bytes[..n] == fill[..n] && bytes[n..] == bytes[..bytes.len() - n]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fill_is_told_from_what_only_begins_so() {
        assert!(is_fill(&[1, 2, 1, 2, 1, 2], &[1, 2]) && is_fill(&[], &[1, 2]) && is_fill(&[7], &[7]));
        assert!(!is_fill(&[1, 2, 1, 3], &[1, 2]) && !is_fill(&[2, 1, 2, 1], &[1, 2]));
    }

    #[test]
    fn chunks_are_taken_out_in_the_order_asked_for() {
        let around = Region { start: vec![10, 20], end: vec![13, 24] };
        let bytes: Vec<u8> = (0..12).collect();
        let chunk = Region { start: vec![11, 21], end: vec![13, 23] };
        let gather = |order: &[usize], chunk: &Region| {
            let encoder = Encoder { order: order.to_vec(), steps: Vec::new(), zstd_level: None, is_lz4: false };
            encoder.gather(&around, &bytes, chunk, 1).into_owned()
        };
        assert_eq!(gather(&[0, 1], &chunk), [5, 6, 9, 10]);
        assert_eq!(gather(&[1, 0], &chunk), [5, 9, 6, 10]);
        let rows = Region { start: vec![11, 20], end: vec![13, 24] };
        assert_eq!(gather(&[0, 1], &rows), (4..12).collect::<Vec<u8>>());
    }
}
