//! What a view shows, as a table and as JSON.

use std::fmt::Write;

use rechunkfs::view::View;
use rechunkfs::zarr::{Passed, Projection, VirtualArray, format_bytes};
use serde_json::{Value, json};

/// What one core pair decodes of blosc-zstd; good enough to tell seconds from hours.
const DECODED_BYTES_PER_S: u64 = 700 * 1000 * 1000;

/// A first read that takes longer than this is worth a warning.
const LONG_READ_S: u64 = 10;

/// What is rechunked and what passes: taken before the view takes the projection.
pub(crate) struct ViewReport {
    rows: Vec<[String; 5]>,
    rechunked: Value,
    passed: Vec<(String, Option<String>)>,
}

impl ViewReport {
    pub(crate) fn new(projection: &Projection) -> Self {
        Self {
            rows: projection.arrays.iter().map(row).collect(),
            rechunked: projection.arrays.iter().map(array_json).collect(),
            passed: projection.passed.iter().map(|Passed { path, reason, .. }| (name(path), reason.clone())).collect(),
        }
    }

    pub(crate) fn text(&self) -> String {
        let head = ["rechunked", "shape", "source chunks", "virtual chunks", "chunk size"].map(str::to_owned);
        let mut text = table(std::iter::once(&head).chain(&self.rows));
        text.push_str(&self.passed_text());
        text
    }

    fn passed_text(&self) -> String {
        const SHOWN: usize = 30;
        let mut text = String::new();
        let plain: Vec<&str> =
            self.passed.iter().filter(|(_, reason)| reason.is_none()).map(|(path, _)| path.as_str()).collect();
        if !plain.is_empty() {
            let more = match plain.len().saturating_sub(SHOWN) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let shown = plain[..plain.len().min(SHOWN)].join(", ");
            let _ = writeln!(text, "passed through as they are: {shown}{more}");
        }
        for (path, reason) in &self.passed {
            if let Some(reason) = reason {
                let _ = writeln!(text, "passed through: {path}: {reason}");
            }
        }
        text
    }

    pub(crate) fn json(&self) -> Value {
        let passed: Value =
            self.passed.iter().map(|(path, reason)| json!({ "path": path, "reason": reason })).collect();
        json!({ "rechunked": self.rechunked, "passed": passed })
    }
}

fn row(array: &VirtualArray) -> [String; 5] {
    let in_shards = |chunks: &[u64], shards: Option<&[u64]>| match shards {
        Some(shards) => format!("{} in shards {}", shape(chunks), shape(shards)),
        None => shape(chunks),
    };
    let source = &array.source;
    [
        name(&source.path),
        shape(&source.shape),
        in_shards(&source.leaf_shape, source.sharding.as_ref().map(|_| source.file_shape.as_slice())),
        in_shards(&array.chunk_shape, array.shard_shape.as_deref()),
        // Of elements of any length a guess, by which `auto` went.
        format!("{}{}", if source.is_variable() { "about " } else { "" }, bytes(chunk_bytes(array))),
    ]
}

fn array_json(array: &VirtualArray) -> Value {
    json!({
        "path": array.source.path,
        "shape": array.source.shape,
        "source_chunks": array.source.leaf_shape,
        "source_shards": array.source.sharding.as_ref().map(|_| &array.source.file_shape),
        "virtual_chunks": array.chunk_shape,
        "virtual_shards": array.shard_shape,
        "chunk_bytes": chunk_bytes(array),
    })
}

fn chunk_bytes(array: &VirtualArray) -> u64 {
    array.chunk_shape.iter().fold(array.source.item_bytes as u64, |bytes, &length| bytes.saturating_mul(length))
}

/// Predicted costs, as a table.
pub(crate) fn costs_text(view: &View) -> String {
    let head = ["cost", "first read", "", "", "sweep", ""].map(str::to_owned);
    let rows: Vec<[String; 6]> = view
        .costs()
        .into_iter()
        .map(|cost| {
            [
                name(&cost.path),
                format!("{} source files", thousands(cost.first_read_files)),
                format!("{} decoded", bytes(cost.first_read_decoded_bytes)),
                decode_time(cost.first_read_decoded_bytes),
                format!("{} decoded", bytes(cost.sweep_decoded_bytes)),
                decode_time(cost.sweep_decoded_bytes),
            ]
        })
        .collect();
    table(std::iter::once(&head).chain(&rows))
}

/// The same as JSON.
pub(crate) fn costs_json(view: &View) -> Value {
    view.costs()
        .into_iter()
        .map(|cost| {
            json!({
                "path": cost.path,
                "first_read_files": cost.first_read_files,
                "first_read_decoded_bytes": cost.first_read_decoded_bytes,
                "sweep_decoded_bytes": cost.sweep_decoded_bytes,
            })
        })
        .collect()
}

/// Arrays whose first read keeps a reader waiting.
pub(crate) fn slow_first_reads(view: &View) -> Vec<String> {
    view.costs()
        .into_iter()
        .filter(|cost| cost.first_read_decoded_bytes / DECODED_BYTES_PER_S >= LONG_READ_S)
        .map(|cost| {
            format!(
                "{}: a first read takes {} source files, {} decoded, {}",
                name(&cost.path),
                thousands(cost.first_read_files),
                bytes(cost.first_read_decoded_bytes),
                decode_time(cost.first_read_decoded_bytes)
            )
        })
        .collect()
}

fn decode_time(decoded_bytes: u64) -> String {
    match decoded_bytes / DECODED_BYTES_PER_S {
        0 => "under 1 s".to_owned(),
        long => format!("about {}", seconds(long)),
    }
}

/// Where a cell is wider, what follows it stands further to the right.
const WIDEST: usize = 200;

/// Columns aligned to the left, two blanks between.
pub(crate) fn table<'a, const N: usize>(rows: impl Iterator<Item = &'a [String; N]>) -> String {
    let rows: Vec<_> = rows.collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row.iter()) {
            *width = (*width).max(cell.chars().count()).min(WIDEST);
        }
    }
    let mut text = String::new();
    for row in rows {
        let line: String = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}  ")).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The root array has no path.
pub(crate) fn name(path: &str) -> String {
    if path.is_empty() { "/".to_owned() } else { path.to_owned() }
}

/// `(15, 40, 2, 100)`
pub(crate) fn shape(lengths: &[u64]) -> String {
    let lengths: Vec<String> = lengths.iter().map(u64::to_string).collect();
    format!("({})", lengths.join(", "))
}

/// `3.3 MiB`
pub(crate) fn bytes(bytes: u64) -> String {
    format_bytes(u128::from(bytes))
}

/// `90 s`, `12 min`, `3 h`
pub(crate) fn seconds(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", thousands(seconds / 3600)),
    }
}

/// The most memory that this process has had, if the system tells.
pub(crate) fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// `96,432`
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(thousands(96_432), "96,432");
        assert_eq!(thousands(7), "7");
        assert_eq!(bytes(480_000), "469 KiB");
        assert_eq!(bytes(3_460_300), "3.3 MiB");
        assert_eq!(bytes(12), "12 B");
        assert_eq!(decode_time(420 * 1000 * 1000 * 1000), "about 10 min");
    }

    #[test]
    fn columns_line_up() {
        let rows = [["a", "bb"], ["ccc", "d"]].map(|row| row.map(str::to_owned));
        assert_eq!(table(rows.iter()), "a    bb\nccc  d\n");
    }
}
