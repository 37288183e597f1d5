//! numpy's type strings (`<f4`, `|S3`, `<M8[ns]`) as data types of v3.

use crate::zarr::codecs::Endian;
use crate::zarr::json::Value;
use crate::zarr::splice;

/// What the elements are, as far as their fill value's spelling goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Bool,
    Integer,
    Float,
    Complex,
    Time,
    /// Spelled in base64.
    Bytes,
    Text,
}

/// A data type of v2.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Dtype {
    /// The document of v3's data type.
    pub(super) data_type: String,
    pub(super) class: Class,
    /// Byte order, where the type has one.
    pub(super) endian: Option<Endian>,
    /// Bytes per element; `None` for those of variable length.
    pub(super) item_bytes: Option<usize>,
    /// The codec that turns elements of variable length into bytes.
    pub(super) serializer: Option<&'static str>,
}

impl Dtype {
    /// Reads `dtype`; the filters tell what `|O` holds.
    pub(super) fn parse(value: &Value<'_>, filters: &[Value<'_>]) -> Result<Self, String> {
        match value.string() {
            Some(text) if text.ends_with('O') => object(filters),
            Some(text) => simple(&text).ok_or_else(|| format!("dtype {text}")),
            None => structured(value),
        }
    }
}

fn object(filters: &[Value<'_>]) -> Result<Dtype, String> {
    let ids: Vec<String> = filters.iter().filter_map(|filter| filter.get("id")?.string()).collect();
    let (data_type, class, serializer) = match ids.first().map(String::as_str) {
        Some("vlen-utf8") => ("\"string\"", Class::Text, "vlen-utf8"),
        Some("vlen-bytes") => ("\"variable_length_bytes\"", Class::Bytes, "vlen-bytes"),
        Some(id) => return Err(format!("dtype |O with the filter {id}")),
        None => return Err("dtype |O without a filter".to_owned()),
    };
    Ok(Dtype { data_type: data_type.to_owned(), class, endian: None, item_bytes: None, serializer: Some(serializer) })
}

fn simple(text: &str) -> Option<Dtype> {
    let order = text.chars().next()?;
    let rest = text.strip_prefix(['<', '>', '|', '='])?;
    let kind = rest.chars().next()?;
    let size_text = rest.get(kind.len_utf8()..)?;
    if matches!(kind, 'M' | 'm') {
        return time(kind, size_text, order);
    }
    let size: usize = size_text.parse().ok().filter(|size| (1..1 << 26).contains(size))?;
    let name =
        |names: &[(usize, &str)]| names.iter().find(|(bytes, _)| *bytes == size).map(|(_, name)| splice::quote(name));
    let with_length = |name: &str, bytes: usize| {
        Some(format!(r#"{{"name": "{name}", "configuration": {{"length_bytes": {bytes}}}}}"#))
    };
    let (data_type, class, bytes, swapped) = match kind {
        'b' => (name(&[(1, "bool")]), Class::Bool, size, false),
        'i' => (name(&[(1, "int8"), (2, "int16"), (4, "int32"), (8, "int64")]), Class::Integer, size, size > 1),
        'u' => (name(&[(1, "uint8"), (2, "uint16"), (4, "uint32"), (8, "uint64")]), Class::Integer, size, size > 1),
        'f' => (name(&[(2, "float16"), (4, "float32"), (8, "float64")]), Class::Float, size, true),
        'c' => (name(&[(8, "complex64"), (16, "complex128")]), Class::Complex, size, true),
        'S' => (with_length("null_terminated_bytes", size), Class::Bytes, size, false),
        'V' => (with_length("raw_bytes", size), Class::Bytes, size, false),
        'U' => (with_length("fixed_length_utf32", 4 * size), Class::Text, 4 * size, true),
        _ => return None,
    };
    let endian = swapped.then_some(if order == '>' { Endian::Big } else { Endian::Little });
    Some(Dtype { data_type: data_type?, class, endian, item_bytes: Some(bytes), serializer: None })
}

/// `8[ns]`, `8[10ms]`, `8`.
fn time(kind: char, rest: &str, order: char) -> Option<Dtype> {
    let unit = match rest.strip_prefix('8')? {
        "" => "generic",
        bracketed => bracketed.strip_prefix('[')?.strip_suffix(']')?,
    };
    let digits = unit.len() - unit.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (scale, unit) = unit.split_at(digits);
    let scale: u32 = if scale.is_empty() { 1 } else { scale.parse().ok()? };
    const UNITS: [&str; 14] = ["Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as", "generic"];
    let unit = UNITS.iter().find(|known| **known == unit)?;
    let name = if kind == 'M' { "numpy.datetime64" } else { "numpy.timedelta64" };
    Some(Dtype {
        data_type: format!(r#"{{"name": "{name}", "configuration": {{"unit": "{unit}", "scale_factor": {scale}}}}}"#),
        class: Class::Time,
        endian: Some(if order == '>' { Endian::Big } else { Endian::Little }),
        item_bytes: Some(8),
        serializer: None,
    })
}

/// A list of `[name, dtype]`; v3 knows neither byte orders nor shapes inside.
fn structured(value: &Value<'_>) -> Result<Dtype, String> {
    let fields = value.elements().ok_or_else(|| format!("dtype {}", value.brief()))?;
    let mut spelled = Vec::new();
    let mut item_bytes = 0;
    for field in fields {
        let refused = || format!("dtype with the field {}", field.brief());
        let Some([name, dtype]) = field.elements() else {
            return Err(refused());
        };
        let inner = Dtype::parse(dtype, &[])?;
        let name = name.string().ok_or_else(refused)?;
        if inner.endian == Some(Endian::Big) {
            return Err(refused());
        }
        item_bytes += inner.item_bytes.ok_or_else(refused)?;
        spelled.push(format!("[{}, {}]", splice::quote(&name), inner.data_type));
    }
    Ok(Dtype {
        data_type: format!(r#"{{"name": "structured", "configuration": {{"fields": [{}]}}}}"#, spelled.join(", ")),
        class: Class::Bytes,
        endian: None,
        item_bytes: Some(item_bytes),
        serializer: None,
    })
}
