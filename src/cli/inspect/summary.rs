//! What `inspect` tells of an array, taken from the hierarchy: the one place here that knows its types.

use rechunkfs::source::hierarchy::Hierarchy;
use serde_json::Value;

/// What `inspect` tells of one array.
pub struct ArraySummary {
    pub path: String,
    pub shape: Vec<u64>,
    pub dimensions: Vec<Option<String>>,
    pub data_type: String,
    pub chunks: Vec<u64>,
    pub shards: Option<Vec<u64>>,
    pub codecs: Vec<String>,
}

/// All arrays of a store.
pub fn summaries(hierarchy: &Hierarchy) -> Vec<ArraySummary> {
    let numbers = |list: &Value| -> Vec<u64> {
        list.as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_u64)
            .collect()
    };
    let names = |codecs: &Value| -> Vec<String> {
        let name = |codec: &Value| {
            codec["name"]
                .as_str()
                .or(codec.as_str())
                .unwrap_or("?")
                .to_owned()
        };
        codecs.as_array().into_iter().flatten().map(name).collect()
    };
    let arrays = hierarchy
        .nodes
        .iter()
        .filter(|(_, document)| document["node_type"] == "array");
    arrays
        .map(|(path, document)| {
            let grid = numbers(&document["chunk_grid"]["configuration"]["chunk_shape"]);
            let shape = numbers(&document["shape"]);
            let dimensions = document["dimension_names"].as_array().map(|list| {
                list.iter()
                    .map(|dimension| dimension.as_str().map(str::to_owned))
                    .collect()
            });
            let sharding = document["codecs"]
                .as_array()
                .into_iter()
                .flatten()
                .find(|codec| codec["name"] == "sharding_indexed");
            let (chunks, shards, codecs) = match sharding {
                Some(codec) => {
                    let inner = &codec["configuration"];
                    (
                        numbers(&inner["chunk_shape"]),
                        Some(grid),
                        names(&inner["codecs"]),
                    )
                }
                None => (grid, None, names(&document["codecs"])),
            };
            ArraySummary {
                path: path.clone(),
                dimensions: dimensions.unwrap_or_else(|| vec![None; shape.len()]),
                shape,
                data_type: document["data_type"]
                    .as_str()
                    .or(document["data_type"]["name"].as_str())
                    .unwrap_or("?")
                    .to_owned(),
                chunks,
                shards,
                codecs,
            }
        })
        .collect()
}
