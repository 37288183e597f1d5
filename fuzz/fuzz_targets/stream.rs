//! gzip, zlib and zstd streams of any bytes; the first byte chooses which.
#![no_main]

mod leaf;

use leaf::Leaf;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static LEAVES: LazyLock<[Leaf; 3]> = LazyLock::new(|| {
    [
        r#"{"name":"gzip","configuration":{"level":1}}"#,
        r#"{"name":"numcodecs.zlib","configuration":{"level":1}}"#,
        r#"{"name":"zstd","configuration":{"level":1,"checksum":false}}"#,
    ]
    // Longer than what is decoded for the checks at the end.
    .map(|codec| Leaf::new(codec, 100_000))
});

fuzz_target!(|data: &[u8]| {
    if let Some((which, encoded)) = data.split_first() {
        LEAVES[usize::from(*which) % LEAVES.len()].read(encoded);
    }
});
