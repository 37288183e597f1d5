//! Elements as text, for messages.

use super::data_type::{DataType, ItemLayout};

/// Longer texts and runs of bytes are cut off.
const MOST_BYTES: usize = 32;

/// Two little-endian elements that differ, so that the texts differ too: where the values look the same, as those of
/// two NaNs do, the bits are added.
pub fn pair(data_type: &DataType, left: &[u8], right: &[u8]) -> (String, String) {
    let (l, r) = (element(data_type, left), element(data_type, right));
    if l != r {
        return (l, r);
    }
    if left.len() <= MOST_BYTES {
        return (format!("{l} ({})", bits(left)), format!("{r} ({})", bits(right)));
    }
    let at = left.iter().zip(right).position(|(l, r)| l != r).unwrap_or_default();
    let byte = |item: &[u8]| format!("0x{:02x} at its byte {at}", item.get(at).copied().unwrap_or_default());
    (byte(left), byte(right))
}

/// Two elements of any length that differ, so that the texts differ too.
pub fn pair_of_any_length(is_text: bool, left: &[u8], right: &[u8]) -> (String, String) {
    let shown = |item: &[u8]| match std::str::from_utf8(item) {
        Ok(text) if is_text => quoted(text),
        _ => bytes(item),
    };
    let (l, r) = (shown(left), shown(right));
    if l != r {
        return (l, r);
    }
    let at = left.iter().zip(right).take_while(|(l, r)| l == r).count();
    let side = |item: &[u8]| match item.get(at) {
        Some(byte) => format!("{} bytes, 0x{byte:02x} at its byte {at}", item.len()),
        None => format!("{} bytes", item.len()),
    };
    (side(left), side(right))
}

/// A little-endian element: numbers in the fewest digits that tell them from any other, what has no number as bytes.
pub fn element(data_type: &DataType, item: &[u8]) -> String {
    match &data_type.layout {
        ItemLayout::Bool => match item {
            [0] => "false".to_owned(),
            [1] => "true".to_owned(),
            _ => bits(item),
        },
        ItemLayout::Integer { signed, .. } => integer(item, *signed),
        ItemLayout::Time => integer(item, true),
        ItemLayout::Float(name) => float(name, item),
        ItemLayout::Complex(name) => {
            let (real, imaginary) = item.split_at(item.len() / 2);
            let imaginary = float(name, imaginary);
            let sign = if imaginary.starts_with('-') { "" } else { "+" };
            format!("{}{sign}{imaginary}j", float(name, real))
        }
        ItemLayout::Raw(_) | ItemLayout::ByteString(_) => bytes(item),
        ItemLayout::Utf32(_) => text(item).unwrap_or_else(|| bytes(item)),
        ItemLayout::Struct { fields, .. } => {
            let mut rest = item;
            let mut texts = Vec::with_capacity(fields.len());
            for (name, field) in fields {
                let (this, after) = rest.split_at(field.item_bytes().min(rest.len()));
                texts.push(format!("{name}: {}", element(field, this)));
                rest = after;
            }
            format!("{{{}}}", texts.join(", "))
        }
    }
}

fn integer(item: &[u8], signed: bool) -> String {
    let negative = signed && item.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut bytes = [if negative { 0xff } else { 0 }; 16];
    bytes.iter_mut().zip(item).for_each(|(to, from)| *to = *from);
    i128::from_le_bytes(bytes).to_string()
}

fn float(name: &str, item: &[u8]) -> String {
    match (name, item) {
        ("float64", &[a, b, c, d, e, f, g, h]) => format!("{:?}", f64::from_le_bytes([a, b, c, d, e, f, g, h])),
        ("float32", &[a, b, c, d]) => format!("{:?}", f32::from_le_bytes([a, b, c, d])),
        ("float16", &[a, b]) => {
            let number = half::f16::from_le_bytes([a, b]);
            shortest(f64::from(number), |tried| half::f16::from_f64(tried) == number)
        }
        ("bfloat16", &[a, b]) => {
            let number = half::bf16::from_le_bytes([a, b]);
            shortest(f64::from(number), |tried| half::bf16::from_f64(tried) == number)
        }
        _ => bits(item),
    }
}

/// `number` in the fewest digits that are still the same number in its own type.
fn shortest(number: f64, is_same: impl Fn(f64) -> bool) -> String {
    // Five digits tell any two numbers of 16 bits apart.
    let rounded = (0..5).filter_map(|digits| format!("{number:.digits$e}").parse().ok()).find(|tried| is_same(*tried));
    format!("{:?}", rounded.unwrap_or(number))
}

fn text(item: &[u8]) -> Option<String> {
    let points = item.as_chunks::<4>().0.iter().map(|point| u32::from_le_bytes(*point));
    let mut text: String = points.map(char::from_u32).collect::<Option<_>>()?;
    text.truncate(text.trim_end_matches('\0').len());
    Some(quoted(&text))
}

fn quoted(text: &str) -> String {
    let more = if text.chars().nth(MOST_BYTES).is_some() { "..." } else { "" };
    format!("{:?}{more}", text.chars().take(MOST_BYTES).collect::<String>())
}

/// As one number, its most significant digits first.
fn bits(item: &[u8]) -> String {
    item.iter().rev().fold("0x".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// As they lie.
fn bytes(item: &[u8]) -> String {
    let more = if item.len() > MOST_BYTES { "..." } else { "" };
    let shown = item.iter().take(MOST_BYTES).fold("0x".to_owned(), |text, byte| format!("{text}{byte:02x}"));
    format!("{shown}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zarr::{data_type, json};

    fn read(text: &str) -> DataType {
        data_type::parse(&json::parse(text).unwrap()).unwrap()
    }

    #[test]
    fn numbers_are_as_short_as_they_can_be() {
        let shown = |name: &str, item: &[u8]| element(&read(&format!("{name:?}")), item);
        assert_eq!(shown("float32", &0.1f32.to_le_bytes()), "0.1");
        assert_eq!(shown("float64", &(-1e300f64).to_le_bytes()), "-1e300");
        assert_eq!(shown("float16", &half::f16::from_f64(0.1).to_le_bytes()), "0.1");
        assert_eq!(shown("float16", &half::f16::MAX.to_le_bytes()), "65500.0");
        assert_eq!(shown("bfloat16", &half::bf16::from_f64(3.0).to_le_bytes()), "3.0");
        assert_eq!(shown("complex64", &[0, 0, 128, 63, 0, 0, 0, 192]), "1.0-2.0j");
        assert_eq!((shown("int16", &[0xff, 0xff]), shown("uint16", &[0xff, 0xff])), ("-1".into(), "65535".into()));
        assert_eq!((shown("bool", &[1]), shown("bool", &[2])), ("true".into(), "0x02".into()));
        assert_eq!(shown("r24", &[1, 2, 3]), "0x010203");
        assert_eq!(shown("float8_e4m3", &[0x7c]), "0x7c");
    }

    #[test]
    fn strings_and_fields_are_shown() {
        let utf = read(r#"{"name": "fixed_length_utf32", "configuration": {"length_bytes": 12}}"#);
        assert_eq!(element(&utf, &[104, 0, 0, 0, 105, 0, 0, 0, 0, 0, 0, 0]), "\"hi\"");
        let fields = r#"{"name": "struct", "configuration": {"fields": [{"name": "a", "data_type": "int16"}, {"name": "b", "data_type": "bool"}]}}"#;
        assert_eq!(element(&read(fields), &[1, 0, 0]), "{a: 1, b: false}");
        let time = r#"{"name": "numpy.datetime64", "configuration": {"unit": "ns", "scale_factor": 1}}"#;
        assert_eq!(element(&read(time), &7i64.to_le_bytes()), "7");
    }

    #[test]
    fn elements_of_any_length_are_shown_as_what_they_are() {
        let told = |is_text, left: &str, right: &str| pair_of_any_length(is_text, left.as_bytes(), right.as_bytes());
        assert_eq!(told(true, "a\"b", ""), (r#""a\"b""#.to_owned(), r#""""#.to_owned()));
        assert_eq!(told(false, "ab", ""), ("0x6162".to_owned(), "0x".to_owned()));
        let long = "x".repeat(100);
        let expected = ("100 bytes".to_owned(), "101 bytes, 0x79 at its byte 100".to_owned());
        assert_eq!(told(true, &long, &format!("{long}y")), expected);
    }

    #[test]
    fn what_looks_the_same_is_told_apart_by_its_bits() {
        let float = read("\"float32\"");
        let nans = [0x7fc0_0000u32, 0x7fc0_0001].map(u32::to_le_bytes);
        let expected = ("NaN (0x7fc00000)".to_owned(), "NaN (0x7fc00001)".to_owned());
        assert_eq!(pair(&float, &nans[0], &nans[1]), expected);
        assert_eq!(pair(&float, &nans[0], &0f32.to_le_bytes()), ("NaN".to_owned(), "0.0".to_owned()));
        let long = read(r#"{"name": "raw_bytes", "configuration": {"length_bytes": 40}}"#);
        let (left, mut right) = ([0; 40], [0; 40]);
        right[37] = 5;
        assert_eq!(pair(&long, &left, &right), ("0x00 at its byte 37".to_owned(), "0x05 at its byte 37".to_owned()));
    }
}
