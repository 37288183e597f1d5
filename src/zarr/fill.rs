//! Fill values, from their spelling in zarr.json to their exact bits.

use base64::Engine as _;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::{GeneralPurposeConfig, PAD};

use super::data_type::{DataType, ItemLayout, float_bytes};
use super::json::{Kind, Value};
use super::minifloat;

/// "not a time" of numpy's dates and time spans.
const NOT_A_TIME: i64 = i64::MIN;

/// One element of fill value, little-endian.
///
/// # Errors
/// One line that names value and type, when the value does not fit the type.
pub fn parse(value: &Value<'_>, data_type: &DataType) -> Result<Vec<u8>, String> {
    let mut item = Vec::with_capacity(data_type.item_bytes());
    match push(value, data_type, &mut item) {
        Some(()) if item.len() == data_type.item_bytes() => Ok(item),
        _ => Err(format!("fill value {} does not fit data type {}", value.brief(), data_type.name)),
    }
}

/// The fill value of elements of any length.
///
/// # Errors
/// One line that names the value, when it is no string, or not spelled as bytes are.
pub fn of_any_length(value: &Value<'_>, is_text: bool) -> Result<Vec<u8>, String> {
    let fill = if is_text { value.string().map(String::into_bytes) } else { bytes(value) };
    fill.ok_or_else(|| format!("fill value {} is no {}", value.brief(), if is_text { "string" } else { "bytes" }))
}

fn push(value: &Value<'_>, data_type: &DataType, item: &mut Vec<u8>) -> Option<()> {
    match &data_type.layout {
        ItemLayout::Bool => match value.kind {
            Kind::Bool(truth) => item.push(u8::from(truth)),
            _ => item.push(u8::try_from(value.as_integer()?).ok().filter(|byte| *byte < 2)?),
        },
        ItemLayout::Integer { bytes, signed, bits } => {
            let number = integer(value)?;
            let (low, high) = match signed {
                true => (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1),
                false => (0, (1i128 << bits) - 1),
            };
            (low..=high).contains(&number).then_some(())?;
            item.extend(number.to_le_bytes().get(..*bytes)?);
        }
        ItemLayout::Float(name) => push_float(value, name, item)?,
        ItemLayout::Complex(name) => match value.elements() {
            Some([real, imaginary]) => {
                push_float(real, name, item)?;
                push_float(imaginary, name, item)?;
            }
            // A bare number: Zarr v2 writers spell complex zeros so.
            _ => {
                push_float(value, name, item)?;
                item.resize(item.len() + float_bytes(name), 0);
            }
        },
        ItemLayout::Time => match value.string().as_deref() {
            Some("NaT") => item.extend(NOT_A_TIME.to_le_bytes()),
            _ => item.extend(i64::try_from(integer(value)?).ok()?.to_le_bytes()),
        },
        ItemLayout::Raw(length) => push_padded(bytes(value)?, *length, false, item)?,
        ItemLayout::ByteString(length) => push_padded(bytes(value)?, *length, true, item)?,
        ItemLayout::Utf32(length) => {
            let mut points = value.code_points()?;
            points.resize(*length, 0);
            item.extend(points.into_iter().flat_map(u32::to_le_bytes));
        }
        ItemLayout::Struct { fields, .. } => match &value.kind {
            Kind::Object(_) => {
                for (name, field) in fields {
                    push(value.get(name)?, field, item)?;
                }
            }
            _ => push_padded(bytes(value)?, data_type.item_bytes(), false, item)?,
        },
    }
    Some(())
}

/// A whole number, also in quotes, as zarr-python reads it.
fn integer(value: &Value<'_>) -> Option<i128> {
    value.as_integer().or_else(|| value.string()?.trim().parse().ok())
}

fn push_float(value: &Value<'_>, name: &str, item: &mut Vec<u8>) -> Option<()> {
    let size_bytes = float_bytes(name);
    let number = match value.string().as_deref() {
        None => value.as_f64()?,
        Some("NaN") => f64::NAN,
        Some("Infinity") => f64::INFINITY,
        Some("-Infinity") => f64::NEG_INFINITY,
        Some(text) => match text.strip_prefix("0x") {
            Some(digits) if digits.len() == 2 * size_bytes => {
                let bits = u64::from_str_radix(digits, 16).ok()?;
                item.extend(bits.to_le_bytes().get(..size_bytes)?);
                return Some(());
            }
            // A number in quotes, as some writers of Zarr v2 left it.
            _ => text.trim().parse().ok()?,
        },
    };
    // The sign and payload of a computed NaN differ between machines; Zarr names one pattern.
    match name {
        "float64" if number.is_nan() => item.extend(0x7ff8_0000_0000_0000u64.to_le_bytes()),
        "float64" => item.extend(number.to_le_bytes()),
        "float32" if number.is_nan() => item.extend(0x7fc0_0000u32.to_le_bytes()),
        "float32" => item.extend((number as f32).to_le_bytes()),
        _ => match minifloat::format(name) {
            Some(format) => item.extend(format.encode(number)?.to_le_bytes().get(..size_bytes)?),
            // The types without a table take zero, and anything in hexadecimal.
            None => (number.to_bits() == 0 && name != "float8_e8m0fnu").then(|| item.push(0))?,
        },
    }
    Some(())
}

/// Bytes spelled in base64 or as a list of numbers.
fn bytes(value: &Value<'_>) -> Option<Vec<u8>> {
    // Like Python's decoder, which does not look at the bits left over.
    const LENIENT: GeneralPurposeConfig = PAD.with_decode_allow_trailing_bits(true);
    const DECODER: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::STANDARD, LENIENT);
    match value.elements() {
        Some(elements) => elements.iter().map(|byte| u8::try_from(byte.as_integer()?).ok()).collect(),
        None => match value.string() {
            Some(text) => DECODER.decode(text).ok(),
            // Zero stands for "all zeros" in Zarr v2.
            None => (value.as_integer()? == 0).then(Vec::new),
        },
    }
}

/// `bytes` as `length` bytes: a byte string is cut or padded as numpy does it, anything else fits or is empty.
fn push_padded(mut bytes: Vec<u8>, length: usize, is_string: bool, item: &mut Vec<u8>) -> Option<()> {
    if bytes.len() != length && !is_string && !bytes.is_empty() {
        return None;
    }
    bytes.resize(length, 0);
    item.extend(bytes);
    Some(())
}

#[cfg(test)]
mod tests;
