//! Every byte of every virtual chunk, and any range of it, against a dense array in memory.

use crate::stores::{Codec, Model, positions, ravel};
use proptest::prelude::*;
use rechunkfs::view::{Node, Options, View, ViewError};
use rechunkfs::zarr::{KeyEncoding, KeyStyle, Projection};
use std::ffi::OsStr;
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Reads a range as the mount would, and waits for the reply.
pub(crate) fn read(view: &Arc<View>, node: &Node, offset: u64, len: u64) -> Result<Vec<u8>, ViewError> {
    let (send, receive) = mpsc::channel();
    view.read(node, offset, len, Box::new(move |bytes| drop(send.send(bytes.map(<[u8]>::to_vec)))));
    receive.recv_timeout(Duration::from_secs(60)).expect("a reply within a minute")
}

/// Levels of the streamed codecs, sums around them, and one inside another.
const STREAMS: [&[&str]; 7] = [
    &[r#"{"name":"gzip","configuration":{"level":0}}"#],
    &[r#"{"name":"gzip","configuration":{"level":9}}"#],
    &[r#"{"name":"zstd","configuration":{"level":19,"checksum":true}}"#],
    &[r#"{"name":"zstd","configuration":{"level":-5,"checksum":false}}"#, r#"{"name":"crc32c"}"#],
    &[
        r#"{"name":"numcodecs.zlib","configuration":{"level":9}}"#,
        r#"{"name":"numcodecs.adler32","configuration":{"location":"start"}}"#,
    ],
    &[
        r#"{"name":"numcodecs.bz2","configuration":{"level":1}}"#,
        r#"{"name":"zstd","configuration":{"level":1,"checksum":true}}"#,
    ],
    &[
        r#"{"name":"gzip","configuration":{"level":1}}"#,
        r#"{"name":"blosc","configuration":{"cname":"lz4","clevel":1,"shuffle":"noshuffle","typesize":1,"blocksize":0}}"#,
    ],
];

#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) model: Model,
    chunk_shape: Vec<u64>,
    /// Virtual chunks per shard, along each axis.
    shard: Option<Vec<u64>>,
    pub(crate) max_tile_bytes: Option<u64>,
    pub(crate) ranges: Vec<(u16, u16, u16)>,
}

pub(crate) fn case() -> impl Strategy<Value = Case> {
    // Array length, source chunk, inner chunks per shard, virtual chunk, virtual chunks per shard; for each axis.
    let axis = (0u64..14, 1u64..9, 1u64..4, 1u64..12, 1u64..4);
    let codec = prop_oneof![
        Just(Codec::Raw),
        prop::sample::select(vec![16u64, 32, 64, 128]).prop_map(|block_bytes| Codec::Blosc { block_bytes }),
        Just(Codec::Zstd),
        Just(Codec::GzipThenCrc),
        Just(Codec::NumcodecsZlib),
        prop::sample::select(STREAMS.to_vec()).prop_map(Codec::Chain),
    ];
    let axes = prop_oneof![
        4 => prop::collection::vec(axis.clone(), 1..4),
        1 => prop::collection::vec((0u64..5, 1u64..4, 1u64..3, 1u64..4, 1u64..3), 4..7),
    ];
    (
        axes,
        codec,
        prop::sample::select(vec![1usize, 2, 4, 8, 3, 16]),
        any::<u64>(),
        prop::collection::vec(any::<(u16, u16, u16)>(), 8),
        any::<[bool; 5]>(),
        0u64..4,
        prop::option::of(4u64..2000),
    )
        .prop_map(
            |(
                axes,
                codec,
                item_bytes,
                seed,
                ranges,
                [sharded, transposed, virtual_shards, slash, v2],
                gaps,
                max_tile_bytes,
            )| {
                let shape: Vec<u64> = axes.iter().map(|a| a.0).collect();
                let leaf: Vec<u64> = axes.iter().map(|a| a.1).collect();
                let sharded = sharded && seed % 3 == 0;
                let file_shape: Vec<u64> = axes.iter().map(|a| if sharded { a.1 * a.2 } else { a.1 }).collect();
                let mut order: Vec<usize> = (0..shape.len()).collect();
                if transposed {
                    order.rotate_left(1 % shape.len().max(1));
                }
                let mut model = Model {
                    shape,
                    file_shape,
                    inner_shape: sharded.then_some(leaf),
                    order,
                    codec,
                    item_bytes,
                    fill: (0..item_bytes).map(|i| (seed >> (i % 8)) as u8).collect(),
                    key_encoding: KeyEncoding {
                        style: if v2 { KeyStyle::V2 } else { KeyStyle::Default },
                        separator: if slash { '/' } else { '.' },
                    },
                    data: Vec::new(),
                    missing: Vec::new(),
                };
                let n_bytes = model.padded_shape().iter().product::<u64>() as usize * item_bytes;
                // Partly compressible, so that stored and compressed blocks both occur.
                let mut state = seed | 1;
                model.data = (0..n_bytes)
                    .map(|i| {
                        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        if i % 64 < 32 { (state >> 56) as u8 } else { (i / 7) as u8 }
                    })
                    .collect();
                let n_leaves: u64 = model.leaf_grid().iter().product();
                model.missing = (0..n_leaves)
                    .filter(|leaf| gaps > 0 && (leaf.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 7) % 4 < gaps)
                    .collect();
                Case {
                    chunk_shape: axes.iter().map(|a| a.3).collect(),
                    shard: virtual_shards.then(|| axes.iter().map(|a| a.4).collect()),
                    max_tile_bytes,
                    ranges,
                    model,
                }
            },
        )
}

impl Case {
    pub(crate) fn projection(&self) -> Projection {
        self.model.projection(&self.chunk_shape, self.shard.is_some().then(|| self.file_shape()))
    }

    /// Virtual chunk shape.
    pub(crate) fn chunk_shape(&self) -> &[u64] {
        &self.chunk_shape
    }

    pub(crate) fn is_sharded(&self) -> bool {
        self.shard.is_some()
    }

    /// Shape of what one virtual file holds.
    pub(crate) fn file_shape(&self) -> Vec<u64> {
        let n_inner = self.shard.iter().flatten().copied().chain(std::iter::repeat(1));
        n_inner.zip(&self.chunk_shape).map(|(n, chunk)| n * chunk).collect()
    }

    /// The name of every virtual file, and its bytes where there is one.
    pub(crate) fn files(&self) -> Vec<(String, Option<Vec<u8>>)> {
        let Case { model, chunk_shape, .. } = self;
        let file_shape = self.file_shape();
        let grid: Vec<u64> = model.shape.iter().zip(&file_shape).map(|(n, file)| n.div_ceil(*file)).collect();
        let n_inner = self.shard.clone().unwrap_or_else(|| vec![1; grid.len()]);
        let slot_bytes = chunk_shape.iter().product::<u64>() * model.item_bytes as u64;
        let truth = |file: &[u64]| {
            let mut truth = Vec::new();
            let mut index: Vec<u8> = Vec::new();
            for inner in positions(&n_inner) {
                let idx: Vec<u64> = (0..grid.len()).map(|a| file[a] * n_inner[a] + inner[a]).collect();
                let is_inside = idx.iter().zip(chunk_shape).zip(&model.shape).all(|((i, c), n)| i * c < *n);
                let is_present = is_inside && model.is_present(&idx, chunk_shape);
                let slot = ravel(&inner, &n_inner) * slot_bytes;
                truth.extend(model.virtual_chunk(&idx, chunk_shape));
                let entry = if is_present { [slot, slot_bytes] } else { [u64::MAX; 2] };
                index.extend(entry.iter().flat_map(|word| word.to_le_bytes()));
            }
            if self.shard.is_some() {
                truth.extend(index);
            }
            truth
        };
        positions(&grid)
            .map(|file| {
                let name = file.iter().fold("c".to_owned(), |name, i| format!("{name}.{i}"));
                (name, model.is_present(&file, &file_shape).then(|| truth(&file)))
            })
            .collect()
    }
}

/// Reads all of the view and compares it with the model.
fn check(case: &Case) {
    let store = tempfile::tempdir().expect("a directory");
    case.model.write(store.path());
    let options = Options {
        memory_bytes: 96 << 20,
        threads: 2,
        max_tile_bytes: case.max_tile_bytes,
        cache_dir: None,
        follow: None,
    };
    let view = View::open(store.path(), case.projection(), options).expect("opens");
    for (name, truth) in case.files() {
        match (view.lookup(&view.root(), OsStr::new(&name)), truth) {
            (Err(ViewError::NotFound), truth) => assert!(truth.is_none(), "{name} is missing"),
            (Err(error), _) => panic!("{name}: {error}"),
            (Ok(_), None) => panic!("{name} should be absent"),
            (Ok((node, stat)), Some(truth)) => {
                assert_eq!(stat.size_bytes, truth.len() as u64);
                for (a, b, order) in &case.ranges {
                    let (start, len) = (u64::from(*a) % stat.size_bytes.max(1), u64::from(*b) % stat.size_bytes.max(1));
                    let end = (start + len).min(stat.size_bytes) as usize;
                    if order % 4 == 0 {
                        assert_eq!(read(&view, &node, start, len).expect("reads"), truth[start as usize..end]);
                    }
                }
                assert_eq!(read(&view, &node, 0, stat.size_bytes + 10).expect("reads"), truth, "{name}");
                assert!(read(&view, &node, stat.size_bytes, 10).expect("reads").is_empty());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_chunking_of_any_store_reads_as_the_dense_array(case in case()) {
        check(&case);
    }
}
