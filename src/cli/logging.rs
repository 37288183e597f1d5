//! The log: to stderr while somebody watches, to a file otherwise. Panics are logged, too.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use super::config::LogConfig;

/// At the next mount a log that has grown past this is set aside (one older log is kept).
const ROTATE_BYTES: u64 = 4 * 1024 * 1024;

/// Starts logging, for the rest of the process's life.
pub(crate) fn start(config: &LogConfig, default_file: Option<&Path>) -> anyhow::Result<()> {
    let ours = match (config.quiet, config.verbosity, default_file.is_some() || config.file.is_some()) {
        (true, ..) => "error",
        (false, 0, true) => "info",
        // On a terminal what matters is said in so many words already.
        (false, 0, false) => "warn",
        (false, 1, _) => "debug",
        (false, _, _) => "trace",
    };
    let others = if config.verbosity > 1 { "debug" } else { "warn" };
    let filter = EnvFilter::try_from_env("RECHUNKFS_LOG")
        .unwrap_or_else(|_| EnvFilter::new(format!("{others},rechunkfs={ours}")));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
    let late = match (&config.file, default_file) {
        // What the user names must work; what we choose may fail, as on a read-only home.
        (Some(path), _) => {
            let file = open(path).with_context(|| format!("the log {}", path.display()))?;
            Some(Late { path: path.clone(), file: Some(file) })
        }
        (None, Some(path)) => Some(Late { path: path.to_owned(), file: None }),
        (None, None) => None,
    };
    match (late, config.is_json) {
        (Some(late), true) => builder.json().with_writer(Mutex::new(late)).init(),
        (None, true) => builder.json().with_writer(std::io::stderr).init(),
        (Some(late), false) => builder.with_writer(Mutex::new(late)).init(),
        (None, false) => builder.with_writer(std::io::stderr).with_target(false).without_time().init(),
    }
    // Where the log is not stderr, stderr still gets the panic until the daemon lets go of it.
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        tracing::error!("panic in thread {}: {panic}", thread.name().unwrap_or("?"));
        print(panic);
    }));
    Ok(())
}

fn open(file: &Path) -> std::io::Result<File> {
    if file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() > ROTATE_BYTES) {
        std::fs::rename(file, file.with_extension("log.1"))?;
    }
    OpenOptions::new().create(true).append(true).mode(0o600).open(file)
}

/// A log that comes into being with its first line: a mount that is refused leaves none behind.
struct Late {
    path: PathBuf,
    file: Option<File>,
}

impl Write for Late {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(open(&self.path)?),
        };
        file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.as_mut().map_or(Ok(()), File::flush)
    }
}
