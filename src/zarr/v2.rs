//! Documents of Zarr v2 as those of v3. Chunks stay as they are: the codecs and chunk keys of v2 are spelled in v3.

mod attributes;
mod dtype;
mod fill_value;
mod filters;

use super::json::{self, Value};
use super::splice;
use dtype::Dtype;

/// The zarr.json of a group with these attributes (the text of `.zattrs`).
///
/// # Errors
/// One line, when the attributes are not a JSON object.
pub fn convert_group(attributes: &str) -> Result<String, String> {
    let attributes = parse(".zattrs", attributes)?.text();
    Ok(format!("{{\n  \"attributes\": {attributes},\n  \"zarr_format\": 3,\n  \"node_type\": \"group\"\n}}"))
}

/// The zarr.json of an array, from the texts of `.zarray` and `.zattrs`.
///
/// # Errors
/// One line that names what v3 cannot spell.
pub fn convert_array(zarray: &str, attributes: &str) -> Result<String, String> {
    let array = parse(".zarray", zarray)?;
    let attributes = parse(".zattrs", attributes)?;
    let lengths =
        |key: &str| array.get(key).and_then(Value::as_lengths).ok_or(format!("its .zarray has no readable {key}"));
    let (shape, chunks) = (lengths("shape")?, lengths("chunks")?);
    if shape.len() != chunks.len() {
        return Err(format!("its .zarray has {} axes and chunks of {}", shape.len(), chunks.len()));
    }
    let chunks: Vec<u64> = chunks.into_iter().map(|length| length.max(1)).collect();
    let filters = array.get("filters").and_then(Value::elements).unwrap_or_default();
    let dtype = Dtype::parse(array.get("dtype").ok_or("its .zarray has no dtype")?, filters)?;
    let compressor = array.get("compressor").filter(|compressor| !compressor.is_null());
    let is_fortran = array.get("order").and_then(Value::string).as_deref() == Some("F");
    let codecs = filters::codecs(&dtype, is_fortran.then_some(shape.len()), filters, compressor)?;
    let separator = match array.get("dimension_separator").and_then(Value::string).as_deref() {
        None | Some(".") => ".",
        Some("/") => "/",
        Some(other) => return Err(format!("its dimension_separator is {other:?}")),
    };
    let fill_value = fill_value::convert(array.get("fill_value"), &dtype)?;
    let dimensions = attributes::dimension_names(&attributes, &array, shape.len());
    let attributes = attributes::convert(&attributes, &array, &dtype, dimensions.is_some())?;
    let dimension_names = match dimensions {
        Some(names) if !names.is_empty() => {
            let names: Vec<String> = names.iter().map(|name| splice::quote(name)).collect();
            format!("  \"dimension_names\": [{}],\n", names.join(", "))
        }
        _ => String::new(),
    };
    Ok(format!(
        r#"{{
  "shape": {shape},
  "data_type": {data_type},
  "chunk_grid": {{"name": "regular", "configuration": {{"chunk_shape": {chunks}}}}},
  "chunk_key_encoding": {{"name": "v2", "configuration": {{"separator": "{separator}"}}}},
  "fill_value": {fill_value},
  "codecs": [{codecs}],
  "attributes": {attributes},
{dimension_names}  "zarr_format": 3,
  "node_type": "array",
  "storage_transformers": []
}}"#,
        shape = splice::lengths(&shape),
        data_type = dtype.data_type,
        chunks = splice::lengths(&chunks),
        codecs = codecs.join(", "),
    ))
}

fn parse<'t>(name: &str, text: &'t str) -> Result<Value<'t>, String> {
    let value = json::parse(text).map_err(|error| format!("its {name} is invalid: {error}"))?;
    if value.is_object() { Ok(value) } else { Err(format!("its {name} is no JSON object")) }
}

#[cfg(test)]
mod tests;
