//! Stores that nobody has written in good faith: each command ends, with a result or an error, in little memory.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::*;

/// Address space of each command, KiB: a length believed, or a recursion, passes it.
const ADDRESS_KIB: u64 = 4 << 20;

/// A document of the array, with something in it put in another's place.
fn with(key: &str, value: Value) -> String {
    let mut document: Value =
        serde_json::from_str(&array_json("float32", &[N_OBJECTS, N_EPOCHS], &[N_OBJECTS, 1], &["object", "epoch"]))
            .expect("a document");
    document[key] = value;
    document.to_string()
}

fn grid(chunk_shape: Value) -> Value {
    json!({ "name": "regular", "configuration": { "chunk_shape": chunk_shape } })
}

/// Shards in shards, so many deep.
fn nested_shards(depth: usize) -> String {
    let bytes = r#"{"name":"bytes","configuration":{"endian":"little"}}"#;
    let mut codecs = format!("[{bytes}]");
    for _ in 0..depth {
        codecs = format!(
            r#"[{{"name":"sharding_indexed","configuration":{{"chunk_shape":[1,1],"codecs":{codecs},"index_codecs":[{bytes}]}}}}]"#
        );
    }
    // As text: nothing need be able to hold it.
    with("codecs", json!("CODECS")).replace("\"CODECS\"", &codecs)
}

fn absurd_documents() -> Vec<(&'static str, String)> {
    let large = 1u64 << 63;
    vec![
        ("a shape of 2^63", with("shape", json!([large, large]))),
        ("a shape of 2^64 - 1", with("shape", json!([u64::MAX, 1]))),
        (
            "a shape beyond 64 bits",
            with("shape", json!(1)).replace("\"shape\":1", "\"shape\":[99999999999999999999999,6]"),
        ),
        ("chunks of 2^63", with("chunk_grid", grid(json!([large, large])))),
        ("chunks of 0", with("chunk_grid", grid(json!([0, 0])))),
        ("ranks that disagree", with("chunk_grid", grid(json!([4, 1, 1])))),
        ("no axis but chunks", with("shape", json!([]))),
        ("names that disagree", with("dimension_names", json!(["object", "epoch", "x"]))),
        ("a name twice", with("dimension_names", json!(["epoch", "epoch"]))),
        (
            "a million axes",
            with("shape", json!(vec![1; 1_000_000])).replace("[4,1]", &json!(vec![1; 1_000_000]).to_string()),
        ),
        ("20 shards in each other", nested_shards(20)),
        ("5,000 shards in each other", nested_shards(5_000)),
        ("inner chunks that do not divide", nested_shards(1).replace("[1,1]", "[3,7]")),
        ("an index of 2^62 entries", nested_shards(1).replace("[4,1]", "[2147483648,2147483648]")),
        ("a million brackets", "[".repeat(1_000_000)),
        ("a type of 2^60 bytes", with("data_type", json!("r9223372036854775808"))),
        ("a fill value of another type", with("fill_value", json!({ "deep": [[[[]]]] }))),
        ("a key encoding of nobody's", with("chunk_key_encoding", json!({ "name": "../.." }))),
        (
            "a separator that climbs",
            with("chunk_key_encoding", json!({ "name": "default", "configuration": { "separator": "/../" } })),
        ),
        ("a codec of a million letters", with("codecs", json!([{ "name": "x".repeat(1_000_000) }]))),
    ]
}

/// Runs a command within bounds; it may refuse, and must not crash.
#[track_caller]
fn endures(store: &Store, what: &str, arguments: &[&str]) -> Finished {
    let program = env!("CARGO_BIN_EXE_rechunkfs");
    let script = format!("ulimit -v {ADDRESS_KIB} && exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, program]).args(arguments).env("XDG_STATE_HOME", store.path("state"));
    let finished = finish(command.current_dir(store.folder.path()));
    assert!([0, 1, 2, 3].contains(&finished.code()), "{what}: {arguments:?}: {finished:?}");
    assert!(!finished.stderr.contains("panicked"), "{what}: {arguments:?}: {finished:?}");
    assert!(
        finished.code() == 0 || finished.stderr.len() + finished.stdout.len() > 0,
        "{what}: {arguments:?} fails in silence"
    );
    // A line or a few of it, and not the document.
    let longest = finished.stderr.lines().map(str::len).max().unwrap_or(0);
    assert!(longest < 4096 || what.contains("letters"), "{what}: {arguments:?}: a line of {longest} bytes");
    finished
}

#[test]
fn no_document_crashes_a_command_or_takes_its_memory() {
    for (what, document) in absurd_documents() {
        let store = Store::new();
        fs::write(store.source().join("lightcurves/zarr.json"), document).unwrap();
        endures(&store, what, &["inspect", "epochs.zarr"]);
        endures(&store, what, &["mount", "epochs.zarr", "objects.zarr", "--along", "epoch", "--dry-run"]);
        endures(&store, what, &["materialize", "epochs.zarr", "copy.zarr", "--along", "epoch", "--dry-run"]);
        endures(&store, what, &["verify", "epochs.zarr", "epochs.zarr"]);
    }
}
