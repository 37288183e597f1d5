//! What a view has done, as JSON: what `rechunkfs status` shows.

use super::View;
use std::sync::atomic::Ordering::Relaxed;

impl View {
    /// Counters, cache, process memory and the last errors. Versioned: readers look at `version` first.
    pub fn status_json(&self) -> String {
        let totals = &self.engine.totals;
        let tree = self.tree();
        let arrays: Vec<&str> =
            tree.directories.iter().filter_map(|directory| Some(directory.array.as_ref()?.path())).collect();
        let mut status = serde_json::json!({
            "version": 1,
            "pid": std::process::id(),
            "source": self.store.name().display().to_string(),
            "rechunked": arrays,
            "reads": totals.reads.load(Relaxed),
            "hits": totals.hits.load(Relaxed),
            "failed": totals.failed.load(Relaxed),
            "waiting": totals.waiting.load(Relaxed),
            "in_flight": totals.in_flight.load(Relaxed),
            "failed_by_kind": totals.failed_by_kind(),
            "slowest_read_ns": totals.slowest_read_ns.load(Relaxed),
            "tiles_built": totals.tiles.load(Relaxed),
            "build_ns": totals.build_ns.load(Relaxed),
            "tiles_prepared": { "read": self.engine.ahead.used.load(Relaxed), "unread": self.engine.ahead.wasted.load(Relaxed) },
            "copy_ns": totals.copy_ns.load(Relaxed),
            "reply_ns": totals.reply_ns.load(Relaxed),
            "reply_bytes": totals.reply_bytes.load(Relaxed),
            "source_counts": self.engine.counters.values(),
            "requests": self.store.objects().map(|objects| objects.requests()),
            "cache": self.engine.cache.usage(),
            "memory": { "limit_bytes": self.memory_bytes, "rss_bytes": rss_bytes(), "peak_rss_bytes": peak_rss_bytes() },
            "refresh": self.engine.looks.spent(),
            "errors": self.engine.journal.recorded(),
        });
        if let (Some(status), Some(disk)) = (status.as_object_mut(), &self.engine.disk) {
            status.extend(disk.status());
        }
        status.to_string()
    }
}

fn rss_bytes() -> Option<u64> {
    field_kib("VmRSS:").map(|kib| kib * 1024)
}

fn peak_rss_bytes() -> Option<u64> {
    field_kib("VmHWM:").map(|kib| kib * 1024)
}

fn field_kib(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
