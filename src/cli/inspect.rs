//! `inspect`: what a store holds, how it is cut and how full it is, and a layout to try.

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use globset::{GlobBuilder, GlobSetBuilder};
use rechunkfs::source::{Store, hierarchy};
use rechunkfs::zarr;
use serde_json::{Value, json};

use super::config::{InspectConfig, open_source};
use super::mount::quoted;
use super::output;
use super::report::{name, shape, table, thousands};

mod summary;

use summary::{ArraySummary, Cut};

/// Chunk files are counted up to here, over all arrays: enough for most stores, seconds on a network.
const MOST_ENTRIES: u64 = 100_000;

/// How many of an array's chunk files exist.
struct Presence {
    present: u64,
    /// None where the chunk grid is not known.
    expected: Option<u64>,
    /// Counting stopped at the cap.
    at_least: bool,
}

/// Runs `inspect`.
pub(crate) fn run(config: &InspectConfig) -> anyhow::Result<ExitCode> {
    let store = open_source(&config.source, &config.storage_options)?;
    let source = store.name();
    let nodes = zarr::read_nodes(&hierarchy::read(&store)?)?;
    let has_something_to_rechunk = nodes.arrays.iter().any(|array| array.shape.len() > 1 && array.readable.is_ok());
    let layout = has_something_to_rechunk.then(|| zarr::project::suggestion(&nodes.arrays));
    let command = layout.as_ref().map(|layout| command_line(&source, layout));
    let arrays = select(nodes.arrays.into_iter().map(ArraySummary::from).collect(), &config.array_globs)?;
    let mut entries_left = MOST_ENTRIES;
    let presence: Vec<Presence> =
        arrays.iter().map(|array| count(&store, array, &mut entries_left)).collect::<Result<_, _>>()?;
    if config.json {
        let list: Value = arrays.iter().zip(&presence).map(|(array, presence)| array_json(array, presence)).collect();
        let layout = layout.map(|layout| json!({ "flags": layout, "command": command }));
        output::json("inspect", json!({ "source": source, "arrays": list, "layout_to_try": layout }));
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = table(std::iter::once(&head()).chain(&rows(&arrays, &presence)));
    if presence.iter().any(|presence| presence.at_least) {
        text.push_str(&format!("(chunk files were counted up to {} entries)\n", thousands(MOST_ENTRIES)));
    }
    for array in &arrays {
        if let Some(reason) = &array.reason {
            text.push_str(&format!("{}: cannot be rechunked, only passed through: {reason}\n", name(&array.path)));
        }
    }
    match command {
        Some(command) => text.push_str(&format!("\na layout to try:\n  {command}\n")),
        None => text.push_str("\nno array has two axes or more: there is nothing to rechunk\n"),
    }
    output::text(&text);
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
    let selected: Vec<_> = arrays.into_iter().filter(|array| set.is_match(&array.path)).collect();
    if selected.is_empty() {
        bail!("--array {} matches no array; there are: {}", globs.join(" "), all.join(", "));
    }
    Ok(selected)
}

fn head() -> [String; 7] {
    ["array", "type", "dimensions", "shape", "chunks", "codecs", "chunk files"].map(str::to_owned)
}

fn rows(arrays: &[ArraySummary], presence: &[Presence]) -> Vec<[String; 7]> {
    let row = |(array, presence): (&ArraySummary, &Presence)| {
        let dimensions: Vec<&str> =
            array.dimensions.iter().map(|dimension| dimension.as_deref().unwrap_or("-")).collect();
        let chunks = match &array.cut {
            Some(Cut { chunks, shards: Some(shards) }) => format!("{} in shards {}", shape(chunks), shape(shards)),
            Some(Cut { chunks, shards: None }) => shape(chunks),
            None => "-".to_owned(),
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
        "chunks": array.cut.as_ref().map(|cut| &cut.chunks),
        "shards": array.cut.as_ref().and_then(|cut| cut.shards.as_ref()),
        "not_rechunkable_because": array.reason,
        "codecs": array.codecs,
        "chunk_files_present": presence.present,
        "chunk_files_expected": presence.expected,
        "present_is_a_lower_bound": presence.at_least,
    })
}

impl Presence {
    fn text(&self) -> String {
        let present = thousands(self.present);
        match (self.expected, self.at_least) {
            (Some(expected), true) => format!("at least {present} of {}", thousands(expected)),
            (None, true) => format!("at least {present}"),
            (None, false) => present,
            (Some(0), false) => format!("{present} of 0"),
            (Some(expected), false) => {
                let percent = 100.0 * self.present as f64 / expected as f64;
                format!("{present} of {} ({percent:.0} %)", thousands(expected))
            }
        }
    }
}

fn count(store: &Store, array: &ArraySummary, entries_left: &mut u64) -> std::io::Result<Presence> {
    let mut counted = Presence { present: 0, expected: array.files_expected(), at_least: false };
    if let Some(objects) = store.objects() {
        if !objects.is_listed() {
            counted.at_least = true;
            return Ok(counted);
        }
        let found = objects.first_below(&array.path, *entries_left as usize)?;
        *entries_left -= found.len() as u64;
        counted.at_least = *entries_left == 0;
        let names = found.iter().map(|(name, _)| name.rsplit('/').next().unwrap_or(name));
        counted.present = names.filter(|name| is_chunk_name(name)).count() as u64;
        return Ok(counted);
    }
    let mut folders = vec![store.path(&array.path)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if *entries_left == 0 {
                counted.at_least = true;
                return Ok(counted);
            }
            *entries_left -= 1;
            // The type comes with the directory entry: nothing is asked per file.
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(_) if is_chunk_name(&entry.file_name().to_string_lossy()) => counted.present += 1,
                _ => {}
            }
        }
    }
    Ok(counted)
}

/// Metadata and what editors and file systems leave behind start otherwise.
fn is_chunk_name(name: &str) -> bool {
    name.strip_prefix("c.").unwrap_or(name).bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') || name == "c"
}

fn command_line(source: &Path, layout: &str) -> String {
    let stem = source.file_stem().unwrap_or_default().to_string_lossy();
    let target = format!("./{stem}-view.zarr");
    let [source, target] = [source, Path::new(&target)].map(quoted);
    // A flag and a value, and the value is a name out of the store.
    let (flag, value) = layout.split_once(' ').unwrap_or((layout, ""));
    format!("rechunkfs mount {source} {target} {flag} {}", quoted(Path::new(value)))
}
