//! The yardstick for decoding: what reading source chunks costs with nothing in between.
//!
//!     decode all    STORE ARRAY                    every chunk once, whole
//!     decode chunks STORE ARRAY KEY...             these chunks (c/0/0/17) once, whole
//!     decode blocks STORE ARRAY ROW[,ROW...] ROWS  from each ROW on, ROWS rows: the Blosc blocks that hold them, no others
//!
//! Each file is opened, read and decoded into buffers that are reused, by as many threads as there are processors. Which
//! files there are is found out before the clock runs, and the threads are up and their buffers in memory by then. Only
//! for arrays of Blosc chunks without further codecs; it shares no code with the library, so that it can be held against it.

use std::cell::RefCell;
use std::ffi::c_void;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};
use rayon::prelude::*;
use serde_json::{Value, json};

/// Of a chunk's head read at once: header and block table of all but the largest chunks.
const HEAD_BYTES: usize = 4096;
const HEADER_BYTES: usize = 16;
const FLAG_STORED: u8 = 0x02;

#[derive(Parser)]
#[command(about = "Times the reading and decoding of source chunks; prints JSON")]
struct Args {
    #[command(subcommand)]
    work: Work,
    /// How often
    #[arg(long, global = true, default_value_t = 1)]
    repeat: usize,
    /// Threads [default: the processors of this job]
    #[arg(long, global = true, default_value_t = 0)]
    threads: usize,
}

#[derive(Subcommand)]
enum Work {
    /// Every chunk, whole
    All { store: PathBuf, array: String },
    /// These chunks, whole
    Chunks { store: PathBuf, array: String, keys: Vec<String> },
    /// The blocks that hold N_ROWS rows from each FIRST_ROW on
    Blocks {
        store: PathBuf,
        array: String,
        #[arg(value_delimiter = ',', num_args = 1)]
        first_rows: Vec<u64>,
        n_rows: u64,
    },
}

#[derive(Default, Clone, Copy)]
struct Done {
    files: u64,
    blocks: u64,
    read_bytes: u64,
    decoded_bytes: u64,
}

impl Done {
    fn and(self, other: Done) -> Done {
        Done {
            files: self.files + other.files,
            blocks: self.blocks + other.blocks,
            read_bytes: self.read_bytes + other.read_bytes,
            decoded_bytes: self.decoded_bytes + other.decoded_bytes,
        }
    }
}

/// An array's directory, and what its document says.
struct Array {
    folder: PathBuf,
    /// Rows of the first axis in a chunk.
    chunk_rows: u64,
    row_bytes: u64,
}

#[derive(Default)]
struct Buffers {
    encoded: Vec<u8>,
    decoded: Vec<u8>,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

fn main() -> Result<()> {
    let args = Args::parse();
    rayon::ThreadPoolBuilder::new().num_threads(args.threads).build_global()?;
    // Per repeat: the files to read, and of each the decoded bytes that are wanted (all of them where None).
    let reads: Vec<Vec<Wanted>> = match &args.work {
        Work::All { store, array } => vec![whole(Array::open(store, array)?.files()?)],
        Work::Chunks { store, array, keys } => {
            let array = Array::open(store, array)?;
            vec![whole(keys.iter().map(|key| array.folder.join(key)).collect())]
        }
        Work::Blocks { store, array, first_rows, n_rows } => {
            let array = Array::open(store, array)?;
            let files = array.files()?;
            first_rows.iter().map(|first| array.wanted(&files, *first, *n_rows)).collect::<Result<_>>()?
        }
    };
    warm_up(&reads)?;
    let mut seconds = vec![Vec::new(); reads.len()];
    let mut done = Done::default();
    for _ in 0..args.repeat {
        done = Done::default();
        for (read, seconds) in reads.iter().zip(&mut seconds) {
            let start = Instant::now();
            let part = read.par_iter().with_max_len(1).map(decode).try_reduce(Done::default, |a, b| Ok(a.and(b)))?;
            seconds.push(start.elapsed().as_secs_f64());
            done = done.and(part);
        }
    }
    let repeats: Vec<f64> = (0..args.repeat).map(|i| seconds.iter().map(|each| each[i]).sum()).collect();
    let each: Vec<Value> = seconds.into_iter().map(|each| json!(median(each))).collect();
    println!(
        "{}",
        json!({
            "seconds": median(repeats.clone()), "repeats": repeats, "each": each, "threads": rayon::current_num_threads(),
            "files": done.files, "blocks": done.blocks,
            "read_bytes": done.read_bytes, "decoded_bytes": done.decoded_bytes,
        })
    );
    Ok(())
}

/// A file and the range of its decoded bytes that is wanted.
type Wanted = (PathBuf, Option<(u64, u64)>);

fn whole(files: Vec<PathBuf>) -> Vec<Wanted> {
    files.into_iter().map(|file| (file, None)).collect()
}

impl Array {
    fn open(store: &Path, array: &str) -> Result<Array> {
        let folder = store.join(array);
        let text = fs::read_to_string(folder.join("zarr.json")).with_context(|| format!("{}", folder.display()))?;
        // Python writes NaN, which is not JSON; none of the numbers needed here can be one.
        let document: Value = serde_json::from_str(&text.replace("NaN", "null").replace("\"null\"", "null"))?;
        let codecs: Vec<&str> =
            document["codecs"].as_array().into_iter().flatten().filter_map(|c| c["name"].as_str()).collect();
        ensure!(codecs == ["bytes", "blosc"], "the codecs are {codecs:?}; this reads bytes and blosc");
        let chunk = document["chunk_grid"]["configuration"]["chunk_shape"].as_array().context("no chunk shape")?;
        let chunk: Vec<u64> = chunk.iter().filter_map(Value::as_u64).collect();
        let item_bytes = match document["data_type"].as_str() {
            Some("int8" | "uint8" | "bool") => 1,
            Some("int16" | "uint16" | "float16") => 2,
            Some("int32" | "uint32" | "float32") => 4,
            Some("int64" | "uint64" | "float64") => 8,
            other => bail!("data type {other:?} is not known here"),
        };
        let row_bytes = chunk[1..].iter().product::<u64>() * item_bytes;
        Ok(Array { folder, chunk_rows: chunk[0], row_bytes })
    }

    /// Every chunk file, however its key is spelled.
    fn files(&self) -> Result<Vec<PathBuf>> {
        let (mut folders, mut files) = (vec![self.folder.clone()], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    folders.push(entry.path());
                } else if entry.file_name() != "zarr.json" {
                    files.push(entry.path());
                }
            }
        }
        files.sort();
        Ok(files)
    }

    /// What holds `n_rows` rows from `first` on: files, and the part of each.
    fn wanted(&self, files: &[PathBuf], first: u64, n_rows: u64) -> Result<Vec<Wanted>> {
        let mut wanted = Vec::new();
        for file in files {
            let key = file.strip_prefix(&self.folder)?.to_string_lossy().replace('.', "/");
            let row_idx: u64 = key.trim_start_matches("c/").split('/').next().unwrap_or_default().parse()?;
            let (start, end) =
                (first.max(row_idx * self.chunk_rows), (first + n_rows).min((row_idx + 1) * self.chunk_rows));
            if start < end {
                let within = |row: u64| (row - row_idx * self.chunk_rows) * self.row_bytes;
                wanted.push((file.clone(), Some((within(start), within(end)))));
            }
        }
        Ok(wanted)
    }
}

/// Starts the threads and brings their buffers, large enough for all, into memory.
fn warm_up(reads: &[Vec<Wanted>]) -> Result<()> {
    let (mut encoded, mut decoded) = (HEAD_BYTES, 0);
    for (file, _) in reads.iter().flatten() {
        let mut header = [0; HEADER_BYTES];
        let opened = File::open(file).with_context(|| format!("{}", file.display()))?;
        opened.read_exact_at(&mut header, 0)?;
        encoded = encoded.max(opened.metadata()?.len() as usize);
        decoded = decoded.max(word(&header, 4) as usize);
    }
    rayon::broadcast(|_| {
        // Not zeros, whose pages the system would only promise.
        BUFFERS.set(Buffers { encoded: vec![1; encoded + 1], decoded: vec![1; decoded] });
    });
    Ok(())
}

fn decode((file, range): &Wanted) -> Result<Done> {
    BUFFERS.with_borrow_mut(|Buffers { encoded, decoded }| {
        let opened = File::open(file)?;
        match range {
            None => decode_whole(opened, encoded, decoded),
            Some(range) => decode_blocks(&opened, *range, encoded, decoded),
        }
        .with_context(|| format!("{}", file.display()))
    })
}

#[expect(unsafe_code, reason = "the Blosc library is written in C")]
fn decode_whole(mut opened: File, encoded: &mut [u8], decoded: &mut [u8]) -> Result<Done> {
    let mut n_read = 0;
    loop {
        match opened.read(&mut encoded[n_read..])? {
            0 => break,
            n => n_read += n,
        }
    }
    let (n_bytes, block_bytes) = (word(encoded, 4), word(encoded, 8).max(1));
    ensure!(n_read as u64 == word(encoded, 12) && n_bytes <= decoded.len() as u64, "its header makes no sense");
    // SAFETY: the source holds all the bytes that its header promises, as was just seen, and the library is told the
    // length of the destination. The stores measured are our own; a hostile chunk is not looked for.
    let n = unsafe {
        blosc_src::blosc_decompress_ctx(
            encoded.as_ptr().cast(),
            decoded.as_mut_ptr().cast::<c_void>(),
            decoded.len(),
            1,
        )
    };
    ensure!(n as u64 == n_bytes, "it decodes to {n} bytes, not {n_bytes}");
    Ok(Done { files: 1, blocks: n_bytes.div_ceil(block_bytes), read_bytes: n_read as u64, decoded_bytes: n_bytes })
}

/// Brings the head and the wanted blocks to their places in a buffer as long as the file, and has those decoded: the
/// library looks at nothing else of it.
#[expect(unsafe_code, reason = "the Blosc library is written in C")]
fn decode_blocks(opened: &File, (start, end): (u64, u64), encoded: &mut [u8], decoded: &mut [u8]) -> Result<Done> {
    let mut n_read = opened.read_at(&mut encoded[..HEAD_BYTES], 0)?;
    let (item_bytes, n_bytes, block_bytes) = (u64::from(encoded[3]), word(encoded, 4), word(encoded, 8).max(1));
    let (first, last) = (start / block_bytes, end.div_ceil(block_bytes));
    let (start, end) = (first * block_bytes, (last * block_bytes).min(n_bytes));
    let head_bytes = HEADER_BYTES + 4 * n_bytes.div_ceil(block_bytes) as usize;
    let run = if encoded[2] & FLAG_STORED != 0 {
        (HEADER_BYTES + start as usize, HEADER_BYTES + end as usize)
    } else {
        if head_bytes > n_read {
            opened.read_exact_at(&mut encoded[n_read..head_bytes], n_read as u64)?;
            n_read = head_bytes;
        }
        let table: Vec<u64> =
            (0..n_bytes.div_ceil(block_bytes)).map(|i| word(encoded, HEADER_BYTES + 4 * i as usize)).collect();
        // Where several threads wrote the chunk its blocks are in any order; all that lies between is read then.
        let after = |at: u64| table.iter().copied().filter(|&other| other > at).min().unwrap_or(word(encoded, 12));
        let blocks = &table[first as usize..last as usize];
        let from = blocks.iter().copied().min().context("no block")?;
        let to = blocks.iter().map(|&at| after(at)).max().context("no block")?;
        (from as usize, to as usize)
    };
    if run.1 > n_read {
        let from = run.0.max(n_read);
        opened.read_exact_at(&mut encoded[from..run.1], from as u64)?;
        n_read += run.1 - from;
    }
    ensure!(end - start <= decoded.len() as u64, "its header makes no sense");
    // SAFETY: the head and the blocks that hold these items are in place, in a buffer as long as the file, and the
    // destination is long enough. The stores measured are our own; a hostile chunk is not looked for.
    let n = unsafe {
        blosc_src::blosc_getitem(
            encoded.as_ptr().cast(),
            (start / item_bytes) as i32,
            ((end - start) / item_bytes) as i32,
            decoded.as_mut_ptr().cast::<c_void>(),
        )
    };
    ensure!(n as u64 == end - start, "it decodes to {n} bytes, not {}", end - start);
    Ok(Done { files: 1, blocks: last - first, read_bytes: n_read as u64, decoded_bytes: end - start })
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 if values.is_empty() => 0.0,
        0 => (values[middle - 1] + values[middle]) / 2.0,
        _ => values[middle],
    }
}
