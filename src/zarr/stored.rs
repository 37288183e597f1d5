//! What the document of an array says of how its elements are stored: it decides how chunk files become elements.

use super::json::{self, Value};
use super::splice;

/// The members that do.
const MEMBERS: [&str; 6] =
    ["data_type", "chunk_grid", "chunk_key_encoding", "codecs", "fill_value", "storage_transformers"];

/// The first member on which two documents disagree, by what it means.
pub fn difference(ours: &Value<'_>, theirs: &Value<'_>) -> Option<&'static str> {
    let is_empty = |value: &Value<'_>| value.elements().is_some_and(<[_]>::is_empty);
    MEMBERS.into_iter().find(|key| match (ours.get(key), theirs.get(key)) {
        (Some(ours), Some(theirs)) => !(json::same(ours, theirs) || is_same_extension(Some(ours), Some(theirs))),
        (Some(only), None) | (None, Some(only)) => !is_empty(only),
        (None, None) => false,
    })
}

/// Whether two spellings of an extension point mean the same: a name alone is one without configuration.
pub fn is_same_extension(ours: Option<&Value<'_>>, theirs: Option<&Value<'_>>) -> bool {
    let (Some(ours), Some(theirs)) = (ours, theirs) else { return ours.is_none() && theirs.is_none() };
    let name = ours.extension_name();
    if name.is_none() || name != theirs.extension_name() {
        return json::same(ours, theirs);
    }
    match (configuration(ours), configuration(theirs)) {
        (None, None) => true,
        (Some(ours), Some(theirs)) => json::same(ours, theirs),
        _ => false,
    }
}

fn configuration<'v, 't>(value: &'v Value<'t>) -> Option<&'v Value<'t>> {
    let is_empty = |value: &Value<'_>| value.is_null() || (value.is_object() && value.members().is_empty());
    value.get("configuration").filter(|value| !is_empty(value))
}

/// A document of nothing but these members of `text`, as they are spelled there; empty where `text` is none.
pub fn members(text: &str) -> String {
    let Ok(document) = json::parse(text) else { return String::new() };
    let member = |key: &str| Some(format!("{}: {}", splice::quote(key), document.get(key)?.text()));
    format!("{{{}}}", MEMBERS.into_iter().filter_map(member).collect::<Vec<_>>().join(", "))
}

/// Whether two documents say the same of how elements are stored; what is none says nothing.
pub fn is_same(ours: &str, theirs: &str) -> bool {
    match (json::parse(ours), json::parse(theirs)) {
        (Ok(ours), Ok(theirs)) => ours.is_object() && theirs.is_object() && difference(&ours, &theirs).is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_alike_is_told_from_what_is_not() {
        let text = r#"{"shape": [4], "data_type": "int8", "fill_value": 0, "chunk_grid": {"name": "regular",
            "configuration": {"chunk_shape": [2]}}, "codecs": [{"name": "bytes"}], "attributes": {"a": NaN}}"#;
        let kept = members(text);
        assert!(!kept.contains("attributes") && !kept.contains("shape\": [4]"), "{kept}");
        assert!(is_same(&kept, text) && is_same(&text.replace("[4]", "[9]"), text));
        assert!(is_same(&text.replace("\"fill_value\": 0", "\"fill_value\": 0.0"), text));
        assert!(!is_same(&text.replace("[2]", "[3]"), text) && !is_same(&text.replace("int8", "int16"), text));
        assert!(!is_same("", text) && !is_same(&members(""), &members("")));
    }
}
