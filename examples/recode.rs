//! The yardstick for copying: what decoding every source chunk and encoding every target chunk costs, with nothing around it.
//!
//!     recode encode STORE ARRAY CHUNK               decode all; encode all chunks of this shape (15,0,0,0: 0 is the whole axis)
//!     recode encode STORE ARRAY CHUNK --files DIR   and create the files, of the sizes found, in the tree that their keys make
//!     recode write  STORE ARRAY FILE                decode all; write as many bytes as were decoded to one file
//!     recode write  STORE ARRAY DIR --files CHUNK   or to the files of chunks of this shape, in the tree that their keys make
//!
//! Decoding and encoding run on all threads and stay in memory; both are with the source's codec. Between them the values
//! are brought into the order of the target chunks, which is *not* in the clock. What is written is synced once, in the clock.
//! Only for arrays of Blosc or zstd chunks without further codecs; it shares no code with the library, so that it can be
//! held against it.

use std::cell::RefCell;
use std::ffi::{CString, c_void};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};
use rayon::prelude::*;
use serde_json::{Value, json};

const WRITE_BYTES: usize = 1 << 20;

#[derive(Parser)]
#[command(about = "Times decoding, encoding and writing for themselves; prints JSON")]
struct Args {
    #[command(subcommand)]
    work: Work,
    /// Threads [default: the processors of this job]
    #[arg(long, global = true, default_value_t = 0)]
    threads: usize,
}

#[derive(Subcommand)]
enum Work {
    /// Decode all, encode all
    Encode {
        store: PathBuf,
        array: String,
        #[arg(value_delimiter = ',', num_args = 1)]
        chunk: Vec<usize>,
        /// Then create the files in this directory, which must not exist
        #[arg(long)]
        files: Option<PathBuf>,
    },
    /// Decode all, write as many bytes
    Write {
        store: PathBuf,
        array: String,
        file: PathBuf,
        /// To files for chunks of this shape, in a directory, which must not exist
        #[arg(long, value_delimiter = ',', num_args = 1)]
        files: Vec<usize>,
    },
}

enum Codec {
    Blosc { cname: CString, level: i32, shuffle: i32, item_bytes: usize, block_bytes: usize },
    Zstd { level: i32 },
}

/// An array's directory, and what its document says.
struct Array {
    folder: PathBuf,
    shape: Vec<usize>,
    chunk: Vec<usize>,
    item_bytes: usize,
    fill: Vec<u8>,
    codec: Codec,
}

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::default();
}

fn main() -> Result<()> {
    let args = Args::parse();
    rayon::ThreadPoolBuilder::new().num_threads(args.threads).build_global()?;
    let (store, name) = match &args.work {
        Work::Encode { store, array, .. } | Work::Write { store, array, .. } => (store, array),
    };
    let array = Array::open(store, name)?;
    let files = array.files()?;
    // Once without a clock: threads and their buffers are there then.
    files
        .par_iter()
        .take_any(4 * rayon::current_num_threads())
        .try_for_each(|(file, _)| array.decoded(file, |_| ()))?;
    let start = Instant::now();
    files.par_iter().with_max_len(1).try_for_each(|(file, _)| array.decoded(file, |_| ()))?;
    let decode_seconds = start.elapsed().as_secs_f64();
    let mut found = json!({"source_chunks": files.len(), "decode_seconds": decode_seconds});
    let mut seconds = decode_seconds;
    match &args.work {
        Work::Encode { chunk, files: folder, .. } => {
            let chunk = array.chunk_shape(chunk)?;
            let values = array.reordered(&files, &chunk)?;
            let chunk_bytes = chunk.iter().product::<usize>() * array.item_bytes;
            let start = Instant::now();
            let sizes =
                values.par_chunks(chunk_bytes).map(|one| array.codec.encoded_bytes(one)).collect::<Result<Vec<_>>>()?;
            let encode_seconds = start.elapsed().as_secs_f64();
            seconds += encode_seconds;
            found["encode_seconds"] = encode_seconds.into();
            found["chunks"] = sizes.len().into();
            found["encoded_bytes"] = sizes.iter().sum::<usize>().into();
            if let Some(folder) = folder {
                let took = create(folder, &grid(&array.shape, &chunk), &sizes)?;
                seconds += took;
                found["create_seconds"] = took.into();
            }
        }
        Work::Write { file, files: chunk, .. } => {
            let n_bytes = array.shape.iter().product::<usize>() * array.item_bytes;
            let took = if chunk.is_empty() {
                write(file, n_bytes)?
            } else {
                let chunk = array.chunk_shape(chunk)?;
                let grid = grid(&array.shape, &chunk);
                let chunk_bytes = chunk.iter().product::<usize>() * array.item_bytes;
                create(file, &grid, &vec![chunk_bytes; grid.iter().product()])?
            };
            seconds += took;
            found["write_seconds"] = took.into();
            found["written_bytes"] = n_bytes.into();
        }
    }
    found["seconds"] = seconds.into();
    println!("{found}");
    Ok(())
}

fn grid(shape: &[usize], chunk: &[usize]) -> Vec<usize> {
    shape.iter().zip(chunk).map(|(n, c)| n.div_ceil(*c)).collect()
}

/// The place of each axis's index, where the last axis runs fastest.
fn strides(lengths: &[usize]) -> Vec<usize> {
    (0..lengths.len()).map(|axis| lengths[axis + 1..].iter().product()).collect()
}

impl Array {
    fn open(store: &Path, array: &str) -> Result<Array> {
        let folder = store.join(array);
        let text = fs::read_to_string(folder.join("zarr.json")).with_context(|| format!("{}", folder.display()))?;
        // Python writes NaN, which is not JSON, into attributes; as text it does no harm.
        let document: Value = serde_json::from_str(&text.replace("\"NaN\"", "NaN").replace("NaN", "\"NaN\""))?;
        let codecs: Vec<&Value> = document["codecs"].as_array().into_iter().flatten().collect();
        let names: Vec<&str> = codecs.iter().filter_map(|codec| codec["name"].as_str()).collect();
        let lengths = |value: &Value| -> Vec<usize> {
            value.as_array().into_iter().flatten().filter_map(|n| n.as_u64().map(|n| n as usize)).collect()
        };
        let (item_bytes, nan) = match document["data_type"].as_str() {
            Some("uint8") => (1, None),
            Some("int32" | "uint32") => (4, None),
            Some("float32") => (4, Some(f32::NAN.to_le_bytes().to_vec())),
            Some("float64") => (8, Some(f64::NAN.to_le_bytes().to_vec())),
            other => bail!("data type {other:?} is not known here"),
        };
        let fill = match &document["fill_value"] {
            Value::String(text) if text == "NaN" => nan.context("NaN as an integer")?,
            value if value.as_f64() == Some(0.0) => vec![0; item_bytes],
            other => bail!("fill value {other} is not known here"),
        };
        let codec = match names[..] {
            ["bytes", "blosc"] => Codec::blosc(&codecs[1]["configuration"])?,
            ["bytes", "zstd"] => {
                Codec::Zstd { level: codecs[1]["configuration"]["level"].as_i64().unwrap_or(3) as i32 }
            }
            _ => bail!("the codecs are {names:?}; this reads bytes, and blosc or zstd"),
        };
        let chunk = lengths(&document["chunk_grid"]["configuration"]["chunk_shape"]);
        Ok(Array { folder, shape: lengths(&document["shape"]), chunk, item_bytes, fill, codec })
    }

    /// Every chunk file and its place in the grid.
    fn files(&self) -> Result<Vec<(PathBuf, Vec<usize>)>> {
        let (mut folders, mut files) = (vec![self.folder.clone()], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                // Follows links: a store for other readers may be made of them.
                if path.is_dir() {
                    folders.push(path);
                } else if path.file_name().is_some_and(|name| name != "zarr.json") {
                    let key = path.strip_prefix(&self.folder)?.to_string_lossy().replace('.', "/");
                    let place = key.split('/').skip(1).map(str::parse).collect::<Result<_, _>>()?;
                    files.push((path, place));
                }
            }
        }
        files.sort();
        Ok(files)
    }

    /// A chunk shape as it was typed, where 0 is the whole axis.
    fn chunk_shape(&self, typed: &[usize]) -> Result<Vec<usize>> {
        ensure!(typed.len() == self.shape.len(), "the shape has {} axes", self.shape.len());
        Ok(typed.iter().zip(&self.shape).map(|(&c, &n)| if c == 0 { n } else { c }).collect())
    }

    /// Opens, reads and decodes a chunk into a buffer of this thread, and shows it.
    fn decoded<T>(&self, file: &Path, show: impl FnOnce(&[u8]) -> T) -> Result<T> {
        let n_bytes = self.chunk.iter().product::<usize>() * self.item_bytes;
        let encoded = fs::read(file)?;
        BUFFER.with_borrow_mut(|buffer| {
            buffer.resize(n_bytes, 0);
            self.codec.decode(&encoded, buffer).with_context(|| format!("{}", file.display()))?;
            Ok(show(buffer))
        })
    }

    /// All values, chunk after chunk of the new shape, the last ones padded with the fill value.
    fn reordered(&self, files: &[(PathBuf, Vec<usize>)], chunk: &[usize]) -> Result<Vec<u8>> {
        let grid = grid(&self.shape, chunk);
        let chunk_items = chunk.iter().product::<usize>();
        let mut values = self.fill.repeat(grid.iter().product::<usize>() * chunk_items);
        let (across, within) = (strides(&grid), strides(chunk));
        // Where an element goes is a sum with one term for each axis.
        let terms: Vec<Vec<usize>> = (0..chunk.len())
            .map(|axis| {
                let place = |i: usize| i / chunk[axis] * across[axis] * chunk_items + i % chunk[axis] * within[axis];
                (0..self.shape[axis]).map(place).collect()
            })
            .collect();
        for (file, place) in files {
            let first: Vec<usize> = place.iter().zip(&self.chunk).map(|(i, c)| i * c).collect();
            self.decoded(file, |items| self.scatter(items, &first, 0, 0, &terms, &mut values))?;
        }
        Ok(values)
    }

    fn scatter(
        &self,
        items: &[u8],
        first: &[usize],
        axis: usize,
        base: usize,
        terms: &[Vec<usize>],
        values: &mut [u8],
    ) {
        let n_bytes = self.item_bytes;
        let step = self.chunk[axis + 1..].iter().product::<usize>() * n_bytes;
        let inside = terms[axis].iter().skip(first[axis]);
        for (part, term) in items.chunks_exact(step).zip(inside) {
            if axis + 1 == terms.len() {
                let to = (base + term) * n_bytes;
                values[to..to + n_bytes].copy_from_slice(part);
            } else {
                self.scatter(part, first, axis + 1, base + term, terms, values);
            }
        }
    }
}

impl Codec {
    fn blosc(configuration: &Value) -> Result<Codec> {
        let number = |name: &str| configuration[name].as_u64().unwrap_or_default() as usize;
        let shuffle = match configuration["shuffle"].as_str() {
            Some("noshuffle") => 0,
            Some("shuffle") => 1,
            Some("bitshuffle") => 2,
            other => bail!("shuffle {other:?}"),
        };
        Ok(Codec::Blosc {
            cname: CString::new(configuration["cname"].as_str().context("no cname")?)?,
            level: number("clevel") as i32,
            shuffle,
            item_bytes: number("typesize").max(1),
            block_bytes: number("blocksize"),
        })
    }

    #[expect(unsafe_code, reason = "the Blosc library is written in C")]
    fn decode(&self, encoded: &[u8], decoded: &mut [u8]) -> Result<()> {
        let n = match self {
            Codec::Zstd { .. } => zstd::bulk::decompress_to_buffer(encoded, decoded)?,
            Codec::Blosc { .. } => {
                ensure!(encoded.len() >= 16, "no header");
                ensure!(
                    u32::from_le_bytes([encoded[12], encoded[13], encoded[14], encoded[15]]) as usize == encoded.len(),
                    "its header makes no sense"
                );
                let (from, to) = (encoded.as_ptr().cast(), decoded.as_mut_ptr().cast::<c_void>());
                // SAFETY: the source holds all the bytes that its header promises, as was just seen, and the library is
                // told the length of the destination. The stores measured are our own; a hostile chunk is not looked for.
                (unsafe { blosc_src::blosc_decompress_ctx(from, to, decoded.len(), 1) }).max(0) as usize
            }
        };
        ensure!(n == decoded.len(), "it decodes to {n} bytes, not {}", decoded.len());
        Ok(())
    }

    /// Encodes into a buffer of this thread, and forgets it.
    #[expect(unsafe_code, reason = "the Blosc library is written in C")]
    fn encoded_bytes(&self, decoded: &[u8]) -> Result<usize> {
        BUFFER.with_borrow_mut(|buffer| match self {
            Codec::Zstd { level } => {
                buffer.resize(zstd::zstd_safe::compress_bound(decoded.len()), 0);
                Ok(zstd::bulk::compress_to_buffer(decoded, &mut buffer[..], *level)?)
            }
            Codec::Blosc { cname, level, shuffle, item_bytes, block_bytes } => {
                buffer.resize(decoded.len() + blosc_src::BLOSC_MAX_OVERHEAD as usize, 0);
                let (from, to) = (decoded.as_ptr().cast(), buffer.as_mut_ptr().cast::<c_void>());
                // SAFETY: both lengths are those of the slices, and the name ends with a zero.
                let n = unsafe {
                    blosc_src::blosc_compress_ctx(
                        *level,
                        *shuffle,
                        *item_bytes,
                        decoded.len(),
                        from,
                        to,
                        buffer.len(),
                        cname.as_ptr(),
                        *block_bytes,
                        1,
                    )
                };
                ensure!(n > 0, "Blosc gives {n}");
                Ok(n as usize)
            }
        })
    }
}

/// Creates a file for each chunk on all threads, in the directories of its key. Returns the seconds, a sync with them.
fn create(folder: &Path, grid: &[usize], sizes: &[usize]) -> Result<f64> {
    let noise: Vec<u8> =
        (0..sizes.iter().copied().max().unwrap_or(0)).map(|i| ((i * 2_654_435_761) >> 7) as u8).collect();
    let strides = strides(grid);
    let start = Instant::now();
    fs::create_dir(folder)?;
    sizes.par_iter().enumerate().try_for_each(|(chunk, &n_bytes)| {
        let mut path = folder.join("c");
        path.extend(strides.iter().zip(grid).map(|(stride, length)| (chunk / stride % length).to_string()));
        let parent = path.parent().context("no directory")?;
        fs::create_dir_all(parent)?;
        fs::write(&path, &noise[..n_bytes]).with_context(|| format!("{}", path.display()))
    })?;
    rustix::fs::syncfs(File::open(folder)?)?;
    Ok(start.elapsed().as_secs_f64())
}

/// Writes one file, and syncs it. Returns the seconds.
fn write(path: &Path, n_bytes: usize) -> Result<f64> {
    let buffer: Vec<u8> = (0..WRITE_BYTES).map(|i| ((i * 2_654_435_761) >> 7) as u8).collect();
    let start = Instant::now();
    let mut file = File::create(path)?;
    let mut left = n_bytes;
    while left > 0 {
        let n = left.min(buffer.len());
        file.write_all(&buffer[..n])?;
        left -= n;
    }
    file.sync_all()?;
    Ok(start.elapsed().as_secs_f64())
}
