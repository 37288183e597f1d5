//! TEMPORARY: reads v3 documents, no more.

use std::path::Path;

use serde_json::Value;

/// Why not.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct HierarchyError(String);

/// All documents.
pub struct Hierarchy {
    /// Path and zarr.json.
    pub nodes: Vec<(String, Value)>,
}

/// Reads them.
pub fn read(source: &Path) -> Result<Hierarchy, HierarchyError> {
    if !source.join("zarr.json").is_file() {
        return Err(HierarchyError(format!("{} is not a Zarr store: it has no zarr.json", source.display())));
    }
    let mut nodes = Vec::new();
    walk(source, "", &mut nodes)?;
    Ok(Hierarchy { nodes })
}

fn walk(folder: &Path, path: &str, nodes: &mut Vec<(String, Value)>) -> Result<(), HierarchyError> {
    let error = |e: &dyn std::fmt::Display| HierarchyError(format!("{}: {e}", folder.display()));
    let Ok(text) = std::fs::read_to_string(folder.join("zarr.json")) else { return Ok(()) };
    let value: Value = serde_json::from_str(&text).map_err(|e| error(&e))?;
    let group = value["node_type"] == "group";
    nodes.push((path.to_owned(), value));
    if group {
        for entry in std::fs::read_dir(folder).map_err(|e| error(&e))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let child = if path.is_empty() { name } else { format!("{path}/{name}") };
            walk(&entry.path(), &child, nodes)?;
        }
    }
    Ok(())
}
