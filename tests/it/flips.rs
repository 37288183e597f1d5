//! Every bit of small chunks turned over, of each codec that has a checksum: nobody ever reads another value than the true one.

use crate::leaf::{Leaf, sample};
use crate::stores::{Codec, Model, positions};
use rechunkfs::source::{ArrayReader, Counters};
use rechunkfs::zarr::{KeyEncoding, KeyStyle};
use std::fs;
use std::sync::Arc;

const CRC32C: &str = r#"{"name":"crc32c"}"#;
const FLETCHER32: &str = r#"{"name":"numcodecs.fletcher32"}"#;
const ZSTD: &str = r#"{"name":"zstd","configuration":{"level":3,"checksum":true}}"#;
const BLOSC: &str =
    r#"{"name":"blosc","configuration":{"cname":"lz4","clevel":5,"shuffle":"shuffle","typesize":4,"blocksize":128}}"#;
const GZIP: &str = r#"{"name":"gzip","configuration":{"level":1}}"#;

const CHAINS: [&[&str]; 7] = [
    &[CRC32C],
    &[ZSTD],
    &[BLOSC, CRC32C],
    &[GZIP, CRC32C],
    &[ZSTD, CRC32C],
    &[FLETCHER32],
    &[BLOSC, r#"{"name":"numcodecs.adler32","configuration":{"location":"end"}}"#],
];

fn model(codecs: &'static [&'static str], inner_shape: Option<Vec<u64>>) -> Model {
    let shape = vec![12, 10];
    Model {
        file_shape: shape.clone(),
        inner_shape,
        order: vec![0, 1],
        codec: Codec::Chain(codecs),
        item_bytes: 4,
        fill: vec![0, 0, 0xc0, 0x7f],
        key_encoding: KeyEncoding { style: KeyStyle::Default, separator: '.' },
        data: sample(12 * 10 * 4),
        missing: if shape.is_empty() { Vec::new() } else { vec![2] },
        shape,
    }
}

/// Turns over each bit of the one file of `model`, and reads all of it. `always` it is noticed by somebody.
fn turn_every_bit(model: &Model, always: bool) {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory");
    model.write(folder.path());
    let file = folder.path().join(model.key(&[0, 0]));
    let good = fs::read(&file).expect("written");
    let n_leaf: u64 = model.leaf_shape().iter().product();
    for bit in 0..8 * good.len() {
        let mut damaged = good.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        fs::write(&file, damaged).expect("written");
        // One that has no shard in mind yet.
        let reader = ArrayReader::new(folder.path(), &model.source_array(""), 1, Arc::<Counters>::default());
        let reader = reader.expect("supported");
        let stamp = reader.state(&[0, 0]).expect("there").stamp;
        let mut is_noticed = false;
        for leaf in positions(&model.leaf_grid()) {
            let mut out = vec![0xa5; n_leaf as usize * model.item_bytes];
            let truth: Vec<u8> = positions(model.leaf_shape())
                .flat_map(|within| {
                    let at: Vec<u64> =
                        (0..2).map(|axis| leaf[axis] * model.leaf_shape()[axis] + within[axis]).collect();
                    model.truth(&at).to_vec()
                })
                .collect();
            for (start, end) in [(0, n_leaf), (0, 1), (n_leaf - 1, n_leaf)] {
                let out = &mut out[..(end - start) as usize * model.item_bytes];
                match reader.read(&leaf, (start, end), stamp, out) {
                    Ok(true) => assert!(
                        *out == truth[start as usize * model.item_bytes..end as usize * model.item_bytes],
                        "{:?}: bit {bit} of leaf {leaf:?}",
                        model.codec
                    ),
                    Ok(false) => assert!(truth.chunks(4).all(|item| item == model.fill), "bit {bit}: it is there"),
                    Err(_) => is_noticed = true,
                }
            }
        }
        assert!(is_noticed || !always, "{:?}: bit {bit} is not noticed", model.codec);
    }
}

#[test]
fn a_flipped_bit_in_a_chunk_with_a_checksum_is_an_error() {
    for chain in CHAINS {
        let mut model = model(chain, None);
        model.missing.clear();
        turn_every_bit(&model, chain.len() > 1 || chain[0] != ZSTD);
    }
}

#[test]
fn a_flipped_bit_anywhere_in_a_shard_with_checksums_is_an_error_of_somebody() {
    for chain in [&[CRC32C][..], &[ZSTD], &[BLOSC, CRC32C]] {
        turn_every_bit(&model(chain, Some(vec![4, 10])), chain.len() > 1 || chain[0] != ZSTD);
    }
}

#[test]
fn where_a_chunk_has_its_checksum_at_the_end_no_part_is_believed_before_it() {
    let data = sample(300_000);
    let leaf = Leaf::new(&[ZSTD], data.len());
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("a level");
    encoder.include_checksum(true).expect("set");
    std::io::Write::write_all(&mut encoder, &data).expect("encodes");
    let encoded = encoder.finish().expect("encodes");
    for bit in (0..8 * encoded.len()).step_by(1_501) {
        let mut damaged = encoded.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        leaf.write(&damaged);
        for (start, end) in leaf.ranges() {
            assert!(leaf.read((start, end)).is_err(), "bit {bit}: {start}..{end}");
        }
    }
}
