//! Reading, and what is refused with which words.

use super::*;

#[test]
fn values_keep_their_spelling() {
    let text = "{ \"a\": NaN, \"b\": [1e400, 123456789012345678901234567890, -Infinity],\n \"a\": 1.50 }";
    let value = parse(text).unwrap();
    assert_eq!(value.get("a").unwrap().text(), "1.50");
    assert_eq!(value.members().len(), 3);
    assert_eq!(value.get("b").unwrap().text(), "[1e400, 123456789012345678901234567890, -Infinity]");
    assert_eq!(value.get("b").unwrap().elements().unwrap()[2].as_f64(), Some(f64::NEG_INFINITY));
}

#[test]
fn strings_are_decoded_like_python_does() {
    for (text, expected) in [
        (r#""a\n\"\\\/\u00e9""#, "a\n\"\\/\u{e9}"),
        (r#""\ud83d\ude00""#, "\u{1f600}"),
        (r#""\ud83dx""#, "\u{fffd}x"),
        ("\"\u{e9}\"", "\u{e9}"),
    ] {
        assert_eq!(parse(text).unwrap().string().unwrap(), expected, "{text}");
    }
    assert_eq!(parse(r#""\ud83d""#).unwrap().code_points().unwrap(), [0xd83d]);
}

#[test]
fn broken_texts_say_where() {
    for (text, expected) in [
        ("", "the text ends too early at byte 0"),
        ("{\"a\": 1", "the text ends too early at byte 7"),
        ("{\"a\": nul", "the text ends too early at byte 9"),
        ("{\"a\": \"x", "the text ends too early at byte 8"),
        ("{\"a\" 1}", "expected ':' at byte 5"),
        ("{a: 1}", "expected a key in quotes at byte 1"),
        ("[1 2]", "expected ',' or ']' at byte 3"),
        ("{} x", "text after the end of the document at byte 3"),
        ("[inf]", "expected a value at byte 1"),
        ("[\"\\x\"]", "unknown escape in a string at byte 3"),
        ("\u{feff}{}", "expected a value at byte 0"),
    ] {
        assert_eq!(parse(text).unwrap_err().to_string(), expected, "{text}");
    }
    assert_eq!(parse(&"[".repeat(100_000)).unwrap_err().problem, "nested too deeply");
}

#[test]
fn no_prefix_and_no_mutation_panics() {
    let text = r#"{"a":[1,-2.5e3,NaN,null,true,"x\u00e9\n"],"b":{"c":"é"}}"#;
    for end in 0..text.len() {
        if let Some(prefix) = text.get(..end) {
            assert!(parse(prefix).is_err(), "{prefix}");
        }
    }
    for at in 0..text.len() {
        for byte in [b'"', b'\\', b'{', b']', b',', b'0', 0] {
            let mut bytes = text.as_bytes().to_vec();
            bytes[at] = byte;
            if let Ok(value) = std::str::from_utf8(&bytes).map_err(|_| ()).and_then(|text| parse(text).map_err(|_| ()))
            {
                let _ = (value.string(), value.code_points(), same(&value, &value));
            }
        }
    }
}

#[test]
fn sameness_is_about_meaning() {
    for (left, right, expected) in [
        ("{\"a\":1,\"b\":2}", "{ \"b\": 2.0, \"a\": 1 }", true),
        ("[NaN]", "[NaN]", true),
        ("18446744073709551617", "18446744073709551616", false),
        ("\"\\u0041\"", "\"A\"", true),
        ("{\"a\":1,\"a\":2}", "{\"a\":2}", true),
        ("{\"a\":1}", "{\"a\":1,\"b\":null}", false),
        ("1", "true", false),
        ("[1,2]", "[2,1]", false),
    ] {
        assert_eq!(same(&parse(left).unwrap(), &parse(right).unwrap()), expected, "{left} {right}");
    }
}
