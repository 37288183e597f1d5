//! Blosc chunks of any bytes: lengths in the header are made to fit, or they would catch nearly all of them.
#![no_main]

mod leaf;

use leaf::Leaf;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

const N_BYTES: u32 = 3_500;

static LEAF: LazyLock<Leaf> = LazyLock::new(|| {
    let configuration = r#"{"cname":"zstd","clevel":5,"shuffle":"shuffle","typesize":4,"blocksize":0}"#;
    Leaf::new(&format!(r#"{{"name":"blosc","configuration":{configuration}}}"#), N_BYTES as usize)
});

fuzz_target!(|data: &[u8]| {
    let mut encoded = data.to_vec();
    if encoded.len() >= 16 {
        encoded[0] = 2;
        encoded[4..8].copy_from_slice(&N_BYTES.to_le_bytes());
        let len = encoded.len() as u32;
        encoded[12..16].copy_from_slice(&len.to_le_bytes());
    }
    LEAF.read(&encoded);
});
