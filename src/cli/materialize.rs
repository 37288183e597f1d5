//! `materialize`: writes the view of a store to disk.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use anyhow::{Context, bail};
use rechunkfs::fuse::signals::{self, Signals};
use rechunkfs::materialize::{self, Comparison, CopyError, Options, Outcome, Progress};
use rechunkfs::mounts::is_within;
use rechunkfs::source::{CounterValues, Counters, hierarchy};
use rechunkfs::zarr;
use serde_json::{Value, json};

use super::cache_dir::resolve;
use super::config::CopyConfig;
use super::meter::Meter;
use super::report::ViewReport;
use super::{FAILED, INCOMPLETE, forecast, logging, output, report, stop, update, verify};

/// From this size on, two seconds of sampling are little against the copy.
const SAMPLED_BYTES: u64 = 20_000_000_000;

/// Runs `materialize`.
pub(crate) fn run(config: &CopyConfig) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    logging::start(&config.log, None)?;
    let signals = Signals::install_for_batch()?;
    if config.until_eof {
        signals::terminate_at_eof();
    }
    let options = Options {
        source: config.store.clone(),
        target: config.target.clone(),
        memory_bytes: config.budget.bytes,
        threads: config.threads,
        temp: config.temp.as_deref().map(|temp| temp_folder(temp, &config.source)).transpose()?,
        resume: config.resume,
        overwrite: config.overwrite,
        // Whatever can be done is done before the next time.
        keep_going: config.keep_going || config.update,
        verify: config.verify,
        lives: false,
        words: materialize::Words { layout: config.layout.words(), codecs: config.codecs.join(" ") },
        max_tile_bytes: None,
        always_spool: false,
    };
    if let Some(temp) = options.temp.as_ref().filter(|_| !config.dry_run) {
        std::fs::create_dir_all(temp).with_context(|| format!("--temp {}: cannot create it", temp.display()))?;
    }
    if config.update && materialize::is_there(&config.target) {
        return update::run(config, &options, &signals);
    }
    let source = hierarchy::read(&config.store)?;
    let projection = zarr::project_copy(&source, &config.layout, &config.codecs)?;
    if !config.log.quiet {
        projection.projection.warnings.iter().chain(&projection.notices).for_each(|text| output::warning(text));
    }
    if config.update && !config.log.quiet {
        projection.appends.iter().for_each(|text| output::warning(text));
    }
    let shown = ViewReport::new(&projection.projection);
    if !config.json && !config.log.quiet {
        output::text(&shown.text());
    }
    let sizes = projection.copied.iter().map(|copied| decoded_bytes(&copied.array.source));
    let bytes: u64 = sizes.fold(0, u64::saturating_add);
    let forecast = materialize::forecast(
        &projection,
        &options,
        config.partition,
        config.dry_run || (bytes >= SAMPLED_BYTES && config.partition.is_none() && !config.finish),
    )?;
    if !config.log.quiet && !config.finish {
        forecast::warnings(&forecast).iter().for_each(|text| output::warning(text));
    }
    if config.dry_run {
        if config.json {
            output::json("materialize", with_update(forecast::json(&forecast, config), config, &projection.appends));
        } else {
            output::text(&format!("{}nothing was written (--dry-run)\n", forecast::text(&forecast, config)));
        }
        return Ok(ExitCode::SUCCESS);
    }
    if !config.json && !config.log.quiet && !config.finish {
        output::text(&forecast::text(&forecast, config));
    }
    let progress = Arc::new(Progress::default());
    let counters = Arc::new(Counters::default());
    // What is under way when the time is up is done again: the journal knows nothing of it.
    stop::arm(&signals, &progress, || {
        incomplete("stopped by a signal");
        INCOMPLETE
    })?;
    let meter = Meter::start(Arc::clone(&progress), Arc::clone(&counters), config.json, config.log.quiet);
    let appends = projection.appends.clone();
    let outcome = if config.update {
        materialize::create(&source, &projection, &options, &progress, &counters)
    } else if let Some(share) = config.partition {
        materialize::copy_share(&source, projection, &options, share, &progress, &counters)
    } else if config.finish {
        materialize::finish(&source, projection, &options, &progress, &counters)
    } else {
        materialize::copy(&source, projection, &options, &progress, &counters)
    };
    drop(meter);
    match outcome {
        Ok(outcome) => {
            let planned = with_update(forecast::json(&forecast, config), config, &appends);
            Ok(finished(config, planned, &outcome, &progress, counters.values(), began))
        }
        Err(error @ CopyError::Stopped) => {
            incomplete(&error.to_string());
            Ok(ExitCode::from(INCOMPLETE))
        }
        Err(error) if error.is_resumable() => {
            incomplete(&error.to_string());
            Ok(ExitCode::from(INCOMPLETE))
        }
        Err(ref error @ CopyError::Unverified { ref comparison, .. }) => {
            let error = error.to_string();
            output::error(&error);
            verify::show(comparison, config.json, &error);
            Ok(verify::exit_code(comparison))
        }
        Err(error) => {
            let partial = materialize::partial_of(&config.target);
            // Not where somebody else's is in the way: that was said.
            if !is_in_the_way(&error) && !config.finish && partial.exists() {
                output::note(&format!(
                    "what was copied stays in {}; once the cause is mended --resume goes on with it, --overwrite starts afresh",
                    super::mount::quoted(&partial)
                ));
            }
            Err(error.into())
        }
    }
}

/// Whether an error says already what lies where the copy comes into being.
fn is_in_the_way(error: &CopyError) -> bool {
    use CopyError::{Busy, CannotResume, InShares, OtherPlan, ShareBusy, ShareUnfinished, Unfinished};
    matches!(error, Unfinished(_) | Busy(_) | InShares(_) | CannotResume { .. } | OtherPlan { .. })
        || matches!(error, ShareBusy { .. } | ShareUnfinished { .. })
}

/// The folder for temporary files, which need not exist yet; the source (canonical) is not written to.
fn temp_folder(temp: &Path, source: &Path) -> anyhow::Result<PathBuf> {
    let temp = resolve(temp)?;
    if is_within(&temp, source) {
        bail!("--temp {} lies within the source {}; name another folder", temp.display(), source.display());
    }
    Ok(temp)
}

fn decoded_bytes(source: &zarr::SourceArray) -> u64 {
    source.shape.iter().fold(source.item_bytes as u64, |bytes, &len| bytes.saturating_mul(len))
}

/// Says of a copy that is to be brought up to date that it is made.
fn with_update(mut result: Value, config: &CopyConfig, appends: &[String]) -> Value {
    result["update"] = config.update.into();
    if config.update {
        result["created"] = true.into();
        result["appends"] = json!(appends);
    }
    result
}

/// Says why the copy is not complete, and how it goes on.
pub(super) fn incomplete(why: &str) {
    // A person goes on with it, not the program that held our stdin.
    let mut words: Vec<String> = std::env::args().filter(|word| word != "--until-eof").collect();
    if !words.iter().any(|word| ["--resume", "--update", "--finish"].contains(&word.as_str())) {
        words.push("--resume".to_owned());
    }
    let command: Vec<String> = words.iter().map(|word| super::mount::quoted(word.as_ref())).collect();
    output::note(&format!("{why}; go on with: {}", command.join(" ")));
}

fn finished(
    config: &CopyConfig,
    planned: Value,
    outcome: &Outcome,
    progress: &Progress,
    counters: CounterValues,
    began: Instant,
) -> ExitCode {
    let seconds = began.elapsed().as_secs_f64();
    let is_done_before = outcome.is_resumed && progress.total_bytes.load(Relaxed) == 0;
    // Verified bytes were counted as work, too.
    let verified = outcome.comparison.as_ref().map_or(0, Comparison::bytes);
    let (total, resumed) = (progress.total_bytes.load(Relaxed) - verified, progress.resumed_bytes.load(Relaxed));
    let (written, files) = (progress.written_bytes.load(Relaxed), progress.files.load(Relaxed));
    let peak = report::peak_rss_bytes();
    if config.json {
        let mut result = planned;
        result["changed"] = (outcome.incomplete.is_none() && config.partition.is_none()).into();
        result["seconds"] = json!((seconds * 1e3).round() / 1e3);
        result["bytes"] = total.into();
        result["written_bytes"] = written.into();
        result["files"] = files.into();
        result["peak_rss_bytes"] = peak.into();
        result["decoded_bytes"] = counters.decoded_bytes.into();
        result["source_bytes"] = counters.read_bytes.into();
        result["resumed"] = outcome.is_resumed.into();
        result["resumed_bytes"] = resumed.into();
        result["failures"] = json!(outcome.failures);
        result["incomplete"] = json!(outcome.incomplete);
        result["verified"] = outcome.comparison.is_some().into();
        output::json("materialize", result);
    } else if let Some(share) = config.partition.filter(|_| is_done_before && !config.log.quiet) {
        output::text(&format!("share {share} is made already: nothing to do\n"));
    } else if !config.log.quiet {
        let what = match (config.partition, config.finish) {
            (Some(share), _) => format!("share {share} of {}", config.target.display()),
            (None, true) => format!("{}, of shares", config.target.display()),
            (None, false) => config.target.display().to_string(),
        };
        let rate = (total - resumed.min(total)) as f64 / seconds.max(1e-3);
        output::text(&format!(
            "copied: {what}, {} in {:.1} s ({}/s), {} files, {} on disk; peak memory {} of {}\n",
            report::bytes(total),
            seconds,
            report::bytes(rate as u64),
            report::thousands(files),
            report::bytes(written),
            peak.map_or_else(|| "unknown".to_owned(), report::bytes),
            report::bytes(config.budget.bytes),
        ));
        if let Some(comparison) = &outcome.comparison {
            output::text(&format!("verified: {}\n", comparison.summary()));
        }
    }
    for failure in &outcome.failures {
        output::error(&format!("left out: {failure}"));
    }
    if let Some(incomplete) = &outcome.incomplete {
        output::error(&format!(
            "{} is not there: chunks that draw on what was left out are missing, and would read as fill value. If that \
             will do: mv {} {}",
            config.target.display(),
            super::mount::quoted(incomplete),
            super::mount::quoted(&config.target),
        ));
    }
    if outcome.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}
