//! What a copy will take, before it begins: arithmetic, a look at some source files, and a sample of the work itself.

use super::array::ArrayCopy;
use super::partition::{Part, PartOf, Share};
use super::plan::{ArrayPlan, Means};
use super::room;
use super::spool;
use super::trial::{self, Trial};
use super::{CopyError, Options};
use crate::geometry::{Region, unravel};
use crate::source::Counters;
use crate::zarr::{CopiedArray, CopyProjection};
use std::path::Path;
use std::sync::Arc;

/// Source files whose size is looked at.
const SIZES: u64 = 200;
/// What a disk takes a second at least, mostly.
const DISK_BYTES_PER_S: f64 = 500e6;
/// What creating a file takes besides its bytes.
const FILE_SECONDS: f64 = 25e-6;

/// What copying one array will take.
#[derive(Debug, Clone, PartialEq)]
pub struct ArrayForecast {
    /// Its path.
    pub path: String,
    /// Decoded bytes.
    pub bytes: u64,
    /// 1, or 2 where it goes through a temporary file, 3 where it goes through another one as well.
    pub passes: u64,
    /// Parts that are made one after the other.
    pub tiles: u64,
    /// Source chunks that are decoded.
    pub source_chunks: u64,
    /// How often a source chunk is decoded, on the average.
    pub source_decodes: f64,
    /// Encoded bytes read from the source, about.
    pub read_bytes: u64,
    /// Bytes of its temporary file.
    pub temp_bytes: u64,
    /// Files that are written at most: those that are all fill value are not.
    pub files: u64,
    /// Whether they are shards.
    pub is_sharded: bool,
}

/// What a copy will take.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    /// Array by array.
    pub arrays: Vec<ArrayForecast>,
    /// What the sample showed, if one was taken.
    pub sample: Option<Trial>,
    /// Seconds, by the sample.
    pub seconds: Option<f64>,
    /// Bytes written to the target, by the sample.
    pub written_bytes: Option<u64>,
    /// What is free where the target is to be, or left of a quota, if that is less.
    pub free_bytes: Option<u64>,
}

impl Forecast {
    /// The sum of something over arrays.
    pub fn total(&self, of: impl Fn(&ArrayForecast) -> u64) -> u64 {
        self.arrays.iter().map(of).fold(0, u64::saturating_add)
    }

    /// Bytes of the largest temporary file: one array is copied after the other.
    pub fn temp_bytes(&self) -> u64 {
        self.arrays.iter().map(|array| array.temp_bytes).max().unwrap_or(0)
    }
}

/// Foretells what the copy of `projection` will take, or a `share` of it; with `sampling`, by doing some of it for two seconds.
///
/// # Errors
/// Where an array cannot be copied within the memory allowed, or its source not be read.
pub fn forecast(
    projection: &CopyProjection,
    options: &Options,
    share: Option<Share>,
    sampling: bool,
) -> Result<Forecast, CopyError> {
    let counters = Arc::new(Counters::default());
    let open = |copied: &CopiedArray| ArrayCopy::new(&options.source, copied.clone(), Arc::clone(&counters));
    let copies = projection.copied.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let share = share.map(|share| Part::new(share, copies.iter()));
    let means = Means {
        memory_bytes: options.memory_bytes,
        threads: options.threads,
        max_tile_bytes: options.max_tile_bytes,
        few: false,
        temp: Some(Path::new("")),
        probe: false,
        always_spool: options.always_spool,
        part: None,
        besides_bytes: 0,
    };
    let mut arrays = Vec::new();
    let mut largest: Option<(u64, ArrayCopy, ArrayPlan)> = None;
    for (at, array) in copies.into_iter().enumerate() {
        let part = share.as_ref().map(|share| share.of(at, &array)).filter(|part| !part.is_all);
        if part.is_some_and(|part| part.files == 0) {
            continue;
        }
        if array.source().is_variable() {
            arrays.push(of_strings(&array, part)?);
            continue;
        }
        let few = part.is_some_and(|part| part.bytes <= means.memory_bytes / 4);
        let temp = means.temp.filter(|_| !few);
        let plan = ArrayPlan::new(&array, at as u32, Means { few, temp, part, ..means }, None)?;
        arrays.push(of_array(&array, &plan, part)?);
        if largest.as_ref().is_none_or(|(bytes, ..)| *bytes < array.array_bytes()) {
            largest = Some((array.array_bytes(), array, plan));
        }
    }
    let sample = match &largest {
        Some((_, array, plan)) if sampling => trial::take(array, plan, options.threads, &counters)?,
        _ => None,
    };
    let mut forecast =
        Forecast { arrays, sample, seconds: None, written_bytes: None, free_bytes: free(&options.target) };
    if let (Some(sample), Some((_, _, plan))) = (&forecast.sample, &largest) {
        let bytes = forecast.total(|array| array.bytes) as f64;
        let decoded: f64 = forecast.arrays.iter().map(|array| array.source_decodes * array.bytes as f64).sum();
        let written = bytes * sample.encoded_share;
        let busy = decoded * sample.decode_s_per_byte + bytes * (sample.place_s_per_byte + sample.encode_s_per_byte);
        let files = forecast.total(|array| array.files) as f64 * FILE_SECONDS;
        let temp = 2.0 * (plan.passes() - 1) as f64 * forecast.total(|array| array.temp_bytes) as f64;
        let cpu = (busy + files) / options.threads.max(1) as f64;
        forecast.seconds = Some(cpu.max(written / DISK_BYTES_PER_S) + temp / DISK_BYTES_PER_S);
        forecast.written_bytes = Some(written as u64);
    }
    Ok(forecast)
}

/// Elements of any length: what is stored stands for what they come to.
fn of_strings(array: &ArrayCopy, part: Option<PartOf>) -> Result<ArrayForecast, CopyError> {
    let all = Region::whole(&array.file_grid).n_elems();
    let files = part.map_or(all, |part| part.files);
    let stored = (stored_bytes(array)? * files as f64 / all.max(1) as f64) as u64;
    Ok(ArrayForecast {
        path: array.path().to_owned(),
        bytes: stored,
        passes: 1,
        tiles: files,
        source_chunks: array.n_leaves(),
        source_decodes: 1.0,
        read_bytes: stored,
        temp_bytes: 0,
        files,
        is_sharded: array.is_sharded(),
    })
}

/// Bytes of the source's files, by a sample of them.
fn stored_bytes(array: &ArrayCopy) -> Result<f64, CopyError> {
    let n_files: u64 = array.reader.file_grid().iter().product();
    let step = (n_files / SIZES).max(1);
    let (mut looked, mut bytes) = (0u64, 0u64);
    for file in (0..n_files).step_by(step as usize) {
        looked += 1;
        bytes += array.reader.state(&unravel(file, array.reader.file_grid()))?.size_bytes;
    }
    Ok(bytes as f64 / looked.max(1) as f64 * n_files as f64)
}

fn of_array(array: &ArrayCopy, plan: &ArrayPlan, part: Option<PartOf>) -> Result<ArrayForecast, CopyError> {
    let (bytes, files, once) = match part {
        Some(part) => (part.bytes, part.files, part.leaf_bytes),
        None => (array.array_bytes(), Region::whole(&array.file_grid).n_elems(), array.leaf_bytes()),
    };
    let stored = stored_bytes(array)? * once as f64 / array.leaf_bytes().max(1) as f64;
    let source_decodes = plan.decoded_bytes as f64 / once.max(1) as f64;
    Ok(ArrayForecast {
        path: array.path().to_owned(),
        bytes,
        passes: plan.passes(),
        tiles: (plan.tiling.n_tiles() as f64 * bytes as f64 / array.array_bytes().max(1) as f64).ceil() as u64,
        source_chunks: once / array.reader.leaf_bytes().max(1),
        source_decodes,
        read_bytes: (stored * source_decodes) as u64,
        temp_bytes: spool::temp_bytes(array, plan, part),
        files,
        is_sharded: array.is_sharded(),
    })
}

/// Bytes that are free for us on the file system of `target`.
fn free(target: &Path) -> Option<u64> {
    room::free_bytes(std::path::absolute(target).ok()?.parent()?)
}
