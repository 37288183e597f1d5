//! What is fuzzed. The ordinary tests run the seeds through the same functions (`tests/it/fuzz.rs`).

pub mod blosc;
pub mod documents;
pub mod journals;
mod leaf;
pub mod lookups;
pub mod shards;
pub mod specs;
pub mod stream;

use rechunkfs::zarr::{Document, Hierarchy, NodeDocs};

/// Takes any bytes: what is wrong is an error, and whatever is read is right.
pub type Target = Box<dyn Fn(&[u8]) + Send + Sync>;

/// A target by the name of its seeds' folder, and how it is set up.
type Named = (&'static str, fn() -> Target);

pub const TARGETS: [Named; 7] = [
    ("blosc", blosc::target),
    ("documents", documents::target),
    ("journals", journals::target),
    ("lookups", lookups::target),
    ("shards", shards::target),
    ("specs", specs::target),
    ("stream", stream::target),
];

/// In memory, where there is such a place.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory")
}

fn document(text: &str) -> Document {
    Document { text: text.to_owned(), mtime_ns: 0 }
}

/// A store of the root group and of arrays.
fn store(arrays: &[(&str, String)]) -> Hierarchy {
    let group = document(r#"{"zarr_format":3,"node_type":"group"}"#);
    let mut hierarchy = Hierarchy { nodes: [(String::new(), NodeDocs::V3(group))].into() };
    hierarchy.nodes.extend(arrays.iter().map(|(path, text)| ((*path).to_owned(), NodeDocs::V3(document(text)))));
    hierarchy
}

/// The document of an array of bytes.
fn array(shape: &[u64], chunk: &[u64], codecs: &str, dimensions: &[&str]) -> String {
    format!(
        r#"{{"zarr_format":3,"node_type":"array","shape":{shape:?},"data_type":"uint8","fill_value":7,
        "chunk_grid":{{"name":"regular","configuration":{{"chunk_shape":{chunk:?}}}}},
        "chunk_key_encoding":{{"name":"default","configuration":{{"separator":"/"}}}},
        "codecs":[{codecs}],"dimension_names":{dimensions:?}}}"#
    )
}
