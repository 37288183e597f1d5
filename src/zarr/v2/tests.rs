//! Conversion, as checked against what zarr-python 3.1.6 and xarray 2026.9 read from both versions of a store.

use super::*;

fn zarray(dtype: &str, fill_value: &str, filters: &str, compressor: &str, order: &str) -> String {
    format!(
        r#"{{"zarr_format": 2, "shape": [4, 6], "chunks": [2, 0], "dtype": {dtype}, "fill_value": {fill_value},
           "order": "{order}", "filters": {filters}, "compressor": {compressor}, "dimension_separator": "/"}}"#
    )
}

fn convert(dtype: &str, fill_value: &str, filters: &str, compressor: &str, order: &str) -> Result<String, String> {
    convert_array(&zarray(dtype, fill_value, filters, compressor, order), "{}")
}

#[track_caller]
fn member(text: &str, key: &str) -> String {
    json::parse(text).unwrap().get(key).unwrap_or_else(|| panic!("{text}")).text().to_owned()
}

#[test]
fn an_array_becomes_one_of_v3() {
    let attributes = r#"{"_ARRAY_DIMENSIONS": ["x", "é"], "units": "m", "_NCZARR_ATTR": {}, "gap": NaN}"#;
    let text = convert_array(&zarray("\"<f4\"", "-999.5", "null", "null", "C"), attributes).unwrap();
    assert_eq!(
        text,
        r#"{
  "shape": [4, 6],
  "data_type": "float32",
  "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2, 1]}},
  "chunk_key_encoding": {"name": "v2", "configuration": {"separator": "/"}},
  "fill_value": -999.5,
  "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
  "attributes": {"units": "m", "gap": NaN, "_FillValue": "AAAAAAA8j8A="},
  "dimension_names": ["x", "\u00e9"],
  "zarr_format": 3,
  "node_type": "array",
  "storage_transformers": []
}"#
    );
}

#[test]
fn types_and_fill_values_are_spelled_as_zarr_python_does() {
    let bytes = |endian: &str| format!(r#"[{{"name": "bytes", "configuration": {{"endian": "{endian}"}}}}]"#);
    let plain = r#"[{"name": "bytes"}]"#.to_owned();
    for (dtype, fill, data_type, fill_value, codecs) in [
        ("\"|b1\"", "1", "\"bool\"", "true", plain.clone()),
        ("\"|i1\"", "null", "\"int8\"", "0", plain.clone()),
        ("\">f8\"", "NaN", "\"float64\"", "\"NaN\"", bytes("big")),
        ("\"<i4\"", "7.0", "\"int32\"", "7", bytes("little")),
        ("\"<c8\"", "0", "\"complex64\"", "[0, 0.0]", bytes("little")),
        (
            "\"|S3\"",
            "\"YWI=\"",
            r#"{"name": "null_terminated_bytes", "configuration": {"length_bytes": 3}}"#,
            "\"YWI=\"",
            plain.clone(),
        ),
        (
            "\"|S3\"",
            "0",
            r#"{"name": "null_terminated_bytes", "configuration": {"length_bytes": 3}}"#,
            "\"AAAA\"",
            plain.clone(),
        ),
        (
            "\"<U2\"",
            "0",
            r#"{"name": "fixed_length_utf32", "configuration": {"length_bytes": 8}}"#,
            "\"\"",
            bytes("little"),
        ),
        (
            "\"|V4\"",
            "null",
            r#"{"name": "raw_bytes", "configuration": {"length_bytes": 4}}"#,
            "\"AAAAAA==\"",
            plain.clone(),
        ),
        (
            "\"<M8[ns]\"",
            "null",
            r#"{"name": "numpy.datetime64", "configuration": {"unit": "ns", "scale_factor": 1}}"#,
            "\"NaT\"",
            bytes("little"),
        ),
        (">", "0", "", "", String::new()),
        (
            "\"<m8[10ms]\"",
            "0",
            r#"{"name": "numpy.timedelta64", "configuration": {"unit": "ms", "scale_factor": 10}}"#,
            "0",
            bytes("little"),
        ),
        (
            r#"[["a", "<i2"], ["b", "|b1"]]"#,
            "null",
            r#"{"name": "structured", "configuration": {"fields": [["a", "int16"], ["b", "bool"]]}}"#,
            "\"AAAA\"",
            plain.clone(),
        ),
    ] {
        if dtype == ">" {
            assert!(convert(dtype, fill, "null", "null", "C").is_err());
            continue;
        }
        let text = convert(dtype, fill, "null", "null", "C").unwrap();
        assert_eq!(
            [member(&text, "data_type"), member(&text, "fill_value"), member(&text, "codecs")],
            [data_type.to_owned(), fill_value.to_owned(), codecs]
        );
    }
}

#[test]
fn codecs_are_spelled_in_encoding_order() {
    let little = r#"{"name": "bytes", "configuration": {"endian": "little"}}"#;
    for (filters, compressor, order, expected) in [
        (
            "null",
            r#"{"id": "blosc", "cname": "zstd", "clevel": 3, "shuffle": -1, "blocksize": 0}"#,
            "F",
            format!(
                r#"[{{"name": "transpose", "configuration": {{"order": [1, 0]}}}}, {little}, {{"name": "blosc", "configuration": {{"typesize": 8, "cname": "zstd", "clevel": 3, "shuffle": "shuffle", "blocksize": 0}}}}]"#
            ),
        ),
        (
            r#"[{"id": "delta", "dtype": "<f8"}, {"id": "shuffle", "elementsize": 8}]"#,
            r#"{"id": "zlib", "level": 1}"#,
            "C",
            format!(
                r#"[{{"name": "numcodecs.delta", "configuration": {{"dtype": "<f8"}}}}, {little}, {{"name": "numcodecs.shuffle", "configuration": {{"elementsize": 8}}}}, {{"name": "numcodecs.zlib", "configuration": {{"level": 1}}}}]"#
            ),
        ),
        (
            "null",
            r#"{"id": "zstd", "level": 3}"#,
            "C",
            format!(r#"[{little}, {{"name": "zstd", "configuration": {{"level": 3, "checksum": false}}}}]"#),
        ),
        (
            "null",
            r#"{"id": "gzip", "level": 9}"#,
            "C",
            format!(r#"[{little}, {{"name": "gzip", "configuration": {{"level": 9}}}}]"#),
        ),
    ] {
        assert_eq!(member(&convert("\"<f8\"", "0", filters, compressor, order).unwrap(), "codecs"), expected);
    }
    let text = convert("\"|O\"", "\"\"", r#"[{"id": "vlen-utf8"}]"#, r#"{"id": "zstd", "level": 0}"#, "C").unwrap();
    assert_eq!(member(&text, "data_type"), "\"string\"");
    assert!(member(&text, "codecs").starts_with(r#"[{"name": "vlen-utf8"}, {"name": "zstd""#));
}

#[test]
fn what_v3_cannot_spell_is_named() {
    for (dtype, fill, filters, compressor, reason) in [
        ("\"<f16\"", "0", "null", "null", "dtype <f16"),
        ("\"|O\"", "null", r#"[{"id": "pickle"}]"#, "null", "dtype |O with the filter pickle"),
        ("\"|O\"", "null", "null", "null", "dtype |O without a filter"),
        (r#"[["a", ">i2"]]"#, "null", "null", "null", r#"dtype with the field ["a", ">i2"]"#),
        ("\"<f8\"", "0", "null", r#"{"id": "mine"}"#, "the codec mine"),
        ("\"<f8\"", "0", r#"[{"id": "zlib"}, {"id": "delta"}]"#, "null", "the codec delta after codecs on bytes"),
        ("\"|u1\"", "300", "null", "null", "fill value 300 does not fit data type uint8"),
    ] {
        assert_eq!(convert(dtype, fill, filters, compressor, "C").unwrap_err(), reason);
    }
    assert_eq!(convert_array("{", "{}").unwrap_err(), "its .zarray is invalid: the text ends too early at byte 1");
}

#[test]
fn fill_values_become_the_attribute_that_xarray_masks_by() {
    for (dtype, fill, attributes, expected) in [
        ("\"<f8\"", "null", "{}", "{}"),
        ("\"<f8\"", "NaN", "{}", r#"{"_FillValue": "AAAAAAAA+H8="}"#),
        ("\"<f4\"", "0.1", "{}", r#"{"_FillValue": "AAAAoJmZuT8="}"#),
        ("\"<f2\"", "0.1", "{}", r#"{"_FillValue": "AAAAAACYuT8="}"#),
        ("\"<i2\"", "-999", "{}", r#"{"_FillValue": -999}"#),
        ("\"|b1\"", "false", "{}", r#"{"_FillValue": false}"#),
        ("\"<c16\"", "[1, \"NaN\"]", "{}", r#"{"_FillValue": ["AAAAAAAA8D8=", "AAAAAAAA+H8="]}"#),
        // In v2 the array's value counts more than the attribute; without one the attribute is respelled.
        ("\"<f8\"", "1", r#"{"_FillValue": 5.0}"#, r#"{"_FillValue": "AAAAAAAA8D8="}"#),
        ("\"<f8\"", "null", r#"{"_FillValue": 1.0}"#, r#"{"_FillValue": "AAAAAAAA8D8="}"#),
        // xarray cannot read one of these types in v3.
        ("\"<U2\"", "\"\"", r#"{"_FillValue": "", "a": 1}"#, r#"{"a": 1}"#),
        ("\"<M8[ns]\"", "0", "{}", "{}"),
    ] {
        let text = convert_array(&zarray(dtype, fill, "null", "null", "C"), attributes).unwrap();
        assert_eq!(member(&text, "attributes"), expected, "{dtype} {fill}");
    }
}

#[test]
fn netcdf_dimensions_are_found() {
    let array = zarray("\"<f8\"", "0", "null", "null", "C")
        .replace("{\"zarr", r#"{"_NCZARR_ARRAY": {"dimrefs": ["/lat", "/g/lon"]}, "zarr"#);
    assert_eq!(member(&convert_array(&array, "{}").unwrap(), "dimension_names"), r#"["lat", "lon"]"#);
}

#[test]
fn a_group_keeps_its_attributes() {
    let text = convert_group("{\"a\": NaN}").unwrap();
    assert_eq!(member(&text, "attributes"), "{\"a\": NaN}");
    assert_eq!(member(&text, "node_type"), "\"group\"");
}
