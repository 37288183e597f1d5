//! Shards of any bytes, with indexes that point anywhere: each inner chunk is where the index says, or an error.
//!
//! The first byte chooses where the index lies, and whether it has a checksum, which is made to fit.

use super::Target;
use rechunkfs::source::{ArrayReader, Stamp};
use rechunkfs::zarr::{Encoding, KeyEncoding, KeyStyle, Sharding, SourceArray};
use std::sync::Arc;

const N_INNER: usize = 6;
const INNER_BYTES: usize = 8;
const FILL: u8 = 7;

pub fn target() -> Target {
    let readers = [(false, false), (false, true), (true, false), (true, true)].map(|(index_at_end, has_checksum)| {
        let mut index_codecs = vec![r#"{"name":"bytes","configuration":{"endian":"little"}}"#.to_owned()];
        index_codecs.extend(has_checksum.then(|| r#"{"name":"crc32c"}"#.to_owned()));
        let shape = vec![(N_INNER * INNER_BYTES) as u64];
        let array = SourceArray {
            path: String::new(),
            shape: shape.clone(),
            file_shape: shape,
            leaf_shape: vec![INNER_BYTES as u64],
            key_encoding: KeyEncoding { style: KeyStyle::V2, separator: '.' },
            item_bytes: 1,
            fill: vec![FILL],
            sharding: Some(Sharding { index_at_end, index_codecs }),
            encoding: Encoding::Linear { order: vec![0], bytes_to_bytes: Vec::new() },
        };
        let folder = super::folder();
        let reader = ArrayReader::new(folder.path(), &array, 1, Arc::default()).expect("supported");
        (folder, reader)
    });
    Box::new(move |data| {
        let Some((&which, data)) = data.split_first() else { return };
        let (index_at_end, has_checksum) = (which & 2 > 0, which & 1 > 0);
        let (folder, reader) = &readers[usize::from(which & 3)];
        let mut shard = data.to_vec();
        let index_bytes = N_INNER * 16;
        let all_bytes = index_bytes + if has_checksum { 4 } else { 0 };
        let index_from = if index_at_end { shard.len().checked_sub(all_bytes) } else { Some(0) };
        let index_from = index_from.filter(|from| from + all_bytes <= shard.len());
        if let (Some(from), true) = (index_from, has_checksum) {
            let end = from + index_bytes;
            let sum = crc32c::crc32c(&shard[from..end]);
            shard[end..end + 4].copy_from_slice(&sum.to_le_bytes());
        }
        let path = folder.path().join("0");
        // Another file each time: an open one is known by its stamp.
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, &shard).expect("written");
        let stamp = reader.state(&[0]).expect("there").stamp;
        for inner in 0..N_INNER {
            let index = index_from.map(|from| &shard[from..from + index_bytes]);
            check(reader, stamp, inner, &shard, index);
        }
    })
}

fn check(reader: &ArrayReader, stamp: Stamp, inner: usize, shard: &[u8], index: Option<&[u8]>) {
    let word = |nth: usize| {
        let bytes = &index?[nth * 8..][..8];
        Some(u64::from_le_bytes(bytes.try_into().expect("eight")))
    };
    let entry = word(2 * inner).zip(word(2 * inner + 1));
    for (start, end) in [(0, INNER_BYTES), (2, 5)] {
        let mut out = vec![FILL; end - start];
        let read = reader.read(&[inner as u64], (start as u64, end as u64), stamp, &mut out);
        let Ok(is_there) = read else { continue };
        let (offset, len) = entry.expect("no inner chunk without an index");
        if !is_there {
            assert_eq!((offset, len), (u64::MAX, u64::MAX));
            continue;
        }
        assert_eq!(len, INNER_BYTES as u64, "an inner chunk of another length");
        let from = usize::try_from(offset).expect("within the file");
        assert_eq!(out, shard[from..][start..end]);
    }
}
