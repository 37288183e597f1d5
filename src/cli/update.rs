//! `materialize --update`: brings a copy up to date with its source.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use rechunkfs::fuse::signals::Signals;
use rechunkfs::materialize::{self, ArrayUpdate, CopyError, Kind, Options, Progress, Sources, UpdatePlan, Updated};
use rechunkfs::source::{CounterValues, Counters, hierarchy};
use serde_json::{Value, json};

use super::config::CopyConfig;
use super::materialize::incomplete;
use super::meter::Meter;
use super::report::{self, ViewReport, bytes, name, thousands};
use super::{FAILED, INCOMPLETE, output, stop, verify};

/// Brings the copy at the target, which is there, up to date.
pub(crate) fn run(config: &CopyConfig, options: &Options, signals: &Signals) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let source = hierarchy::read(&config.store)?;
    let progress = Arc::new(Progress::default());
    let counters = Arc::new(Counters::default());
    let sources =
        Sources { hierarchy: &source, layout: &config.layout, codecs: &config.codecs, options, counters: &counters };
    // Each chunk of the copy is the old one or the new one, whenever that ends.
    stop::arm(signals, &progress, || {
        incomplete("stopped by a signal");
        INCOMPLETE
    })?;
    if config.dry_run {
        let plan = materialize::plan_update(&sources, &progress)?;
        tell(&plan, config);
        if config.json {
            output::json("materialize", plan_json(&plan, config));
        } else {
            output::text(&ViewReport::new(&plan.projection).text());
            output::text(&format!("{}nothing was written (--dry-run)\n", plan_text(&plan)));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut meter = None;
    let mut announce = |plan: &UpdatePlan| {
        tell(plan, config);
        if !config.json && !config.log.quiet && !plan.is_empty() {
            output::text(&plan_text(plan));
        }
        meter = Some(Meter::start(Arc::clone(&progress), Arc::clone(&counters), config.json, config.log.quiet));
    };
    let updated = materialize::update(&sources, &progress, &mut announce);
    drop(meter);
    match updated {
        Ok(updated) => Ok(finished(config, &updated, &progress, counters.values(), began)),
        Err(error) if error.is_resumable() => {
            incomplete(&error.to_string());
            Ok(ExitCode::from(INCOMPLETE))
        }
        Err(CopyError::Store(error)) => Err(anyhow::anyhow!(error)),
        Err(error) => Err(error.into()),
    }
}

fn tell(plan: &UpdatePlan, config: &CopyConfig) {
    if config.log.quiet {
        return;
    }
    plan.notices.iter().for_each(|text| output::warning(text));
    // Of what stays as it is there is nothing to say.
    if plan.bytes() > 0 || config.dry_run {
        plan.appends.iter().for_each(|text| output::warning(text));
    }
}

fn plan_text(plan: &UpdatePlan) -> String {
    let mut lines: Vec<String> = plan.arrays.iter().map(array_text).collect();
    let n = |n: u64, what: &str| if n == 1 { format!("1 {what}") } else { format!("{} {what}s", thousands(n)) };
    let mut others = Vec::new();
    if plan.passed_files > 0 {
        let verb = if plan.are_passed_compared { "compared" } else { "copied" };
        let size = bytes(plan.passed_bytes);
        others.push(format!("{} that pass through, {size}, to be {verb}", n(plan.passed_files, "file")));
    }
    if plan.files_gone > 0 {
        others.push(format!("{} to be removed", n(plan.files_gone, "file")));
    }
    if plan.documents > 0 {
        others.push(format!("{} to be replaced", n(plan.documents, "document")));
    }
    if !others.is_empty() {
        lines.push(others.join(", "));
    }
    if plan.is_empty() {
        lines.push("nothing has changed".to_owned());
    }
    lines.iter().map(|line| format!("plan: {line}\n")).collect()
}

fn array_text(array: &ArrayUpdate) -> String {
    let what = if array.is_sharded { "shards" } else { "chunks" };
    let (chunks, size) = (thousands(array.chunks), bytes(array.bytes));
    let text = match array.kind {
        Kind::New => format!("new, {chunks} {what}, {size}"),
        Kind::Same => "nothing to do".to_owned(),
        Kind::Compared => format!("{} of {chunks} {what} are compared, {size}", thousands(array.touched_chunks)),
        Kind::Changed => format!(
            "{} of {} source chunks changed; {} of {chunks} {what} are made again, {size}",
            thousands(array.changed_source_chunks),
            thousands(array.source_chunks),
            thousands(array.touched_chunks),
        ),
    };
    format!("{}: {text}", name(&array.path))
}

fn plan_json(plan: &UpdatePlan, config: &CopyConfig) -> Value {
    let array = |array: &ArrayUpdate| {
        json!({
            "path": array.path,
            "state": match array.kind {
                Kind::New => "new",
                Kind::Compared => "compared",
                Kind::Changed => "changed",
                Kind::Same => "same",
            },
            "source_chunks": array.source_chunks,
            "changed_source_chunks": array.changed_source_chunks,
            "chunks": array.chunks,
            "touched_chunks": array.touched_chunks,
            "bytes": array.bytes,
        })
    };
    json!({
        "source": config.source.display().to_string(),
        "target": config.target.display().to_string(),
        "dry_run": config.dry_run,
        "update": true,
        "created": false,
        "arrays": plan.arrays.iter().map(array).collect::<Vec<_>>(),
        "bytes": plan.bytes(),
        "passed_files": plan.passed_files,
        "passed_bytes": plan.passed_bytes,
        "passed_compared": plan.are_passed_compared,
        "documents": plan.documents,
        "new": plan.fresh,
        "removed": plan.removed,
        "notices": plan.notices,
        "appends": plan.appends,
        "memory_bytes": config.budget.bytes,
    })
}

fn finished(
    config: &CopyConfig,
    updated: &Updated,
    progress: &Progress,
    counters: CounterValues,
    began: Instant,
) -> ExitCode {
    let seconds = began.elapsed().as_secs_f64();
    let (written, files) = (progress.written_bytes.load(Relaxed), progress.files.load(Relaxed));
    let peak = report::peak_rss_bytes();
    if config.json {
        let mut result = plan_json(&updated.plan, config);
        result["changed"] = updated.is_changed.into();
        result["seconds"] = json!((seconds * 1e3).round() / 1e3);
        result["written_bytes"] = written.into();
        result["files"] = files.into();
        result["peak_rss_bytes"] = peak.into();
        result["decoded_bytes"] = counters.decoded_bytes.into();
        result["source_bytes"] = counters.read_bytes.into();
        result["resumed"] = updated.is_resumed.into();
        result["failures"] = json!(updated.failures);
        result["left"] = json!(updated.left);
        result["documents_held"] = updated.are_documents_held.into();
        result["verified"] = updated.comparison.is_some().into();
        if let Some(comparison) = &updated.comparison {
            result["differences"] = comparison.differences().into();
        }
        output::json("materialize", result);
    } else if !config.log.quiet {
        output::text(&summary(&config.target, updated, seconds, (files, written)));
        if let Some(comparison) = &updated.comparison {
            output::text(&format!("verified: {}\n", comparison.summary()));
        }
    }
    for failure in &updated.failures {
        output::error(&format!("left as it was: {failure}"));
    }
    for left in &updated.left {
        output::error(&format!("left as it was: {left}: it changed again each time it was copied"));
    }
    if updated.are_documents_held {
        output::error("the copy shows the old documents: what the new ones show is not all there");
    }
    if let Some(comparison) = updated.comparison.as_ref().filter(|comparison| !comparison.is_equal()) {
        let error =
            "the copy is not what its source is; unless the source has changed meanwhile, the next update mends it";
        output::error(error);
        if !config.json {
            verify::show(comparison, false, error);
        }
        return verify::exit_code(comparison);
    }
    exit_code(updated)
}

fn exit_code(updated: &Updated) -> ExitCode {
    match (updated.failures.is_empty(), updated.left.is_empty()) {
        (true, true) => ExitCode::SUCCESS,
        (false, _) => ExitCode::from(FAILED),
        (true, false) => ExitCode::from(INCOMPLETE),
    }
}

fn summary(target: &Path, updated: &Updated, seconds: f64, (files, written): (u64, u64)) -> String {
    let target = target.display();
    if !updated.is_changed {
        let compared = updated.plan.arrays.iter().any(|array| array.kind == Kind::Compared);
        let how = if compared { ", its chunks are those of the source" } else { "" };
        return format!("up to date: {target}{how} ({seconds:.1} s)\n");
    }
    format!(
        "updated: {target}, {} in {seconds:.1} s, {} files, {} on disk; peak memory {}\n",
        bytes(updated.plan.bytes()),
        thousands(files),
        bytes(written),
        report::peak_rss_bytes().map_or_else(|| "unknown".to_owned(), bytes),
    )
}
