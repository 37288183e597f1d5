//! One source chunk of bytes, read through the source room: every read ends with bytes or an error.

use rechunkfs::source::ArrayReader;
use rechunkfs::zarr::{Encoding, KeyEncoding, KeyStyle, SourceArray};
use std::sync::Arc;
use tempfile::TempDir;

pub(crate) struct Leaf {
    folder: TempDir,
    reader: ArrayReader,
    n_bytes: usize,
}

impl Leaf {
    /// Of `n_bytes` decoded.
    pub(crate) fn new(codec: &str, n_bytes: usize) -> Self {
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
        let folder = super::folder();
        let reader = ArrayReader::new(folder.path(), &array, 1, Arc::default()).expect("supported");
        Leaf { folder, reader, n_bytes }
    }

    pub(crate) fn read(&self, encoded: &[u8]) {
        std::fs::write(self.folder.path().join("0"), encoded).expect("written");
        let stamp = self.reader.state(&[0]).expect("there").stamp;
        let n = self.n_bytes;
        for (start, end) in [(0, n), (0, 1), (n - 1, n), (n / 3, n / 2)] {
            let mut out = vec![0; end - start];
            let _ = self.reader.read(&[0], (start as u64, end as u64), stamp, &mut out);
        }
    }
}
