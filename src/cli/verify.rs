//! `verify`: holds two stores against each other.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use rechunkfs::fuse::signals::{self, Signals};
use rechunkfs::materialize::verify::{ArrayComparison, Difference};
use rechunkfs::materialize::{self, Comparison, Progress, VerifyOptions};
use rechunkfs::source::Counters;
use serde_json::{Value, json};

use super::config::VerifyConfig;
use super::meter::Meter;
use super::{DIFFERENT, FAILED, logging, output, report, stop};

/// Statements of documents that one line of text tells.
const MOST_STATEMENTS: usize = 5;

/// Runs `verify`.
pub(crate) fn run(config: &VerifyConfig) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    logging::start(&config.log, None)?;
    let signals = Signals::install_for_batch()?;
    if config.until_eof {
        signals::terminate_at_eof();
    }
    let progress = Arc::new(Progress::default());
    let counters = Arc::new(Counters::default());
    stop::arm(&signals, &progress, || {
        output::error("stopped");
        FAILED
    })?;
    let options = VerifyOptions {
        memory_bytes: config.budget.bytes,
        threads: config.threads,
        sample: config.sample,
        max_tile_bytes: None,
    };
    let meter = Meter::start(Arc::clone(&progress), Arc::clone(&counters), config.json, config.log.quiet);
    let comparison = materialize::verify(&config.source, &config.target, &options, &progress, &counters);
    drop(meter);
    let comparison = comparison?;
    let seconds = began.elapsed().as_secs_f64();
    if config.json {
        let mut result = as_json(&comparison);
        result["summary"] = format!("{}{}", lines(&comparison), total(&comparison, config, seconds)).trim().into();
        result["source"] = config.source.name().display().to_string().into();
        result["target"] = config.target.name().display().to_string().into();
        result["seed"] = config.sample.map(|sample| sample.seed).into();
        result["seconds"] = json!((seconds * 1e3).round() / 1e3);
        result["peak_rss_bytes"] = report::peak_rss_bytes().into();
        result["memory_bytes"] = config.budget.bytes.into();
        output::json("verify", result);
    } else {
        output::text(&lines(&comparison));
        output::text(&total(&comparison, config, seconds));
    }
    Ok(exit_code(&comparison))
}

/// Differences count more than what could not be compared.
pub(crate) fn exit_code(comparison: &Comparison) -> ExitCode {
    match (comparison.differences(), comparison.is_incomplete()) {
        (1.., _) => ExitCode::from(DIFFERENT),
        (0, true) => ExitCode::from(FAILED),
        (0, false) => ExitCode::SUCCESS,
    }
}

/// Tells what is wrong with a copy that was verified.
pub(crate) fn show(comparison: &Comparison, as_one_json: bool, error: &str) {
    if as_one_json {
        let mut result = as_json(comparison);
        result["error"] = error.into();
        output::json("verify", result);
    } else {
        output::text(&lines(comparison));
    }
}

/// The last line.
fn total(comparison: &Comparison, config: &VerifyConfig, seconds: f64) -> String {
    let what = match (comparison.sampled_chunks, config.sample) {
        (Some(chunks), Some(sample)) => {
            format!("a sample of {} chunks (--seed {}) of ", report::thousands(chunks), sample.seed)
        }
        _ => String::new(),
    };
    let (summary, size) = (comparison.summary(), report::bytes(comparison.bytes()));
    let n_arrays = match comparison.arrays.len() {
        1 => "1 array".to_owned(),
        n => format!("{} arrays", report::thousands(n as u64)),
    };
    if comparison.is_equal() {
        return format!("verified: {what}{n_arrays}, {size}, equal ({seconds:.1} s)\n");
    }
    let elements: u64 = comparison.arrays.iter().map(|array| array.differences).sum();
    let elements = match elements {
        0 => String::new(),
        n => format!("{} differences in chunks, ", report::thousands(n)),
    };
    format!("{summary}: {elements}{what}{n_arrays}, {size} compared ({seconds:.1} s)\n")
}

/// One line for each array and group with which something is wrong.
fn lines(comparison: &Comparison) -> String {
    let groups = comparison.groups.iter().map(|group| (&group.path, statements(&group.metadata)));
    let is_wrong = |array: &&ArrayComparison| array.is_different() || array.error.is_some();
    let arrays = comparison.arrays.iter().filter(is_wrong).map(|array| (&array.path, array_line(array)));
    groups.chain(arrays).map(|(path, what)| format!("{}: {what}\n", report::name(path))).collect()
}

fn array_line(array: &ArrayComparison) -> String {
    let mut said = Vec::new();
    said.extend((!array.metadata.is_empty()).then(|| statements(&array.metadata)));
    if array.differences > 0 && array.first.is_empty() {
        let n = report::thousands(array.differences);
        said.push(format!("{n} chunk files differ: {}", array.files.join("; ")));
    } else if array.differences > 0 {
        let place = |first: &Difference| {
            format!("{:?}: {} in the source, {} in the target", first.at, first.source, first.target)
        };
        let first: Vec<String> = array.first.iter().map(place).collect();
        let (n, of) = (report::thousands(array.differences), report::thousands(array.elements));
        let more = if array.differences > array.first.len() as u64 { "; ..." } else { "" };
        said.push(format!("{n} of {of} elements differ: {}{more}", first.join("; ")));
    }
    said.extend(array.error.clone());
    said.join("; ")
}

fn statements(metadata: &[String]) -> String {
    let first = metadata.iter().take(MOST_STATEMENTS).map(String::as_str).collect::<Vec<_>>().join("; ");
    match metadata.len().saturating_sub(MOST_STATEMENTS) {
        0 => first,
        more => format!("{first}; and {more} more"),
    }
}

fn as_json(comparison: &Comparison) -> Value {
    let first = |first: &Difference| json!({ "at": first.at, "source": first.source, "target": first.target });
    let array = |array: &ArrayComparison| {
        json!({
            "path": array.path,
            "elements": array.elements,
            "bytes": array.bytes,
            "differences": array.differences,
            "first": array.first.iter().map(first).collect::<Vec<_>>(),
            "files": array.files,
            "metadata": array.metadata,
            "error": array.error,
        })
    };
    let group = |path: &str, metadata: &[String]| json!({ "path": path, "metadata": metadata });
    json!({
        "arrays": comparison.arrays.iter().map(array).collect::<Vec<_>>(),
        "groups": comparison.groups.iter().map(|found| group(&found.path, &found.metadata)).collect::<Vec<_>>(),
        "differences": comparison.differences(),
        "elements": comparison.elements(),
        "bytes": comparison.bytes(),
        "sampled": comparison.sampled_chunks.is_some(),
        "sampled_chunks": comparison.sampled_chunks,
    })
}
