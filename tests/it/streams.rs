//! gzip, zlib and zstd: decoded as far as was asked for, to the true bytes or to an error.

use crate::leaf::{Leaf, sample};
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use proptest::prelude::*;
use rechunkfs::source::{ArrayReader, Counters, hierarchy};
use rechunkfs::zarr::{Layout, project};
use std::io::Write;
use std::sync::Arc;

const GZIP: &str = r#"{"name":"gzip","configuration":{"level":5}}"#;
const ZLIB: &str = r#"{"name":"numcodecs.zlib","configuration":{"level":1}}"#;
const ZSTD: &str = r#"{"name":"zstd","configuration":{"level":3,"checksum":true}}"#;
/// What remains of a leaf is decoded for its checks if it is shorter.
const SHORT_REST_BYTES: usize = 64 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Gzip,
    Zlib,
    Zstd { checksum: bool, content_size: bool },
}

const ZSTD_CHECKED: Format = Format::Zstd { checksum: true, content_size: true };
const ZSTD_BARE: Format = Format::Zstd { checksum: false, content_size: false };
const FORMATS: [Format; 5] = [
    Format::Gzip,
    Format::Zlib,
    ZSTD_CHECKED,
    Format::Zstd { checksum: true, content_size: false },
    Format::Zstd { checksum: false, content_size: true },
];

impl Format {
    fn codec(self) -> &'static str {
        match self {
            Format::Gzip => GZIP,
            Format::Zlib => ZLIB,
            Format::Zstd { .. } => ZSTD,
        }
    }

    /// Whether damage to any byte shows when the stream is decoded to its end.
    fn has_checksum(self) -> bool {
        !matches!(self, Format::Zstd { checksum: false, .. })
    }

    /// Whether a stream is decoded to its end whatever is wanted of it.
    fn is_decoded_to_its_end(self) -> bool {
        matches!(self, Format::Zstd { checksum: true, .. })
    }

    fn encode(self, data: &[u8], level: i32) -> Vec<u8> {
        match self {
            Format::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level.clamp(0, 9) as u32));
                encoder.write_all(data).expect("encodes");
                encoder.finish().expect("encodes")
            }
            Format::Zlib => {
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(level.clamp(0, 9) as u32));
                encoder.write_all(data).expect("encodes");
                encoder.finish().expect("encodes")
            }
            Format::Zstd { checksum, content_size } => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), level).expect("a level");
                encoder.include_checksum(checksum).expect("set");
                if content_size {
                    encoder.set_pledged_src_size(Some(data.len() as u64)).expect("set");
                }
                encoder.write_all(data).expect("encodes");
                encoder.finish().expect("encodes")
            }
        }
    }
}

#[track_caller]
fn assert_true(leaf: &Leaf, data: &[u8], encoded: &[u8]) {
    leaf.write(encoded);
    for (start, end) in leaf.ranges() {
        let read = leaf.read((start, end)).unwrap_or_else(|error| panic!("{start}..{end}: {error}"));
        assert!(read == data[start..end], "{start}..{end}");
    }
}

#[track_caller]
fn assert_refused(leaf: &Leaf, encoded: &[u8], words: &str) {
    leaf.write(encoded);
    for range in leaf.ranges() {
        let error = leaf.read(range).expect_err("refused").to_string();
        assert!(error.contains(words) && error.contains("chunk file 0"), "{error}");
    }
}

/// Every range is the truth or an error; with a checksum that covers all of it, nothing else can be.
#[track_caller]
fn assert_no_lie(leaf: &Leaf, data: &[u8], encoded: &[u8], format: Format, what: &str) {
    leaf.write(encoded);
    for (start, end) in leaf.ranges() {
        if let Ok(read) = leaf.read((start, end)) {
            assert!(!format.has_checksum() || read == data[start..end], "{format:?} {what}: {start}..{end}");
        }
    }
}

#[test]
fn a_read_decodes_to_the_end_of_its_range_and_no_further() {
    let data = sample(3_000_000);
    for format in FORMATS.into_iter().chain([ZSTD_BARE]) {
        for level in [1, 9] {
            let leaf = Leaf::new(&[format.codec()], data.len());
            let encoded = format.encode(&data, level);
            leaf.write(&encoded);
            assert_eq!(leaf.read((500, 100_000)).expect("reads"), data[500..100_000]);
            let counts = leaf.counts();
            if format.is_decoded_to_its_end() {
                assert_eq!(counts.decoded_bytes, 3_000_000);
                continue;
            }
            assert_eq!((counts.decoded_bytes, counts.blocks), (100_000, 1), "{format:?}");
            assert!(counts.read_bytes < encoded.len() as u64 / 2, "{format:?} reads {}", counts.read_bytes);
            // So little is left that it is decoded for the sake of the checks.
            assert_eq!(leaf.read((0, 2_999_000)).expect("reads"), data[..2_999_000]);
            let counts = leaf.counts();
            assert_eq!(counts.decoded_bytes, 3_100_000, "{format:?}");
            assert_true(&leaf, &data, &encoded);
        }
    }
}

#[test]
fn damage_behind_what_was_decoded_shows_to_those_alone_who_read_it() {
    let data = sample(400_000);
    for format in FORMATS {
        let leaf = Leaf::new(&[format.codec()], data.len());
        let encoded = format.encode(&data, 3);
        leaf.write(&encoded[..encoded.len() - 5]);
        if format.is_decoded_to_its_end() {
            assert!(leaf.read((0, 1000)).is_err(), "{format:?}: its checksum was asked for");
            continue;
        }
        assert_eq!(leaf.read((0, 1000)).expect("an intact part"), data[..1000]);
        let last = data.len() - SHORT_REST_BYTES;
        assert!(leaf.read((0, last)).is_err(), "{format:?}: to the end, as little is left");
        assert!(leaf.read((399_999, 400_000)).is_err());
        leaf.write(&encoded[..encoded.len() / 2]);
        assert_eq!(leaf.read((0, 1000)).expect("an intact part"), data[..1000]);
        assert!(leaf.read((0, 300_000)).is_err(), "{format:?}: no zeros for what is missing");
    }
}

#[test]
fn a_stream_of_another_length_is_refused() {
    let data = sample(5_000);
    for format in FORMATS.into_iter().chain([ZSTD_BARE]) {
        let leaf = Leaf::new(&[format.codec()], data.len());
        assert_refused(&leaf, &format.encode(&sample(5_001), 3), "more than 5000 bytes");
        let short = format.encode(&data[..4_999], 3);
        assert_refused(&leaf, &short, "fewer than 5000 bytes");
        assert_refused(&leaf, &[], "");
    }
}

#[test]
fn streams_may_come_in_several_parts() {
    let data = sample(30_000);
    for format in FORMATS.into_iter().chain([ZSTD_BARE]).filter(|format| *format != Format::Zlib) {
        let leaf = Leaf::new(&[format.codec()], data.len());
        let mut encoded = Vec::new();
        for (start, end) in [(0, 1), (1, 1), (1, 10_000), (10_000, 29_999), (29_999, 30_000), (30_000, 30_000)] {
            encoded.extend(format.encode(&data[start..end], 1));
            if format != Format::Gzip {
                // A frame of something else, which decoders pass over.
                encoded.extend([0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
            }
        }
        assert_true(&leaf, &data, &encoded);
        let one_more = [encoded, format.encode(&[7], 1)].concat();
        assert_refused(&leaf, &one_more, "more than 30000 bytes");
    }
}

#[test]
fn what_follows_a_stream_is_as_welcome_as_it_is_to_others() {
    let data = sample(2_000);
    for format in FORMATS {
        let leaf = Leaf::new(&[format.codec()], data.len());
        for rest in [&b"\0"[..], b"\0\0\0\0\0\0\0", b"garbage that follows"] {
            let encoded = [&format.encode(&data, 3), rest].concat();
            match format {
                Format::Gzip | Format::Zlib => assert_true(&leaf, &data, &encoded),
                Format::Zstd { .. } => assert_refused(&leaf, &encoded, ""),
            }
        }
    }
}

#[test]
fn a_claim_of_a_header_is_not_memory() {
    let leaf = Leaf::new(&[ZSTD], 1_000);
    let whole = Leaf::new(&[r#"{"name":"numcodecs.shuffle","configuration":{"elementsize":4}}"#, ZSTD], 1_000);
    // One segment of 2^60 bytes, then a run of 2^17.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xe0];
    frame.extend((1u64 << 60).to_le_bytes());
    frame.extend([0x03, 0x00, 0x10, 0x77]);
    assert_refused(&leaf, &frame, "");
    assert_refused(&whole, &frame, "");
    // A window of 2^28 bytes, and the longest that is allowed.
    let window = |log: u8| [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, (log - 10) << 3][..], &[0x43, 0x1f, 0x00, 0x77]].concat();
    assert_refused(&leaf, &window(28), "");
    assert_true(&leaf, &[0x77; 1_000], &window(27));
    // Streams of zeros a thousand times as long as the leaf.
    for format in FORMATS {
        let long = format.encode(&vec![0; 1_000_000], 9);
        assert_refused(&Leaf::new(&[format.codec()], 1_000), &long, "more than 1000 bytes");
    }
}

#[test]
fn streams_cut_off_anywhere_are_refused() {
    let data = sample(700);
    for format in FORMATS.into_iter().chain([ZSTD_BARE]) {
        let leaf = Leaf::new(&[format.codec()], data.len());
        let encoded = [format.encode(&data[..300], 3), format.encode(&data[300..], 3)].concat();
        let encoded = if format == Format::Zlib { format.encode(&data, 3) } else { encoded };
        for len in 0..encoded.len() {
            assert_refused(&leaf, &encoded[..len], "");
        }
        assert_true(&leaf, &data, &encoded);
    }
}

#[test]
fn a_flipped_bit_anywhere_never_shows() {
    let data = sample(400);
    for format in FORMATS.into_iter().chain([ZSTD_BARE]) {
        let leaf = Leaf::new(&[format.codec()], data.len());
        let encoded = format.encode(&data, 3);
        for bit in 0..8 * encoded.len() {
            let mut damaged = encoded.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_no_lie(&leaf, &data, &damaged, format, &format!("bit {bit}"));
        }
    }
}

#[test]
fn checksums_round_a_stream_are_checked_before_any_of_it_is_used() {
    let data = sample(200_000);
    let adler = |bytes: &[u8]| {
        let (a, b) = bytes.iter().fold((1u32, 0u32), |(a, b), &byte| {
            let a = (a + u32::from(byte)) % 65_521;
            (a, (b + a) % 65_521)
        });
        ((b << 16) | a).to_le_bytes()
    };
    for format in [Format::Gzip, Format::Zlib, ZSTD_CHECKED, ZSTD_BARE] {
        let encoded = format.encode(&data, 1);
        for is_at_start in [false, true] {
            let location = if is_at_start { "start" } else { "end" };
            let sum = format!(r#"{{"name":"numcodecs.adler32","configuration":{{"location":"{location}"}}}}"#);
            let leaf = Leaf::new(&[format.codec(), &sum], data.len());
            let sum = adler(&encoded);
            let good = if is_at_start { [&sum, &encoded[..]].concat() } else { [&encoded[..], &sum].concat() };
            assert_true(&leaf, &data, &good);
            leaf.write(&good);
            let before = leaf.counts().decoded_bytes;
            assert_eq!(leaf.read((10, 20)).expect("reads"), data[10..20]);
            let decoded = if format.is_decoded_to_its_end() { data.len() as u64 } else { 20 };
            assert_eq!(leaf.counts().decoded_bytes - before, decoded, "{format:?}");
            for at in [4, good.len() / 2, good.len() - 5] {
                let mut damaged = good.clone();
                damaged[at] ^= 0x10;
                assert_refused(&leaf, &damaged, "");
            }
            assert_refused(&leaf, &good[..3], "");
        }
    }
}

#[test]
fn the_compressors_of_zarr_v2_are_streams_too() {
    let compressors = [
        (Format::Gzip, r#"{"id":"gzip","level":1}"#, "null"),
        (Format::Zlib, r#"{"id":"zlib","level":1}"#, "null"),
        (ZSTD_BARE, r#"{"id":"zstd","level":1}"#, "null"),
        (ZSTD_CHECKED, r#"{"id":"zstd","level":1,"checksum":true}"#, "[]"),
        // A filter alone is a chain as well.
        (Format::Zlib, "null", r#"[{"id":"zlib","level":1}]"#),
    ];
    for (format, compressor, filters) in compressors {
        let store = tempfile::tempdir().expect("a directory");
        let text = format!(
            r#"{{"zarr_format":2,"shape":[4000,100],"chunks":[4000,100],"dtype":"|u1","compressor":{compressor},
                "fill_value":0,"order":"C","filters":{filters}}}"#
        );
        std::fs::write(store.path().join(".zarray"), text).expect("written");
        let data = sample(400_000);
        std::fs::write(store.path().join("0.0"), format.encode(&data, 1)).expect("written");
        let layout = Layout { chunks: vec!["0=10,1=full".into()], ..Layout::default() };
        let projection = project(&hierarchy::read(store.path()).expect("a store"), &layout).expect("a layout");
        let counters = Arc::new(Counters::default());
        let source = &projection.arrays[0].source;
        let reader = ArrayReader::new(store.path(), source, 1, Arc::clone(&counters)).expect("supported");
        let stamp = reader.state(&[0, 0]).expect("there").stamp;
        let mut out = vec![0; 1_000];
        assert!(reader.read(&[0, 0], (9_000, 10_000), stamp, &mut out).expect("reads"));
        assert_eq!(out, data[9_000..10_000]);
        let decoded = if format.is_decoded_to_its_end() { 400_000 } else { 10_000 };
        assert_eq!(counters.values().decoded_bytes, decoded, "{compressor}");
    }
}

fn any_format() -> impl Strategy<Value = Format> {
    prop::sample::select(FORMATS.into_iter().chain([ZSTD_BARE]).collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::leaf::n_cases(300), ..ProptestConfig::default() })]

    #[test]
    fn any_range_of_any_stream_is_the_truth(
        format in any_format(),
        level in prop::sample::select(vec![0, 1, 5, 9, 19]),
        data in (1usize..200_000, any::<u8>()).prop_map(|(n, first)| {
            let mut data = sample(n);
            data[0] = first;
            data
        }),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        range in any::<(prop::sample::Index, prop::sample::Index)>(),
    ) {
        let leaf = Leaf::new(&[format.codec()], data.len());
        let mut borders: Vec<usize> = cuts.iter().map(|cut| cut.index(data.len())).collect();
        borders.extend([0, data.len()]);
        borders.sort_unstable();
        let encoded = match format {
            Format::Zlib => format.encode(&data, level),
            _ => borders.windows(2).flat_map(|part| format.encode(&data[part[0]..part[1]], level)).collect(),
        };
        leaf.write(&encoded);
        let (a, b) = (range.0.index(data.len()), range.1.index(data.len()));
        let (start, end) = (a.min(b), a.max(b) + 1);
        prop_assert!(leaf.read((start, end)).expect("reads") == data[start..end]);
    }
}
