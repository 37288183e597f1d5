//! The fixed-size data types: bytes per element, and which of those bytes endianness would swap.

use super::json::{Kind, Value};

/// A data type whose elements all have the same size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataType {
    /// Its name in zarr.json.
    pub name: String,
    /// What an element is made of.
    pub layout: ItemLayout,
}

/// What an element is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemLayout {
    /// True or false, one byte.
    Bool,
    /// A whole number.
    Integer {
        /// Bytes.
        bytes: usize,
        /// Whether it can be negative.
        signed: bool,
        /// Bits that count; the rest is sign or zero.
        bits: u32,
    },
    /// A floating-point number of this name (`float32`).
    Float(&'static str),
    /// Two floating-point numbers of this name.
    Complex(&'static str),
    /// A date or time span: a 64-bit integer.
    Time,
    /// Bytes without meaning (`r16`, `raw_bytes`), never swapped.
    Raw(usize),
    /// A byte string padded with zeros, never swapped.
    ByteString(usize),
    /// A string of this many 32-bit code points padded with zeros.
    Utf32(usize),
    /// Fields one after the other.
    Struct {
        /// Name and type of each field.
        fields: Vec<(String, DataType)>,
        /// zarr-python's `structured`: stored as it lies, its fill value too, whatever `endian` says.
        opaque: bool,
    },
}

const FLOATS: &[&str] = &[
    "float16",
    "float32",
    "float64",
    "bfloat16",
    "float4_e2m1fn",
    "float6_e2m3fn",
    "float6_e3m2fn",
    "float8_e3m4",
    "float8_e4m3",
    "float8_e4m3b11fnuz",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
];

const VARIABLE: &[&str] = &["string", "bytes", "binary", "variable_length_bytes", "variable_length_utf8", "vlen-utf8"];

/// Reads a data type.
///
/// # Errors
/// One line that names the type, when its elements have no fixed size or it is not known.
pub fn parse(value: &Value<'_>) -> Result<DataType, String> {
    let name = value.extension_name().ok_or_else(|| format!("the data type {} has no name", value.brief()))?;
    let layout = item_layout(&name, value)?;
    let data_type = DataType { name, layout };
    match data_type.item_bytes() {
        0 => Err(format!("elements of data type {} have no bytes", data_type.name)),
        // An element is handled whole; beyond this a length is a mistake, not data.
        bytes if bytes > 1 << 28 => Err(format!("elements of data type {} are {bytes} bytes", data_type.name)),
        _ => Ok(data_type),
    }
}

fn item_layout(name: &str, value: &Value<'_>) -> Result<ItemLayout, String> {
    let integer = |bytes, signed, bits| Ok(ItemLayout::Integer { bytes, signed, bits });
    let length_bytes = || {
        let length = value.configured("length_bytes").and_then(Value::as_u64);
        length.and_then(|l| usize::try_from(l).ok()).ok_or_else(|| format!("data type {name} has no length_bytes"))
    };
    match name {
        "bool" => Ok(ItemLayout::Bool),
        "int2" => integer(1, true, 2),
        "int4" => integer(1, true, 4),
        "int8" => integer(1, true, 8),
        "int16" => integer(2, true, 16),
        "int32" => integer(4, true, 32),
        "int64" => integer(8, true, 64),
        "uint2" => integer(1, false, 2),
        "uint4" => integer(1, false, 4),
        "uint8" => integer(1, false, 8),
        "uint16" => integer(2, false, 16),
        "uint32" => integer(4, false, 32),
        "uint64" => integer(8, false, 64),
        "complex64" => Ok(ItemLayout::Complex("float32")),
        "complex128" => Ok(ItemLayout::Complex("float64")),
        "numpy.datetime64" | "numpy.timedelta64" => Ok(ItemLayout::Time),
        "raw_bytes" => Ok(ItemLayout::Raw(length_bytes()?)),
        "null_terminated_bytes" => Ok(ItemLayout::ByteString(length_bytes()?)),
        "fixed_length_utf32" => match length_bytes()? {
            bytes if bytes % 4 == 0 => Ok(ItemLayout::Utf32(bytes / 4)),
            bytes => Err(format!("data type {name} of {bytes} bytes, not a multiple of 4")),
        },
        "structured" | "struct" => {
            Ok(ItemLayout::Struct { fields: fields(name, value)?, opaque: name == "structured" })
        }
        _ if VARIABLE.contains(&name) => Err(format!("data type {name} has elements of variable length")),
        _ => raw_bits(name)
            .map(ItemLayout::Raw)
            .or_else(|| float(name).map(ItemLayout::Float))
            .or_else(|| float(&format!("float{}", name.strip_prefix("complex_float")?)).map(ItemLayout::Complex))
            .or_else(|| (name == "complex_bfloat16").then_some(ItemLayout::Complex("bfloat16")))
            .ok_or_else(|| format!("data type {name} is not known")),
    }
}

fn float(name: &str) -> Option<&'static str> {
    FLOATS.iter().find(|known| **known == name).copied()
}

/// Bytes of `r16` and its like.
fn raw_bits(name: &str) -> Option<usize> {
    let bits: usize = name.strip_prefix('r')?.parse().ok()?;
    (bits > 0 && bits.is_multiple_of(8)).then_some(bits / 8)
}

/// Fields spelled `["a", "int32"]` (structured) or `{"name": "a", "data_type": "int32"}` (struct).
fn fields(name: &str, value: &Value<'_>) -> Result<Vec<(String, DataType)>, String> {
    let unreadable = || format!("the fields of data type {name} cannot be read");
    let fields = value.configured("fields").and_then(Value::elements).ok_or_else(unreadable)?;
    let field = |field: &Value<'_>| {
        let (key, data_type) = match &field.kind {
            Kind::Array(pair) => (pair.first().cloned(), pair.get(1).cloned()),
            _ => (field.get("name").cloned(), field.get("data_type").cloned()),
        };
        let key = key.and_then(|key| key.string()).ok_or_else(unreadable)?;
        Ok((key, parse(&data_type.ok_or_else(unreadable)?)?))
    };
    fields.iter().map(field).collect()
}

impl DataType {
    /// Bytes per element.
    pub fn item_bytes(&self) -> usize {
        match &self.layout {
            ItemLayout::Bool => 1,
            ItemLayout::Integer { bytes, .. } | ItemLayout::Raw(bytes) | ItemLayout::ByteString(bytes) => *bytes,
            ItemLayout::Float(name) => float_bytes(name),
            ItemLayout::Complex(name) => 2 * float_bytes(name),
            ItemLayout::Time => 8,
            ItemLayout::Utf32(points) => points.saturating_mul(4),
            ItemLayout::Struct { fields, .. } => {
                fields.iter().fold(0, |sum, (_, field)| sum.saturating_add(field.item_bytes()))
            }
        }
    }

    /// Whether the `bytes` codec needs an endianness for it.
    pub fn has_endianness(&self) -> bool {
        match &self.layout {
            ItemLayout::Bool | ItemLayout::Raw(_) | ItemLayout::ByteString(_) => false,
            ItemLayout::Integer { bytes, .. } => *bytes > 1,
            ItemLayout::Float(name) | ItemLayout::Complex(name) => float_bytes(name) > 1,
            ItemLayout::Time | ItemLayout::Utf32(_) => true,
            ItemLayout::Struct { fields, opaque } => !opaque && fields.iter().any(|(_, field)| field.has_endianness()),
        }
    }

    /// Turns one little-endian element into the other byte order, component by component.
    pub fn swap(&self, item: &mut [u8]) {
        let unit = match &self.layout {
            ItemLayout::Struct { opaque: true, .. } => 1,
            ItemLayout::Struct { fields, .. } => {
                let mut rest = item;
                for (_, field) in fields {
                    let (this, after) = rest.split_at_mut(field.item_bytes().min(rest.len()));
                    field.swap(this);
                    rest = after;
                }
                return;
            }
            ItemLayout::Bool | ItemLayout::Raw(_) | ItemLayout::ByteString(_) => 1,
            ItemLayout::Integer { bytes, .. } => *bytes,
            ItemLayout::Float(name) | ItemLayout::Complex(name) => float_bytes(name),
            ItemLayout::Time => 8,
            ItemLayout::Utf32(_) => 4,
        };
        for component in item.chunks_mut(unit) {
            component.reverse();
        }
    }
}

/// Bytes of a floating-point type; the types below one byte are stored in one.
pub fn float_bytes(name: &str) -> usize {
    match name {
        "float64" => 8,
        "float32" => 4,
        "float16" | "bfloat16" => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zarr::json;

    fn read(text: &str) -> Result<DataType, String> {
        parse(&json::parse(text).unwrap())
    }

    #[test]
    fn sizes_and_endianness() {
        for (text, bytes, endian) in [
            ("\"bool\"", 1, false),
            ("\"int8\"", 1, false),
            ("{\"name\":\"uint16\"}", 2, true),
            ("\"float16\"", 2, true),
            ("\"bfloat16\"", 2, true),
            ("\"float8_e4m3fn\"", 1, false),
            ("\"complex64\"", 8, true),
            ("\"complex_float32\"", 8, true),
            ("\"complex_bfloat16\"", 4, true),
            ("\"complex_float8_e5m2\"", 2, false),
            ("\"r24\"", 3, false),
            (r#"{"name":"raw_bytes","configuration":{"length_bytes":5}}"#, 5, false),
            (r#"{"name":"null_terminated_bytes","configuration":{"length_bytes":3}}"#, 3, false),
            (r#"{"name":"fixed_length_utf32","configuration":{"length_bytes":12}}"#, 12, true),
            (r#"{"name":"numpy.datetime64","configuration":{"unit":"ns","scale_factor":1}}"#, 8, true),
            (r#"{"name":"structured","configuration":{"fields":[["a","int32"],["b","bool"]]}}"#, 5, false),
            (r#"{"name":"struct","configuration":{"fields":[{"name":"a","data_type":"int32"}]}}"#, 4, true),
        ] {
            let data_type = read(text).unwrap();
            assert_eq!((data_type.item_bytes(), data_type.has_endianness()), (bytes, endian), "{text}");
        }
    }

    #[test]
    fn what_has_no_fixed_size_is_named() {
        for (text, reason) in [
            ("\"string\"", "data type string has elements of variable length"),
            ("\"r12\"", "data type r12 is not known"),
            ("{\"name\":\"geo.point\"}", "data type geo.point is not known"),
            ("12", "the data type 12 has no name"),
            (
                r#"{"name":"raw_bytes","configuration":{"length_bytes":0}}"#,
                "elements of data type raw_bytes have no bytes",
            ),
            (
                r#"{"name":"fixed_length_utf32","configuration":{"length_bytes":6}}"#,
                "data type fixed_length_utf32 of 6 bytes, not a multiple of 4",
            ),
        ] {
            assert_eq!(read(text).unwrap_err(), reason, "{text}");
        }
    }

    #[test]
    fn swapping_goes_by_component() {
        let mut item = [1, 2, 3, 4, 5, 6, 7, 8];
        read("\"complex64\"").unwrap().swap(&mut item);
        assert_eq!(item, [4, 3, 2, 1, 8, 7, 6, 5]);
        let mut item = [1, 2, 3, 4, 5];
        let text = r#"{"name":"struct","configuration":{"fields":[{"name":"a","data_type":"int8"},{"name":"b","data_type":"int32"}]}}"#;
        read(text).unwrap().swap(&mut item);
        assert_eq!(item, [1, 5, 4, 3, 2]);
    }
}
