//! Small chunks of zstd, by itself or within Blosc, encoded with a context that each thread keeps.
//!
//! zarrs makes a context for each chunk. That asks the processor for its abilities, which is slow where a hypervisor
//! answers: for chunks of 800 bytes it is a quarter of the time. The bytes are those of zarrs.

use crate::synthesis::{CopyAxis, copy_strided};
use std::cell::RefCell;
use zarrs::metadata::v3::MetadataV3;
use zstd::zstd_safe::{CCtx, CParameter, compress_bound, max_c_level};

/// From here on Blosc may cut a chunk into blocks; and a context costs little then.
const BELOW_BYTES: usize = 32 << 10;
/// Shorter ones Blosc does not compress.
const BLOSC_LEAST_BYTES: usize = 128;
const BLOSC_HEADER_BYTES: usize = 16;
/// The header, where the one block starts, and the length of its one stream.
const BLOSC_STREAM_AT: usize = BLOSC_HEADER_BYTES + 8;

thread_local! {
    static CONTEXT: RefCell<CCtx<'static>> = RefCell::new(CCtx::create());
}

/// A codec that is made here for small chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Small {
    Zstd { level: i32, checksum: bool },
    Blosc { level: i32, is_shuffled: bool, type_bytes: usize },
}

impl Small {
    /// The codec that `metadata` describes, if it is one of these.
    pub(super) fn of(metadata: &MetadataV3) -> Option<Self> {
        let configuration = metadata.configuration()?;
        let number = |key: &str| configuration.get(key)?.as_i64();
        let word = |key: &str| configuration.get(key)?.as_str();
        match metadata.name() {
            "zstd" => {
                let checksum = configuration.get("checksum").is_some_and(|checksum| checksum.as_bool() == Some(true));
                Some(Small::Zstd { level: i32::try_from(number("level")?).ok()?, checksum })
            }
            "blosc" if word("cname") == Some("zstd") && number("blocksize") == Some(0) => {
                let is_shuffled = match word("shuffle")? {
                    "shuffle" => true,
                    "noshuffle" => false,
                    _ => return None,
                };
                let type_bytes = number("typesize").filter(|bytes| (1..=255).contains(bytes))? as usize;
                Some(Small::Blosc { level: number("clevel")? as i32, is_shuffled, type_bytes })
            }
            _ => None,
        }
    }

    /// Encodes `bytes`; `None` where that is not for here.
    pub(super) fn encode(&self, bytes: &[u8]) -> Option<Result<Vec<u8>, String>> {
        if bytes.is_empty() || bytes.len() >= BELOW_BYTES {
            return None;
        }
        match *self {
            Small::Zstd { level, checksum } => Some(zstd(bytes, level, checksum)),
            // Whole elements: else the rest is a block of its own.
            Small::Blosc { level, is_shuffled, type_bytes } => {
                bytes.len().is_multiple_of(type_bytes).then(|| Ok(blosc(bytes, level, is_shuffled, type_bytes)))
            }
        }
    }
}

fn zstd(bytes: &[u8], level: i32, checksum: bool) -> Result<Vec<u8>, String> {
    let mut encoded = Vec::with_capacity(compress_bound(bytes.len()));
    let done = CONTEXT.with_borrow_mut(|context| {
        context.set_parameter(CParameter::CompressionLevel(level))?;
        context.set_parameter(CParameter::ChecksumFlag(checksum))?;
        context.compress2(&mut encoded, bytes)
    });
    done.map(|_| encoded).map_err(|code| zstd::zstd_safe::get_error_name(code).to_owned())
}

/// One block, one stream: C-Blosc never splits blocks for zstd.
fn blosc(bytes: &[u8], level: i32, is_shuffled: bool, type_bytes: usize) -> Vec<u8> {
    const FORMAT: u8 = 2;
    const ZSTD_FORMAT: u8 = 1;
    const SHUFFLED: u8 = 1;
    const COPIED: u8 = 2;
    const ZSTD_UNSPLIT: u8 = 4 << 5 | 1 << 4;
    let n = bytes.len();
    let stream = compressed(bytes, level, is_shuffled, type_bytes);
    let flags = ZSTD_UNSPLIT | if is_shuffled { SHUFFLED } else { 0 } | if stream.is_none() { COPIED } else { 0 };
    let encoded_bytes = stream.as_ref().map_or(BLOSC_HEADER_BYTES + n, |stream| BLOSC_STREAM_AT + stream.len());
    let mut encoded = Vec::with_capacity(encoded_bytes);
    encoded.extend([FORMAT, ZSTD_FORMAT, flags, type_bytes as u8]);
    encoded.extend([n, n, encoded_bytes].into_iter().flat_map(|number| (number as u32).to_le_bytes()));
    match stream {
        Some(stream) => {
            encoded.extend((BLOSC_HEADER_BYTES as u32 + 4).to_le_bytes());
            encoded.extend((stream.len() as u32).to_le_bytes());
            encoded.extend(stream);
        }
        None => encoded.extend(bytes),
    }
    encoded
}

/// The stream of a Blosc chunk; `None` where it would take more room than the bytes.
fn compressed(bytes: &[u8], level: i32, is_shuffled: bool, type_bytes: usize) -> Option<Vec<u8>> {
    // As C-Blosc has it.
    let level = if level < 9 { 2 * level - 1 } else { max_c_level() };
    if level < 0 || bytes.len() < BLOSC_LEAST_BYTES {
        return None;
    }
    let shuffled = (is_shuffled && type_bytes > 1).then(|| shuffle(bytes, type_bytes));
    let mut stream = Vec::with_capacity(BLOSC_HEADER_BYTES + bytes.len() - BLOSC_STREAM_AT);
    let input = shuffled.as_deref().unwrap_or(bytes);
    CONTEXT.with_borrow_mut(|context| context.compress(&mut stream, input, level)).ok()?;
    Some(stream)
}

/// The first bytes of all elements, then the second ones, and so on.
fn shuffle(bytes: &[u8], type_bytes: usize) -> Vec<u8> {
    let n = bytes.len() / type_bytes;
    let mut shuffled = vec![0; bytes.len()];
    let axes = [CopyAxis { n: type_bytes, source: 1, target: n }, CopyAxis { n, source: type_bytes, target: 1 }];
    copy_strided(bytes, 0, &mut shuffled, 0, &axes, 1);
    shuffled
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zarrs::array::{Codec, CodecOptions};

    /// What zarrs makes of it.
    fn theirs(json: &str, bytes: &[u8]) -> Vec<u8> {
        let metadata: MetadataV3 = serde_json::from_str(json).expect("a codec");
        let Codec::BytesToBytes(codec) = Codec::from_metadata(&metadata).expect("known") else { panic!("{json}") };
        codec.encode(bytes.into(), &CodecOptions::default()).expect("encoded").into_owned()
    }

    fn ours(json: &str, bytes: &[u8]) -> Option<Vec<u8>> {
        let metadata: MetadataV3 = serde_json::from_str(json).expect("a codec");
        Small::of(&metadata).expect("small").encode(bytes).map(|encoded| encoded.expect("encoded"))
    }

    /// Slowly rising numbers, noise, or the one among the other.
    fn bytes(n: usize, kind: u8, seed: u64) -> Vec<u8> {
        let noise = |i: usize| (seed.wrapping_add(i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as u8;
        let is_noisy = |i: usize| kind == 1 || (kind == 2 && i % 64 > 40);
        (0..n).map(|i| if is_noisy(i) { noise(i) } else { (i / 97) as u8 }).collect()
    }

    proptest! {
        #[test]
        fn bytes_are_those_of_zarrs(
            n_items in 1usize..9000,
            type_bytes in prop::sample::select(vec![1usize, 2, 3, 4, 8, 12, 16, 255]),
            level in 0i32..=9,
            is_shuffled: bool,
            kind in 0u8..3,
            seed: u64,
            zstd_level in -3i32..=22,
            checksum: bool,
        ) {
            let bytes = bytes(n_items * type_bytes % 40_000 / type_bytes * type_bytes, kind, seed);
            let shuffle = if is_shuffled { "shuffle" } else { "noshuffle" };
            let blosc = format!(
                r#"{{"name":"blosc","configuration":{{"cname":"zstd","clevel":{level},"shuffle":"{shuffle}","typesize":{type_bytes},"blocksize":0}}}}"#
            );
            let zstd =
                format!(r#"{{"name":"zstd","configuration":{{"level":{zstd_level},"checksum":{checksum}}}}}"#);
            for json in [blosc, zstd] {
                match ours(&json, &bytes) {
                    Some(ours) => prop_assert!(ours == theirs(&json, &bytes), "{json} of {} bytes", bytes.len()),
                    None => prop_assert!(bytes.is_empty() || bytes.len() >= BELOW_BYTES),
                }
            }
        }
    }

    #[test]
    fn what_blosc_would_do_otherwise_is_left_to_it() {
        let small = |json: &str| Small::of(&serde_json::from_str(json).expect("a codec"));
        let blosc = |cname: &str, shuffle: &str, block: u64| {
            small(&format!(
                r#"{{"name":"blosc","configuration":{{"cname":"{cname}","clevel":5,"shuffle":"{shuffle}","typesize":4,"blocksize":{block}}}}}"#
            ))
        };
        assert_eq!(blosc("zstd", "shuffle", 0), Some(Small::Blosc { level: 5, is_shuffled: true, type_bytes: 4 }));
        for other in [blosc("lz4", "shuffle", 0), blosc("zstd", "bitshuffle", 0), blosc("zstd", "shuffle", 256)] {
            assert_eq!(other, None);
        }
        assert_eq!(small(r#"{"name":"gzip","configuration":{"level":5}}"#), None);
        assert_eq!(blosc("zstd", "shuffle", 0).and_then(|small| small.encode(&[1; 1003])), None);
    }
}
