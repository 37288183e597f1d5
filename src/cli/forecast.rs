//! What a copy will take, as text and as JSON, and what there is to warn of.

use std::fmt::Write;

use rechunkfs::materialize::{ArrayForecast, Forecast};
use serde_json::{Value, json};

use super::config::CopyConfig;
use super::report::{bytes, name, seconds, thousands};

/// From so many files on, file systems and those who look after them complain.
const MANY_FILES: u64 = 100_000;

/// A few lines.
pub(crate) fn text(forecast: &Forecast, config: &CopyConfig) -> String {
    let mut text = String::new();
    if let Some(share) = config.partition {
        let _ = writeln!(text, "plan: share {share}:");
    }
    for array in &forecast.arrays {
        let passes = match array.passes {
            1 => "one pass".to_owned(),
            2 => format!("two passes through {} of temporary files", bytes(array.temp_bytes)),
            n => format!("{n} passes through {} of temporary files", bytes(array.temp_bytes)),
        };
        let _ = writeln!(
            text,
            "plan: {}: {} in {} tiles, {passes}, each source chunk decoded {}",
            name(&array.path),
            bytes(array.bytes),
            thousands(array.tiles),
            times(array.source_decodes),
        );
    }
    let written = forecast.written_bytes.map_or_else(String::new, |written| format!(" about {}", bytes(written)));
    let duration =
        forecast.seconds.map_or_else(String::new, |s| format!("; about {}", seconds((s.ceil() as u64).max(1))));
    let _ = writeln!(
        text,
        "plan: reads about {}, writes{written} in up to {} files, within {} of memory{duration}",
        bytes(forecast.total(|array| array.read_bytes)),
        thousands(forecast.total(|array| array.files)),
        bytes(config.budget.bytes),
    );
    if let Some(cheaper) = forecast.sample.as_ref().and_then(|sample| sample.cheaper.as_ref()) {
        let _ = writeln!(
            text,
            "plan: --codecs {} would encode {:.1} times as fast, into {:.0} % of the bytes",
            cheaper.codecs,
            1.0 / cheaper.time_share.max(1e-6),
            100.0 * cheaper.bytes_share,
        );
    }
    text
}

/// The same as JSON.
pub(crate) fn json(forecast: &Forecast, config: &CopyConfig) -> Value {
    let arrays: Value = forecast.arrays.iter().map(array_json).collect();
    let cheaper = forecast.sample.as_ref().and_then(|sample| sample.cheaper.as_ref()).map(|cheaper| {
        json!({ "codecs": cheaper.codecs, "time_share": cheaper.time_share, "bytes_share": cheaper.bytes_share })
    });
    json!({
        "source": config.source.display().to_string(),
        "target": config.target.display().to_string(),
        "dry_run": config.dry_run,
        "partition": config.partition.map(|share| json!({ "number": share.number(), "of": share.of() })),
        "finish": config.finish,
        "arrays": arrays,
        "bytes": forecast.total(|array| array.bytes),
        "read_bytes": forecast.total(|array| array.read_bytes),
        "written_bytes": forecast.written_bytes,
        "temp_bytes": forecast.temp_bytes(),
        "files": forecast.total(|array| array.files),
        "free_bytes": forecast.free_bytes,
        "memory_bytes": config.budget.bytes,
        "seconds_estimate": forecast.seconds,
        "cheaper": cheaper,
        "warnings": warnings(forecast),
    })
}

fn array_json(array: &ArrayForecast) -> Value {
    json!({
        "path": array.path,
        "bytes": array.bytes,
        "passes": array.passes,
        "tiles": array.tiles,
        "source_decodes": array.source_decodes,
        "read_bytes": array.read_bytes,
        "temp_bytes": array.temp_bytes,
        "files": array.files,
    })
}

/// Pain that can be foreseen.
pub(crate) fn warnings(forecast: &Forecast) -> Vec<String> {
    let mut warnings = Vec::new();
    for array in forecast.arrays.iter().filter(|array| array.files >= MANY_FILES) {
        let remedy = if array.is_sharded { "larger --shards" } else { "--shards auto" };
        warnings.push(format!(
            "{}: up to {} files, which many file systems and quotas do not like; consider {remedy}",
            name(&array.path),
            thousands(array.files)
        ));
    }
    // Codecs make little of noise, so without a sample it may be as much as there is.
    let needed = forecast.written_bytes.unwrap_or_else(|| forecast.total(|array| array.bytes)) + forecast.temp_bytes();
    if let Some(free) = forecast.free_bytes.filter(|free| *free < needed) {
        warnings.push(format!(
            "{} are free where the copy is to be, or left of a quota; it may take {}: it would stop when they are used up, and go \
             on with --resume",
            bytes(free),
            bytes(needed)
        ));
    }
    warnings
}

fn times(times: f64) -> String {
    if times < 1.05 { "once".to_owned() } else { format!("{times:.1} times") }
}
