//! A source that fails: a directory shown through the example `faulty_fs`, and a view of it that is mounted by the test itself.

use crate::support::wait_until;
use rechunkfs::fuse::session::{Options as SessionOptions, Session};
use rechunkfs::fuse::{FileSystem, device, unmount};
use rechunkfs::mounts::Mount;
use rechunkfs::view::View;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

/// `directory`, with faults. Ends with the test, however that does: so does its standard input.
pub(crate) struct Faulty {
    child: Child,
    said: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    point: TempDir,
}

impl Faulty {
    pub(crate) fn new(directory: &Path) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_rechunkfs")).with_file_name("examples").join("faulty_fs");
        assert!(program.is_file(), "build it: cargo build --example faulty_fs");
        let point = tempfile::tempdir().expect("a directory");
        let mut command = Command::new(program);
        command.args([directory, point.path()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let stdin = child.stdin.take().expect("piped");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a line");
        assert_eq!(line, "ready\n");
        Faulty { child, said: Mutex::new((stdin, stdout)), point }
    }

    /// Where the directory is to be seen.
    pub(crate) fn path(&self) -> &Path {
        self.point.path()
    }

    /// Says what is to go wrong from now on.
    #[track_caller]
    pub(crate) fn say(&self, line: &str) {
        assert_eq!(self.ask(line), "ok", "{line}");
    }

    /// Faults so far, by kind.
    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        serde_json::from_str(&self.ask("counts")).expect("JSON")
    }

    fn ask(&self, line: &str) -> String {
        let mut said = self.said.lock().expect("no panic");
        writeln!(said.0, "{line}").expect("it listens");
        let mut answer = String::new();
        said.1.read_line(&mut answer).expect("it answers");
        answer.trim().to_owned()
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.ask("clear");
        if let Ok(Some(mount)) = rechunkfs::mounts::at(self.path()) {
            let _ = unmount::detach(&mount);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A view, mounted and served by this process: with a cache as small as only tests can have it.
pub(crate) struct Served {
    mount: Mount,
    /// Goes before the folder that it is mounted in.
    _folder: TempDir,
}

impl Served {
    pub(crate) fn new(view: Arc<View>) -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let point = folder.path().canonicalize().expect("there").join("view");
        std::fs::create_dir(&point).expect("created");
        let mounted = device::mount(&point, "tests".as_ref(), false).expect("mounts");
        let mount = mounted.mount.clone();
        let options = SessionOptions { threads: 4, root_and_owner_only: false };
        let session = Session::start(FileSystem::new(view), mounted.device, Some(mounted.mount), options);
        let session = session.expect("it starts");
        session.await_answer().expect("it answers");
        std::thread::spawn(move || session.wait());
        Served { mount, _folder: folder }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.mount.point.clone()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        unmount::detach(&self.mount).expect("unmounted");
        wait_until("nothing is mounted", || matches!(rechunkfs::mounts::at(&self.mount.point), Ok(None)));
    }
}
