//! Random operations on a real mount of random stores, against a tree in memory: open, read anywhere, list from anywhere, stat,
//! extended attributes, names that are not there. `RECHUNKFS_TEST_CASES` says how many stores.

use crate::faulty::Served;
use crate::leaf::n_cases;
use crate::reference::{Case, case};
use crate::support::cannot_mount;
use proptest::prelude::*;
use rechunkfs::view::{Options, View};
use rechunkfs::zarr::Projection;
use rustix::fs::{Mode, OFlags, RawDir, SeekFrom, seek};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

const GROUP: &str = r#"{"zarr_format":3,"node_type":"group"}"#;
const NOTE: &[u8] = b"seen from La Palma";

/// Files by path; directories without bytes.
type Tree = BTreeMap<String, Option<Vec<u8>>>;

#[derive(Debug, Clone)]
enum Op {
    /// `nth` of the files; past the kernel's pages where `is_direct`.
    Open {
        nth: prop::sample::Index,
        is_direct: bool,
    },
    Close {
        nth: prop::sample::Index,
    },
    Read {
        nth: prop::sample::Index,
        offset: u64,
        len: u64,
    },
    Stat {
        nth: prop::sample::Index,
    },
    List {
        nth: prop::sample::Index,
        from: Vec<prop::sample::Index>,
        buffer_bytes: usize,
    },
    /// A listing from a position that none ended at.
    ListFromNowhere {
        nth: prop::sample::Index,
        from: u64,
    },
    Attributes {
        nth: prop::sample::Index,
    },
    NotThere {
        nth: prop::sample::Index,
        name: Vec<u8>,
    },
}

fn op() -> impl Strategy<Value = Op> {
    use prop::sample::Index;
    let name = prop_oneof![
        "c(\\.[0-9]{1,3}){1,4}".prop_map(String::into_bytes),
        "[a-z.]{1,12}".prop_map(String::into_bytes),
        prop::collection::vec(1u8..=255, 1..255),
        Just(vec![b'x'; 255]),
        Just(b"c.00.0".to_vec()),
        Just(b"c.18446744073709551616".to_vec()),
    ];
    prop_oneof![
        3 => (any::<Index>(), any::<bool>()).prop_map(|(nth, is_direct)| Op::Open { nth, is_direct }),
        1 => any::<Index>().prop_map(|nth| Op::Close { nth }),
        8 => (any::<Index>(), 0u64..6_000, 0u64..6_000).prop_map(|(nth, offset, len)| Op::Read { nth, offset, len }),
        3 => any::<Index>().prop_map(|nth| Op::Stat { nth }),
        2 => (any::<Index>(), prop::collection::vec(any::<Index>(), 0..4), 512usize..5_000)
            .prop_map(|(nth, from, buffer_bytes)| Op::List { nth, from, buffer_bytes }),
        1 => (any::<Index>(), any::<u64>()).prop_map(|(nth, from)| Op::ListFromNowhere { nth, from }),
        1 => any::<Index>().prop_map(|nth| Op::Attributes { nth }),
        2 => (any::<Index>(), name).prop_map(|(nth, name)| Op::NotThere { nth, name }),
    ]
}

/// The case's array in a group, beside files that pass through; and what a mount has to show of it.
fn store(case: &Case) -> (tempfile::TempDir, Projection, Tree) {
    let folder = tempfile::tempdir().expect("a directory");
    let root = folder.path();
    for below in ["group/array", "plain/below"] {
        fs::create_dir_all(root.join(below)).expect("created");
    }
    fs::write(root.join("plain/note"), NOTE).expect("written");
    fs::write(root.join("zarr.json"), GROUP).expect("written");
    fs::write(root.join("group/zarr.json"), GROUP).expect("written");
    case.model.write(&root.join("group/array"));
    let mut projection = case.projection();
    projection.arrays[0].source.path = "group/array".to_owned();
    projection.documents =
        ["", "group", "group/array"].map(|path| (path.to_owned(), format!("{{\"is\":\"{path}\"}}"))).into();
    projection.group_paths = vec![String::new(), "group".to_owned()];
    projection.array_paths = vec!["group/array".to_owned()];
    let mut tree = Tree::new();
    for directory in ["", "group", "group/array", "plain", "plain/below"] {
        tree.insert(directory.to_owned(), None);
    }
    tree.insert("plain/note".to_owned(), Some(NOTE.to_vec()));
    for (path, text) in &projection.documents {
        tree.insert(format!("{path}/zarr.json").trim_start_matches('/').to_owned(), Some(text.clone().into_bytes()));
    }
    let chunks = case.files().into_iter().filter_map(|(name, bytes)| Some((name, bytes?)));
    tree.extend(chunks.map(|(name, bytes)| (format!("group/array/{name}"), Some(bytes))));
    (folder, projection, tree)
}

/// The names in a directory, as the tree has them.
fn names_in<'a>(tree: &'a Tree, directory: &'a str) -> Vec<&'a str> {
    let below = |path: &'a str| match directory {
        "" => Some(path),
        _ => path.strip_prefix(directory)?.strip_prefix('/'),
    };
    let names = tree.keys().filter_map(|path| below(path).filter(|name| !name.is_empty() && !name.contains('/')));
    names.collect()
}

fn directory(path: &Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).expect("opens")
}

/// The entries from where the directory stands, with the position after each, but for `.` and `..`.
fn entries(directory: &OwnedFd, buffer_bytes: usize) -> Result<Vec<(u64, String)>, rustix::io::Errno> {
    let mut buffer = vec![MaybeUninit::uninit(); buffer_bytes];
    let mut listing = RawDir::new(directory, &mut buffer);
    let mut found = Vec::new();
    while let Some(entry) = listing.next() {
        let entry = entry?;
        let name = entry.file_name().to_str().expect("UTF-8").to_owned();
        if name != "." && name != ".." {
            found.push((entry.next_entry_cookie(), name));
        }
    }
    Ok(found)
}

fn check(case: &Case, ops: &[Op]) {
    let (source, projection, tree) = store(case);
    let options = Options {
        memory_bytes: 96 << 20,
        threads: 2,
        max_tile_bytes: case.max_tile_bytes,
        cache_dir: None,
        follow: None,
    };
    let served = Served::new(View::open(source.path(), projection, options).expect("opens"));
    let root = served.path();
    let files: Vec<(&String, &Vec<u8>)> =
        tree.iter().filter_map(|(path, bytes)| Some((path, bytes.as_ref()?))).collect();
    let directories: Vec<&String> = tree.iter().filter(|(_, bytes)| bytes.is_none()).map(|(path, _)| path).collect();
    let mut open: Vec<(File, &String, &Vec<u8>)> = Vec::new();
    let mut inodes: BTreeMap<&String, u64> = BTreeMap::new();
    for op in ops {
        match op {
            Op::Open { nth, is_direct } => {
                let (path, bytes) = nth.get(&files);
                let flags = if *is_direct { libc::O_DIRECT } else { 0 };
                let file = File::options().read(true).custom_flags(flags).open(root.join(path)).expect("opens");
                assert_eq!(file.metadata().expect("its state").len(), bytes.len() as u64);
                open.push((file, path, bytes));
            }
            Op::Close { nth } if !open.is_empty() => drop(open.swap_remove(nth.index(open.len()))),
            Op::Read { nth, offset, len } if !open.is_empty() => {
                let (file, path, bytes) = nth.get(&open);
                // Beyond the end, too.
                let (offset, len) = (offset % (bytes.len() as u64 + 100), len % (2 * bytes.len() as u64 + 10));
                let mut out = vec![0xa5; len as usize];
                let n = file.read_at(&mut out, offset).expect("reads");
                let start = bytes.len().min(offset as usize);
                let truth = &bytes[start..bytes.len().min((offset + len) as usize)];
                assert_eq!(n, truth.len(), "{path}: {offset}+{len}");
                assert!(out[..n] == *truth, "{path}: {offset}+{len}");
            }
            Op::Stat { nth } => {
                let (path, bytes) = nth.get(&tree.iter().collect::<Vec<_>>()).to_owned();
                let metadata = fs::symlink_metadata(root.join(path)).expect("there");
                assert_eq!(metadata.is_dir(), bytes.is_none(), "{path}");
                if let Some(bytes) = bytes {
                    assert_eq!(metadata.len(), bytes.len() as u64, "{path}");
                }
                let known = *inodes.entry(path).or_insert(metadata.ino());
                assert_eq!(known, metadata.ino(), "{path}: its number has changed");
            }
            Op::List { nth, from, buffer_bytes } => {
                let path = *nth.get(&directories);
                let opened = directory(&root.join(path));
                let all = entries(&opened, 4_000).expect("lists");
                let mut names: Vec<&str> = all.iter().map(|(_, name)| name.as_str()).collect();
                names.sort_unstable();
                assert_eq!(names, names_in(&tree, path), "{path}");
                for from in from.iter().filter(|_| !all.is_empty()) {
                    let at = from.index(all.len());
                    seek(&opened, SeekFrom::Start(all[at].0)).expect("seeks");
                    assert_eq!(entries(&opened, *buffer_bytes).expect("lists"), all[at + 1..], "{path} from {at}");
                }
                seek(&opened, SeekFrom::Start(0)).expect("rewinds");
                assert_eq!(entries(&opened, *buffer_bytes).expect("lists"), all, "{path} again");
            }
            Op::ListFromNowhere { nth, from } => {
                let path = *nth.get(&directories);
                let opened = directory(&root.join(path));
                // The kernel refuses some; whatever comes is of this directory.
                if seek(&opened, SeekFrom::Start(*from)).is_ok()
                    && let Ok(found) = entries(&opened, 4_000)
                {
                    let names = names_in(&tree, path);
                    assert!(found.iter().all(|(_, name)| names.contains(&name.as_str())), "{path}: {found:?}");
                }
            }
            Op::Attributes { nth } => {
                let path = *nth.get(&tree.keys().collect::<Vec<_>>());
                let mut buffer = vec![0u8; 64 << 10];
                assert_eq!(rustix::fs::listxattr(root.join(path), &mut buffer[..]).expect("lists"), 0, "{path}");
                let unknown = rustix::fs::getxattr(root.join(path), "user.comment", &mut buffer[..]);
                assert_eq!(unknown.expect_err("none"), rustix::io::Errno::NODATA, "{path}");
                let status = rustix::fs::getxattr(root.join(path), "user.rechunkfs.status", &mut buffer[..]);
                assert_eq!(status.is_ok(), path.is_empty(), "{path}");
            }
            Op::NotThere { nth, name } => {
                let path = *nth.get(&tree.keys().collect::<Vec<_>>());
                let name = OsString::from_vec(name.iter().copied().filter(|&byte| byte != b'/').collect());
                let is_known = name.to_str().is_some_and(|name| {
                    ["", ".", ".."].contains(&name)
                        || tree.contains_key(format!("{path}/{name}").trim_start_matches('/'))
                });
                if !is_known {
                    let error = fs::symlink_metadata(root.join(path).join(&name)).expect_err("not there");
                    let expected = if tree[path].is_some() { libc::ENOTDIR } else { libc::ENOENT };
                    assert_eq!(error.raw_os_error(), Some(expected), "{path}/{name:?}");
                }
            }
            Op::Close { .. } | Op::Read { .. } => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: n_cases(200), max_shrink_iters: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_operations_on_a_mount_of_any_store_find_what_the_model_has(
        case in case(),
        ops in prop::collection::vec(op(), 1..120),
    ) {
        if !cannot_mount() {
            check(&case, &ops);
        }
    }
}
