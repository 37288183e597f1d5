//! A tolerant JSON reader that keeps the source text, so that what is not changed can be carried untouched.
//!
//! serde_json cannot read the bare `NaN` that zarr-python writes into attributes and rounds large integers;
//! here numbers stay text until somebody asks for them.

use std::fmt;
use std::ops::Range;

/// Nesting beyond this is refused: real documents need a dozen levels, a stack overflow needs thousands.
const MAX_DEPTH: usize = 128;

/// Why a text is not JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem} at byte {offset}")]
pub struct JsonError {
    /// Where, in bytes from the start of the text.
    pub offset: usize,
    /// What is wrong there.
    pub problem: &'static str,
}

/// A value and the text it was read from.
#[derive(Clone, PartialEq)]
pub struct Value<'t> {
    source: &'t str,
    start: usize,
    end: usize,
    /// What the value is.
    pub kind: Kind<'t>,
}

/// The kinds of JSON values.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind<'t> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number in any spelling, `NaN` and `Infinity` included; see [`Value::text`].
    Number,
    /// A string; see [`Value::string`].
    String,
    /// An array.
    Array(Vec<Value<'t>>),
    /// An object: its members in order, duplicates kept.
    Object(Vec<Member<'t>>),
}

/// One member of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Member<'t> {
    /// The decoded key.
    pub key: String,
    /// Where the key's opening quote stands, in bytes.
    pub key_start: usize,
    /// The value.
    pub value: Value<'t>,
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// Reads a whole document.
///
/// # Errors
/// When `text` is not one JSON value (bare NaN and infinities, and any spelling of numbers, are let pass).
pub fn parse(text: &str) -> Result<Value<'_>, JsonError> {
    let mut reader = Reader { text, bytes: text.as_bytes(), at: 0 };
    reader.skip_space();
    let value = reader.value(0)?;
    reader.skip_space();
    if reader.at < reader.bytes.len() {
        return Err(reader.error("text after the end of the document"));
    }
    Ok(value)
}

impl<'t> Value<'t> {
    /// The value as it is spelled in the document.
    pub fn text(&self) -> &'t str {
        self.source.get(self.start..self.end).unwrap_or_default()
    }

    /// The value on one line of at most 60 characters, for messages.
    pub fn brief(&self) -> String {
        const SHOWN: usize = 60;
        let mut words = self.text().split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some((end, _)) = words.char_indices().nth(SHOWN) {
            words.truncate(end);
            words.push_str("...");
        }
        words.retain(|c| !c.is_control());
        words
    }

    /// Where the value stands, in bytes.
    pub fn span(&self) -> Range<usize> {
        self.start..self.end
    }

    /// The member `key` of an object; the last one counts, as in Python and JavaScript.
    pub fn get(&self, key: &str) -> Option<&Value<'t>> {
        self.members().iter().rev().find(|member| member.key == key).map(|member| &member.value)
    }

    /// The members of an object; none for anything else.
    pub fn members(&self) -> &[Member<'t>] {
        match &self.kind {
            Kind::Object(members) => members,
            _ => &[],
        }
    }

    /// The elements of an array.
    pub fn elements(&self) -> Option<&[Value<'t>]> {
        match &self.kind {
            Kind::Array(elements) => Some(elements),
            _ => None,
        }
    }

    /// Whether this is an object.
    pub fn is_object(&self) -> bool {
        matches!(self.kind, Kind::Object(_))
    }

    /// Whether this is `null`.
    pub fn is_null(&self) -> bool {
        matches!(self.kind, Kind::Null)
    }

    /// The decoded string. Half a surrogate pair becomes U+FFFD.
    pub fn string(&self) -> Option<String> {
        Some(self.code_points()?.into_iter().map(|point| char::from_u32(point).unwrap_or('\u{fffd}')).collect())
    }

    /// The decoded string as code points, halves of surrogate pairs included (Python can write them).
    pub fn code_points(&self) -> Option<Vec<u32>> {
        match self.kind {
            Kind::String => Some(decode_string(self.text())),
            _ => None,
        }
    }

    /// The number's spelling.
    pub fn number(&self) -> Option<&'t str> {
        match self.kind {
            Kind::Number => Some(self.text()),
            _ => None,
        }
    }

    /// The number as a length or position: a whole number below 2^64, however spelled (`4`, `4.0`).
    pub fn as_u64(&self) -> Option<u64> {
        u64::try_from(self.as_integer()?).ok()
    }

    /// The number, if it is whole.
    pub fn as_integer(&self) -> Option<i128> {
        let text = self.number()?;
        if let Ok(integer) = text.parse::<i128>() {
            return Some(integer);
        }
        let float = text.parse::<f64>().ok()?;
        // Above 2^100 neither an integer type nor a length can be meant.
        let whole = float.is_finite() && float.fract() == 0.0 && float.abs() < 1e30;
        whole.then_some(float as i128)
    }

    /// The number rounded to the nearest double, as Python reads it.
    pub fn as_f64(&self) -> Option<f64> {
        match self.number()? {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            text => text.parse().ok(),
        }
    }

    /// The lengths in an array.
    pub fn as_lengths(&self) -> Option<Vec<u64>> {
        self.elements()?.iter().map(Value::as_u64).collect()
    }

    /// The name of an extension point, spelled as a string or as an object with `name`.
    pub fn extension_name(&self) -> Option<String> {
        match &self.kind {
            Kind::String => self.string(),
            _ => self.get("name")?.string(),
        }
    }

    /// The member `key` of an extension point's `configuration`.
    pub fn configured(&self, key: &str) -> Option<&Value<'t>> {
        self.get("configuration")?.get(key)
    }
}

/// Whether two values mean the same: members in any order, numbers in any spelling, NaN equal to NaN.
pub fn same(left: &Value<'_>, right: &Value<'_>) -> bool {
    match (&left.kind, &right.kind) {
        (Kind::Number, Kind::Number) => {
            left.text() == right.text()
                || match (left.as_integer(), right.as_integer()) {
                    (Some(l), Some(r)) => l == r,
                    _ => left.as_f64().is_some() && left.as_f64() == right.as_f64(),
                }
        }
        (Kind::String, Kind::String) => left.code_points() == right.code_points(),
        (Kind::Array(l), Kind::Array(r)) => l.len() == r.len() && l.iter().zip(r).all(|(l, r)| same(l, r)),
        (Kind::Object(l), Kind::Object(r)) => {
            let within = |ours: &[Member<'_>], value: &Value<'_>, theirs: &Value<'_>| {
                ours.iter().all(|member| {
                    matches!((value.get(&member.key), theirs.get(&member.key)), (Some(l), Some(r)) if same(l, r))
                })
            };
            // With no duplicate keys (the rule), one direction and the counts suffice.
            within(l, left, right) && (l.len() == r.len() || within(r, right, left))
        }
        (l, r) => l == r,
    }
}

fn decode_string(quoted: &str) -> Vec<u32> {
    let mut points = Vec::with_capacity(quoted.len());
    let mut chars = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            points.push(u32::from(c));
            continue;
        }
        let point = match chars.next() {
            Some('n') => 0x0a,
            Some('t') => 0x09,
            Some('r') => 0x0d,
            Some('b') => 0x08,
            Some('f') => 0x0c,
            Some('u') => chars.by_ref().take(4).filter_map(|c| c.to_digit(16)).fold(0, |all, digit| all * 16 + digit),
            Some(other) => u32::from(other),
            None => break,
        };
        match points.last_mut() {
            Some(high) if (0xdc00..0xe000).contains(&point) && (0xd800..0xdc00).contains(high) => {
                *high = 0x10000 + ((*high - 0xd800) << 10) + (point - 0xdc00);
            }
            _ => points.push(point),
        }
    }
    points
}

struct Reader<'t> {
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
}

impl<'t> Reader<'t> {
    fn error(&self, problem: &'static str) -> JsonError {
        let problem = if self.at >= self.bytes.len() { "the text ends too early" } else { problem };
        JsonError { offset: self.at, problem }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8, problem: &'static str) -> Result<(), JsonError> {
        if self.peek() != Some(byte) {
            return Err(self.error(problem));
        }
        self.at += 1;
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<Value<'t>, JsonError> {
        if depth > MAX_DEPTH {
            return Err(self.error("nested too deeply"));
        }
        let start = self.at;
        let kind = match self.peek() {
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.array(depth)?,
            Some(b'"') => {
                self.skip_string()?;
                Kind::String
            }
            _ => self.word()?,
        };
        Ok(Value { source: self.text, start, end: self.at, kind })
    }

    fn object(&mut self, depth: usize) -> Result<Kind<'t>, JsonError> {
        let mut members = Vec::new();
        self.at += 1;
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Kind::Object(members));
        }
        loop {
            self.skip_space();
            let key_start = self.at;
            if self.peek() != Some(b'"') {
                return Err(self.error("expected a key in quotes"));
            }
            self.skip_string()?;
            let quoted = self.text.get(key_start..self.at).unwrap_or_default();
            let key = decode_string(quoted).into_iter().map(|p| char::from_u32(p).unwrap_or('\u{fffd}')).collect();
            self.skip_space();
            self.expect(b':', "expected ':'")?;
            self.skip_space();
            let value = self.value(depth + 1)?;
            members.push(Member { key, key_start, value });
            self.skip_space();
            if self.peek() == Some(b',') {
                self.at += 1;
                continue;
            }
            self.expect(b'}', "expected ',' or '}'")?;
            return Ok(Kind::Object(members));
        }
    }

    fn array(&mut self, depth: usize) -> Result<Kind<'t>, JsonError> {
        let mut elements = Vec::new();
        self.at += 1;
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Kind::Array(elements));
        }
        loop {
            self.skip_space();
            elements.push(self.value(depth + 1)?);
            self.skip_space();
            if self.peek() == Some(b',') {
                self.at += 1;
                continue;
            }
            self.expect(b']', "expected ',' or ']'")?;
            return Ok(Kind::Array(elements));
        }
    }

    fn skip_string(&mut self) -> Result<(), JsonError> {
        self.at += 1;
        loop {
            match self.peek() {
                None => return Err(self.error("")),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.at += 1;
                    match self.peek() {
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
                        Some(b'u') => {
                            let digits = self.bytes.get(self.at + 1..self.at + 5).unwrap_or_default();
                            if digits.len() < 4 || !digits.iter().all(u8::is_ascii_hexdigit) {
                                return Err(self.error("expected four hexadecimal digits"));
                            }
                            self.at += 5;
                        }
                        _ => return Err(self.error("unknown escape in a string")),
                    }
                }
                Some(_) => self.at += 1,
            }
        }
    }

    fn word(&mut self) -> Result<Kind<'t>, JsonError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'+' | b'-' | b'.')) {
            self.at += 1;
        }
        let word = self.text.get(start..self.at).unwrap_or_default();
        match word {
            "null" => Ok(Kind::Null),
            "true" => Ok(Kind::Bool(true)),
            "false" => Ok(Kind::Bool(false)),
            "NaN" | "Infinity" | "-Infinity" => Ok(Kind::Number),
            // Rust also reads `inf` and `nan`, which no JSON writer spells so.
            _ if word.contains(|c: char| c.is_ascii_digit()) && word.parse::<f64>().is_ok() => Ok(Kind::Number),
            _ => {
                // A word cut off at the end of the text is a truncation, not a typing error.
                if self.at < self.bytes.len() {
                    self.at = start;
                }
                Err(self.error("expected a value"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
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
                if let Ok(text) = std::str::from_utf8(&bytes) {
                    if let Ok(value) = parse(text) {
                        let _ = (value.string(), value.code_points(), same(&value, &value));
                    }
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
}
