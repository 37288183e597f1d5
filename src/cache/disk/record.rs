//! The format of a record: a header, then a stream of bytes in blocks that each end with a checksum.
//!
//! The stream is a table of section borders, then the sections. Checksums stand with what they protect, so that any
//! range is read with one `pread` and verified without the rest; nothing of a record is held in memory. They are
//! seeded with the header and the block's position: a block of another record, or of an earlier state of this one
//! that a crash brought back, is as wrong as a flipped bit.

use crc32c::{crc32c, crc32c_append};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::atomic::AtomicU64;

const MAGIC: [u8; 12] = *b"rechunkfs\0\x01\0";
const HEADER_BYTES: u64 = 80;
const SUM_BYTES: usize = 4;
/// Bytes in the file that one checksum ends: small, since a read of any size verifies at least one such block.
const BLOCK_BYTES: usize = 16 << 10;
/// Bytes of the stream in a block.
const DATA_BYTES: u64 = (BLOCK_BYTES - SUM_BYTES) as u64;
/// Blocks read, or written, at a time.
const WINDOW_BLOCKS: u64 = 16;

/// What a record is called: a number in a family of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Name {
    /// What all records of the family have in common.
    pub family: u128,
    /// Which one.
    pub number: u64,
}

/// Why a range of a record cannot be had.
#[derive(Debug)]
pub(super) enum Fault {
    /// It is not what was written.
    Damaged(&'static str),
    /// The operating system refused.
    Io(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof { Fault::Damaged("it ends early") } else { Fault::Io(error) }
    }
}

/// An open record.
#[derive(Debug)]
pub struct Record {
    pub(super) name: Name,
    pub(super) version: u128,
    pub(super) file: File,
    /// When it was last marked as used, seconds since the start of the process.
    pub(super) marked_s: AtomicU64,
    seed: u32,
    n_sections: u64,
    stream_bytes: u64,
}

impl Record {
    /// Reads the header of what should be record `name`.
    pub(super) fn open(file: File, name: Name) -> Result<Self, Fault> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(Fault::Damaged("it is no regular file"));
        }
        let mut header = [0; HEADER_BYTES as usize];
        file.read_exact_at(&mut header, 0)?;
        let (fields, sum) = header.split_at(HEADER_BYTES as usize - SUM_BYTES);
        if crc32c(fields).to_le_bytes() != *sum || fields[..MAGIC.len()] != MAGIC {
            return Err(Fault::Damaged("its header is wrong"));
        }
        let mut fields = Fields(&fields[MAGIC.len()..]);
        let found = Name { family: fields.u128(), number: fields.u64() };
        let (version, _nonce) = (fields.u128(), fields.u64());
        let (n_sections, stream_bytes) = (fields.u64(), fields.u64());
        if found != name {
            return Err(Fault::Damaged("it is another record"));
        }
        if metadata.len() != file_bytes(stream_bytes) || table_bytes(n_sections) > stream_bytes {
            return Err(Fault::Damaged("it has a wrong length"));
        }
        let seed = u32::from_le_bytes([sum[0], sum[1], sum[2], sum[3]]);
        Ok(Record { name, version, file, marked_s: AtomicU64::new(0), seed, n_sections, stream_bytes })
    }

    /// Number of sections, empty ones included.
    pub fn n_sections(&self) -> u64 {
        self.n_sections
    }

    /// Where section `nth` lies in the stream.
    pub(super) fn section(&self, nth: u64) -> Result<(u64, u64), Fault> {
        if nth >= self.n_sections {
            return Ok((0, 0));
        }
        let mut entry = Vec::with_capacity(16);
        self.read(nth * 8, 16, &mut entry)?;
        let mut entry = Fields(&entry);
        let (start, end) = (entry.u64(), entry.u64());
        if start > end || end > self.stream_bytes {
            return Err(Fault::Damaged("its table is wrong"));
        }
        Ok((start, end))
    }

    /// Appends `len` bytes of the stream from `start` to `out`, all of them or none.
    pub(super) fn read(&self, start: u64, len: u64, out: &mut Vec<u8>) -> Result<(), Fault> {
        let held = out.len();
        let read = self.read_blocks(start, start + len, out);
        if read.is_err() {
            out.truncate(held);
        }
        read
    }

    fn read_blocks(&self, start: u64, end: u64, out: &mut Vec<u8>) -> Result<(), Fault> {
        let mut window = Vec::new();
        let mut at = start;
        while at < end {
            let first = at / DATA_BYTES;
            let last = end.div_ceil(DATA_BYTES).min(first + WINDOW_BLOCKS);
            let stop = (last * DATA_BYTES).min(self.stream_bytes);
            window.resize((stop - first * DATA_BYTES) as usize + (last - first) as usize * SUM_BYTES, 0);
            self.file.read_exact_at(&mut window, HEADER_BYTES + first * BLOCK_BYTES as u64)?;
            for (block, nth) in window.chunks(BLOCK_BYTES).zip(first..) {
                let (data, sum) = block.split_at(block.len() - SUM_BYTES);
                if block_sum(self.seed, nth, data).to_le_bytes() != *sum {
                    return Err(Fault::Damaged("a checksum is wrong"));
                }
                let origin = nth * DATA_BYTES;
                let from = at.saturating_sub(origin) as usize;
                let to = ((end - origin) as usize).min(data.len());
                out.extend_from_slice(&data[from..to]);
            }
            at = stop;
        }
        Ok(())
    }
}

/// Bytes of the file of a record with sections of these lengths.
pub(super) fn bytes_of(lens: &[u64]) -> u64 {
    file_bytes(table_bytes(lens.len() as u64) + lens.iter().sum::<u64>())
}

fn file_bytes(stream_bytes: u64) -> u64 {
    (HEADER_BYTES + SUM_BYTES as u64 * stream_bytes.div_ceil(DATA_BYTES)).saturating_add(stream_bytes)
}

fn table_bytes(n_sections: u64) -> u64 {
    n_sections.saturating_add(1).saturating_mul(8)
}

/// The checksum of block `nth`.
fn block_sum(seed: u32, nth: u64, data: &[u8]) -> u32 {
    crc32c_append(crc32c_append(seed, &nth.to_le_bytes()), data)
}

/// Writes the bytes of a section.
pub type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> io::Result<()>;

/// Writes a record of sections of the given lengths; `section` writes those of one. `nonce` is another for each
/// record ever written.
pub(super) fn write(
    file: &mut File,
    (name, version, nonce): (Name, u128, u64),
    lens: &[u64],
    section: &mut dyn FnMut(usize, Sink<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let n_sections = lens.len() as u64;
    let stream_bytes = table_bytes(n_sections) + lens.iter().sum::<u64>();
    let mut header = MAGIC.to_vec();
    header.extend(name.family.to_le_bytes());
    header.extend(name.number.to_le_bytes());
    header.extend(version.to_le_bytes());
    header.extend([nonce, n_sections, stream_bytes].iter().flat_map(|field| field.to_le_bytes()));
    let seed = crc32c(&header);
    header.extend(seed.to_le_bytes());
    file.write_all(&header)?;
    let window = Vec::with_capacity(WINDOW_BLOCKS as usize * BLOCK_BYTES);
    let mut blocks = Blocks { file, seed, nth: 0, window, block_start: 0, written_bytes: 0 };
    let mut border = table_bytes(n_sections);
    blocks.put(&border.to_le_bytes())?;
    for len in lens {
        border += len;
        blocks.put(&border.to_le_bytes())?;
    }
    for (nth, len) in lens.iter().enumerate().filter(|(_, len)| **len > 0) {
        let end = blocks.written_bytes + len;
        section(nth, &mut |bytes| blocks.put(bytes))?;
        if blocks.written_bytes != end {
            return Err(io::Error::other("a section is not as long as was said"));
        }
    }
    blocks.finish()
}

/// Cuts what is put into it into blocks.
struct Blocks<'a> {
    file: &'a mut File,
    seed: u32,
    nth: u64,
    /// Whole blocks, and the one begun at `block_start`.
    window: Vec<u8>,
    block_start: usize,
    written_bytes: u64,
}

impl Blocks<'_> {
    fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.written_bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            let room = self.block_start + DATA_BYTES as usize - self.window.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.window.extend_from_slice(now);
            bytes = later;
            if now.len() == room {
                self.end_block()?;
            }
        }
        Ok(())
    }

    fn end_block(&mut self) -> io::Result<()> {
        let sum = block_sum(self.seed, self.nth, &self.window[self.block_start..]);
        self.window.extend_from_slice(&sum.to_le_bytes());
        self.nth += 1;
        self.block_start = self.window.len();
        if self.window.len() == WINDOW_BLOCKS as usize * BLOCK_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.window)?;
        self.window.clear();
        self.block_start = 0;
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        if self.window.len() > self.block_start {
            self.end_block()?;
        }
        self.flush()
    }
}

/// Little-endian numbers, one after the other; the caller has counted the bytes.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn u64(&mut self) -> u64 {
        let (field, rest) = self.0.split_first_chunk().unwrap_or((&[0; 8], &[]));
        self.0 = rest;
        u64::from_le_bytes(*field)
    }

    fn u128(&mut self) -> u128 {
        u128::from(self.u64()) | u128::from(self.u64()) << 64
    }
}

#[cfg(test)]
mod tests;
