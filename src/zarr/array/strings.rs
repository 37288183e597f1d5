//! Arrays of strings or bytes of any length: chunks of them have no fixed size, so that only copies can cut them anew.

use super::Strings;
use crate::zarr::codecs;
use crate::zarr::fill;
use crate::zarr::json::Value;
use crate::zarr::types::SourceArray;

/// What an element is taken for where `auto` chooses chunk lengths: nobody knows before all is read. Names, labels and
/// identifiers mostly come to about this, with the four bytes of their length.
const USUAL_ITEM_BYTES: usize = 16;

/// Reads the document of such an array; `None` where it is of another type.
pub(super) fn read(path: &str, document: &Value<'_>, shape: &[u64]) -> Option<Result<Strings, String>> {
    let is_text = match document.get("data_type")?.extension_name()?.as_str() {
        "string" | "variable_length_utf8" => true,
        "variable_length_bytes" | "bytes" | "binary" => false,
        _ => return None,
    };
    Some(read_as(path, document, shape, is_text))
}

fn read_as(path: &str, document: &Value<'_>, shape: &[u64], is_text: bool) -> Result<Strings, String> {
    super::check_members(document)?;
    let fill_value = document.get("fill_value").ok_or("it has no fill_value")?;
    let fill = fill::of_any_length(fill_value, is_text)?;
    let file_shape = super::regular_grid(document.get("chunk_grid").ok_or("it has no chunk_grid")?, shape)?;
    let key_encoding = super::key_encoding(document.get("chunk_key_encoding").ok_or("it has no chunk_key_encoding")?)?;
    let list = document.get("codecs").and_then(Value::elements).ok_or("it has no list of codecs")?;
    let chain = codecs::classify_variable(list, &file_shape, is_text)?;
    let source = SourceArray {
        path: path.to_owned(),
        shape: shape.to_vec(),
        file_shape,
        leaf_shape: chain.leaf_shape,
        key_encoding,
        item_bytes: USUAL_ITEM_BYTES,
        fill,
        sharding: chain.sharding,
        encoding: chain.encoding,
    };
    Ok(Strings { source, codec: format!(r#"{{"name": "{}"}}"#, codecs::variable_codec(is_text)) })
}
