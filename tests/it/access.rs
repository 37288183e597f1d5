//! Who may do what with a mount: nothing but reading, and nobody but whom it lets in.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use crate::support::*;

const PROGRAM: &str = env!("CARGO_BIN_EXE_rechunkfs");
const NOBODY: u32 = 65534;

/// Every call that writes, and what came of it.
fn attempts(view: &Path, chunk: &Path) -> Vec<(&'static str, Result<(), Errno>)> {
    let new = view.join("lightcurves/new");
    let open = |flags: OFlags| rustix::fs::open(chunk, flags, Mode::empty()).map(drop);
    vec![
        ("create", rustix::fs::open(&new, OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).map(drop)),
        ("open to write", open(OFlags::WRONLY)),
        // Without it no page can be mapped to be written.
        ("open to read and write", open(OFlags::RDWR)),
        ("open to append", open(OFlags::WRONLY | OFlags::APPEND)),
        ("open and truncate", open(OFlags::WRONLY | OFlags::TRUNC)),
        ("rename", rustix::fs::rename(chunk, &new)),
        ("rename over", rustix::fs::rename(chunk, view.join("lightcurves/zarr.json"))),
        ("link", rustix::fs::link(chunk, &new)),
        ("symlink", rustix::fs::symlink("x", &new)),
        ("unlink", rustix::fs::unlink(chunk)),
        ("mkdir", rustix::fs::mkdir(&new, Mode::RWXU)),
        ("rmdir", rustix::fs::rmdir(view.join("lightcurves"))),
        ("mkfifo", rustix::fs::mknodat(CWD, &new, rustix::fs::FileType::Fifo, Mode::RUSR, 0)),
        ("chmod", rustix::fs::chmod(chunk, Mode::RWXU)),
        ("chown", rustix::fs::chownat(CWD, chunk, Some(rustix::fs::Uid::from_raw(1)), None, AtFlags::empty())),
        (
            "utimens",
            File::open(chunk).map_err(|_| Errno::IO).and_then(|file| {
                let now = std::time::SystemTime::now();
                file.set_modified(now).map_err(|error| Errno::from_io_error(&error).unwrap())
            }),
        ),
        ("setxattr", rustix::fs::setxattr(chunk, "user.comment", b"x", XattrFlags::empty())),
        ("removexattr", rustix::fs::removexattr(view, "user.rechunkfs.status")),
        (
            "create in what passes through",
            fs::write(view.join("objid/c/1"), "x").map_err(|e| Errno::from_io_error(&e).unwrap()),
        ),
    ]
}

#[test]
fn every_call_that_writes_is_refused_as_on_a_read_only_file_system() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let _mount = store.mount(&[]);
    let chunk = store.point().join("lightcurves/c.0.0");
    let before = fs::read(&chunk).unwrap();
    for (what, outcome) in attempts(&store.point(), &chunk) {
        assert_eq!(outcome, Err(Errno::ROFS), "{what}");
    }
    // What is open to read has no more to write with than on any other file system.
    let read_only = File::open(&chunk).unwrap();
    assert_eq!(rustix::fs::fallocate(&read_only, rustix::fs::FallocateFlags::empty(), 0, 9), Err(Errno::BADF));
    assert_eq!(read_only.write_at(b"x", 0).unwrap_err().raw_os_error(), Some(libc::EBADF));
    assert_eq!(fs::read(&chunk).unwrap(), before);
}

/// A mount of somebody else's who did not think of making it read-only, served by us.
fn handed_over(store: &Store) -> Mount<'_> {
    fs::create_dir(store.point()).unwrap();
    let script = "exec 9<>/dev/fuse && mount -i -t fuse.rechunkfs -o fd=9,rw,rootmode=40000,user_id=0,group_id=0,allow_other \
                  handed-over objects.zarr && exec \"$0\" mount epochs.zarr /dev/fd/9 --along epoch";
    let mut shell = Command::new("sh");
    shell.args(["-c", script, PROGRAM]).current_dir(store.folder.path()).env("XDG_STATE_HOME", store.path("state"));
    let mount = Mount { store };
    finish(&mut shell).assert_success();
    mount
}

#[test]
fn on_a_mount_that_somebody_else_has_made_writable_too() {
    if cannot_mount() || !rustix::process::geteuid().is_root() {
        return;
    }
    let store = Store::new();
    let _mount = handed_over(&store);
    let chunk = store.point().join("lightcurves/c.0.0");
    let before = fs::read(&chunk).unwrap();
    for (what, outcome) in attempts(&store.point(), &chunk) {
        assert_eq!(outcome, Err(Errno::ROFS), "{what}");
    }
    assert_eq!(fs::read(&chunk).unwrap(), before);
}

#[test]
fn what_is_asked_besides_is_answered_as_by_a_common_file_system() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let _mount = store.mount(&[]);
    let chunk = store.point().join("lightcurves/c.0.0");
    let file = File::open(&chunk).unwrap();
    let len = file.metadata().unwrap().len();
    // Not a terminal, as CPython asks.
    assert_eq!(rustix::termios::tcgetattr(&file).unwrap_err(), Errno::NOTTY);
    let source = rustix::fs::statvfs(store.source()).unwrap();
    let statvfs = rustix::fs::statvfs(&chunk).unwrap();
    assert_eq!((statvfs.f_bavail, statvfs.f_namemax), (0, 255), "no room to write in");
    assert_eq!((statvfs.f_blocks, statvfs.f_frsize), (source.f_blocks, source.f_frsize), "df shows something");
    use rustix::fs::Access;
    let access = |path: &Path, access| rustix::fs::access(path, access);
    assert_eq!(access(&chunk, Access::READ_OK), Ok(()));
    assert_eq!(access(&chunk, Access::WRITE_OK), Err(Errno::ROFS));
    assert_eq!(access(&chunk, Access::EXEC_OK), Err(Errno::ACCESS));
    assert_eq!(access(&store.point(), Access::READ_OK | Access::EXEC_OK), Ok(()));
    // All of it is data, as far as anybody can tell without reading it.
    let seek = |to| rustix::fs::seek(&file, to);
    use rustix::fs::SeekFrom;
    assert_eq!((seek(SeekFrom::Data(3)), seek(SeekFrom::Hole(3))), (Ok(3), Ok(len)));
    assert_eq!((seek(SeekFrom::Data(len)), seek(SeekFrom::Hole(len))), (Err(Errno::NXIO), Err(Errno::NXIO)));
    assert_eq!((seek(SeekFrom::End(-4)), seek(SeekFrom::Start(len + 9))), (Ok(len - 4), Ok(len + 9)));
    assert_eq!(rustix::fs::readlink(&chunk, Vec::new()).unwrap_err(), Errno::INVAL);
    assert!(rustix::fs::fsync(&file).is_ok());
    let statx = rustix::fs::statx(CWD, &chunk, AtFlags::empty(), rustix::fs::StatxFlags::ALL).unwrap();
    assert_eq!((statx.stx_size, u32::from(statx.stx_mode) & 0o7777), (len, 0o444));
    // Past the kernel's pages, from anywhere.
    let direct = File::options().read(true).custom_flags(libc::O_DIRECT).open(&chunk).unwrap();
    let (mut whole, mut part) = (vec![0; len as usize + 5], [0; 7]);
    assert_eq!(direct.read_at(&mut whole, 0).unwrap(), len as usize);
    assert_eq!(direct.read_at(&mut part, 5).unwrap(), 7);
    assert_eq!(part, whole[5..12]);
    assert_eq!(
        File::open(store.point()).unwrap().read_at(&mut part, 0).unwrap_err().raw_os_error(),
        Some(libc::EISDIR)
    );
}

#[test]
fn modes_are_heeded_where_others_are_let_in() {
    if cannot_mount() || !rustix::process::geteuid().is_root() {
        return;
    }
    let store = Store::new();
    fs::set_permissions(store.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let _mount = store.mount(&["--allow-other"]);
    let as_nobody = |script: &str| {
        let mut command = Command::new("sh");
        finish(command.args(["-c", script]).current_dir(store.point()).uid(NOBODY).gid(NOBODY))
    };
    as_nobody("cat lightcurves/c.0.0 objid/c/0 >/dev/null && ls -l lightcurves >/dev/null").assert_success();
    for refused in ["echo x > lightcurves/c.0.0", "mkdir new", "chmod 777 zarr.json", "lightcurves/c.0.0"] {
        assert_ne!(as_nobody(refused).code(), 0, "{refused}");
    }
    // The kernel checks modes, and does not leave that to us.
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = table.lines().find(|line| line.contains(store.point().to_str().unwrap())).unwrap();
    assert!(line.contains("default_permissions") && line.contains("allow_other"), "{line}");
    assert!(line.contains(" ro,") && line.contains("nosuid") && line.contains("nodev"), "{line}");
}

#[test]
fn where_others_may_read_no_link_leads_out_of_the_source() {
    if cannot_mount() || !rustix::process::geteuid().is_root() {
        return;
    }
    use std::os::unix::fs::symlink;
    let store = Store::new();
    let (source, secret) = (store.source(), store.path("secret"));
    fs::create_dir_all(secret.join("c")).unwrap();
    fs::write(secret.join("key"), b"a private key").unwrap();
    fs::write(secret.join("chunk"), [0x55; 4 * N_OBJECTS as usize]).unwrap();
    fs::rename(source.join("objid/c/0"), source.join("column")).unwrap();
    symlink(source.join("column"), source.join("objid/c/0")).unwrap();
    symlink(secret.join("key"), source.join("file")).unwrap();
    symlink(&secret, source.join("folder")).unwrap();
    symlink("../../../../secret/chunk", source.join("lightcurves/c/0/5")).unwrap();
    let read = |path: &str| fs::read(store.point().join(path)).map_err(|error| error.raw_os_error().unwrap());
    let pairs = ["--chunks", "epoch=2"];

    // Nobody but the owner reads it, who may read all that.
    let (mount, _) = store.mount_as(&pairs);
    assert_eq!(read("file").unwrap(), b"a private key");
    assert_eq!(read("folder/key").unwrap(), b"a private key");
    assert!(read("lightcurves/c.0.2").unwrap().contains(&0x55));
    mount.unmount(&[]).assert_success();

    let (mount, _) = store.mount_as(&[&pairs[..], &["--allow-other"]].concat());
    for path in ["file", "folder/key", "folder/c", "lightcurves/c.0.2"] {
        assert_eq!(read(path), Err(libc::EACCES), "{path}");
    }
    assert_eq!(fs::read_dir(store.point().join("folder")).unwrap_err().raw_os_error(), Some(libc::EACCES));
    assert_eq!(read("objid/c/0").unwrap(), fs::read(source.join("column")).unwrap(), "within it links are followed");
    assert!(read("lightcurves/c.0.1").is_ok());
    assert!(mount.status().to_string().contains("leads out of the source"));
    // A link that is put in the place of something that was looked up.
    fs::write(source.join("fresh"), "nothing secret").unwrap();
    let opened = File::open(store.point().join("fresh")).unwrap();
    fs::remove_file(source.join("fresh")).unwrap();
    symlink(secret.join("key"), source.join("fresh")).unwrap();
    let refused = opened.read_at(&mut [0; 4], 0).unwrap_err().raw_os_error();
    assert!([Some(libc::EACCES), Some(libc::ESTALE)].contains(&refused), "{refused:?}");
    drop(opened);
    mount.unmount(&[]).assert_success();

    // Nor what a document would tell.
    fs::write(secret.join("zarr.json"), r#"{"zarr_format":3,"node_type":"group","attributes":{"password":"x"}}"#)
        .unwrap();
    let arguments = ["mount", "epochs.zarr", "objects.zarr", "--chunks", "epoch=2", "--allow-other"];
    store.run(&arguments).assert_refused(1, &["folder/zarr.json", "leads out of the source"]);
}

/// On a machine that opens /dev/fuse to users, and whose administrator has written `conf` into /etc/fuse.conf, runs `script` as
/// nobody; then, as root, `afterwards`. As root we can make that machine: a mount namespace of its own.
fn on_a_machine_with(conf: &str, store: &Store, script: &str, afterwards: &str) -> Finished {
    finish(Command::new("chown").args(["-R", "65534"]).arg(store.folder.path())).assert_success();
    fs::write(store.path("fuse.conf"), conf).unwrap();
    let machine = "mkdir device && mount -t tmpfs none device && mknod device/fuse c 10 229 && chmod 666 device/fuse && \
                   mount --bind device/fuse /dev/fuse && touch /etc/fuse.conf && mount --bind fuse.conf /etc/fuse.conf && \
                   setpriv --reuid 65534 --regid 65534 --clear-groups sh -c \"$1\" \"$0\"; eval \"$2\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", machine, PROGRAM, script, afterwards]).current_dir(store.folder.path());
    finish(command.env("XDG_STATE_HOME", store.path("state")))
}

#[test]
fn root_is_let_in_beside_a_user_who_says_so_and_other_users_are_not() {
    if cannot_mount() || !rustix::process::geteuid().is_root() {
        return;
    }
    let look = "cat objects.zarr/zarr.json >/dev/null && echo root: in || echo root: out; \
                setpriv --reuid 1234 --regid 1234 --clear-groups cat objects.zarr/zarr.json >/dev/null && echo other: in \
                || echo other: out; umount objects.zarr";
    let mount = |flag: &str| format!("\"$0\" mount epochs.zarr objects.zarr --along epoch {flag} -q >/dev/null");
    for (flag, expected) in [
        ("", ["root: out", "other: out"]),
        ("--allow-root", ["root: in", "other: out"]),
        ("--allow-other", ["root: in", "other: in"]),
    ] {
        let store = Store::new();
        fs::set_permissions(store.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let said = on_a_machine_with("user_allow_other\n", &store, &mount(flag), look);
        for expected in expected {
            assert!(said.stdout.contains(expected), "{flag}: {said:?}");
        }
    }
    let store = Store::new();
    for flag in ["--allow-root", "--allow-other"] {
        let said = on_a_machine_with("", &store, &mount(flag), "ls -d objects.zarr/zarr.json");
        assert!(said.stderr.contains("user_allow_other"), "{said:?}");
        fs::remove_dir(store.path("device")).unwrap();
    }
    assert!(fs::metadata(store.source()).unwrap().uid() == NOBODY);
}
