//! Attributes of v2 arrays as xarray writes them for v3: dimension names move out, the fill value moves in.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::dtype::{Class, Dtype};
use super::fill_value;
use crate::zarr::json::Value;
use crate::zarr::minifloat;
use crate::zarr::splice::{self, Edit};

const DIMENSIONS: &str = "_ARRAY_DIMENSIONS";
const FILL_VALUE: &str = "_FillValue";

/// The dimension names: xarray keeps them in an attribute, NCZarr in `.zarray`.
pub(super) fn dimension_names(attributes: &Value<'_>, array: &Value<'_>, rank: usize) -> Option<Vec<String>> {
    let names = |value: &Value<'_>| value.elements()?.iter().map(Value::string).collect::<Option<Vec<String>>>();
    let from_netcdf = || {
        let paths = names(array.get("_NCZARR_ARRAY")?.get("dimrefs")?)?;
        Some(paths.iter().map(|path| path.rsplit('/').next().unwrap_or_default().to_owned()).collect())
    };
    let found = attributes.get(DIMENSIONS).and_then(names).or_else(from_netcdf);
    found.filter(|names: &Vec<String>| names.len() == rank)
}

/// The attributes of v3.
///
/// xarray masks a v2 fill value and not a v3 one, so it also becomes `_FillValue`, in xarray's spelling for v3; as in
/// v2 it counts more than an attribute of that name. The attributes that xarray hides in v2 are left out.
pub(super) fn convert(attributes: &Value<'_>, array: &Value<'_>, dtype: &Dtype, named: bool) -> Result<String, String> {
    let mut edits: Vec<(&str, Edit)> = Vec::new();
    for member in attributes.members() {
        let hidden = (member.key == DIMENSIONS && named) || member.key.to_lowercase().starts_with("_nc");
        if hidden {
            edits.push((&member.key, Edit::Remove));
        }
    }
    let fill_value = array.get("fill_value").filter(|value| !value.is_null());
    if let Some(value) = fill_value.or_else(|| attributes.get(FILL_VALUE)) {
        match encode(value, dtype) {
            Some(encoded) => edits.push((FILL_VALUE, Edit::Set(encoded))),
            // Reading one of another type fails in xarray, whatever it says.
            None => edits.push((FILL_VALUE, Edit::Remove)),
        }
    }
    splice::edit_object(attributes.text(), &edits).map_err(|error| format!("its .zattrs is invalid: {error}"))
}

/// `value` as xarray's FillValueCoder spells it; `None` for the types that it cannot decode.
fn encode(value: &Value<'_>, dtype: &Dtype) -> Option<String> {
    let spelled = fill_value::convert(Some(value), dtype).ok()?;
    let value = crate::zarr::json::parse(&spelled).ok()?;
    match dtype.class {
        Class::Bool | Class::Integer => Some(spelled),
        Class::Float => encode_float(&value, dtype.item_bytes?),
        Class::Complex => match value.elements()? {
            [real, imaginary] => {
                let bytes = dtype.item_bytes? / 2;
                Some(format!("[{}, {}]", encode_float(real, bytes)?, encode_float(imaginary, bytes)?))
            }
            _ => None,
        },
        Class::Text | Class::Bytes | Class::Time => None,
    }
}

/// The double in base64, after rounding to the array's type.
fn encode_float(value: &Value<'_>, size_bytes: usize) -> Option<String> {
    let number = match value.string().as_deref() {
        Some("NaN") => f64::NAN,
        Some("Infinity") => f64::INFINITY,
        Some("-Infinity") => f64::NEG_INFINITY,
        _ => value.as_f64()?,
    };
    let number = match size_bytes {
        2 => f64::from(half::f16::from_bits(minifloat::format("float16")?.encode(number)?)),
        4 => f64::from(number as f32),
        _ => number,
    };
    // The sign of a NaN differs between machines; Python writes it without.
    let number = if number.is_nan() { f64::from_bits(0x7ff8_0000_0000_0000) } else { number };
    Some(format!("\"{}\"", STANDARD.encode(number.to_le_bytes())))
}
