//! Two seconds of a copy, without the writing: what decoding, placing and encoding take, and how small chunks become.

use super::CopyError;
use super::array::ArrayCopy;
use super::encode::Encoder;
use super::engine::{self, Sink, Work};
use super::plan::ArrayPlan;
use super::progress::Progress;
use crate::geometry::Region;
use crate::source::Counters;
use crate::synthesis::FromSource;
use crate::zarr::ChunkEncoding;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

const TIME: Duration = Duration::from_secs(2);
/// One chunk in so many is encoded both ways.
const COMPARED: u64 = 8;

/// What a sample showed. Seconds are those of one thread.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// Seconds of reading and decoding per decoded byte.
    pub decode_s_per_byte: f64,
    /// Seconds of placing per byte of the array.
    pub place_s_per_byte: f64,
    /// Seconds of encoding per byte of the array.
    pub encode_s_per_byte: f64,
    /// Encoded bytes per byte of the array.
    pub encoded_share: f64,
    /// How a cheaper codec would do.
    pub cheaper: Option<Cheaper>,
}

/// A cheaper codec on the same chunks.
#[derive(Debug, Clone, PartialEq)]
pub struct Cheaper {
    /// As `--codecs` takes it.
    pub codecs: &'static str,
    /// Its time per time of the copy's codec.
    pub time_share: f64,
    /// Its encoded bytes per encoded byte of the copy's codec.
    pub bytes_share: f64,
}

/// Encodes chunks and forgets them.
#[derive(Debug)]
struct Taster<'a> {
    array: &'a ArrayCopy,
    plan: &'a ArrayPlan,
    progress: &'a Progress,
    cheaper: Option<Encoder>,
    n_chunks: AtomicU64,
    bytes: AtomicU64,
    encoded: AtomicU64,
    /// Of the chunks encoded both ways: nanoseconds and bytes, first ours.
    compared: [AtomicU64; 4],
}

/// Copies some of the middle of `array` to nowhere. `None` where there was not a single chunk in the time.
pub(super) fn take(
    array: &ArrayCopy,
    plan: &ArrayPlan,
    threads: usize,
    counters: &Counters,
) -> Result<Option<Trial>, CopyError> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let Ok(pool) = pool else { return Ok(None) };
    let progress = Progress::default();
    let lz4 = format!(
        r#"{{"name":"blosc","configuration":{{"cname":"lz4","clevel":5,"shuffle":"shuffle","typesize":{},"blocksize":0}}}}"#,
        array.item_bytes().clamp(1, 255)
    );
    let order = array.copied.encoding.order.clone();
    let cheaper = Encoder::new(&ChunkEncoding { order, bytes_to_bytes: vec![lz4] }).ok();
    let taster = Taster {
        array,
        plan,
        progress: &progress,
        cheaper: cheaper.filter(|_| !array.encoder.is_plain() && !array.encoder.is_lz4()),
        n_chunks: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        encoded: AtomicU64::new(0),
        compared: Default::default(),
    };
    let stamp_of = |file: &[u64]| array.stamp_of(file);
    let leaves = FromSource::new(&array.reader, &stamp_of);
    let before = counters.values();
    let (done, ended) = std::sync::mpsc::channel::<()>();
    let swept = std::thread::scope(|scope| {
        let progress = &progress;
        scope.spawn(move || {
            let _ = ended.recv_timeout(TIME);
            progress.stop();
        });
        let work = Work { array, plan, leaves: &leaves, sink: &taster, progress, pool: &pool, keep_going: true };
        let swept = engine::sweep_tiles(work, plan.tiling.n_tiles() / 2..plan.tiling.n_tiles());
        drop(done);
        swept
    });
    match swept {
        Ok(_) | Err(CopyError::Stopped) => {}
        Err(error) => return Err(error),
    }
    let after = counters.values();
    let get = |counter: &AtomicU64| counter.load(Relaxed) as f64;
    let bytes = get(&taster.bytes);
    if bytes == 0.0 {
        return Ok(None);
    }
    let [ours_ns, theirs_ns, ours, theirs] = &taster.compared;
    Ok(Some(Trial {
        decode_s_per_byte: (after.decode_ns - before.decode_ns) as f64
            / 1e9
            / ((after.decoded_bytes - before.decoded_bytes) as f64).max(1.0),
        place_s_per_byte: get(&progress.place_ns) / 1e9 / bytes,
        encode_s_per_byte: get(&progress.encode_ns) / 1e9 / bytes,
        encoded_share: get(&taster.encoded) / bytes,
        cheaper: (get(ours_ns) > 0.0 && get(ours) > 0.0).then(|| Cheaper {
            codecs: "blosc:lz4",
            time_share: get(theirs_ns) / get(ours_ns),
            bytes_share: get(theirs) / get(ours),
        }),
    }))
}

impl Sink for Taster<'_> {
    fn wants(&self, _unit: u64) -> bool {
        true
    }

    fn put(&self, unit: u64, bytes: &[u8]) -> Result<(), CopyError> {
        let region = self.plan.units.piece_region(unit);
        for cell in region.cells(self.array.chunk_shape()).positions() {
            if self.progress.is_stopping() {
                return Ok(());
            }
            let chunk = Region::of_cell(&cell, self.array.chunk_shape());
            self.taste(&region, bytes, &chunk)?;
        }
        Ok(())
    }

    fn put_fill(&self, _unit: u64) -> Result<(), CopyError> {
        Ok(())
    }

    fn put_nothing(&self, _unit: u64) -> Result<(), CopyError> {
        Ok(())
    }
}

impl Taster<'_> {
    fn taste(&self, region: &Region, bytes: &[u8], chunk: &Region) -> Result<(), CopyError> {
        let item_bytes = self.array.source().item_bytes;
        let run = |encoder: &Encoder| {
            let ns = AtomicU64::new(0);
            let encoded = Progress::timed(&ns, || encoder.encode(encoder.gather(region, bytes, chunk, item_bytes)));
            encoded
                .map(|encoded| (ns.into_inner(), encoded.len() as u64))
                .map_err(|why| CopyError::Codec { array: self.array.path().to_owned(), why })
        };
        let (ns, len) = run(&self.array.encoder)?;
        self.progress.encode_ns.fetch_add(ns, Relaxed);
        self.encoded.fetch_add(len, Relaxed);
        self.bytes.fetch_add(chunk.n_elems() * item_bytes as u64, Relaxed);
        if self.n_chunks.fetch_add(1, Relaxed).is_multiple_of(COMPARED)
            && let Some(cheaper) = &self.cheaper
        {
            let (their_ns, their_len) = run(cheaper)?;
            for (counter, n) in self.compared.iter().zip([ns, their_ns, len, their_len]) {
                counter.fetch_add(n, Relaxed);
            }
        }
        Ok(())
    }
}
