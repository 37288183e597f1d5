//! Fill values against what zarr-python 3.1.6 with numpy 2.4 makes of them.

use super::*;
use crate::zarr::{data_type, json};

/// Data type, fill value, little-endian bits in hexadecimal.
#[rustfmt::skip]
const FROM_ZARR_PYTHON: &[(&str, &str, &str)] = &[
    (r#""bool""#, r#"true"#, "01"),
    (r#""bool""#, r#"false"#, "00"),
    (r#""int8""#, r#"-128"#, "80"),
    (r#""uint8""#, r#"255"#, "ff"),
    (r#""int16""#, r#"-2"#, "feff"),
    (r#""uint16""#, r#"65535"#, "ffff"),
    (r#""int32""#, r#"-2147483648"#, "00000080"),
    (r#""uint32""#, r#"4294967295"#, "ffffffff"),
    (r#""int64""#, r#"-9223372036854775808"#, "0000000000000080"),
    (r#""uint64""#, r#"18446744073709551615"#, "ffffffffffffffff"),
    (r#""int32""#, r#"7.0"#, "07000000"),
    (r#""float16""#, r#""NaN""#, "007e"),
    (r#""float16""#, r#"NaN"#, "007e"),
    (r#""float16""#, r#"0.1"#, "662e"),
    (r#""float16""#, r#""-Infinity""#, "00fc"),
    (r#""float16""#, r#"70000"#, "007c"),
    (r#""float32""#, r#""NaN""#, "0000c07f"),
    (r#""float32""#, r#"NaN"#, "0000c07f"),
    (r#""float32""#, r#""Infinity""#, "0000807f"),
    (r#""float32""#, r#"-Infinity"#, "000080ff"),
    (r#""float32""#, r#"0.1"#, "cdcccc3d"),
    (r#""float32""#, r#"-0.0"#, "00000080"),
    (r#""float32""#, r#"16777217"#, "0000804b"),
    (r#""float32""#, r#"1e39"#, "0000807f"),
    (r#""float32""#, r#"1e-46"#, "00000000"),
    (r#""float32""#, r#""0x7fc00001""#, "0100c07f"),
    (r#""float32""#, r#""0xffc00001""#, "0100c0ff"),
    (r#""float32""#, r#"9.969209968386869e+36"#, "0000f07c"),
    (r#""float64""#, r#""NaN""#, "000000000000f87f"),
    (r#""float64""#, r#"0.1"#, "9a9999999999b93f"),
    (r#""float64""#, r#""0x7ff8000000000001""#, "010000000000f87f"),
    (r#""float64""#, r#"123456789012345678901234567890"#, "3e376cff90eef845"),
    (r#""float64""#, r#"9007199254740993"#, "0000000000004043"),
    (r#""float64""#, r#"1e400"#, "000000000000f07f"),
    (r#""complex64""#, r#"[1.5, "NaN"]"#, "0000c03f0000c07f"),
    (r#""complex64""#, r#"["-Infinity", 0.1]"#, "000080ffcdcccc3d"),
    (r#""complex128""#, r#"[0, -2]"#, "000000000000000000000000000000c0"),
    (r#""complex128""#, r#"[NaN, "0x7ff8000000000001"]"#, "000000000000f87f010000000000f87f"),
    (r#"{"name":"numpy.datetime64","configuration":{"unit":"ns","scale_factor":1}}"#, r#""NaT""#, "0000000000000080"),
    (r#"{"name":"numpy.datetime64","configuration":{"unit":"ns","scale_factor":1}}"#, r#"-9223372036854775808"#, "0000000000000080"),
    (r#"{"name":"numpy.timedelta64","configuration":{"unit":"s","scale_factor":10}}"#, r#"42"#, "2a00000000000000"),
    (r#"{"name":"fixed_length_utf32","configuration":{"length_bytes":12}}"#, r#""aé""#, "61000000e900000000000000"),
    (r#"{"name":"fixed_length_utf32","configuration":{"length_bytes":12}}"#, r#""\ud83d\ude00x""#, "00f601007800000000000000"),
    (r#"{"name":"fixed_length_utf32","configuration":{"length_bytes":8}}"#, r#""abcd""#, "6100000062000000"),
    (r#"{"name":"null_terminated_bytes","configuration":{"length_bytes":4}}"#, r#""YWI=""#, "61620000"),
    (r#"{"name":"null_terminated_bytes","configuration":{"length_bytes":4}}"#, r#""""#, "00000000"),
    (r#"{"name":"raw_bytes","configuration":{"length_bytes":3}}"#, r#""AQID""#, "010203"),
    (r#"{"name":"structured","configuration":{"fields":[["a","int16"],["b","float32"]]}}"#, r#""AQAAAIA/""#, "01000000803f"),
];

/// What zarr-python 3.1 cannot say, by the specification.
const FROM_THE_SPECIFICATION: &[(&str, &str, &str)] = &[
    ("\"float16\"", "\"0x7e01\"", "017e"),
    ("\"bfloat16\"", "1.0", "803f"),
    ("\"float8_e4m3fn\"", "\"0x7f\"", "7f"),
    ("\"float8_e8m0fnu\"", "\"0x7f\"", "7f"),
    ("\"complex_float16\"", "[1, \"NaN\"]", "003c007e"),
    ("\"r24\"", "[1, 2, 255]", "0102ff"),
    ("\"int4\"", "-1", "ff"),
    ("\"uint4\"", "15", "0f"),
    (
        r#"{"name":"struct","configuration":{"fields":[{"name":"a","data_type":"int16"},{"name":"b","data_type":"bool"}]}}"#,
        r#"{"a": 258, "b": true}"#,
        "020101",
    ),
];

const DOES_NOT_FIT: &[(&str, &str, &str)] = &[
    ("\"uint8\"", "256", "fill value 256 does not fit data type uint8"),
    ("\"int8\"", "1.5", "fill value 1.5 does not fit data type int8"),
    ("\"int32\"", "null", "fill value null does not fit data type int32"),
    ("\"float32\"", "\"0x7fc0\"", "fill value \"0x7fc0\" does not fit data type float32"),
    ("\"float32\"", "\"hello\"", "fill value \"hello\" does not fit data type float32"),
    ("\"r16\"", "[1]", "fill value [1] does not fit data type r16"),
    ("\"bool\"", "\"true\"", "fill value \"true\" does not fit data type bool"),
];

#[test]
fn bits_are_those_that_readers_use() {
    for (data_type, fill, expected) in FROM_ZARR_PYTHON.iter().chain(FROM_THE_SPECIFICATION) {
        let data_type = data_type::parse(&json::parse(data_type).unwrap()).unwrap();
        let item = parse(&json::parse(fill).unwrap(), &data_type).unwrap();
        let bits: String = item.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(bits, *expected, "{data_type:?} {fill}");
    }
}

#[test]
fn what_does_not_fit_is_named() {
    for (data_type, fill, reason) in DOES_NOT_FIT {
        let data_type = data_type::parse(&json::parse(data_type).unwrap()).unwrap();
        // r16 given one byte would be padded if it were a byte string; raw types take all or nothing.
        assert_eq!(parse(&json::parse(fill).unwrap(), &data_type).unwrap_err(), *reason);
    }
}
