//! Blosc chunks of any bytes: lengths in the header are made to fit, or they would catch nearly all of them.

use super::Target;
use super::leaf::Leaf;

const N_BYTES: u32 = 3_500;

pub fn target() -> Target {
    let configuration = r#"{"cname":"zstd","clevel":5,"shuffle":"shuffle","typesize":4,"blocksize":0}"#;
    let leaf = Leaf::new(&format!(r#"{{"name":"blosc","configuration":{configuration}}}"#), N_BYTES as usize);
    Box::new(move |data| {
        let mut encoded = data.to_vec();
        if encoded.len() >= 16 {
            encoded[0] = 2;
            encoded[4..8].copy_from_slice(&N_BYTES.to_le_bytes());
            let len = encoded.len() as u32;
            encoded[12..16].copy_from_slice(&len.to_le_bytes());
        }
        leaf.read(&encoded);
    })
}
