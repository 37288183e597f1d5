//! A tolerant JSON reader that keeps the source text, so that what is not changed can be carried untouched.
//!
//! serde_json cannot read the bare `NaN` that zarr-python writes into attributes and rounds large integers;
//! here numbers stay text until somebody asks for them.

mod reader;

use std::fmt;
use std::ops::Range;

pub use reader::parse;

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

#[cfg(test)]
mod tests;
