//! Consolidated metadata: the copies of all documents below a group that its own document carries.

use std::collections::BTreeMap;

use super::hierarchy::below;
use super::json::{self, Value};
use super::splice;

/// What zarr-python puts into every group inside a consolidated copy.
pub(super) const EMPTY: &str = r#"{"kind": "inline", "must_understand": false, "metadata": {}}"#;

/// The document of one node as the view shows it.
#[derive(Debug, Clone)]
pub(super) struct ShownNode {
    pub(super) text: String,
    pub(super) is_group: bool,
}

/// The consolidated copy for the group `group`, in zarr-python's order: by depth, then by name regardless of case.
pub(super) fn build(group: &str, nodes: &BTreeMap<String, ShownNode>) -> String {
    let mut members: Vec<(&str, &ShownNode)> =
        nodes.iter().filter_map(|(path, node)| Some((below(path, group)?, node))).collect();
    members.sort_by_key(|(path, _)| (path.matches('/').count(), path.to_lowercase()));
    let entries: Vec<String> = members
        .into_iter()
        .map(|(path, node)| {
            let text = node.text.trim();
            let copy = match node.is_group {
                true => splice::edit_object(text, &[("consolidated_metadata", splice::Edit::Set(EMPTY.to_owned()))]),
                false => Ok(text.to_owned()),
            };
            // Every text here has been parsed before; if not, it is shown as it is.
            format!("{}: {}", splice::quote(path), copy.unwrap_or_else(|_| text.to_owned()))
        })
        .collect();
    let entries = if entries.is_empty() { String::new() } else { format!("\n{}\n", entries.join(",\n")) };
    format!(r#"{{"kind": "inline", "must_understand": false, "metadata": {{{entries}}}}}"#)
}

/// The consolidated copy of a group's document, if it carries one.
pub(super) fn carried<'v, 't>(document: &'v Value<'t>) -> Option<&'v Value<'t>> {
    document.get("consolidated_metadata")?.get("metadata").filter(|metadata| metadata.is_object())
}

/// The paths for which the copy `metadata` in the group `group` says otherwise than the nodes' own documents.
pub(super) fn disagreements(metadata: &Value<'_>, group: &str, nodes: &BTreeMap<String, ShownNode>) -> Vec<String> {
    let mut differing = Vec::new();
    for member in metadata.members() {
        let path = member.key.trim_matches('/');
        let full = if group.is_empty() { path.to_owned() } else { format!("{group}/{path}") };
        let own = nodes.get(&full).and_then(|node| json::parse(&node.text).ok());
        if !own.is_some_and(|own| same_node(&own, &member.value)) {
            differing.push(path.to_owned());
        }
    }
    for path in nodes.keys().filter_map(|path| below(path, group)) {
        if !metadata.members().iter().any(|member| member.key.trim_matches('/') == path) {
            differing.push(path.to_owned());
        }
    }
    differing
}

/// Whether two documents describe the same node: what writers leave out counts as what it stands for, and copies
/// inside copies do not count.
fn same_node(own: &Value<'_>, copy: &Value<'_>) -> bool {
    let keys = own.members().iter().chain(copy.members()).map(|member| member.key.as_str());
    keys.filter(|key| *key != "consolidated_metadata").all(|key| match (own.get(key), copy.get(key)) {
        (Some(own), Some(copy)) => json::same(own, copy),
        (Some(only), None) | (None, Some(only)) => match key {
            "attributes" => only.is_object() && only.members().is_empty(),
            "storage_transformers" => only.elements().is_some_and(<[_]>::is_empty),
            "dimension_names" => only.is_null(),
            _ => false,
        },
        (None, None) => true,
    })
}
