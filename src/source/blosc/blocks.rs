//! Decoding single blocks of zstd, which most Blosc chunks of Zarr stores are made of, right into their place.
//!
//! C-Blosc makes a decoder anew for each block, which takes as long as a small block itself, and decodes blocks whole. It
//! still decodes whatever else a chunk may be made of.

use super::Header;
use std::fmt;
use std::ops::Range;
use zstd::bulk::Decompressor;

const FLAG_SHUFFLED: u8 = 0x01;
const FLAG_BITS_SHUFFLED: u8 = 0x04;
/// The inner codec lies in the three highest bits.
const CODEC_SHIFT: u8 = 5;
const CODEC_ZSTD: u8 = 4;
/// Blocks are split into one stream for each byte of the type where that is no longer, and the streams no shorter.
const MAX_STREAMS: usize = 16;
const MIN_STREAM_BYTES: usize = 128;

/// Elements that are put together at a time: what passes through on the way stays in the first-level cache.
const STRIP: usize = 64;
/// The longest type that is unshuffled here.
const MAX_ITEM_BYTES: usize = 16;

/// Decodes blocks; keeps what decoding takes from one to the next.
#[derive(Default)]
pub(in crate::source) struct Decoder {
    zstd: Option<Decompressor<'static>>,
    /// A block as it was encoded: all first bytes of its elements, and then all second ones.
    shuffled: Vec<u8>,
}

impl Header {
    /// [`Decoder`] decodes its blocks.
    pub(in crate::source) fn has_plain_blocks(&self) -> bool {
        let [_, _, flags, item_bytes, ..] = self.raw;
        flags >> CODEC_SHIFT == CODEC_ZSTD
            && flags & FLAG_BITS_SHUFFLED == 0
            && matches!(item_bytes, 1 | 2 | 4 | 8 | 16)
    }

    fn n_streams(&self, block_bytes: usize) -> usize {
        let item_bytes = usize::from(self.raw[3]);
        let is_split = self.raw[2] & super::FLAG_DONT_SPLIT == 0
            && item_bytes <= MAX_STREAMS
            && block_bytes / item_bytes >= MIN_STREAM_BYTES
            && block_bytes as u64 == self.block_bytes;
        if is_split { item_bytes } else { 1 }
    }
}

impl Decoder {
    /// Memory that it keeps.
    pub(in crate::source) fn bytes(&self) -> u64 {
        /// What zstd allocates for a decoder.
        const ZSTD_BYTES: u64 = 192 << 10;
        self.shuffled.capacity() as u64 + if self.zstd.is_some() { ZSTD_BYTES } else { 0 }
    }

    /// Decodes bytes `wanted` of a chunk, which all lie in its block `nth`, from that block's `encoded` bytes.
    pub(in crate::source) fn decode(
        &mut self,
        header: &Header,
        nth: u64,
        encoded: &[u8],
        wanted: Range<u64>,
        out: &mut [u8],
    ) -> Result<(), String> {
        let block = header.decoded(&(nth..nth + 1));
        let block_bytes = (block.end - block.start) as usize;
        let wanted = (wanted.start - block.start) as usize..(wanted.end - block.start) as usize;
        let item_bytes = usize::from(header.raw[3]);
        let n_streams = header.n_streams(block_bytes);
        if self.shuffled.len() < block_bytes {
            self.shuffled.resize(block_bytes, 0);
        }
        let zstd = match &mut self.zstd {
            Some(zstd) => zstd,
            none => none.insert(Decompressor::new().map_err(|error| error.to_string())?),
        };
        let shuffled = &mut self.shuffled[..block_bytes];
        let is_shuffled = header.raw[2] & FLAG_SHUFFLED != 0 && item_bytes > 1;
        if !is_shuffled && wanted.len() == block_bytes {
            return streams(zstd, encoded, n_streams, out);
        }
        streams(zstd, encoded, n_streams, shuffled)?;
        if !is_shuffled {
            out.copy_from_slice(&shuffled[wanted]);
        } else if wanted.start % item_bytes == 0 && (wanted.end % item_bytes == 0 || wanted.end == block_bytes) {
            unshuffle(shuffled, item_bytes, wanted.start, out);
        } else {
            // Elements of the array are not those of the type.
            let mut whole = vec![0; block_bytes];
            unshuffle(shuffled, item_bytes, 0, &mut whole);
            out.copy_from_slice(&whole[wanted]);
        }
        Ok(())
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

/// Decodes a block: streams of the same length, each with the length of what is encoded in front.
fn streams(
    zstd: &mut Decompressor<'static>,
    mut encoded: &[u8],
    n_streams: usize,
    out: &mut [u8],
) -> Result<(), String> {
    let stream_bytes = out.len() / n_streams;
    if stream_bytes * n_streams != out.len() {
        return Err(format!("a blosc block of {} bytes in {n_streams} streams", out.len()));
    }
    for stream in out.chunks_exact_mut(stream_bytes) {
        let beyond = || "a stream of a blosc block reaches beyond it".to_owned();
        let (len, rest) = encoded.split_first_chunk::<4>().ok_or_else(beyond)?;
        let (stored, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize).ok_or_else(beyond)?;
        encoded = rest;
        if stored.len() == stream.len() {
            stream.copy_from_slice(stored);
            continue;
        }
        let n = zstd.decompress_to_buffer(stored, stream).map_err(|error| format!("zstd: {error}"))?;
        if n != stream.len() {
            return Err(format!("a stream of a blosc block decodes to {n} bytes, not {}", stream.len()));
        }
    }
    Ok(())
}

/// Puts elements together, from the one at byte `start` on. What is left at the block's end, less than an element, is as it
/// was.
fn unshuffle(shuffled: &[u8], item_bytes: usize, start: usize, out: &mut [u8]) {
    match item_bytes {
        2 => unshuffle_items::<2>(shuffled, start, out),
        4 => unshuffle_items::<4>(shuffled, start, out),
        8 => unshuffle_items::<8>(shuffled, start, out),
        _ => unshuffle_items::<16>(shuffled, start, out),
    }
}

fn unshuffle_items<const ITEM: usize>(shuffled: &[u8], start: usize, out: &mut [u8]) {
    let n_items = shuffled.len() / ITEM;
    let first = start / ITEM;
    let n = (out.len() / ITEM).min(n_items - first);
    let plane = |nth: usize| &shuffled[nth * n_items + first..][..n];
    let (items, rest) = out.split_at_mut(n * ITEM);
    rest.copy_from_slice(&shuffled[n_items * ITEM..][..rest.len()]);
    let (mut strip, mut joined) = ([0; STRIP * MAX_ITEM_BYTES], [0; STRIP * MAX_ITEM_BYTES]);
    let mut strips = items.chunks_exact_mut(STRIP * ITEM);
    let mut at = 0;
    for out in strips.by_ref() {
        for nth in 0..ITEM {
            strip[nth * STRIP..][..STRIP].copy_from_slice(&plane(nth)[at..at + STRIP]);
        }
        at += STRIP;
        // Neighbours are joined, and what comes of them, until elements are whole.
        match ITEM {
            2 => join_rows::<1, ITEM>(&strip, out),
            4 => {
                join_rows::<1, ITEM>(&strip, &mut joined);
                join_rows::<2, ITEM>(&joined, out);
            }
            8 => {
                join_rows::<1, ITEM>(&strip, &mut joined);
                join_rows::<2, ITEM>(&joined, &mut strip);
                join_rows::<4, ITEM>(&strip, out);
            }
            _ => {
                join_rows::<1, ITEM>(&strip, &mut joined);
                join_rows::<2, ITEM>(&joined, &mut strip);
                join_rows::<4, ITEM>(&strip, &mut joined);
                join_rows::<8, ITEM>(&joined, out);
            }
        }
    }
    for (nth, item) in strips.into_remainder().chunks_exact_mut(ITEM).enumerate() {
        for (byte, out) in item.iter_mut().enumerate() {
            *out = plane(byte)[at + nth];
        }
    }
}

/// Of each two rows of `STRIP` parts of `WIDTH` bytes one row of parts twice as long. All lengths are known when compiling,
/// or no vectors would be used.
#[inline(always)]
fn join_rows<const WIDTH: usize, const ITEM: usize>(rows: &[u8], out: &mut [u8]) {
    for pair in 0..ITEM / WIDTH / 2 {
        let at = 2 * pair * STRIP * WIDTH;
        let (low, high) = rows[at..][..2 * STRIP * WIDTH].split_at(STRIP * WIDTH);
        let out = out[at..][..2 * STRIP * WIDTH].chunks_exact_mut(2 * WIDTH);
        for ((out, low), high) in out.zip(low.as_chunks::<WIDTH>().0).zip(high.as_chunks::<WIDTH>().0) {
            out[..WIDTH].copy_from_slice(low);
            out[WIDTH..].copy_from_slice(high);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::HEADER_BYTES;
    use super::super::tests::{codec, sample};
    use super::*;
    use proptest::prelude::*;
    use std::borrow::Cow;
    use zarrs::array::{BytesToBytesCodecTraits, CodecOptions};

    #[test]
    fn any_part_of_a_block_decodes_to_what_c_blosc_has_encoded() {
        let mut decoder = Decoder::default();
        let mut n_short = 0;
        for item_bytes in [1, 2, 4, 8, 16] {
            for shuffle in ["noshuffle", "shuffle"] {
                for (block_bytes, n) in [(0, 300_000), (4096, 50_001), (1000, 9_999), (65_536, 200_000)] {
                    let data = sample(n);
                    let encoded = codec("zstd", shuffle, item_bytes, block_bytes)
                        .encode(Cow::Borrowed(&data), &CodecOptions::default())
                        .expect("encodes")
                        .into_owned();
                    let raw = encoded.first_chunk::<HEADER_BYTES>().expect("a header");
                    let header = Header::parse(raw, n as u64, encoded.len() as u64).expect("a good header");
                    assert!(!header.is_stored() && header.has_plain_blocks());
                    let all = 0..header.n_blocks();
                    let table = &encoded[HEADER_BYTES..HEADER_BYTES + 4 * all.end as usize];
                    for (nth, at) in (0..).zip(header.locate(table, &all).expect("a good table").encoded) {
                        let block = header.decoded(&(nth..nth + 1));
                        let len = block.end - block.start;
                        n_short += usize::from(len < header.block_bytes);
                        let encoded = &encoded[at.start as usize..at.end as usize];
                        for (start, end) in
                            [(0, len), (0, 1), (len - 1, len), (len / 3, len / 2), (16, 48), (7, len - 5)]
                        {
                            let (start, end) = (block.start + start, block.start + end);
                            let mut out = vec![0xa5; (end - start) as usize];
                            decoder.decode(&header, nth, encoded, start..end, &mut out).expect("decodes");
                            assert!(out == data[start as usize..end as usize], "{item_bytes} {shuffle} {n} {nth}");
                        }
                    }
                }
            }
        }
        assert!(n_short > 0, "short last blocks");
    }

    /// As early versions of C-Blosc encoded blocks: a stream for each byte of the type.
    #[test]
    fn blocks_of_several_streams_decode_to_what_c_blosc_makes_of_them() {
        let (block_bytes, item_bytes) = (2048usize, 4usize);
        let data = sample(2 * block_bytes + 100);
        let mut chunk = vec![2, 1, CODEC_ZSTD << CODEC_SHIFT | FLAG_SHUFFLED, item_bytes as u8];
        for word in [data.len(), block_bytes, 0] {
            chunk.extend((word as u32).to_le_bytes());
        }
        let blocks: Vec<&[u8]> = data.chunks(block_bytes).collect();
        chunk.resize(HEADER_BYTES + 4 * blocks.len(), 0);
        for (nth, block) in blocks.iter().enumerate() {
            let at = (chunk.len() as u32).to_le_bytes();
            chunk[HEADER_BYTES + 4 * nth..][..4].copy_from_slice(&at);
            let plane = |byte: usize| block.iter().copied().skip(byte).step_by(item_bytes);
            let shuffled: Vec<u8> = (0..item_bytes).flat_map(plane).collect();
            let n_streams = if block.len() == block_bytes { item_bytes } else { 1 };
            for stream in shuffled.chunks(block.len() / n_streams) {
                let encoded = zstd::bulk::compress(stream, 1).expect("encodes");
                let stored = if encoded.len() < stream.len() { &encoded[..] } else { stream };
                chunk.extend((stored.len() as u32).to_le_bytes());
                chunk.extend(stored);
            }
        }
        let len = chunk.len();
        chunk[12..16].copy_from_slice(&(len as u32).to_le_bytes());

        let size = zarrs::array::BytesRepresentation::FixedSize(data.len() as u64);
        let c_blosc = codec("zstd", "shuffle", item_bytes, 0);
        let theirs = c_blosc.decode(Cow::Borrowed(&chunk), &size, &CodecOptions::default()).expect("decodes");
        assert!(*theirs == data);
        let raw = chunk.first_chunk::<HEADER_BYTES>().expect("a header");
        let header = Header::parse(raw, data.len() as u64, len as u64).expect("a good header");
        let table = &chunk[HEADER_BYTES..HEADER_BYTES + 4 * blocks.len()];
        let places = header.locate(table, &(0..blocks.len() as u64)).expect("a good table").encoded;
        assert_eq!(header.n_streams(block_bytes), item_bytes);
        for (nth, (place, block)) in (0..).zip(places.iter().zip(&blocks)) {
            let encoded = &chunk[place.start as usize..place.end as usize];
            let mut out = vec![0; block.len()];
            Decoder::default()
                .decode(&header, nth, encoded, header.decoded(&(nth..nth + 1)), &mut out)
                .expect("decodes");
            assert!(out == **block, "block {nth}");
        }
    }

    proptest! {
        #[test]
        fn elements_are_put_together_as_the_definition_says(
            log2 in 1usize..5,
            block_bytes in 0usize..5_000,
            range in any::<(prop::sample::Index, prop::sample::Index)>(),
        ) {
            let item_bytes = 1 << log2;
            let shuffled: Vec<u8> = (0..block_bytes).map(|i| ((i * 7919) >> 5) as u8).collect();
            let n_items = block_bytes / item_bytes;
            let truth: Vec<u8> = (0..block_bytes)
                .map(|i| match i / item_bytes {
                    item if item < n_items => shuffled[i % item_bytes * n_items + item],
                    _ => shuffled[i],
                })
                .collect();
            let (a, b) = (range.0.index(n_items + 1), range.1.index(n_items + 1));
            for (start, end) in [(a.min(b) * item_bytes, a.max(b) * item_bytes), (a * item_bytes, block_bytes)] {
                let mut out = vec![0; end - start];
                unshuffle(&shuffled, item_bytes, start, &mut out);
                prop_assert_eq!(&out, &truth[start..end]);
            }
        }
    }
}
