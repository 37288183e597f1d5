//! How far a copy or a comparison is: a bar on a terminal, else a line every half minute, or JSON lines.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rechunkfs::materialize::Progress;
use rechunkfs::source::Counters;
use serde_json::json;

use super::report;

const BAR_WIDTH: usize = 24;

/// In which dress.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Bar,
    Lines,
    Json,
    Silent,
}

/// Shows progress until it is dropped.
pub(crate) struct Meter {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Meter {
    /// Starts to show `progress` on stderr.
    pub(crate) fn start(progress: Arc<Progress>, counters: Arc<Counters>, json: bool, quiet: bool) -> Self {
        let style = match (json, quiet, std::io::stderr().is_terminal()) {
            (_, true, _) => Style::Silent,
            (true, ..) => Style::Json,
            (false, false, true) => Style::Bar,
            (false, false, false) => Style::Lines,
        };
        let (end, ended) = mpsc::channel();
        let every = match style {
            Style::Bar => Duration::from_millis(200),
            Style::Json => Duration::from_secs(1),
            Style::Lines | Style::Silent => Duration::from_secs(30),
        };
        let thread = std::thread::Builder::new().name("meter".to_owned()).spawn(move || {
            let mut last = Reading::new(&progress, &counters);
            let first = last;
            while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                let now = Reading::new(&progress, &counters);
                if style != Style::Silent {
                    show(style, &first, &last, &now);
                }
                last = now;
            }
            let end = Reading::new(&progress, &counters);
            match style {
                Style::Bar => drop(write!(std::io::stderr(), "\r\x1b[K")),
                // So that a program has at least one line, and one of the end.
                Style::Json if end.total > 0 => show(style, &first, &last, &end),
                _ => {}
            }
        });
        Meter { end: Some(end), thread: thread.ok() }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the counters stood at.
#[derive(Clone, Copy)]
struct Reading {
    at: Instant,
    total: u64,
    done: u64,
    resumed: u64,
    written: u64,
    busy_ns: [u64; 5],
}

/// What threads can be busy with, in the order of [`Reading::busy_ns`].
const WORK: [&str; 5] = ["read", "decode", "place", "encode", "write"];

impl Reading {
    fn new(progress: &Progress, counters: &Counters) -> Self {
        let get = |counter: &AtomicU64| counter.load(Relaxed);
        let read = get(&counters.read_ns);
        Reading {
            at: Instant::now(),
            // What goes through a temporary file is work twice.
            total: get(&progress.total_bytes) + get(&progress.spool_bytes),
            done: get(&progress.done_bytes) + get(&progress.spooled_bytes),
            resumed: get(&progress.resumed_bytes),
            written: get(&progress.written_bytes),
            busy_ns: [
                read,
                get(&counters.decode_ns).saturating_sub(read),
                get(&progress.place_ns),
                get(&progress.encode_ns),
                get(&progress.write_ns),
            ],
        }
    }

    fn share(&self) -> f64 {
        if self.total == 0 { 0.0 } else { self.done as f64 / self.total as f64 }
    }

    /// What most time went to since `before`.
    fn waits_for(&self, before: &Reading) -> &'static str {
        let spent = |nth: &usize| self.busy_ns[*nth].saturating_sub(before.busy_ns[*nth]);
        (0..WORK.len()).max_by_key(spent).filter(|nth| spent(nth) > 0).map_or("start", |nth| WORK[nth])
    }

    /// Bytes a second since `first`, and seconds left at that rate.
    fn rate(&self, first: &Reading) -> (f64, Option<u64>) {
        let done = self.done.saturating_sub(first.done.max(self.resumed));
        let rate = done as f64 / self.at.duration_since(first.at).as_secs_f64().max(1e-3);
        let left = self.total.saturating_sub(self.done) as f64;
        (rate, (rate > 0.0).then(|| (left / rate) as u64))
    }
}

fn show(style: Style, first: &Reading, last: &Reading, now: &Reading) {
    let (rate, left) = now.rate(first);
    let mut stderr = std::io::stderr();
    let text = format!(
        "{} of {}, {}/s, {}, mostly {}",
        report::bytes(now.done),
        report::bytes(now.total),
        report::bytes(rate as u64),
        left.map_or_else(|| "starting".to_owned(), |left| format!("{} left", report::seconds(left))),
        now.waits_for(last),
    );
    // A stderr that has gone away is not our failure.
    let _ = match style {
        Style::Bar => {
            let filled = ((now.share() * BAR_WIDTH as f64) as usize).min(BAR_WIDTH);
            write!(stderr, "\r\x1b[K[{}{}] {text}", "#".repeat(filled), " ".repeat(BAR_WIDTH - filled))
                .and_then(|()| stderr.flush())
        }
        Style::Lines => writeln!(stderr, "rechunkfs: {text}"),
        Style::Json => {
            let line = json!({
                "progress": now.share(),
                "done_bytes": now.done,
                "total_bytes": now.total,
                "written_bytes": now.written,
                "bytes_per_s": rate as u64,
                "seconds_left": left,
                "waits_for": now.waits_for(last),
            });
            writeln!(stderr, "{line}")
        }
        Style::Silent => Ok(()),
    };
}
