//! A small store, the program, and a mount that never outlives its test.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Nothing here takes a second; a test that hangs should fail, not hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const N_OBJECTS: u64 = 4;
pub(crate) const N_EPOCHS: u64 = 6;

/// A folder with a store `epochs.zarr` in it: float32 `lightcurves` (object, epoch), one chunk per epoch, the last
/// epoch never written, and a column `objid`. Uncompressed, so written without any library.
pub(crate) struct Store {
    pub(crate) folder: TempDir,
}

/// What the store holds; wrong places show in the value.
pub(crate) fn value(object_idx: u64, epoch_idx: u64) -> f32 {
    (epoch_idx * 1000 + object_idx) as f32
}

impl Store {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Self { folder };
        let source = store.source();
        fs::create_dir_all(source.join("lightcurves/c/0")).unwrap();
        fs::create_dir_all(source.join("objid/c")).unwrap();
        let group = r#"{"zarr_format":3,"node_type":"group","attributes":{"survey":"test"}}"#;
        fs::write(source.join("zarr.json"), group).unwrap();
        let lightcurves = array_json("float32", &[N_OBJECTS, N_EPOCHS], &[N_OBJECTS, 1], &["object", "epoch"]);
        fs::write(source.join("lightcurves/zarr.json"), lightcurves).unwrap();
        for epoch_idx in 0..N_EPOCHS - 1 {
            let chunk: Vec<u8> =
                (0..N_OBJECTS).flat_map(|object_idx| value(object_idx, epoch_idx).to_le_bytes()).collect();
            fs::write(source.join(format!("lightcurves/c/0/{epoch_idx}")), chunk).unwrap();
        }
        let objid = array_json("int32", &[N_OBJECTS], &[N_OBJECTS], &["object"]);
        fs::write(source.join("objid/zarr.json"), objid).unwrap();
        let column: Vec<u8> = (0..N_OBJECTS as i32).flat_map(i32::to_le_bytes).collect();
        fs::write(source.join("objid/c/0"), column).unwrap();
        store
    }

    pub(crate) fn source(&self) -> PathBuf {
        self.path("epochs.zarr")
    }

    /// Where tests mount.
    pub(crate) fn point(&self) -> PathBuf {
        self.path("objects.zarr")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(name)
    }

    /// The program, with a state folder of the test's own.
    pub(crate) fn rechunkfs(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rechunkfs"));
        command.args(arguments).env("XDG_STATE_HOME", self.path("state")).env_remove("RECHUNKFS_LOG");
        command.current_dir(self.folder.path());
        command
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Finished {
        finish(&mut self.rechunkfs(arguments))
    }

    /// Mounts `epochs.zarr` at `objects.zarr`, in the background.
    pub(crate) fn mount(&self, flags: &[&str]) -> Mount<'_> {
        self.mount_as(&[&["--along", "epoch"], flags].concat()).0
    }

    /// The same in a layout of the test's own, with what was said.
    #[track_caller]
    pub(crate) fn mount_as(&self, flags: &[&str]) -> (Mount<'_>, Finished) {
        let mount = Mount { store: self };
        let said = self.run(&[&["mount", "epochs.zarr", "objects.zarr"], flags].concat()).assert_success();
        (mount, said)
    }
}

/// The document of an uncompressed array.
pub(crate) fn array_json(data_type: &str, shape: &[u64], chunks: &[u64], dimensions: &[&str]) -> String {
    serde_json::json!({
        "zarr_format": 3,
        "node_type": "array",
        "shape": shape,
        "data_type": data_type,
        "chunk_grid": { "name": "regular", "configuration": { "chunk_shape": chunks } },
        "chunk_key_encoding": { "name": "default", "configuration": { "separator": "/" } },
        "fill_value": 0,
        "codecs": [{ "name": "bytes", "configuration": { "endian": "little" } }],
        "attributes": {},
        "dimension_names": dimensions,
    })
    .to_string()
}

/// What a program said, and how it ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| -self.status.signal().unwrap_or(0))
    }

    #[track_caller]
    pub(crate) fn assert_success(self) -> Self {
        assert_eq!(self.code(), 0, "{self:?}");
        self
    }

    /// It failed with `code` and one line on stderr that holds all of `words`.
    #[track_caller]
    pub(crate) fn assert_refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code(), code, "{self:?}");
        let lines: Vec<&str> = self.stderr.lines().collect();
        assert_eq!(lines.len(), 1, "not one line: {self:?}");
        assert!(lines[0].starts_with("rechunkfs: "), "{self:?}");
        for word in words {
            assert!(lines[0].contains(word), "no `{word}` in {self:?}");
        }
    }
}

/// Runs a command to its end, with what it says; one that takes too long is ended and fails the test.
#[track_caller]
pub(crate) fn finish(command: &mut Command) -> Finished {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let id = child.id();
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || send.send(child.wait_with_output()));
    let Ok(output) = receive.recv_timeout(PATIENCE) else {
        signal(id, rustix::process::Signal::KILL);
        panic!("{command:?} did not end within {PATIENCE:?}");
    };
    let Output { status, stdout, stderr } = output.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Finished { status, stdout: text(stdout), stderr: text(stderr) }
}

/// Waits until `holds`, and not for ever.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    let _ = rustix::process::kill_process(pid, signal);
}

/// Whether the process runs: neither gone nor waiting to be collected.
pub(crate) fn runs(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z"))
}

pub(crate) fn is_mounted(point: &Path) -> bool {
    rechunkfs::mounts::at(point).unwrap().is_some()
}

/// A child that is ended, should it still run at the end of the test.
pub(crate) struct Ended(pub(crate) Child);

impl Ended {
    /// Its exit code, once it ends by itself.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> i32 {
        let mut status = None;
        wait_until("the child ends", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        let status = status.unwrap();
        status.code().unwrap_or_else(|| -status.signal().unwrap_or(0))
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A background mount at [`Store::point`]. However the test ends, nothing stays mounted, and no daemon runs.
pub(crate) struct Mount<'a> {
    pub(crate) store: &'a Store,
}

impl Mount<'_> {
    /// What `status` says.
    pub(crate) fn status(&self) -> serde_json::Value {
        let status = self.store.run(&["status", "objects.zarr", "--json"]).assert_success();
        serde_json::from_str(&status.stdout).unwrap()
    }

    /// The daemon, as `status` has it.
    pub(crate) fn pid(&self) -> u32 {
        u32::try_from(self.status()["pid"].as_u64().unwrap()).unwrap()
    }

    pub(crate) fn unmount(&self, flags: &[&str]) -> Finished {
        let mut arguments = vec!["unmount", "objects.zarr"];
        arguments.extend(flags);
        self.store.run(&arguments)
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let point = self.store.point();
        while let Ok(Some(mount)) = rechunkfs::mounts::at(&point) {
            if rechunkfs::fuse::unmount::detach(&mount).is_err() {
                break;
            }
        }
    }
}

/// Why mounts cannot be tested here, if so.
pub(crate) fn cannot_mount() -> bool {
    match rechunkfs::fuse::machine::Machine::look().check(false) {
        Ok(()) => false,
        Err(cause) => {
            eprintln!("passed over: {cause}");
            true
        }
    }
}
