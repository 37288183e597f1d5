//! TEMPORARY: the view's interface with nothing behind it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::zarr::Projection;

/// What opening takes.
pub struct Options {
    /// Whole process.
    pub memory_bytes: u64,
    /// For decoding.
    pub threads: usize,
}

/// Predicted cost of one array.
pub struct ArrayCost {
    /// Which.
    pub path: String,
    /// Source files that a first read opens.
    pub first_read_files: u64,
    /// Bytes that it decodes.
    pub first_read_decoded_bytes: u64,
    /// Bytes that a sweep decodes.
    pub sweep_decoded_bytes: u64,
}

/// The one door.
pub struct View {
    pub(crate) source: PathBuf,
    costs: Vec<(String, u64, u64, u64)>,
}

impl View {
    /// As the real one.
    pub fn open(source: &Path, projection: Projection, _: Options) -> Result<Arc<Self>, std::io::Error> {
        let costs = projection.arrays.iter().map(|array| {
            let source = &array.source;
            let item = source.item_bytes as u64;
            let files: u64 = source.shape.iter().zip(&source.file_shape).zip(&array.chunk_shape)
                .map(|((n, f), c)| (*c).min(*n).div_ceil(*f)).product();
            (source.path.clone(), files, files * source.file_shape.iter().product::<u64>() * item,
             source.shape.iter().product::<u64>() * item)
        }).collect();
        Ok(Arc::new(Self { source: source.to_owned(), costs }))
    }

    /// Counters.
    pub fn status_json(&self) -> String {
        "{\"reads\":0,\"cache_bytes\":0,\"errors\":[]}".to_owned()
    }

    /// Predictions.
    pub fn costs(&self) -> Vec<ArrayCost> {
        self.costs.iter().cloned().map(|(path, first_read_files, first_read_decoded_bytes, sweep_decoded_bytes)| {
            ArrayCost { path, first_read_files, first_read_decoded_bytes, sweep_decoded_bytes }
        }).collect()
    }
}
