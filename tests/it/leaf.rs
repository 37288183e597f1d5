//! One source chunk of bytes, encoded by whatever the test likes, and read through the source room.

use rechunkfs::source::{ArrayReader, CounterValues, Counters, SourceError};
use rechunkfs::zarr::{Encoding, KeyEncoding, KeyStyle, SourceArray};
use std::sync::Arc;
use tempfile::TempDir;

pub(crate) struct Leaf {
    folder: TempDir,
    reader: ArrayReader,
    counters: Arc<Counters>,
    n_bytes: usize,
}

impl Leaf {
    /// Of `n_bytes` decoded; `codecs` as the zarr room spells them.
    pub(crate) fn new(codecs: &[&str], n_bytes: usize) -> Self {
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
            encoding: Encoding::Linear {
                order: vec![0],
                bytes_to_bytes: codecs.iter().map(|codec| (*codec).to_owned()).collect(),
            },
        };
        // In memory, where there is such a place: some tests write a million files.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory");
        let counters = Arc::default();
        let reader = ArrayReader::new(folder.path(), &array, 1, Arc::clone(&counters)).expect("supported");
        Leaf { folder, reader, counters, n_bytes }
    }

    /// Makes `encoded` the file.
    pub(crate) fn write(&self, encoded: &[u8]) {
        std::fs::write(self.folder.path().join("0"), encoded).expect("written");
    }

    pub(crate) fn read(&self, (start, end): (usize, usize)) -> Result<Vec<u8>, SourceError> {
        let stamp = self.reader.state(&[0])?.stamp;
        let mut out = vec![0xa5; end - start];
        assert!(self.reader.read(&[0], (start as u64, end as u64), stamp, &mut out)?, "the file is there");
        Ok(out)
    }

    /// Ranges of which each asks a decoder for something else.
    pub(crate) fn ranges(&self) -> [(usize, usize); 6] {
        let n = self.n_bytes;
        [(0, n), (0, 1), (n - 1, n), (n / 3, n / 2), (n / 2, n), (n / 2, n / 2 + 1)]
    }

    pub(crate) fn counts(&self) -> CounterValues {
        self.counters.values()
    }
}

/// Bytes that compress in part, so that compressors store some of them and not all.
pub(crate) fn sample(n: usize) -> Vec<u8> {
    let mut state = 12345u32;
    (0..n)
        .map(|i| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if (i / 97) % 3 == 0 { (state >> 24) as u8 } else { ((i / 16) % 251) as u8 }
        })
        .collect()
}

/// How many cases a random test tries: `usual`, or what `RECHUNKFS_TEST_CASES` says.
pub(crate) fn n_cases(usual: u32) -> u32 {
    std::env::var("RECHUNKFS_TEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}
