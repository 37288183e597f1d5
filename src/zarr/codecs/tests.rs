//! Classification, each one checked by building what it says with zarrs.

use std::num::NonZeroU64;
use std::sync::Arc;

use zarrs::array::{CodecChain, DataType as ZarrsType, FillValueMetadata};
use zarrs::metadata::v3::MetadataV3;

use super::*;
use crate::zarr::{data_type, fill, json};

struct Case {
    data_type: &'static str,
    fill: &'static str,
    shape: &'static [u64],
    codecs: &'static str,
}

fn run(case: &Case) -> Result<Chain, String> {
    let data_type = data_type::parse(&json::parse(case.data_type).unwrap())?;
    let fill = fill::parse(&json::parse(case.fill).unwrap(), &data_type)?;
    let codecs = json::parse(case.codecs).unwrap();
    classify(codecs.elements().unwrap(), case.shape, Elements { data_type: &data_type, fill: &fill })
}

/// Builds the chain with zarrs and sends one chunk of fill values there and back.
#[track_caller]
fn build(chain: &Chain, item_bytes: usize) {
    let (data_type, fill, codecs) = match &chain.encoding {
        Encoding::Opaque { data_type, fill_value, codecs } => (data_type.clone(), fill_value.clone(), codecs.clone()),
        Encoding::Linear { bytes_to_bytes, .. } => {
            let mut codecs = vec![r#"{"name":"bytes"}"#.to_owned()];
            codecs.extend(bytes_to_bytes.iter().filter(|codec| !codec.contains("lz4\",\"conf")).cloned());
            (format!("\"r{}\"", 8 * item_bytes), format!("{:?}", vec![0; item_bytes]), codecs)
        }
        Encoding::Variable { .. } => panic!("elements of any length"),
    };
    let mut lists = vec![(data_type, fill, codecs)];
    if let Some(sharding) = &chain.sharding {
        lists.push(("\"uint64\"".to_owned(), "1".to_owned(), sharding.index_codecs.clone()));
    }
    for (data_type, fill, codecs) in lists {
        let metadata: Vec<MetadataV3> = codecs.iter().map(|codec| serde_json::from_str(codec).expect(codec)).collect();
        let built = Arc::new(CodecChain::from_metadata(&metadata).unwrap_or_else(|e| panic!("{codecs:?}: {e}")));
        let metadata: MetadataV3 = serde_json::from_str(&data_type).unwrap();
        let data_type = ZarrsType::from_metadata(&metadata).unwrap();
        let fill: FillValueMetadata = serde_json::from_str(&fill).unwrap();
        let fill = data_type.fill_value_v3(&fill).unwrap();
        let shape: Vec<NonZeroU64> = chain.leaf_shape.iter().map(|l| NonZeroU64::new(*l).unwrap()).collect();
        let count = chain.leaf_shape.iter().product::<u64>();
        use zarrs::array::{ArrayBytes, ArrayToBytesCodecTraits, CodecOptions};
        let bytes = ArrayBytes::new_fill_value(&data_type, count, &fill).unwrap();
        let options = CodecOptions::default();
        let encoded = built.encode(bytes.clone(), &shape, &data_type, &fill, &options).unwrap();
        let decoded = built.decode(encoded, &shape, &data_type, &fill, &options).unwrap();
        assert_eq!(bytes, decoded, "{codecs:?}");
    }
}

const F4: Case = Case { data_type: "\"float32\"", fill: "\"NaN\"", shape: &[4, 6], codecs: "[]" };
const BYTES: &str = r#"{"name":"bytes","configuration":{"endian":"little"}}"#;
const INDEX: &str = r#"[{"name":"bytes","configuration":{"endian":"little"}},{"name":"crc32c"}]"#;

#[track_caller]
fn check_linear(codecs: &str, order: &[usize], documents: &[&str]) {
    let codecs: &'static str = codecs.to_owned().leak();
    let chain = run(&Case { codecs, ..F4 }).unwrap();
    let documents = documents.iter().map(|document| (*document).to_owned()).collect();
    assert_eq!(chain.encoding, Encoding::Linear { order: order.to_vec(), bytes_to_bytes: documents });
    build(&chain, 4);
}

#[test]
fn transposes_bytes_and_compressors_are_linear() {
    check_linear(&format!("[{BYTES}]"), &[0, 1], &[]);
    check_linear(r#"["bytes", "crc32c"]"#, &[0, 1], &[r#"{"name":"crc32c"}"#]);
    check_linear(
        &format!(
            r#"[{{"name":"transpose","configuration":{{"order":[1,0]}}}},{{"name":"bitround","configuration":{{"keepbits":3}}}},{{"name":"numcodecs.quantize","configuration":{{"digits":2,"dtype":"<f4"}}}},{BYTES}]"#
        ),
        &[1, 0],
        &[],
    );
}

#[test]
fn transposes_are_composed() {
    let codecs = r#"[{"name":"transpose","configuration":{"order":[1,2,0]}},{"name":"transpose","configuration":{"order":[0,2,1]}},{"name":"bytes"}]"#;
    let chain = run(&Case { shape: &[2, 3, 4], codecs, ..F4 }).unwrap();
    // (a, b, c) -> (b, c, a) -> (b, a, c)
    assert_eq!(chain.encoding, Encoding::Linear { order: vec![1, 0, 2], bytes_to_bytes: vec![] });
}

#[test]
fn spellings_are_put_right() {
    for (given, expected) in [
        (
            r#"{"name":"zstd","configuration":{"level":3}}"#,
            r#"{"name":"zstd","configuration":{"level":3,"checksum":false}}"#,
        ),
        (
            r#"{"name":"numcodecs.zstd","configuration":{}}"#,
            r#"{"name":"zstd","configuration":{"level":0,"checksum":false}}"#,
        ),
        (r#"{"name":"numcodecs.gzip","configuration":{"level":1}}"#, r#"{"name":"gzip","configuration":{"level":1}}"#),
        (r#"{"name":"gzip"}"#, r#"{"name":"gzip","configuration":{"level":5}}"#),
        (r#"{"name":"numcodecs.zlib","configuration":{}}"#, r#"{"name":"numcodecs.zlib","configuration":{"level":1}}"#),
        (r#"{"name":"numcodecs.bz2","configuration":{}}"#, r#"{"name":"numcodecs.bz2","configuration":{"level":1}}"#),
        (
            r#"{"name":"numcodecs.lz4","configuration":{"acceleration":1}}"#,
            r#"{"name":"numcodecs.lz4","configuration":{}}"#,
        ),
        (
            r#"{"name":"numcodecs.shuffle","configuration":{}}"#,
            r#"{"name":"numcodecs.shuffle","configuration":{"elementsize":4}}"#,
        ),
        (r#"{"name":"numcodecs.fletcher32"}"#, r#"{"name":"numcodecs.fletcher32","configuration":{}}"#),
        (
            r#"{"name":"numcodecs.adler32","configuration":{}}"#,
            r#"{"name":"numcodecs.adler32","configuration":{"location":"start"}}"#,
        ),
        (r#"{"name":"numcodecs.crc32c","configuration":{}}"#, r#"{"name":"crc32c"}"#),
        (
            r#"{"name":"numcodecs.blosc","configuration":{"cname":"lz4","clevel":5,"shuffle":1,"blocksize":0}}"#,
            r#"{"name":"blosc","configuration":{"cname":"lz4","clevel":5,"shuffle":"shuffle","typesize":4,"blocksize":0}}"#,
        ),
    ] {
        check_linear(&format!("[{BYTES},{given}]"), &[0, 1], &[expected]);
    }
}

#[test]
fn shards_are_taken_apart_once() {
    let inner = format!(
        r#"{{"name":"sharding_indexed","configuration":{{"chunk_shape":[2,3],"codecs":[{BYTES},{{"name":"zstd","configuration":{{"level":0}}}}],"index_codecs":{INDEX},"index_location":"start"}}}}"#
    );
    let chain = run(&Case { codecs: format!("[{inner}]").leak(), ..F4 }).unwrap();
    assert_eq!((chain.leaf_shape.as_slice(), chain.sharding.as_ref().unwrap().index_at_end), (&[2, 3][..], false));
    assert!(matches!(chain.encoding, Encoding::Linear { .. }));
    build(&chain, 4);

    // Shards in shards, and shards that are compressed as a whole, are decoded whole, under a raw type.
    let outer = format!(
        r#"[{{"name":"sharding_indexed","configuration":{{"chunk_shape":[4,3],"codecs":[{inner}],"index_codecs":{INDEX}}}}}]"#
    );
    for codecs in [
        outer,
        format!(r#"[{inner},{{"name":"numcodecs.zlib","configuration":{{}}}}]"#),
        format!(r#"[{{"name":"transpose","configuration":{{"order":"F"}}}},{inner}]"#),
    ] {
        let chain = run(&Case { shape: &[6, 6], codecs: codecs.clone().leak(), ..F4 });
        // The transposed [6, 6] is divided by [2, 3] as well.
        let chain = chain.or_else(|_| run(&Case { shape: &[4, 6], codecs: codecs.leak(), ..F4 })).unwrap();
        let Encoding::Opaque { data_type, fill_value, .. } = &chain.encoding else { panic!("{chain:?}") };
        assert_eq!((data_type.as_str(), fill_value.as_str()), ("\"r32\"", "[0,0,192,127]"));
        build(&chain, 4);
    }
}

#[test]
fn what_computes_keeps_its_type() {
    for (data_type, fill, codec, expected_fill) in [
        ("\"float32\"", "\"NaN\"", r#"{"name":"numcodecs.pcodec","configuration":{"level":8}}"#, "\"0x7fc00000\""),
        ("\"int16\"", "-5", r#"{"name":"numcodecs.pcodec","configuration":{}}"#, "-5"),
        ("\"bool\"", "true", r#"{"name":"packbits","configuration":{}}"#, "true"),
        ("\"uint64\"", "18446744073709551615", r#""packbits""#, "18446744073709551615"),
    ] {
        let chain = run(&Case { data_type, fill, shape: &[4, 6], codecs: format!("[{codec}]").leak() }).unwrap();
        let Encoding::Opaque { data_type: found, fill_value, .. } = &chain.encoding else { panic!("{chain:?}") };
        assert_eq!((found.as_str(), fill_value.as_str()), (data_type, expected_fill));
        assert_ne!(chain.endian, Some(Endian::Big));
        build(&chain, 8);
    }
    let codecs = r#"[{"name":"numcodecs.fixedscaleoffset","configuration":{"offset":1000,"scale":10,"dtype":"<f8","astype":"<i2"}},{"name":"bytes","configuration":{"endian":"big"}}]"#;
    build(&run(&Case { data_type: "\"float64\"", fill: "1000.5", shape: &[4], codecs }).unwrap(), 8);
}

#[test]
fn byte_order_follows_the_source() {
    let big = r#"[{"name":"bytes","configuration":{"endian":"big"}}]"#;
    assert_eq!(run(&Case { codecs: big, ..F4 }).unwrap().endian, Some(Endian::Big));
    assert_eq!(run(&Case { data_type: "\"int8\"", fill: "0", codecs: big, ..F4 }).unwrap().endian, None);
    assert_eq!(run(&Case { data_type: "\"r32\"", fill: "[0,0,0,0]", codecs: big, ..F4 }).unwrap().endian, None);
}

#[test]
fn what_cannot_be_decoded_is_named() {
    for (codecs, reason) in [
        ("[]", "no codec turns the array into bytes"),
        (r#"[{"name":"numcodecs.delta","configuration":{}},"bytes"]"#, "codec numcodecs.delta is not supported"),
        (
            r#"[{"name":"numcodecs.quantize","configuration":{"dtype":"<f4","astype":"<f2"}},"bytes"]"#,
            "codec numcodecs.quantize is not supported",
        ),
        (r#"["bytes",{"name":"numcodecs.lzma"}]"#, "codec numcodecs.lzma is not supported"),
        (r#"["bytes",{"name":"numcodecs.crc32"}]"#, "codec numcodecs.crc32 is not supported"),
        (
            r#"["bytes",{"name":"numcodecs.crc32c","configuration":{"location":"start"}}]"#,
            "codec numcodecs.crc32c is not supported",
        ),
        (
            r#"[{"name":"transpose","configuration":{"order":[0,0]}},"bytes"]"#,
            "codec transpose has an order that does not fit the array",
        ),
        (
            r#"[{"name":"bytes","configuration":{"endian":"middle"}}]"#,
            "codec bytes with the endian \"middle\" is not supported",
        ),
        (r#"[12]"#, "the codec 12 has no name"),
        (r#"["zarrs.vlen"]"#, "codec zarrs.vlen is not supported"),
        (
            r#"[{"name":"numcodecs.fixedscaleoffset","configuration":{"offset":0.1,"scale":10,"dtype":"<f4","astype":"<i2"}},"bytes"]"#,
            "codec numcodecs.fixedscaleoffset with these parameters cannot be decoded to the last bit",
        ),
        (
            r#"[{"name":"sharding_indexed","configuration":{"chunk_shape":[3,6],"codecs":["bytes"],"index_codecs":["bytes"]}}]"#,
            "codec sharding_indexed: chunks [3, 6] do not divide shards [4, 6]",
        ),
    ] {
        assert_eq!(run(&Case { codecs, ..F4 }).unwrap_err(), reason, "{codecs}");
    }
}

#[test]
fn scaled_values_come_out_as_numcodecs_computes_them() {
    use zarrs::array::{ArrayBytes, ArrayToBytesCodecTraits, CodecOptions};
    let stored: Vec<i16> = (-400..400).map(|i| i * 81 + 7).collect();
    let encoded: Vec<u8> = stored.iter().flat_map(|i| i.to_le_bytes()).collect();
    let shape = vec![NonZeroU64::new(stored.len() as u64).unwrap()];
    for (data_type, offset, scale) in
        [("float64", 1000.25, 3.0), ("float64", -1.0, 100.0), ("float32", 0.0, 1000.0), ("float32", 0.0, 7.5)]
    {
        let short = if data_type == "float64" { "<f8" } else { "<f4" };
        let text = format!(
            r#"[{{"name":"numcodecs.fixedscaleoffset","configuration":{{"offset":{offset},"scale":{scale},"dtype":"{short}","astype":"<i2"}}}},{BYTES}]"#
        );
        let data_type_text: &'static str = format!("\"{data_type}\"").leak();
        let chain = run(&Case { data_type: data_type_text, fill: "0", shape: &[800], codecs: text.leak() }).unwrap();
        let Encoding::Opaque { codecs, .. } = &chain.encoding else { panic!("{chain:?}") };
        let metadata: Vec<MetadataV3> = codecs.iter().map(|codec| serde_json::from_str(codec).unwrap()).collect();
        let built = Arc::new(CodecChain::from_metadata(&metadata).unwrap());
        let metadata: MetadataV3 = serde_json::from_str(data_type_text).unwrap();
        let zarrs_type = ZarrsType::from_metadata(&metadata).unwrap();
        let fill = zarrs_type.fill_value_v3(&serde_json::from_str("0").unwrap()).unwrap();
        let decoded =
            built.decode(encoded.clone().into(), &shape, &zarrs_type, &fill, &CodecOptions::default()).unwrap();
        // numcodecs: (stored / scale) + offset in double precision, then rounded to the type.
        let doubles = stored.iter().map(|i| f64::from(*i) / scale + offset);
        let expected: Vec<u8> = match data_type {
            "float64" => doubles.flat_map(f64::to_le_bytes).collect(),
            _ => doubles.flat_map(|x| (x as f32).to_le_bytes()).collect(),
        };
        assert!(decoded == ArrayBytes::from(expected), "{data_type} {offset} {scale}");
    }
}
