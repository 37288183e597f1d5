//! Source stores written by hand, from a dense array in memory: the naive model that views are judged by.

use rechunkfs::zarr::{Encoding, KeyEncoding, KeyStyle, Projection, Sharding, SourceArray, VirtualArray};
use std::borrow::Cow;
use std::num::NonZeroU64;
use std::path::Path;
use zarrs::array::{ArrayBytes, ArrayToBytesCodecTraits, CodecChain, CodecOptions, DataType, FillValue};
use zarrs::metadata::v3::MetadataV3;

/// How the chunks of a test store are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    Raw,
    Blosc {
        block_bytes: u64,
    },
    Zstd,
    GzipThenCrc,
    NumcodecsZlib,
    /// These documents.
    Chain(&'static [&'static str]),
}

/// A source array and what is in it.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) shape: Vec<u64>,
    /// What one file holds; the shard where `inner` is set.
    pub(crate) file_shape: Vec<u64>,
    pub(crate) inner_shape: Option<Vec<u64>>,
    /// A transpose codec's order.
    pub(crate) order: Vec<usize>,
    pub(crate) codec: Codec,
    pub(crate) item_bytes: usize,
    pub(crate) fill: Vec<u8>,
    pub(crate) key_encoding: KeyEncoding,
    /// Of every position of every file, padding (with stale data) included, in C order of `padded_shape`.
    pub(crate) data: Vec<u8>,
    /// Files that do not exist, by C-order position; with shards, inner chunks.
    pub(crate) missing: Vec<u64>,
}

pub(crate) fn ravel(at: &[u64], shape: &[u64]) -> u64 {
    at.iter().zip(shape).fold(0, |linear, (&i, &n)| linear * n + i)
}

pub(crate) fn positions(shape: &[u64]) -> impl Iterator<Item = Vec<u64>> + '_ {
    let n: u64 = shape.iter().product();
    (0..n).map(move |mut linear| {
        let mut at = vec![0; shape.len()];
        for axis in (0..shape.len()).rev() {
            at[axis] = linear % shape[axis];
            linear /= shape[axis];
        }
        at
    })
}

impl Model {
    pub(crate) fn leaf_shape(&self) -> &[u64] {
        self.inner_shape.as_deref().unwrap_or(&self.file_shape)
    }

    pub(crate) fn leaf_grid(&self) -> Vec<u64> {
        self.padded_shape().iter().zip(self.leaf_shape()).map(|(n, leaf)| n / leaf).collect()
    }

    pub(crate) fn padded_shape(&self) -> Vec<u64> {
        self.shape.iter().zip(&self.file_shape).map(|(n, file)| n.div_ceil(*file) * file).collect()
    }

    fn item(&self, at: &[u64]) -> &[u8] {
        let from = ravel(at, &self.padded_shape()) as usize * self.item_bytes;
        &self.data[from..from + self.item_bytes]
    }

    pub(crate) fn leaf_is_missing(&self, leaf: &[u64]) -> bool {
        self.missing.contains(&ravel(leaf, &self.leaf_grid()))
    }

    /// The true element at a position, which may lie in the padding of a virtual chunk.
    pub(crate) fn truth(&self, at: &[u64]) -> &[u8] {
        let leaf: Vec<u64> = at.iter().zip(self.leaf_shape()).map(|(i, n)| i / n).collect();
        let is_inside = at.iter().zip(&self.shape).all(|(i, n)| i < n);
        if is_inside && !self.leaf_is_missing(&leaf) { self.item(at) } else { &self.fill }
    }

    /// True bytes of virtual chunk `idx`.
    pub(crate) fn virtual_chunk(&self, idx: &[u64], chunk_shape: &[u64]) -> Vec<u8> {
        positions(chunk_shape)
            .flat_map(|within| {
                let at: Vec<u64> = (0..idx.len()).map(|a| idx[a] * chunk_shape[a] + within[a]).collect();
                self.truth(&at).to_vec()
            })
            .collect()
    }

    /// Some source file of the virtual chunk exists.
    pub(crate) fn is_present(&self, idx: &[u64], chunk_shape: &[u64]) -> bool {
        let n_inner: Vec<u64> = self.file_shape.iter().zip(self.leaf_shape()).map(|(f, l)| f / l).collect();
        positions(chunk_shape).any(|within| {
            let at: Vec<u64> = (0..idx.len()).map(|a| idx[a] * chunk_shape[a] + within[a]).collect();
            let is_inside = at.iter().zip(&self.shape).all(|(i, n)| i < n);
            let file: Vec<u64> = at.iter().zip(&self.file_shape).map(|(i, n)| i / n).collect();
            is_inside
                && positions(&n_inner).any(|inner| {
                    let leaf: Vec<u64> = (0..idx.len()).map(|a| file[a] * n_inner[a] + inner[a]).collect();
                    !self.leaf_is_missing(&leaf)
                })
        })
    }

    fn codecs(&self) -> Vec<String> {
        let item = self.item_bytes;
        let one = |json: String| vec![json];
        match self.codec {
            Codec::Raw => Vec::new(),
            Codec::Blosc { block_bytes } => one(format!(
                r#"{{"name":"blosc","configuration":{{"cname":"lz4","clevel":5,"shuffle":"shuffle","typesize":{item},"blocksize":{block_bytes}}}}}"#
            )),
            Codec::Zstd => one(r#"{"name":"zstd","configuration":{"level":1,"checksum":false}}"#.into()),
            Codec::GzipThenCrc => {
                vec![r#"{"name":"gzip","configuration":{"level":1}}"#.into(), r#"{"name":"crc32c"}"#.into()]
            }
            Codec::Chain(documents) => documents.iter().map(|json| (*json).to_owned()).collect(),
            Codec::NumcodecsZlib => one(r#"{"name":"numcodecs.zlib","configuration":{"level":1}}"#.into()),
        }
    }

    fn index_codecs() -> Vec<String> {
        vec![r#"{"name":"bytes","configuration":{"endian":"little"}}"#.into(), r#"{"name":"crc32c"}"#.into()]
    }

    /// What the zarr room would say of it.
    pub(crate) fn source_array(&self, path: &str) -> SourceArray {
        SourceArray {
            path: path.into(),
            shape: self.shape.clone(),
            file_shape: self.file_shape.clone(),
            leaf_shape: self.leaf_shape().to_vec(),
            key_encoding: self.key_encoding,
            item_bytes: self.item_bytes,
            fill: self.fill.clone(),
            sharding: self
                .inner_shape
                .as_ref()
                .map(|_| Sharding { index_at_end: true, index_codecs: Self::index_codecs() }),
            encoding: Encoding::Linear { order: self.order.clone(), bytes_to_bytes: self.codecs() },
        }
    }

    /// The projection of a store that is this one array.
    pub(crate) fn projection(&self, chunk_shape: &[u64], shard_shape: Option<Vec<u64>>) -> Projection {
        Projection {
            arrays: vec![VirtualArray {
                source: self.source_array(""),
                chunk_shape: chunk_shape.to_vec(),
                shard_shape,
            }],
            documents: [(String::new(), "{}".to_owned())].into(),
            array_paths: vec![String::new()],
            ..Projection::default()
        }
    }

    /// Writes every file, through zarrs' own encoders.
    pub(crate) fn write(&self, root: &Path) {
        Self::write_document(root);
        for file in positions(&self.file_grid()) {
            self.write_one(root, &file);
        }
    }

    /// Writes one file, if any leaf of it exists.
    pub(crate) fn write_one(&self, root: &Path, file: &[u64]) {
        let leaf_shape = self.leaf_shape();
        let mut any = false;
        let bytes: Vec<u8> = positions(&self.file_shape)
            .flat_map(|within| {
                let at: Vec<u64> = (0..file.len()).map(|a| file[a] * self.file_shape[a] + within[a]).collect();
                let leaf: Vec<u64> = at.iter().zip(leaf_shape).map(|(i, n)| i / n).collect();
                // zarrs leaves out inner chunks that are all fill value: that is how they go missing.
                let is_missing = self.leaf_is_missing(&leaf);
                any |= !is_missing;
                if is_missing { self.fill.clone() } else { self.item(&at).to_vec() }
            })
            .collect();
        if any {
            self.write_file(root, file, bytes);
        }
    }

    /// The same for large models cut along the last axis alone, in chunks of one.
    pub(crate) fn write_fast(&self, root: &Path) {
        Self::write_document(root);
        let (n_epochs, item) = (self.shape[self.shape.len() - 1] as usize, self.item_bytes);
        for epoch in (0..n_epochs).filter(|&epoch| !self.missing.contains(&(epoch as u64))) {
            let bytes =
                self.data.chunks_exact(n_epochs * item).flat_map(|row| row[epoch * item..][..item].to_vec()).collect();
            let mut file = vec![0; self.shape.len()];
            file[self.shape.len() - 1] = epoch as u64;
            self.write_file(root, &file, bytes);
        }
    }

    /// Tells that the store is there; what it says is the test's own to know.
    pub(crate) fn write_document(root: &Path) {
        std::fs::create_dir_all(root).expect("a directory");
        let document = root.join("zarr.json");
        if !document.exists() {
            std::fs::write(document, "{}").expect("writable");
        }
    }

    pub(crate) fn file_grid(&self) -> Vec<u64> {
        self.padded_shape().iter().zip(&self.file_shape).map(|(n, file)| n / file).collect()
    }

    /// Writes one file from the elements of all of it, padding included.
    pub(crate) fn write_file(&self, root: &Path, file: &[u64], bytes: Vec<u8>) {
        let raw_type = format!("\"r{}\"", 8 * self.item_bytes);
        let metadata: MetadataV3 = serde_json::from_str(&raw_type).expect("valid");
        let data_type = DataType::from_metadata(&metadata).expect("a raw type");
        let fill = FillValue::new(self.fill.clone());
        let shape: Vec<NonZeroU64> = self.file_shape.iter().map(|&n| NonZeroU64::new(n).expect("not 0")).collect();
        let encoded = self
            .chain()
            .encode(ArrayBytes::Fixed(Cow::Owned(bytes)), &shape, &data_type, &fill, &CodecOptions::default())
            .expect("encodes");
        let path = root.join(self.key(file));
        std::fs::create_dir_all(path.parent().expect("below the root")).expect("a directory");
        std::fs::write(path, encoded).expect("written");
    }

    fn chain(&self) -> CodecChain {
        let documents = self.chain_documents();
        let metadata: Vec<_> = documents.iter().map(|json| serde_json::from_str(json).expect("valid")).collect();
        CodecChain::from_metadata(&metadata).expect("supported")
    }

    /// Its codecs as an array's document has them.
    fn chain_documents(&self) -> Vec<String> {
        let mut codecs = Vec::new();
        if !self.order.iter().copied().eq(0..self.order.len()) {
            codecs.push(format!(r#"{{"name":"transpose","configuration":{{"order":{:?}}}}}"#, self.order));
        }
        codecs.push(r#"{"name":"bytes"}"#.into());
        codecs.extend(self.codecs());
        if let Some(inner) = &self.inner_shape {
            codecs = vec![format!(
                r#"{{"name":"sharding_indexed","configuration":{{"chunk_shape":{inner:?},"codecs":[{}],"index_codecs":[{}]}}}}"#,
                codecs.join(","),
                Self::index_codecs().join(",")
            )];
        }
        codecs
    }

    /// The document of an array of raw bytes that is this one.
    pub(crate) fn document(&self) -> String {
        let Model { shape, file_shape, fill, key_encoding, .. } = self;
        let style = match key_encoding.style {
            KeyStyle::Default => "default",
            KeyStyle::V2 => "v2",
        };
        format!(
            r#"{{"zarr_format":3,"node_type":"array","shape":{shape:?},"data_type":"r{bits}","fill_value":{fill:?},
            "chunk_grid":{{"name":"regular","configuration":{{"chunk_shape":{file_shape:?}}}}},
            "chunk_key_encoding":{{"name":"{style}","configuration":{{"separator":"{separator}"}}}},
            "codecs":[{codecs}]}}"#,
            bits = 8 * self.item_bytes,
            separator = key_encoding.separator,
            codecs = self.chain_documents().join(","),
        )
    }

    pub(crate) fn key(&self, file: &[u64]) -> String {
        let indices: Vec<String> = file.iter().map(u64::to_string).collect();
        let joined = indices.join(&self.key_encoding.separator.to_string());
        match self.key_encoding.style {
            KeyStyle::Default => format!("c{}{joined}", self.key_encoding.separator),
            KeyStyle::V2 => joined,
        }
    }
}
