//! Reads JSON text into values, byte by byte, remembering where each stands.

use super::{JsonError, Kind, Member, Value, decode_string};

/// Nesting beyond this is refused: real documents need a dozen levels, a stack overflow needs thousands.
const MAX_DEPTH: usize = 128;

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
