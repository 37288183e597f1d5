//! Documents of copies, each chain built with zarrs, and the notices.

use std::collections::BTreeMap;

use super::super::hierarchy::{Document, NodeDocs};
use super::*;

pub(super) const LITTLE: &str = r#"{"name": "bytes", "configuration": {"endian": "little"}}"#;
const BIG: &str = r#"{"name": "bytes", "configuration": {"endian": "big"}}"#;
const ZSTD: &str = r#"{"name":"zstd","configuration":{"level":3,"checksum":false}}"#;
pub(super) const BLOSC: &str =
    r#"{"name":"blosc","configuration":{"cname":"lz4","clevel":7,"shuffle":"shuffle","typesize":4,"blocksize":0}}"#;
const INDEX: &str = r#""index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}], "index_location": "end""#;

pub(super) fn array(data_type: &str, codecs: &str) -> String {
    format!(
        r#"{{"shape": [60, 8], "data_type": "{data_type}", "chunk_grid": {{"name": "regular", "configuration": {{"chunk_shape": [60, 2]}}}}, "chunk_key_encoding": {{"name": "default"}}, "fill_value": 0, "codecs": [{codecs}], "attributes": {{"gap": NaN}}, "dimension_names": ["x", "t"], "zarr_format": 3, "node_type": "array"}}"#
    )
}

fn document(text: &str) -> Document {
    Document { text: text.to_owned(), mtime_ns: 1 }
}

/// One array is the root; more hang below a group.
pub(super) fn store(arrays: &[(&str, String)]) -> Hierarchy {
    let node = |text: &str| NodeDocs::V3(document(text));
    let mut nodes: BTreeMap<String, NodeDocs> =
        arrays.iter().map(|(path, text)| ((*path).to_owned(), node(text))).collect();
    nodes.entry(String::new()).or_insert_with(|| node(r#"{"zarr_format": 3, "node_type": "group"}"#));
    Hierarchy { nodes }
}

fn layout(shards: Option<&str>) -> Layout {
    let shards = shards.map(str::to_owned).into_iter().collect();
    Layout { chunks: vec!["x=15,t=full".to_owned()], shards, ..Layout::default() }
}

pub(super) fn copy(
    hierarchy: &Hierarchy,
    shards: Option<&str>,
    codecs: &[&str],
) -> Result<CopyProjection, LayoutError> {
    let codecs: Vec<String> = codecs.iter().map(|text| (*text).to_owned()).collect();
    project_copy(hierarchy, &layout(shards), &codecs)
}

/// The member `codecs` of the only array, its encoding, and the notices.
#[track_caller]
pub(super) fn codecs(data_type: &str, source: &str, wishes: &[&str]) -> (String, ChunkEncoding, Vec<String>) {
    let copy = copy(&store(&[("", array(data_type, source))]), None, wishes).unwrap();
    let document = json::parse(&copy.projection.documents[""]).unwrap();
    build_with_zarrs(&copy.copied[0]);
    (document.get("codecs").unwrap().text().to_owned(), copy.copied[0].encoding.clone(), copy.notices)
}

/// Encodes and decodes a chunk with what zarrs makes of the documents.
#[track_caller]
fn build_with_zarrs(copied: &CopiedArray) {
    use zarrs::array::{BytesRepresentation, Codec, CodecOptions};
    let n_bytes = copied.array.chunk_shape.iter().product::<u64>() as usize * copied.array.source.item_bytes;
    let plain: Vec<u8> = (0..n_bytes).map(|i| (i % 7) as u8).collect();
    let size = BytesRepresentation::BoundedSize(2 * n_bytes as u64);
    for text in &copied.encoding.bytes_to_bytes {
        let metadata: zarrs::metadata::v3::MetadataV3 = serde_json::from_str(text).unwrap();
        let Codec::BytesToBytes(codec) = Codec::from_metadata(&metadata).unwrap_or_else(|e| panic!("{text}: {e}"))
        else {
            panic!("{text}");
        };
        let encoded = codec.encode(plain.clone().into(), &CodecOptions::default()).unwrap();
        assert_eq!(codec.decode(encoded, &size, &CodecOptions::default()).unwrap(), plain, "{text}");
    }
}

#[test]
fn the_source_codecs_and_keys_stay_and_nothing_else_changes() {
    let source = array("float32", &format!("{LITTLE}, {BLOSC}"));
    let copy = copy(&store(&[("", source.clone())]), None, &[]).unwrap();
    let expected = source
        .replace("[60, 2]", "[15, 8]")
        .replace(r#"{"name": "default"}"#, r#"{"name": "default", "configuration": {"separator": "/"}}"#);
    assert_eq!(copy.projection.documents[""], expected);
    let [copied] = copy.copied.as_slice() else { panic!("{copy:?}") };
    assert_eq!(copied.array, copy.projection.arrays[0]);
    assert_eq!(copied.key_encoding, KeyEncoding { style: KeyStyle::Default, separator: '/' });
    assert_eq!(copied.encoding, ChunkEncoding { order: vec![0, 1], bytes_to_bytes: vec![BLOSC.to_owned()] });
    assert!(copy.notices.is_empty());
}

#[test]
fn v2_becomes_v3_with_its_keys_and_zlib_becomes_gzip() {
    let zarray = r#"{"zarr_format": 2, "shape": [60, 8], "chunks": [60, 2], "dtype": ">f4", "fill_value": 0, "order": "F",
        "filters": null, "compressor": {"id": "zlib", "level": 4}}"#;
    let attributes = Some(document(r#"{"_ARRAY_DIMENSIONS": ["x", "t"]}"#));
    let node = NodeDocs::V2Array { array: document(zarray), attributes };
    let hierarchy = Hierarchy { nodes: [(String::new(), node)].into() };
    let copy = copy(&hierarchy, None, &[]).unwrap();
    let text = &copy.projection.documents[""];
    for part in [
        r#""chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [15, 8]}},"#.to_owned(),
        r#""chunk_key_encoding": {"name": "v2", "configuration": {"separator": "."}},"#.to_owned(),
        format!(
            r#""codecs": [{{"name": "transpose", "configuration": {{"order": [1, 0]}}}}, {BIG}, {{"name":"gzip","configuration":{{"level":4}}}}],"#
        ),
    ] {
        assert!(text.contains(&part), "{text}");
    }
    assert_eq!(copy.copied[0].key_encoding, KeyEncoding { style: KeyStyle::V2, separator: '.' });
    assert_eq!(copy.copied[0].encoding.order, [1, 0]);
    assert_eq!(copy.notices, ["/: codec numcodecs.zlib becomes gzip, level 4"]);
}

#[test]
fn shards_are_written_and_those_of_the_source_give_their_inner_codecs() {
    let shard = format!(
        r#"{{"name": "sharding_indexed", "configuration": {{"chunk_shape": [20, 2], "codecs": [{LITTLE}, {BLOSC}], "index_codecs": [{LITTLE}], "index_location": "start"}}}}"#
    );
    assert_eq!(codecs("float32", &shard, &[]).0, format!("[{LITTLE}, {BLOSC}]"));
    let source = store(&[("a", array("float32", &shard))]);
    let copy =
        copy(&source, Some("x=30"), &[r#"[{"name": "transpose", "configuration": {"order": [1, 0]}}]"#]).unwrap();
    let text = &copy.projection.documents["a"];
    assert!(text.contains(r#""configuration": {"chunk_shape": [30, 8]}"#), "{text}");
    let transpose = r#"{"name": "transpose", "configuration": {"order": [1, 0]}}"#;
    let expected = format!(
        r#""codecs": [{{"name": "sharding_indexed", "configuration": {{"chunk_shape": [15, 8], "codecs": [{transpose}, {LITTLE}], {INDEX}}}}}],"#
    );
    assert!(text.contains(&expected), "{text}");
    // The consolidated copy says the same.
    assert!(copy.projection.documents[""].contains(&expected));
}

#[test]
fn transposes_are_composed_and_written_once() {
    let transpose = |order: &str| format!(r#"{{"name": "transpose", "configuration": {{"order": {order}}}}}"#);
    let (document, encoding, _) = codecs("int16", &format!("{}, {LITTLE}", transpose("[1, 0]")), &[]);
    assert_eq!(document, format!("[{}, {LITTLE}]", transpose("[1, 0]")));
    assert_eq!(encoding, ChunkEncoding { order: vec![1, 0], bytes_to_bytes: vec![] });
    let twice = format!("{0}, {0}, {LITTLE}", transpose("[1, 0]"));
    assert_eq!(codecs("int16", &twice, &[]).0, format!("[{LITTLE}]"));

    // (a, b, c) -> (b, c, a) -> (b, a, c)
    let cube = array("int16", LITTLE)
        .replace("[60, 8]", "[60, 8, 4]")
        .replace("[60, 2]", "[60, 2, 4]")
        .replace("\"t\"]", "\"t\", \"z\"]");
    let wish = format!("[{}, {}]", transpose("[1, 2, 0]"), transpose("[0, 2, 1]"));
    let copy = copy(&store(&[("", cube)]), None, &[&wish]).unwrap();
    assert_eq!(copy.copied[0].encoding.order, [1, 0, 2]);
    assert!(copy.projection.documents[""].contains(&format!("[{}, {LITTLE}]", transpose("[1, 0, 2]"))));
}

#[test]
fn codecs_that_a_copy_cannot_have_become_zstd_with_a_notice() {
    let tail = "; its chunks are compressed with zstd, level 3";
    let unread = |name: &str| Some(format!("/: codec {name} is not kept: not every reader has it{tail}"));
    let numcodecs = |name: &str| format!(r#"{LITTLE}, {{"name": "numcodecs.{name}", "configuration": {{}}}}"#);
    let index = format!(r#""index_codecs": [{LITTLE}]"#);
    let inner = format!(
        r#"{{"name": "sharding_indexed", "configuration": {{"chunk_shape": [6, 2], "codecs": [{LITTLE}], {index}}}}}"#
    );
    for (source, notice) in [
        (numcodecs("lz4"), unread("numcodecs.lz4")),
        (numcodecs("bz2"), unread("numcodecs.bz2")),
        (numcodecs("fletcher32"), unread("numcodecs.fletcher32")),
        (numcodecs("adler32"), unread("numcodecs.adler32")),
        (
            format!("{}, {}", numcodecs("shuffle"), r#"{"name": "numcodecs.zlib", "configuration": {"level": 4}}"#),
            unread("numcodecs.shuffle"),
        ),
        (format!("{LITTLE}, {}", BLOSC.replace("lz4", "snappy")), unread("blosc with snappy")),
        (r#"{"name": "numcodecs.pcodec", "configuration": {}}"#.to_owned(), unread("numcodecs.pcodec")),
        (r#"{"name": "packbits"}"#.to_owned(), unread("packbits")),
        (
            format!(
                r#"{{"name": "numcodecs.fixedscaleoffset", "configuration": {{"offset": 0, "scale": 10, "dtype": "<f4", "astype": "<i2"}}}}, {LITTLE}"#
            ),
            Some(format!("/: codec numcodecs.fixedscaleoffset is not kept: encoded again, values could change{tail}")),
        ),
        (
            format!(
                r#"{{"name": "sharding_indexed", "configuration": {{"chunk_shape": [30, 2], "codecs": [{inner}], {index}}}}}"#
            ),
            Some(format!("/: codec sharding_indexed is not kept among other codecs or inside itself{tail}")),
        ),
        // Filters have done their work.
        (
            format!(
                r#"{{"name": "numcodecs.quantize", "configuration": {{"digits": 2, "dtype": "<f4"}}}}, {LITTLE}, {ZSTD}"#
            ),
            Some("/: filter numcodecs.quantize is left out: its values are kept as they are".to_owned()),
        ),
        (format!(r#"{{"name": "bitround", "configuration": {{"keepbits": 3}}}}, {LITTLE}, {ZSTD}"#), None),
        (
            r#"{"name": "numcodecs.zstd", "configuration": {"level": 3}}"#.replacen('{', &format!("{LITTLE}, {{"), 1),
            None,
        ),
    ] {
        let (document, encoding, notices) = codecs("float32", &source, &[]);
        assert_eq!(document, format!("[{LITTLE}, {ZSTD}]"), "{source}");
        assert_eq!(encoding.order, [0, 1]);
        assert_eq!(notices, notice.into_iter().collect::<Vec<_>>(), "{source}");
    }
    // The transpose outlives the compressor.
    let source = format!(r#"{{"name": "transpose", "configuration": {{"order": [1, 0]}}}}, {}"#, numcodecs("lz4"));
    let (_, encoding, _) = codecs("float32", &source, &["source"]);
    assert_eq!(encoding, ChunkEncoding { order: vec![1, 0], bytes_to_bytes: vec![ZSTD.to_owned()] });
    // What is not compressed stays so, and elements are never swapped.
    assert_eq!(codecs("float32", BIG, &[]).0, format!("[{BIG}]"));
    assert_eq!(codecs("uint8", "\"bytes\", \"crc32c\"", &[]).0, r#"[{"name": "bytes"}, {"name":"crc32c"}]"#);
}

#[test]
fn chunks_that_blosc_cannot_take_are_seen_before_anything_is_written() {
    let long =
        array("int16", &format!("{LITTLE}, {BLOSC}")).replace("[60, 8]", "[1073741824, 8]").replace("\"t\"]", "\"z\"]");
    let long = store(&[("", long.replace("[60, 2]", "[60, 1]"))]);
    let layout = Layout { chunks: vec!["x=full,z=1".to_owned()], ..Layout::default() };
    let kept = project_copy(&long, &layout, &[]).unwrap();
    assert_eq!(kept.copied[0].encoding.bytes_to_bytes, [ZSTD]);
    assert_eq!(
        kept.notices,
        ["/: codec blosc is not kept: it takes no chunks of 2 GiB; its chunks are compressed with zstd, level 3"]
    );
    assert_eq!(
        project_copy(&long, &layout, &["blosc".to_owned()]).unwrap_err().to_string(),
        "--codecs 'blosc': a chunk of / is 2.0 GiB, more than blosc takes; use zstd, or give smaller --chunks"
    );
}

#[test]
fn what_is_not_rechunked_is_said_to_be_copied() {
    let hierarchy = store(&[
        ("a", array("int16", LITTLE)),
        ("names", array("string", "\"bytes\"").replace("\"fill_value\": 0", "\"fill_value\": \"\"")),
    ]);
    assert_eq!(
        copy(&hierarchy, None, &[]).unwrap().projection.warnings,
        ["names: copied as it is: it cannot be rechunked: codec bytes is not supported"]
    );
}

#[test]
fn strings_are_cut_and_encoded_as_other_arrays_are() {
    let strings = |codecs: &str| array("string", codecs).replace("\"fill_value\": 0", "\"fill_value\": \"-\"");
    let vlen = r#"{"name": "vlen-utf8", "configuration": {}}"#;
    let hierarchy = store(&[("", strings(&format!("{vlen}, {ZSTD}")))]);
    let kept = copy(&hierarchy, None, &[]).unwrap();
    let [copied] = kept.copied.as_slice() else { panic!("{kept:?}") };
    assert_eq!((copied.array.source.fill.as_slice(), copied.array.chunk_shape.as_slice()), (&b"-"[..], &[15, 8][..]));
    assert!(copied.array.source.is_text());
    let text = &kept.projection.documents[""];
    assert!(text.contains(&format!(r#""codecs": [{{"name": "vlen-utf8"}}, {ZSTD}]"#)), "{text}");
    let blosc = copy(&hierarchy, Some("x=30"), &["blosc"]).unwrap();
    let text = &blosc.projection.documents[""];
    assert!(text.contains(r#""shuffle":"noshuffle","typesize":1"#) && text.contains(INDEX), "{text}");
    let bytes = copy(&store(&[("", array("bytes", "\"vlen-bytes\""))]), None, &[]).unwrap();
    assert!(bytes.projection.documents[""].contains(r#""codecs": [{"name": "vlen-bytes"}]"#));
    // A view has chunks of a fixed size only.
    let error = project::project(&hierarchy, &layout(None)).unwrap_err().to_string();
    assert!(error.contains("variable length"), "{error}");
}
