//! Array documents as zarr-python 3.1.6 writes them, and as others might.

use super::*;
use crate::zarr::json;

const TEXT: &str = r#"{
  "shape": [10, 0], "data_type": "float32",
  "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [4, 0]}},
  "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
  "fill_value": 1.0,
  "codecs": [{"name": "bytes", "configuration": {"endian": "big"}}],
  "attributes": {"x": NaN}, "dimension_names": ["object", null],
  "zarr_format": 3, "node_type": "array", "storage_transformers": []
}"#;

fn read_changed(from: &str, to: &str) -> Result<ArrayNode, String> {
    let text = TEXT.replace(from, to);
    read("a/b", &json::parse(&text).unwrap())
}

#[test]
fn a_document_becomes_a_source_array() {
    let node = read_changed("", "").unwrap();
    assert_eq!(node.dimension_names, [Some("object".to_owned()), None]);
    let readable = node.readable.unwrap();
    assert_eq!(readable.virtual_codec, r#"{"name": "bytes", "configuration": {"endian": "big"}}"#);
    let source = readable.source;
    // Chunk length 0 reads as 1; the fill value lies in the order of the chunks.
    assert_eq!((source.file_shape, source.fill, source.item_bytes), (vec![4, 1], vec![0x3f, 0x80, 0, 0], 4));
}

#[test]
fn short_spellings_are_understood() {
    let node = read_changed(r#"{"name": "default", "configuration": {"separator": "/"}}"#, "\"v2\"").unwrap();
    let encoding = node.readable.unwrap().source.key_encoding;
    assert_eq!(encoding, KeyEncoding { style: KeyStyle::V2, separator: '.' });
}

#[test]
fn what_cannot_be_rechunked_says_why() {
    for (from, to, reason) in [
        ("\"float32\"", "\"string\"", "data type string has elements of variable length"),
        ("\"regular\"", "\"rectilinear\"", "its chunk grid is rectilinear, not regular"),
        (
            "\"storage_transformers\": []",
            "\"storage_transformers\": [{\"name\": \"x\"}]",
            "its storage_transformers are not supported",
        ),
        ("\"zarr_format\"", "\"extra\": {}, \"zarr_format\"", "its zarr.json has the unknown member \"extra\""),
        ("[4, 0]", "[4]", "its chunk_shape has 1 axes, its shape 2"),
        ("\"separator\": \"/\"", "\"separator\": \"-\"", "its chunk keys are separated by \"-\""),
    ] {
        assert_eq!(read_changed(from, to).unwrap().readable.unwrap_err(), reason);
    }
    assert!(
        read_changed("\"zarr_format\"", "\"extra\": {\"must_understand\": false}, \"zarr_format\"")
            .unwrap()
            .readable
            .is_ok()
    );
    assert_eq!(read_changed("\"object\", ", "").unwrap_err(), "it has 2 axes and 1 dimension names");
}

#[test]
fn arrays_of_strings_are_read_for_copies_alone() {
    let read_as = |data_type: &str, fill_value: &str, codecs: &str| {
        let text = TEXT.replace("\"float32\"", &format!("{data_type:?}")).replace("1.0", fill_value);
        let text = text.replace(r#"[{"name": "bytes", "configuration": {"endian": "big"}}]"#, codecs);
        let node = read("a", &json::parse(&text).unwrap()).unwrap();
        assert!(node.readable.is_err());
        node.strings.unwrap()
    };
    let turned = r#"[{"name": "transpose", "configuration": {"order": [1, 0]}}, "vlen-utf8", "crc32c"]"#;
    let strings = read_as("string", "\"\u{3bb}\"", turned).unwrap();
    assert_eq!(strings.codec, r#"{"name": "vlen-utf8"}"#);
    assert_eq!((strings.source.fill.as_slice(), strings.source.order()), ("\u{3bb}".as_bytes(), vec![1, 0]));
    let bytes = read_as("variable_length_bytes", "\"/wA=\"", "[\"vlen-bytes\"]").unwrap();
    assert_eq!((bytes.codec.as_str(), bytes.source.fill), (r#"{"name": "vlen-bytes"}"#, vec![0xff, 0]));
    for (data_type, fill_value, codecs, reason) in [
        ("string", "null", "[\"vlen-utf8\"]", "fill value null is no string"),
        ("bytes", "\"?\"", "[\"vlen-bytes\"]", "fill value \"?\" is no bytes"),
        ("string", "\"\"", "[\"vlen-bytes\"]", "codec vlen-bytes is not supported"),
        ("string", "\"\"", "[\"vlen-utf8\", \"mystery\"]", "codec mystery is not supported"),
        ("string", "\"\"", "[]", "no codec turns the array into bytes"),
    ] {
        assert_eq!(read_as(data_type, fill_value, codecs).unwrap_err(), reason);
    }
    assert_eq!(read_changed("", "").unwrap().strings, None);
}
