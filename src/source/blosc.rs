//! Entering a Blosc chunk midway: a miniature chunk of just the wanted blocks.
//!
//! A Blosc 1 chunk is a 16-byte header, a table of block offsets, and independently compressed blocks that each
//! decode to `block_bytes` (the last one to what is left). C-Blosc's own `getitem` is told no source length, so a
//! damaged table would send it anywhere; here every field is checked against the file before a miniature chunk with
//! a table of its own is handed to the ordinary decoder, which is told all lengths.
//! Format: <https://github.com/Blosc/c-blosc/blob/main/README_CHUNK_FORMAT.rst>

mod blocks;

pub(super) use blocks::Decoder;
use std::ops::Range;

/// Bytes of the fixed header.
pub(super) const HEADER_BYTES: usize = 16;

/// C-Blosc's least is 128, rounded down to whole elements of up to 255.
const MIN_BLOCK_BYTES: u64 = 64;
/// Chunks shorter than one element of 255 bytes have blocks of one byte.
const MAX_TINY_BYTES: u64 = 255;

const FLAG_STORED: u8 = 0x02;
const FLAG_DONT_SPLIT: u8 = 0x10;

/// The header of a chunk, checked against what the array says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    raw: [u8; HEADER_BYTES],
    /// Decoded bytes.
    pub n_bytes: u64,
    /// Decoded bytes of each block but the last.
    pub block_bytes: u64,
    /// Encoded bytes, header included.
    pub encoded_bytes: u64,
}

/// The wanted blocks: where they lie in the chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blocks {
    /// Byte range of each wanted block within the encoded chunk, in decoded order.
    pub encoded: Vec<Range<u64>>,
    first: u64,
}

impl Blocks {
    /// Encoded bytes of all of them.
    pub(super) fn encoded_bytes(&self) -> u64 {
        self.encoded.iter().map(|block| block.end - block.start).sum()
    }
}

/// Refuses a chunk whose header says that it decodes to more than `most_bytes`.
pub(super) fn check_claim(chunk: &[u8], most_bytes: u64) -> Result<(), String> {
    match chunk.get(4..8) {
        Some(word) => match u64::from(u32::from_le_bytes([word[0], word[1], word[2], word[3]])) {
            n_bytes if n_bytes > most_bytes => Err(format!("the blosc header says {n_bytes} decoded bytes")),
            _ => Ok(()),
        },
        None => Err("a blosc chunk shorter than its header".into()),
    }
}

impl Header {
    /// Reads a header; `n_bytes` and `encoded_bytes` are what the array and the file say.
    pub(super) fn parse(raw: &[u8; HEADER_BYTES], n_bytes: u64, encoded_bytes: u64) -> Result<Self, String> {
        let word = |at: usize| u64::from(u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]));
        let header = Header { raw: *raw, n_bytes: word(4), block_bytes: word(8), encoded_bytes: word(12) };
        if raw[0] == 0 || raw[0] > 2 {
            return Err(format!("blosc format version {} is unknown", raw[0]));
        }
        if header.n_bytes != n_bytes {
            return Err(format!("the blosc header says {} decoded bytes, the chunk has {n_bytes}", header.n_bytes));
        }
        if header.encoded_bytes != encoded_bytes {
            return Err(format!("the blosc header says {} bytes, there are {encoded_bytes}", header.encoded_bytes));
        }
        // C-Blosc makes smaller blocks of tiny chunks alone. A table of more would be as large as the chunk.
        let is_sound = header.block_bytes >= MIN_BLOCK_BYTES || n_bytes <= MAX_TINY_BYTES && header.block_bytes > 0;
        if !is_sound || header.block_bytes > n_bytes.max(1) {
            return Err(format!("a blosc block length of {} bytes is impossible", header.block_bytes));
        }
        if header.is_stored() && encoded_bytes != n_bytes + HEADER_BYTES as u64 {
            return Err("a stored blosc chunk has the wrong length".into());
        }
        let table_bytes = header.n_blocks().saturating_mul(4);
        if !header.is_stored() && HEADER_BYTES as u64 + table_bytes > encoded_bytes {
            return Err("the blosc block table does not fit the file".into());
        }
        Ok(header)
    }

    /// The bytes are stored as they are, right after the header.
    pub(super) fn is_stored(&self) -> bool {
        self.raw[2] & FLAG_STORED != 0
    }

    /// Number of blocks.
    pub(super) fn n_blocks(&self) -> u64 {
        self.n_bytes.div_ceil(self.block_bytes)
    }

    /// Blocks that hold the decoded bytes `start..end`.
    pub(super) fn touched(&self, start: u64, end: u64) -> Range<u64> {
        start / self.block_bytes..end.div_ceil(self.block_bytes)
    }

    /// Decoded bytes of `blocks`.
    pub(super) fn decoded(&self, blocks: &Range<u64>) -> Range<u64> {
        blocks.start * self.block_bytes..(blocks.end * self.block_bytes).min(self.n_bytes)
    }

    /// Finds `wanted` in the block table (`table` holds all of its bytes).
    pub(super) fn locate(&self, table: &[u8], wanted: &Range<u64>) -> Result<Blocks, String> {
        let floor = HEADER_BYTES as u64 + table.len() as u64;
        let offsets: Vec<u64> =
            table.chunks_exact(4).map(|b| u64::from(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect();
        if let Some(bad) = offsets.iter().find(|&&at| at < floor || at >= self.encoded_bytes) {
            return Err(format!("the blosc block table points at byte {bad} of {}", self.encoded_bytes));
        }
        // Several threads may have written the blocks, so a block ends where the next one in the file begins.
        let mut sorted = offsets.clone();
        sorted.sort_unstable();
        if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err("the blosc block table has two blocks in one place".into());
        }
        let end_of = |start: u64| {
            let next = sorted.partition_point(|&at| at <= start);
            sorted.get(next).copied().unwrap_or(self.encoded_bytes)
        };
        let encoded = offsets
            .iter()
            .skip(wanted.start as usize)
            .take((wanted.end - wanted.start) as usize)
            .map(|&start| start..end_of(start))
            .collect();
        Ok(Blocks { encoded, first: wanted.start })
    }

    /// The head of the miniature chunk, which the encoded bytes of `blocks` follow, one after the other; there is room
    /// for them.
    pub(super) fn miniature(&self, blocks: &Blocks) -> Vec<u8> {
        let n = blocks.encoded.len() as u64;
        let decoded = self.decoded(&(blocks.first..blocks.first + n));
        let n_bytes = decoded.end - decoded.start;
        let table_bytes = 4 * blocks.encoded.len();
        let total = HEADER_BYTES + table_bytes + blocks.encoded_bytes() as usize;
        let mut chunk = Vec::with_capacity(total);
        chunk.extend_from_slice(&self.raw);
        if n_bytes < self.block_bytes {
            // The short last block alone. It was never split into one stream per byte of the type; a block that
            // fills its chunk would be taken for one that was.
            chunk[2] |= FLAG_DONT_SPLIT;
        }
        chunk[4..8].copy_from_slice(&(n_bytes as u32).to_le_bytes());
        chunk[8..12].copy_from_slice(&(self.block_bytes.min(n_bytes) as u32).to_le_bytes());
        chunk[12..16].copy_from_slice(&(total as u32).to_le_bytes());
        let mut at = (HEADER_BYTES + table_bytes) as u64;
        for block in &blocks.encoded {
            chunk.extend_from_slice(&(at as u32).to_le_bytes());
            at += block.end - block.start;
        }
        chunk
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;
    use zarrs::array::codec::BloscCodec;
    use zarrs::array::{BytesRepresentation, BytesToBytesCodecTraits, CodecOptions};

    pub(super) fn codec(cname: &str, shuffle: &str, typesize: usize, blocksize: usize) -> BloscCodec {
        let json = format!(
            r#"{{"cname":"{cname}","clevel":5,"shuffle":"{shuffle}","typesize":{typesize},"blocksize":{blocksize}}}"#
        );
        BloscCodec::new_with_configuration(&serde_json::from_str(&json).expect("valid")).expect("supported")
    }

    /// Compressible in part, so that stored and compressed streams both occur within a chunk.
    pub(super) fn sample(n: usize) -> Vec<u8> {
        let mut state = 12345u32;
        (0..n)
            .map(|i| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if (i / 4096) % 3 == 0 { (state >> 24) as u8 } else { ((i / 16) % 251) as u8 }
            })
            .collect()
    }

    #[test]
    fn any_run_of_blocks_decodes_to_its_part_of_the_chunk() {
        let options = CodecOptions::default();
        for cname in ["blosclz", "lz4", "lz4hc", "zstd", "zlib", "snappy"] {
            for shuffle in ["noshuffle", "shuffle", "bitshuffle"] {
                for (typesize, blocksize, n) in
                    [(4, 0, 1_000_000), (4, 4096, 50_000), (8, 8192, 40_961), (1, 1000, 9_999), (12, 1200, 30_000)]
                {
                    let codec = codec(cname, shuffle, typesize, blocksize);
                    let data = sample(n);
                    let chunk = codec.encode(Cow::Borrowed(&data), &options).expect("encodes").into_owned();
                    let raw: [u8; HEADER_BYTES] = chunk[..HEADER_BYTES].try_into().expect("a header");
                    let header = Header::parse(&raw, n as u64, chunk.len() as u64).expect("a good header");
                    if header.is_stored() {
                        continue;
                    }
                    let n_blocks = header.n_blocks();
                    let table = &chunk[HEADER_BYTES..HEADER_BYTES + 4 * n_blocks as usize];
                    for wanted in [
                        0..1,
                        n_blocks - 1..n_blocks,
                        0..n_blocks,
                        n_blocks / 2..n_blocks,
                        n_blocks / 3..n_blocks / 3 + 1,
                    ] {
                        let blocks = header.locate(table, &wanted).expect("a good table");
                        let mut miniature = header.miniature(&blocks);
                        for block in &blocks.encoded {
                            miniature.extend_from_slice(&chunk[block.start as usize..block.end as usize]);
                        }
                        let part = header.decoded(&wanted);
                        let decoded = codec
                            .decode(
                                Cow::Owned(miniature),
                                &BytesRepresentation::FixedSize(part.end - part.start),
                                &options,
                            )
                            .expect("decodes");
                        assert!(
                            *decoded == data[part.start as usize..part.end as usize],
                            "{cname} {shuffle} {typesize} {wanted:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn impossible_headers_are_refused() {
        let good = [2, 1, 1, 4, 0, 16, 0, 0, 0, 4, 0, 0, 100, 0, 0, 0];
        assert!(Header::parse(&good, 4096, 100).is_ok());
        for (at, value) in [(0, 9), (4, 1), (8, 0xff), (9, 0), (9, 0xff), (12, 1)] {
            let mut bad = good;
            bad[at] = value;
            if at == 8 {
                bad[11] = 0x7f;
            }
            assert!(Header::parse(&bad, 4096, 100).is_err(), "byte {at} = {value}");
        }
        let header = Header::parse(&good, 4096, 100).expect("good");
        assert!(header.locate(&[0; 16], &(0..1)).is_err(), "an offset into the header");
        assert!(header.locate(&[200; 16], &(0..1)).is_err(), "an offset past the end");
    }
}
