//! One source chunk of bytes, read through the source room: every read ends with bytes or an error.

use rechunkfs::source::ArrayReader;
use rechunkfs::zarr::{Encoding, KeyEncoding, KeyStyle, SourceArray};
use std::path::PathBuf;
use std::sync::Arc;

pub struct Leaf {
    file: PathBuf,
    reader: ArrayReader,
    n_bytes: usize,
}

impl Leaf {
    /// Of `n_bytes` decoded.
    pub fn new(codec: &str, n_bytes: usize) -> Self {
        let shape = vec![n_bytes as u64];
        let array = SourceArray {
            path: String::new(),
            shape: shape.clone(),
            file_shape: shape.clone(),
            leaf_shape: shape,
            key_encoding: KeyEncoding { style: KeyStyle::V2, separator: '.' },
            item_bytes: 1,
            fill: vec![0],
            sharding: None,
            encoding: Encoding::Linear { order: vec![0], bytes_to_bytes: vec![codec.to_owned()] },
        };
        // Kept until the process ends: targets live as long.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory").keep();
        let reader = ArrayReader::new(&folder, &array, 1, Arc::default()).expect("supported");
        Leaf { file: folder.join("0"), reader, n_bytes }
    }

    pub fn read(&self, encoded: &[u8]) {
        std::fs::write(&self.file, encoded).expect("written");
        let stamp = self.reader.state(&[0]).expect("there").stamp;
        let n = self.n_bytes;
        for (start, end) in [(0, n), (0, 1), (n - 1, n), (n / 3, n / 2)] {
            let mut out = vec![0; end - start];
            let _ = self.reader.read(&[0], (start as u64, end as u64), stamp, &mut out);
        }
    }
}
