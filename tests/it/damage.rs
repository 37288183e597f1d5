//! Damaged Blosc chunks: whatever is wrong with them, a read ends with as many bytes as were asked for or an error.
//! Bytes may be wrong where the format has nothing to tell by; the reader may not crash, hang or read elsewhere.

use crate::leaf::{Leaf, n_cases, sample};
use proptest::prelude::*;
use std::borrow::Cow;
use std::sync::OnceLock;
use zarrs::array::codec::BloscCodec;
use zarrs::array::{BytesToBytesCodecTraits, CodecOptions};

const HEADER_BYTES: usize = 16;
const NAMES: [&str; 6] = ["blosclz", "lz4", "lz4hc", "snappy", "zlib", "zstd"];
const SHUFFLES: [&str; 3] = ["noshuffle", "shuffle", "bitshuffle"];

struct Chunk {
    what: String,
    leaf: Leaf,
    data: Vec<u8>,
    encoded: Vec<u8>,
}

impl Chunk {
    fn new(cname: &str, shuffle: &str, typesize: usize, clevel: u8, data: Vec<u8>) -> Self {
        let configuration = format!(
            r#"{{"cname":"{cname}","clevel":{clevel},"shuffle":"{shuffle}","typesize":{typesize},"blocksize":1024}}"#
        );
        let codec: BloscCodec =
            BloscCodec::new_with_configuration(&serde_json::from_str(&configuration).expect("valid"))
                .expect("supported");
        let encoded = codec.encode(Cow::Borrowed(&data), &CodecOptions::default()).expect("encodes").into_owned();
        let leaf = Leaf::new(&[&format!(r#"{{"name":"blosc","configuration":{configuration}}}"#)], data.len());
        Chunk { what: format!("{cname} {shuffle} {typesize} {clevel} {}", data.len()), leaf, data, encoded }
    }

    fn word(&self, at: usize) -> usize {
        u32::from_le_bytes(self.encoded[at..at + 4].try_into().expect("four bytes")) as usize
    }

    /// The blocks' places, sorted; none where the bytes are stored as they are.
    fn blocks(&self) -> Vec<usize> {
        if self.encoded[2] & 2 != 0 {
            return Vec::new();
        }
        let n_blocks = self.word(4).div_ceil(self.word(8));
        let mut blocks: Vec<usize> = (0..n_blocks).map(|nth| self.word(HEADER_BYTES + 4 * nth)).collect();
        blocks.sort_unstable();
        blocks
    }

    /// Bytes that say where things are: the header, the table of blocks, and the lengths of streams.
    fn structure(&self) -> Vec<usize> {
        let blocks = self.blocks();
        let mut places: Vec<usize> = (0..HEADER_BYTES + 4 * blocks.len()).collect();
        let ends = blocks.iter().skip(1).copied().chain([self.encoded.len()]);
        for (&start, end) in blocks.iter().zip(ends) {
            let mut at = start;
            while at + 4 <= end {
                places.extend(at..at + 4);
                at += 4 + self.word(at);
            }
        }
        places
    }

    #[track_caller]
    fn assert_survives(&self, encoded: &[u8]) {
        self.leaf.write(encoded);
        for (start, end) in self.leaf.ranges() {
            if let Ok(read) = self.leaf.read((start, end)) {
                assert_eq!(read.len(), end - start, "{}", self.what);
                assert!(encoded != self.encoded || read == self.data[start..end], "{}", self.what);
            }
        }
    }
}

/// Every inner codec and shuffle; blocks of one stream, of one stream for each byte of the type, short last blocks,
/// blocks that are one and all, and chunks that are stored. C-Blosc splits no blocks below 64 KiB.
fn chunks() -> &'static [Chunk] {
    static CHUNKS: OnceLock<Vec<Chunk>> = OnceLock::new();
    CHUNKS.get_or_init(|| {
        let mut chunks = Vec::new();
        for cname in NAMES {
            for shuffle in SHUFFLES {
                chunks.push(Chunk::new(cname, shuffle, 4, 5, sample(3_500)));
                chunks.push(Chunk::new(cname, shuffle, 1, 1, sample(2_048)));
                chunks.push(Chunk::new(cname, shuffle, 12, 9, sample(2_000)));
            }
            chunks.push(Chunk::new(cname, "shuffle", 8, 5, sample(150_000)));
            chunks.push(Chunk::new(cname, "bitshuffle", 255, 5, sample(100)));
        }
        let noise: Vec<u8> = (0..1_500u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        chunks.push(Chunk::new("lz4", "shuffle", 4, 0, noise));
        chunks
    })
}

#[test]
fn every_kind_of_chunk_is_among_those_that_are_damaged() {
    let has = |kind: fn(&Chunk) -> bool| chunks().iter().any(kind);
    let n_lengths = |chunk: &Chunk| (chunk.structure().len() - HEADER_BYTES) / 4 - chunk.blocks().len();
    assert!(has(|chunk| chunk.blocks().is_empty()), "stored");
    assert!(has(|chunk| chunk.blocks().len() == 1) && has(|chunk| chunk.blocks().len() > 2));
    assert!(
        chunks().iter().any(|chunk| chunk.blocks().len() > 1 && n_lengths(chunk) > 2 * chunk.blocks().len()),
        "split"
    );
    for chunk in chunks() {
        chunk.assert_survives(&chunk.encoded);
        assert!(chunk.leaf.read((0, chunk.data.len())).is_ok(), "{}", chunk.what);
    }
}

#[test]
fn any_byte_of_structure_may_be_damaged() {
    for chunk in chunks() {
        // The large ones, of split blocks, take long.
        let step = 1 + chunk.data.len() / 20_000;
        for at in chunk.structure().into_iter().step_by(step) {
            let good = chunk.encoded[at];
            let flips = (0..8).map(|bit| good ^ (1 << bit));
            for value in flips.chain([0, 0xff, good.wrapping_add(1), good.wrapping_sub(1), 3]) {
                let mut damaged = chunk.encoded.clone();
                damaged[at] = value;
                chunk.assert_survives(&damaged);
            }
        }
    }
}

#[test]
fn headers_may_hold_anything() {
    for chunk in chunks().iter().filter(|chunk| chunk.data.len() < 10_000).step_by(9) {
        for at in 0..HEADER_BYTES {
            for value in 0..=255 {
                let mut damaged = chunk.encoded.clone();
                damaged[at] = value;
                chunk.assert_survives(&damaged);
            }
        }
    }
}

#[test]
fn chunks_cut_off_anywhere_are_refused() {
    for chunk in chunks().iter().step_by(3) {
        let step = 1 + chunk.encoded.len() / 300;
        for len in (0..chunk.encoded.len()).step_by(step) {
            chunk.leaf.write(&chunk.encoded[..len]);
            assert!(chunk.leaf.read((0, chunk.data.len())).is_err(), "{} at {len}", chunk.what);
            assert!(chunk.leaf.read((0, 1)).is_err(), "{} at {len}", chunk.what);
        }
    }
}

#[test]
fn blocks_in_one_place_are_refused() {
    for chunk in chunks().iter().filter(|chunk| chunk.blocks().len() > 1) {
        let mut damaged = chunk.encoded.clone();
        damaged.copy_within(HEADER_BYTES..HEADER_BYTES + 4, HEADER_BYTES + 4);
        chunk.leaf.write(&damaged);
        for range in chunk.leaf.ranges() {
            assert!(chunk.leaf.read(range).is_err(), "{}", chunk.what);
        }
    }
}

/// One thing that happens to a file.
#[derive(Debug, Clone)]
enum Damage {
    Byte(prop::sample::Index, u8),
    /// A word of the header or near it.
    Word(usize, u32),
    Zeros(prop::sample::Index, usize),
    Copied(prop::sample::Index, prop::sample::Index, usize),
    CutOff(prop::sample::Index),
    Longer(Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    use prop::sample::Index;
    prop_oneof![
        4 => any::<(Index, u8)>().prop_map(|(at, value)| Damage::Byte(at, value)),
        2 => (0usize..16, prop_oneof![any::<u32>(), 0u32..5_000, Just(u32::MAX), Just(1 << 31)])
            .prop_map(|(at, word)| Damage::Word(at, word)),
        1 => (any::<Index>(), 1usize..600).prop_map(|(at, n)| Damage::Zeros(at, n)),
        1 => (any::<Index>(), any::<Index>(), 1usize..600).prop_map(|(from, to, n)| Damage::Copied(from, to, n)),
        1 => any::<Index>().prop_map(Damage::CutOff),
        1 => prop::collection::vec(any::<u8>(), 1..40).prop_map(Damage::Longer),
    ]
}

fn apply(damages: &[Damage], bytes: &mut Vec<u8>) {
    for damage in damages {
        let len = bytes.len();
        match damage {
            Damage::Longer(more) => bytes.extend(more),
            _ if len == 0 => {}
            Damage::Byte(at, value) => bytes[at.index(len)] = *value,
            Damage::Word(nth, word) => {
                if let Some(place) = bytes.get_mut(4 * nth..4 * nth + 4) {
                    place.copy_from_slice(&word.to_le_bytes());
                }
            }
            Damage::Zeros(at, n) => {
                let at = at.index(len);
                bytes[at..(at + n).min(len)].fill(0);
            }
            Damage::Copied(from, to, n) => {
                let (from, to) = (from.index(len), to.index(len));
                let n = (*n).min(len - from).min(len - to);
                bytes.copy_within(from..from + n, to);
            }
            Damage::CutOff(at) => bytes.truncate(at.index(len)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: n_cases(20_000), ..ProptestConfig::default() })]

    #[test]
    fn chunks_damaged_in_any_way_are_survived(
        nth in any::<prop::sample::Index>(),
        damages in prop::collection::vec(damage(), 1..5),
        keeps_lengths in any::<bool>(),
    ) {
        let chunk = nth.get(chunks());
        let mut encoded = chunk.encoded.clone();
        apply(&damages, &mut encoded);
        if keeps_lengths && encoded.len() >= HEADER_BYTES {
            // Else the header's lengths would catch most of it.
            encoded[4..8].copy_from_slice(&chunk.encoded[4..8]);
            let len = encoded.len() as u32;
            encoded[12..16].copy_from_slice(&len.to_le_bytes());
        }
        chunk.assert_survives(&encoded);
    }
}
