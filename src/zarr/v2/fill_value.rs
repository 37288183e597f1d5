//! Fill values of v2 in the spelling of v3.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::dtype::{Class, Dtype};
use crate::zarr::json::{Kind, Value};
use crate::zarr::{data_type, fill, json};

/// The fill value as v3 spells it. v2's `null` leaves the value open; zarr-python fills in zeros, and "not a time".
pub(super) fn convert(value: Option<&Value<'_>>, dtype: &Dtype) -> Result<String, String> {
    let spelled = match value.filter(|value| !value.is_null()) {
        None => default(dtype),
        Some(value) => spell(value, dtype).ok_or_else(|| format!("fill value {}", value.brief()))?,
    };
    // The types of fixed size are read at once, so that a wrong value is found here and not by each reader.
    if dtype.item_bytes.is_some() {
        let error = |error: json::JsonError| error.to_string();
        let data_type = data_type::parse(&json::parse(&dtype.data_type).map_err(error)?)?;
        fill::parse(&json::parse(&spelled).map_err(error)?, &data_type)?;
    }
    Ok(spelled)
}

fn default(dtype: &Dtype) -> String {
    match dtype.class {
        Class::Bool => "false".to_owned(),
        Class::Integer => "0".to_owned(),
        Class::Float => "0.0".to_owned(),
        Class::Complex => "[0.0, 0.0]".to_owned(),
        Class::Time => "\"NaT\"".to_owned(),
        Class::Text => "\"\"".to_owned(),
        Class::Bytes => zeros(dtype),
    }
}

fn zeros(dtype: &Dtype) -> String {
    format!("\"{}\"", STANDARD.encode(vec![0; dtype.item_bytes.unwrap_or(0)]))
}

fn spell(value: &Value<'_>, dtype: &Dtype) -> Option<String> {
    // Writers of v2 put 0 for "all zeros", whatever the type.
    let is_zero = value.as_f64() == Some(0.0);
    match dtype.class {
        Class::Bool => match &value.kind {
            Kind::Bool(truth) => Some(truth.to_string()),
            _ => Some((value.as_f64()? != 0.0).to_string()),
        },
        Class::Integer => Some(value.as_integer()?.to_string()),
        Class::Float => float(value),
        Class::Complex => match value.elements() {
            Some([real, imaginary]) => Some(format!("[{}, {}]", float(real)?, float(imaginary)?)),
            _ => Some(format!("[{}, 0.0]", float(value)?)),
        },
        Class::Time if is_zero => Some("0".to_owned()),
        Class::Time => {
            value.as_integer().map(|n| n.to_string()).or_else(|| value.string().map(|_| value.text().to_owned()))
        }
        Class::Text if is_zero => Some("\"\"".to_owned()),
        Class::Bytes if is_zero || value.string().as_deref() == Some("") => Some(zeros(dtype)),
        Class::Text | Class::Bytes => value.string().map(|_| value.text().to_owned()),
    }
}

/// A number or one of the words, quoted.
fn float(value: &Value<'_>) -> Option<String> {
    match value.number() {
        Some(word @ ("NaN" | "Infinity" | "-Infinity")) => Some(format!("\"{word}\"")),
        Some(number) => Some(number.to_owned()),
        None => match value.string()?.as_str() {
            word @ ("NaN" | "Infinity" | "-Infinity") => Some(format!("\"{word}\"")),
            text => text.trim().parse::<f64>().ok().filter(|x| x.is_finite()).map(|x| format!("{x:?}")),
        },
    }
}
