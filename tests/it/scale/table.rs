//! What the planner says of stores that nobody has here: documents alone, no chunk files.

use rechunkfs::materialize::{ArrayForecast, Options, Share, Words, forecast};
use rechunkfs::source::hierarchy;
use rechunkfs::zarr::{Layout, project_copy};
use std::fmt::Write;
use std::path::Path;

/// Memory of a worker.
const MEMORY_BYTES: u64 = 16 << 30;
/// What each of the workers reads, and writes, a second.
const BYTES_PER_S: f64 = 1e9;
const WORKERS: f64 = 100.0;

/// A store of light curves, float32, in source chunks of one epoch; and into how many shares its copy is cut.
struct Survey {
    name: &'static str,
    shape: [u64; 2],
    chunk_objects: u64,
    shares: u64,
    /// Shards of the two layouts: some epochs in each, all epochs in each.
    shards: [&'static str; 2],
}

const SURVEYS: [Survey; 2] = [
    Survey {
        name: "100 TB",
        shape: [2_500_000_000, 10_000],
        chunk_objects: 1_000_000,
        shares: 1_000,
        shards: ["object=100000,epoch=1000", "object=10000,epoch=full"],
    },
    Survey {
        name: "10 PB",
        shape: [10_000_000_000, 250_000],
        chunk_objects: 2_500_000,
        shares: 100_000,
        shards: ["object=100000,epoch=1000", "object=500,epoch=full"],
    },
];
const CHUNKS: [(&str, &str); 2] = [("some epochs", "object=250,epoch=1000"), ("all epochs", "object=5,epoch=full")];

/// The table of docs/SCALE.md.
pub(crate) fn table() -> String {
    let mut text = String::from(
        "| store | source chunks | a target chunk has | target files | shares | a share writes | and decodes | each source chunk is decoded | temporary space of a worker | workers' time |\n|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for survey in &SURVEYS {
        for ((what, chunks), shards) in CHUNKS.into_iter().zip(survey.shards) {
            let [whole, share] =
                [None, Share::new(survey.shares / 2, survey.shares)].map(|share| plan(survey, chunks, shards, share));
            let source_chunks = survey.shape[0].div_ceil(survey.chunk_objects) * survey.shape[1];
            // All shares are as this one, within a tile.
            let decoded = share.source_decodes * leaf_bytes(survey, &share);
            let moved = decoded + share.bytes as f64 + 2.0 * share.temp_bytes as f64;
            let seconds = moved / BYTES_PER_S * survey.shares as f64 / WORKERS;
            let _ = writeln!(
                text,
                "| {} | {} | {what} | {} | {} | {} | {} | {:.1} times | {} | {:.0} h |",
                survey.name,
                thousands(source_chunks),
                thousands(whole.files),
                thousands(survey.shares),
                size(share.bytes as f64),
                size(decoded),
                decoded * survey.shares as f64 / whole.bytes as f64,
                size(share.temp_bytes as f64),
                seconds / 3600.0,
            );
        }
    }
    text
}

/// Decoded bytes of the source chunks that a share draws on, each once.
fn leaf_bytes(survey: &Survey, share: &ArrayForecast) -> f64 {
    share.source_chunks as f64 * survey.chunk_objects as f64 * 4.0
}

fn plan(survey: &Survey, chunks: &str, shards: &str, share: Option<Share>) -> ArrayForecast {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().canonicalize().expect("there");
    write_documents(&source, survey);
    let layout = Layout { chunks: vec![chunks.to_owned()], shards: vec![shards.to_owned()], ..Layout::default() };
    let found = hierarchy::read(&source).expect("a store");
    let projection = project_copy(&found, &layout, &["zstd:3".to_owned()]).expect("a layout");
    let options = Options {
        source: (&source).into(),
        target: folder.path().with_extension("copy"),
        memory_bytes: MEMORY_BYTES,
        threads: 8,
        temp: None,
        resume: false,
        overwrite: false,
        keep_going: false,
        verify: false,
        lives: false,
        words: Words::default(),
        max_tile_bytes: None,
        always_spool: false,
    };
    forecast(&projection, &options, share, false).expect("a plan").arrays.remove(0)
}

fn write_documents(folder: &Path, survey: &Survey) {
    let [objects, epochs] = survey.shape;
    let array = format!(
        r#"{{"zarr_format":3,"node_type":"array","shape":[{objects},{epochs}],"data_type":"float32",
        "chunk_grid":{{"name":"regular","configuration":{{"chunk_shape":[{},1]}}}},
        "chunk_key_encoding":{{"name":"default","configuration":{{"separator":"/"}}}},"fill_value":0,
        "codecs":[{{"name":"bytes","configuration":{{"endian":"little"}}}},{{"name":"zstd","configuration":{{"level":3,"checksum":false}}}}],
        "attributes":{{}},"dimension_names":["object","epoch"]}}"#,
        survey.chunk_objects
    );
    std::fs::create_dir(folder.join("mag")).expect("a folder");
    std::fs::write(folder.join("zarr.json"), r#"{"zarr_format":3,"node_type":"group","attributes":{}}"#)
        .expect("written");
    std::fs::write(folder.join("mag/zarr.json"), array).expect("written");
}

fn size(bytes: f64) -> String {
    match bytes {
        0.0 => "none".to_owned(),
        1e12.. => format!("{:.1} TB", bytes / 1e12),
        _ => format!("{:.0} GB", bytes / 1e9),
    }
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).expect("digits")).collect();
    groups.join(",")
}
