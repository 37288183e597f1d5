//! The rules of docs/ARCHITECTURE.md that the sources themselves must keep.

use std::fs;
use std::path::{Path, PathBuf};

/// What each room of the library may know of the others.
const ROOMS: [(&str, &[&str]); 12] = [
    ("geometry", &[]),
    ("zarr", &["geometry"]),
    ("source", &["geometry", "zarr", "drill"]),
    ("synthesis", &["geometry", "source", "drill"]),
    ("cache", &["sync"]),
    ("view", &["geometry", "zarr", "source", "synthesis", "cache", "drill", "sync"]),
    ("fuse", &["view", "mounts", "drill"]),
    ("materialize", &["geometry", "zarr", "source", "synthesis", "cache", "mounts", "drill"]),
    // An amount of memory is spelled as a chunk size is.
    ("memory", &["mounts", "zarr"]),
    ("mounts", &[]),
    ("drill", &[]),
    ("sync", &[]),
];

/// Where each outside crate may be named. A folder or a file without its `.rs`, below `src`.
const HOMES: [(&str, &[&str]); 30] = [
    ("fuser", &["fuse"]),
    ("zarrs", &["source", "materialize/encode"]),
    ("flate2", &["source/stream", "source/objects"]),
    ("zstd", &["source/stream", "source/blosc/blocks", "materialize/encode"]),
    ("lru", &["cache", "source/shard", "view/look", "view/versions"]),
    ("crc32c", &["cache/disk", "materialize/journal", "materialize/record", "materialize/shards"]),
    ("lz4_flex", &["source"]),
    ("rayon", &["synthesis/crew", "materialize"]),
    ("libc", &["fuse", "cli", "memory", "view/host"]),
    ("nix", &["materialize/room"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("anyhow", &["cli"]),
    ("thiserror", &["zarr", "source", "cache/disk", "view", "fuse", "memory", "materialize/error"]),
    (
        "serde",
        &[
            "source/counters",
            "source/objects",
            "cache",
            "view/journal",
            "view/looks",
            "materialize/journal",
            "materialize/known",
            "materialize/record",
            "cli",
        ],
    ),
    ("serde_json", &["source/codecs", "view/status", "view/disk", "materialize", "cli"]),
    ("base64", &["zarr"]),
    ("half", &["zarr"]),
    ("globset", &["zarr", "cli/inspect"]),
    ("rustix", &["source", "synthesis/crew", "cache/buffer", "cache/disk", "view/host", "materialize", "fuse", "cli"]),
    ("signal_hook", &["fuse/signals"]),
    ("async_trait", &["source/objects"]),
    ("object_store", &["source/objects"]),
    ("rawzip", &["source/objects"]),
    ("tokio", &["source/objects"]),
    ("futures", &["source/objects"]),
    ("url", &["source/objects"]),
    ("tracing", &["view", "fuse", "cli"]),
    ("tracing_subscriber", &["cli"]),
];

/// Crates that the rooms without I/O may name.
const PURE_CRATES: [&str; 4] = ["base64", "half", "globset", "thiserror"];
const UNSAFE_FILES: [&str; 5] = ["synthesis/gather", "synthesis/gather/turn", "cache/buffer", "memory", "fuse/device"];

const MAX_LINES: usize = 400;
/// Longer than that today, and by how much they may be. Shrinks; nothing is added.
const LONG_FILES: [(&str, usize); 0] = [];

struct Source {
    /// Path below `src` or `tests/it`, without `.rs`.
    name: String,
    text: String,
}

impl Source {
    fn is_test(&self) -> bool {
        self.name.ends_with("tests")
    }

    fn room(&self) -> &str {
        self.name.split('/').next().unwrap_or_default()
    }

    fn is_in(&self, home: &str) -> bool {
        self.name == home || self.name.strip_prefix(home).is_some_and(|rest| rest.starts_with('/'))
    }

    /// What is compiled into the product: no comments, and nothing from the first `#[cfg(test)]` on.
    fn code(&self) -> String {
        if self.is_test() {
            return String::new();
        }
        let product = self.text.split("#[cfg(test)]").next().unwrap_or_default();
        let lines = product.lines().filter(|line| !is_comment(line));
        lines.map(|line| line.split("// ").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
    }
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

fn sources(below: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(below);
    let mut folders = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path: PathBuf = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).expect("below").with_extension("").display().to_string();
                sources.push(Source { name, text: fs::read_to_string(&path).expect("UTF-8") });
            }
        }
    }
    assert!(sources.len() > 5, "the sources of {below} were not found");
    sources
}

/// The identifiers that follow `prefix` in `code`.
fn named_after<'a>(code: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    code.match_indices(prefix).map(|(at, _)| {
        let rest = &code[at + prefix.len()..];
        &rest[..rest.find(|c: char| !is_word(c)).unwrap_or(rest.len())]
    })
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Whether `code` speaks of the outside crate: `name::` or `use name`, and not as a part of another path.
fn names_crate(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + name.len()..]);
        let starts = !before.ends_with(|c| is_word(c) || c == ':');
        starts && (after.starts_with("::") || (before.ends_with("use ") && after.starts_with([';', ' '])))
    })
}

#[track_caller]
fn assert_none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

#[test]
fn the_checks_themselves_see_what_they_look_for() {
    assert!(names_crate("use zarrs::array::Array;", "zarrs") && names_crate("(rayon::join)(a)", "rayon"));
    assert!(names_crate("use libc;", "libc") && names_crate("use lru as cache;", "lru"));
    assert!(!names_crate("crate::fuse::half::x", "half") && !names_crate("my_lru::x", "lru"));
    assert_eq!(named_after("a crate::view::b, crate::zarr)", "crate::").collect::<Vec<_>>(), ["view", "zarr"]);
    let source = Source { name: "a/b".into(), text: "x // y\n/// z\n#[cfg(test)]\nmod tests {}".into() };
    assert_eq!(source.code().trim(), "x");
    assert!(source.is_in("a") && source.is_in("a/b") && !source.is_in("a/bc"));
}

#[test]
fn rooms_know_only_those_below_them() {
    let mut found = Vec::new();
    let sources = sources("src");
    for source in sources.iter().filter(|source| !["lib", "main", "cli"].contains(&source.room())) {
        let (room, code) = (source.room(), source.code());
        let Some((_, below)) = ROOMS.iter().find(|(name, _)| *name == room) else {
            found.push(format!("{room} is not a room of docs/ARCHITECTURE.md"));
            continue;
        };
        for known in named_after(&code, "crate::").filter(|known| *known != room && !below.contains(known)) {
            found.push(format!("src/{}.rs knows `crate::{known}`", source.name));
        }
        // Ways round the check above.
        let depth = source.name.matches('/').count();
        if code.contains(&"super::".repeat(depth + 1)) {
            found.push(format!("src/{}.rs leaves its room by `super`", source.name));
        }
    }
    for source in sources.iter().filter(|source| source.room() == "cli") {
        // Of itself the binary may say `crate::cli`; the library it knows by its name.
        let own = named_after(&source.text, "crate::").filter(|known| *known != "cli");
        found.extend(own.map(|known| format!("src/{}.rs knows `crate::{known}`", source.name)));
    }
    let library = sources.iter().find(|source| source.name == "lib").expect("src/lib.rs");
    assert!(!library.text.contains("mod cli"), "the command line belongs to the binary alone");
    assert_none("arrows go down only (docs/ARCHITECTURE.md)", &found);
}

#[test]
fn each_outside_crate_has_one_home() {
    let mut found = Vec::new();
    let sources = sources("src");
    for (name, homes) in HOMES {
        let users = sources.iter().filter(|source| names_crate(&source.code(), name));
        let strays = users.filter(|source| !homes.iter().any(|home| source.is_in(home)));
        found.extend(strays.map(|source| format!("src/{}.rs names {name}, whose home is {homes:?}", source.name)));
        for home in homes {
            let is_used = sources.iter().any(|source| source.is_in(home) && names_crate(&source.code(), name));
            if !is_used {
                found.push(format!("{name} has left {home}: take it off the list"));
            }
        }
    }
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).expect("Cargo.toml");
    let dependencies = manifest.split("[dependencies]").nth(1).and_then(|rest| rest.split("\n[").next());
    for line in dependencies.expect("dependencies").lines().filter(|line| !line.starts_with(['#', ' ', ']'])) {
        let name = line.split(' ').next().unwrap_or_default().replace('-', "_");
        if !name.is_empty() && !HOMES.iter().any(|(known, _)| *known == name) {
            found.push(format!("{name} has no home"));
        }
    }
    assert_none("one home per outside crate", &found);
}

#[test]
fn the_rooms_of_integers_and_documents_do_no_io() {
    let mut found = Vec::new();
    for source in sources("src").iter().filter(|source| ["geometry", "zarr"].contains(&source.room())) {
        let code = source.code();
        let outside = HOMES.iter().map(|(name, _)| *name).filter(|name| !PURE_CRATES.contains(name));
        found.extend(
            outside.filter(|name| names_crate(&code, name)).map(|name| format!("src/{}.rs: {name}", source.name)),
        );
        let modules = ["fs", "io", "net", "os", "process", "thread", "env", "time", "{"];
        let doors = modules.map(|module| format!("std::{module}"));
        let doors = doors
            .iter()
            .filter(|door| code.match_indices(*door).any(|(at, _)| !code[at + door.len()..].starts_with(is_word)));
        found.extend(doors.map(|door| format!("src/{}.rs: {door}", source.name)));
    }
    assert_none("geometry and zarr do no I/O", &found);
}

/// Else the tests that let a disk fail, or lose power, at each point would pass some by.
#[test]
fn copies_change_a_disk_through_one_door() {
    const CHANGES: [&str; 17] = [
        "fs::write",
        "fs::rename",
        "fs::create_dir",
        "fs::create_dir_all",
        "fs::remove_file",
        "fs::remove_dir",
        "fs::remove_dir_all",
        "fs::hard_link",
        "fs::copy",
        "File::create",
        ".create_new(true",
        ".create(true",
        ".sync_all",
        ".sync_data",
        "syncfs",
        "renameat_with",
        "fallocate",
    ];
    let mut found = Vec::new();
    for source in
        sources("src").iter().filter(|source| source.is_in("materialize") && !source.is_in("materialize/disk"))
    {
        let code = source.code();
        let is_there =
            |change: &&str| code.match_indices(*change).any(|(at, _)| !code[at + change.len()..].starts_with(is_word));
        let changes = CHANGES.into_iter().filter(is_there);
        found.extend(changes.map(|change| format!("src/{}.rs: {change}", source.name)));
    }
    assert_none("copies change a disk through materialize/disk.rs alone", &found);
}

#[test]
fn unsafe_code_stays_where_it_is() {
    let sources = sources("src");
    let has = |source: &Source| source.text.lines().filter(|line| !is_comment(line)).any(has_unsafe);
    let found: Vec<String> = sources
        .iter()
        .filter(|source| has(source) && !UNSAFE_FILES.contains(&source.name.as_str()))
        .map(|source| format!("src/{}.rs", source.name))
        .collect();
    assert_none("unsafe code", &found);
    for file in UNSAFE_FILES {
        assert!(
            sources.iter().any(|source| source.name == file && has(source)),
            "{file} has none: take it off the list"
        );
    }
}

fn has_unsafe(line: &str) -> bool {
    line.split("// ").next().unwrap_or_default().split(|c| !is_word(c)).any(|word| word == "unsafe")
}

#[test]
fn files_say_what_they_are_and_are_not_long() {
    let mut found = Vec::new();
    for (below, files) in [("src", sources("src")), ("tests/it", sources("tests/it"))] {
        for Source { name, text } in files {
            let path = format!("{below}/{name}.rs");
            if !text.starts_with("//! ") {
                found.push(format!("{path} does not begin with what it is"));
            }
            let most =
                LONG_FILES.iter().find(|(long, _)| below == "src" && *long == name).map_or(MAX_LINES, |long| long.1);
            let n_lines = text.lines().count();
            if n_lines > most {
                found.push(format!("{path} has {n_lines} lines; {most} are allowed"));
            }
            if most > MAX_LINES && n_lines <= MAX_LINES {
                found.push(format!("{path} is short now: take it off the list"));
            }
            // What tests feed in may be anything.
            if below == "src" && !name.ends_with("tests") && !text.is_ascii() {
                found.push(format!("{path} is not ASCII"));
            }
        }
    }
    assert_none("files", &found);
}

#[test]
fn nothing_is_left_to_do_in_the_sources() {
    // Put together here, or this file would be found.
    let words = ["TO_DO", "FIX_ME", "to_do!", "un_implemented!", "X_XX"].map(|word| word.replace('_', ""));
    let mut found = Vec::new();
    for (below, files) in [("src", sources("src")), ("tests/it", sources("tests/it"))] {
        for Source { name, text } in files {
            for (at, line) in text.lines().enumerate() {
                if words.iter().any(|word| line.contains(word.as_str())) {
                    found.push(format!("{below}/{name}.rs:{}: {}", at + 1, line.trim()));
                }
            }
        }
    }
    assert_none("left to do", &found);
}
