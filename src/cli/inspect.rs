//! `inspect`: what a store holds, how it is cut and how full it is, and a layout to try.

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use globset::{GlobBuilder, GlobSetBuilder};
use rechunkfs::source::hierarchy;
use serde_json::{Value, json};

use super::config::{InspectConfig, canonical_source};
use super::mount::quoted;
use super::output;
use super::report::{name, shape, table, thousands};

mod summary;

use summary::{ArraySummary, summaries};

/// Chunk files are counted up to here, over all arrays: enough for most stores, seconds on a network.
const MOST_ENTRIES: u64 = 100_000;

/// How many of an array's chunk files exist.
struct Presence {
    present: u64,
    expected: u64,
    /// Counting stopped at the cap.
    at_least: bool,
}

/// Runs `inspect`.
pub fn run(config: &InspectConfig) -> anyhow::Result<ExitCode> {
    let source = canonical_source(&config.source)?;
    let hierarchy = hierarchy::read(&source)?;
    let arrays = select(summaries(&hierarchy), &config.array_globs)?;
    let mut entries_left = MOST_ENTRIES;
    let presence: Vec<Presence> = arrays
        .iter()
        .map(|array| count(&source, array, &mut entries_left))
        .collect();
    let suggestion = suggest(&arrays)
        .map(|(array, dimension)| (array, dimension.clone(), command_line(&source, &dimension)));
    if config.json {
        let list: Value = arrays
            .iter()
            .zip(&presence)
            .map(|(array, presence)| array_json(array, presence))
            .collect();
        let layout = suggestion.map(|(array, dimension, command)| {
            json!({ "along": dimension, "because_of": array.path, "command": command })
        });
        output::json(
            "inspect",
            json!({ "source": source, "arrays": list, "layout_to_try": layout }),
        );
    } else {
        let mut text = table(std::iter::once(&head()).chain(&rows(&arrays, &presence)));
        if presence.iter().any(|presence| presence.at_least) {
            text.push_str(&format!(
                "(chunk files were counted up to {} entries)\n",
                thousands(MOST_ENTRIES)
            ));
        }
        match suggestion {
            Some((array, dimension, command)) => text.push_str(&format!(
                "\n{} is cut into {} chunks along {dimension}. To read it the other way, try:\n  {command}\n",
                name(&array.path),
                thousands(chunks_along(array, &dimension)),
            )),
            None => text.push_str("\nno array of two axes or more is cut into chunks: there is nothing to rechunk\n"),
        }
        output::text(&text);
    }
    Ok(ExitCode::SUCCESS)
}

fn select(arrays: Vec<ArraySummary>, globs: &[String]) -> anyhow::Result<Vec<ArraySummary>> {
    if globs.is_empty() {
        return Ok(arrays);
    }
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        set.add(GlobBuilder::new(glob).literal_separator(true).build()?);
    }
    let set = set.build()?;
    let all: Vec<String> = arrays.iter().map(|array| name(&array.path)).collect();
    let selected: Vec<_> = arrays
        .into_iter()
        .filter(|array| set.is_match(&array.path))
        .collect();
    if selected.is_empty() {
        bail!(
            "--array {} matches no array; there are: {}",
            globs.join(" "),
            all.join(", ")
        );
    }
    Ok(selected)
}

fn head() -> [String; 7] {
    [
        "array",
        "type",
        "dimensions",
        "shape",
        "chunks",
        "codecs",
        "chunk files",
    ]
    .map(str::to_owned)
}

fn rows(arrays: &[ArraySummary], presence: &[Presence]) -> Vec<[String; 7]> {
    let row = |(array, presence): (&ArraySummary, &Presence)| {
        let dimensions: Vec<&str> = array
            .dimensions
            .iter()
            .map(|dimension| dimension.as_deref().unwrap_or("-"))
            .collect();
        let chunks = match &array.shards {
            Some(shards) => format!("{} in shards {}", shape(&array.chunks), shape(shards)),
            None => shape(&array.chunks),
        };
        [
            name(&array.path),
            array.data_type.clone(),
            dimensions.join(", "),
            shape(&array.shape),
            chunks,
            array.codecs.join(", "),
            presence.text(),
        ]
    };
    arrays.iter().zip(presence).map(row).collect()
}

fn array_json(array: &ArraySummary, presence: &Presence) -> Value {
    json!({
        "path": array.path,
        "shape": array.shape,
        "dimensions": array.dimensions,
        "data_type": array.data_type,
        "chunks": array.chunks,
        "shards": array.shards,
        "codecs": array.codecs,
        "chunk_files_present": presence.present,
        "chunk_files_expected": presence.expected,
        "present_is_a_lower_bound": presence.at_least,
    })
}

impl Presence {
    fn text(&self) -> String {
        let at_least = if self.at_least { "at least " } else { "" };
        let percent = match self.expected {
            0 => String::new(),
            _ if self.at_least => String::new(),
            expected => format!(" ({:.0} %)", 100.0 * self.present as f64 / expected as f64),
        };
        format!(
            "{at_least}{} of {}{percent}",
            thousands(self.present),
            thousands(self.expected)
        )
    }
}

fn count(source: &Path, array: &ArraySummary, entries_left: &mut u64) -> Presence {
    let files = array.shards.as_ref().unwrap_or(&array.chunks);
    let expected = array
        .shape
        .iter()
        .zip(files)
        .map(|(&length, &file)| length.div_ceil(file.max(1)));
    let mut present = 0;
    let mut folders = vec![source.join(&array.path)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if *entries_left == 0 {
                return Presence {
                    present,
                    expected: expected.fold(1, u64::saturating_mul),
                    at_least: true,
                };
            }
            *entries_left -= 1;
            // The type comes with the directory entry: nothing is asked per file.
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(_) if is_chunk_name(&entry.file_name().to_string_lossy()) => present += 1,
                _ => {}
            }
        }
    }
    Presence {
        present,
        expected: expected.fold(1, u64::saturating_mul),
        at_least: false,
    }
}

/// Metadata and what editors and file systems leave behind start otherwise.
fn is_chunk_name(name: &str) -> bool {
    name.strip_prefix("c.")
        .unwrap_or(name)
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.')
        || name == "c"
}

/// The dimension along which the largest array has the most chunks: whoever reads along it opens them all.
fn suggest(arrays: &[ArraySummary]) -> Option<(&ArraySummary, String)> {
    let elements = |array: &&ArraySummary| {
        array
            .shape
            .iter()
            .fold(1_u64, |all, &length| all.saturating_mul(length))
    };
    let largest = arrays
        .iter()
        .filter(|array| array.shape.len() >= 2)
        .max_by_key(elements)?;
    let axis = (0..largest.shape.len()).max_by_key(|&axis| chunks_on(largest, axis))?;
    (chunks_on(largest, axis) > 1).then(|| (largest, dimension_name(largest, axis)))
}

fn chunks_on(array: &ArraySummary, axis: usize) -> u64 {
    array.shape[axis].div_ceil(array.chunks[axis].max(1))
}

fn chunks_along(array: &ArraySummary, dimension: &str) -> u64 {
    (0..array.shape.len())
        .find(|&axis| dimension_name(array, axis) == dimension)
        .map_or(0, |axis| chunks_on(array, axis))
}

fn dimension_name(array: &ArraySummary, axis: usize) -> String {
    array
        .dimensions
        .get(axis)
        .cloned()
        .flatten()
        .unwrap_or_else(|| axis.to_string())
}

fn command_line(source: &Path, dimension: &str) -> String {
    let stem = source.file_stem().unwrap_or_default().to_string_lossy();
    let target = format!(
        "./{stem}-along-{}.zarr",
        dimension.replace(|c: char| !c.is_alphanumeric(), "-")
    );
    let words = [source, Path::new(&target)].map(quoted);
    format!(
        "rechunkfs mount {} {} --along {}",
        words[0],
        words[1],
        quoted(Path::new(dimension))
    )
}
