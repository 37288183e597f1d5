//! From a source and a layout to an open view, with its report and its warnings.

use std::sync::Arc;

use rechunkfs::source::hierarchy;
use rechunkfs::view::{self, CacheDir, View};
use rechunkfs::zarr;

use super::config::ViewConfig;
use super::daemon::Progress;
use super::output;
use super::report::{self, ViewReport};

/// Opens the view of a source, with its report; warnings go to stderr.
///
/// Without `cache_dir`, nothing is kept on disk, and no folder made for it.
pub(crate) fn open_view(
    config: &ViewConfig,
    cache_dir: Option<CacheDir>,
    progress: &Progress,
) -> anyhow::Result<(Arc<View>, ViewReport)> {
    let warn = |text: &str| {
        if !config.log.quiet {
            output::warning(text)
        }
    };
    if config.budget.overcommits() {
        warn(&format!(
            "--memory asks for {}, {} leaves {}",
            report::bytes(config.budget.bytes),
            config.budget.limit.by,
            report::bytes(config.budget.limit.bytes)
        ));
    }
    progress.doing(&format!("reading the metadata of {}", config.source.display()));
    let hierarchy = hierarchy::read(&config.store)?;
    let projection = zarr::project(&hierarchy, &config.layout)?;
    for warning in &projection.warnings {
        warn(warning);
    }
    let report = ViewReport::new(&projection);
    progress.doing("opening the view");
    let follow = config.refresh.map(|refresh| view::Follow { layout: config.layout.clone(), refresh });
    let options = view::Options {
        memory_bytes: config.budget.bytes,
        threads: config.threads,
        max_tile_bytes: None,
        cache_dir,
        follow,
    };
    let view = View::open_guarded(&config.store, projection, options, config.read_timeout)?;
    for slow in report::slow_first_reads(&view) {
        warn(&slow);
    }
    Ok((view, report))
}
