//! Any names, and reads of any ranges, in a view: a name finds a chunk where it is that chunk's only spelling, and what is read
//! is what a plain array in memory holds.
//!
//! Each line is looked up in the directory found last, or in the root; what is behind a NUL is an offset and a length.

use super::Target;
use rechunkfs::source::hierarchy;
use rechunkfs::view::{Node, Options, View};
use rechunkfs::zarr::{Layout, project};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::mpsc;
use std::time::Duration;

const SHAPE: [u64; 2] = [13, 5];
const CHUNK: [u64; 2] = [4, 3];
/// This epoch has no chunk.
const MISSING: u64 = 3;
const FILL: u8 = 7;

fn value(object: u64, epoch: u64) -> u8 {
    if object >= SHAPE[0] || epoch >= SHAPE[1] || epoch == MISSING { FILL } else { (object * 16 + epoch) as u8 }
}

pub fn target() -> Target {
    let folder = super::folder();
    let document = super::array(&SHAPE, &[SHAPE[0], 1], r#"{"name":"bytes"}"#, &["object", "epoch"]);
    let chunks = folder.path().join("a/c/0");
    std::fs::create_dir_all(&chunks).expect("a directory");
    std::fs::write(folder.path().join("zarr.json"), r#"{"zarr_format":3,"node_type":"group"}"#).expect("written");
    std::fs::write(folder.path().join("a/zarr.json"), document).expect("written");
    std::fs::write(folder.path().join("notes"), "of the night").expect("written");
    for epoch in (0..SHAPE[1]).filter(|epoch| *epoch != MISSING) {
        let bytes: Vec<u8> = (0..SHAPE[0]).map(|object| value(object, epoch)).collect();
        std::fs::write(chunks.join(epoch.to_string()), bytes).expect("written");
    }
    let spec = format!("object={},epoch={}", CHUNK[0], CHUNK[1]);
    let layout = Layout { chunks: vec![spec], ..Layout::default() };
    let projection = project(&hierarchy::read(folder.path()).expect("a store"), &layout).expect("a layout");
    let options =
        Options { memory_bytes: 96 << 20, threads: 2, max_tile_bytes: Some(8), cache_dir: None, follow: None };
    let view = View::open(folder.path(), projection, options).expect("opens");
    Box::new(move |data| {
        let _ = &folder;
        let mut at = view.root();
        for line in data.split(|byte| *byte == b'\n').take(16) {
            let end = line.iter().position(|byte| *byte == 0).unwrap_or(line.len());
            let (name, range) = (&line[..end], line.get(end + 1..).unwrap_or_default());
            // The kernel asks for no such names.
            if name.is_empty() || name.len() > 255 || name.contains(&b'/') || [&b"."[..], b".."].contains(&name) {
                at = view.root();
                continue;
            }
            let Ok((node, stat)) = view.lookup(&at, OsStr::from_bytes(name)) else { continue };
            if stat.is_directory {
                at = node;
                continue;
            }
            let (offset, len) = (word(range), word(range.get(8..).unwrap_or_default()) % (1 << 20));
            let (send, receive) = mpsc::channel();
            view.read(&node, offset, len, Box::new(move |bytes| drop(send.send(bytes.map(<[u8]>::to_vec)))));
            let read = receive.recv_timeout(Duration::from_secs(60)).expect("a reply").expect("reads");
            let n = stat.size_bytes.saturating_sub(offset).min(len);
            assert_eq!(read.len() as u64, n, "{node:?} {offset}+{len}");
            if let Node::Chunk { .. } = node {
                check(name, offset, &read);
            }
        }
    })
}

fn word(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// What was read of the chunk, from `offset` on.
fn check(name: &[u8], offset: u64, read: &[u8]) {
    let (rows, columns) = (SHAPE[0].div_ceil(CHUNK[0]), SHAPE[1].div_ceil(CHUNK[1]));
    let mut all = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
    let (row, column) = all
        .find(|(row, column)| format!("c.{row}.{column}").as_bytes() == name)
        .unwrap_or_else(|| panic!("{name:?} is the name of no chunk"));
    for (nth, byte) in read.iter().enumerate() {
        let nth = offset + nth as u64;
        let (object, epoch) = (row * CHUNK[0] + nth / CHUNK[1], column * CHUNK[1] + nth % CHUNK[1]);
        assert_eq!(*byte, value(object, epoch), "object {object}, epoch {epoch}");
    }
}
