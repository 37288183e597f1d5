//! gzip, zlib and zstd streams of any bytes; the first byte chooses which.

use super::Target;
use super::leaf::Leaf;

pub fn target() -> Target {
    let leaves = [
        r#"{"name":"gzip","configuration":{"level":1}}"#,
        r#"{"name":"numcodecs.zlib","configuration":{"level":1}}"#,
        r#"{"name":"zstd","configuration":{"level":1,"checksum":false}}"#,
    ]
    // Longer than what is decoded for the checks at the end.
    .map(|codec| Leaf::new(codec, 100_000));
    Box::new(move |data| {
        if let Some((which, encoded)) = data.split_first() {
            leaves[usize::from(*which) % leaves.len()].read(encoded);
        }
    })
}
