//! What a copy knows of its source: the state of each source file in which it was copied.
//!
//! A record is one file: a header, JSON, then 64-bit words in blocks, each of which ends with a CRC32C. The checksums are
//! seeded with that of the header and the position, so that a block of another record, or of an earlier state of this one,
//! is as wrong as a flipped bit. Whatever is wrong with a record costs time and never an answer: it counts as missing.

use super::CopyError;
use super::disk::{self, Out};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

/// In the folder of an array that is cut anew: the stamp of each source file, by position in their grid. No reader of Zarr
/// takes it for a chunk.
pub(super) const STAMPS: &str = ".rechunkfs";
/// In the folder of the first of them: what passes through.
pub(super) const PASSED: &str = ".rechunkfs-passed";

const MAGIC: [u8; 8] = *b"rechunk\x01";
/// Words that one checksum ends.
const BLOCK_WORDS: usize = 8192;
/// No header is longer: documents and paths.
const MOST_HEADER_BYTES: usize = 16 << 20;

/// Why there is no record to be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lost {
    /// There is none.
    Missing,
    /// It cannot be read, or is not what was written.
    Damaged,
}

/// Writes a record at `path`; the same header and words give the same bytes.
pub(super) fn write<H: Serialize>(
    path: &Path,
    header: &H,
    words: impl ExactSizeIterator<Item = u64>,
) -> Result<Out, CopyError> {
    let failed = |error| CopyError::io(path, "write it", error);
    let header = serde_json::to_vec(header).map_err(|error| failed(error.into()))?;
    let mut seed = crc32c::crc32c(&header);
    let file = disk::create(path).map_err(failed)?;
    let mut out = BufWriter::with_capacity(1 << 16, file);
    let put = |out: &mut BufWriter<Out>, bytes: &[u8]| out.write_all(bytes).map_err(failed);
    put(&mut out, &MAGIC)?;
    put(&mut out, &(header.len() as u64).to_le_bytes())?;
    put(&mut out, &(words.len() as u64).to_le_bytes())?;
    put(&mut out, &seed.to_le_bytes())?;
    put(&mut out, &header)?;
    let mut block = Vec::with_capacity(BLOCK_WORDS * 8);
    let last = words.len();
    for (nth, word) in words.enumerate() {
        block.extend(word.to_le_bytes());
        if block.len() == BLOCK_WORDS * 8 || nth + 1 == last {
            seed = crc32c::crc32c_append(seed, &block);
            put(&mut out, &block)?;
            put(&mut out, &seed.to_le_bytes())?;
            block.clear();
        }
    }
    out.into_inner().map_err(|error| failed(error.into_error()))
}

/// Reads the record at `path`: its header, and its words.
pub(super) fn read<H: DeserializeOwned>(path: &Path) -> Result<(H, Vec<u64>), Lost> {
    match File::open(path) {
        Ok(file) => read_from(file).map_err(|_| Lost::Damaged),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Lost::Missing),
        Err(_) => Err(Lost::Damaged),
    }
}

fn read_from<H: DeserializeOwned>(file: File) -> io::Result<(H, Vec<u64>)> {
    let damaged = || io::Error::from(io::ErrorKind::InvalidData);
    let file_bytes = file.metadata()?.len();
    let mut input = BufReader::with_capacity(1 << 16, file);
    let mut word = [0; 8];
    let mut next = |input: &mut BufReader<File>| -> io::Result<u64> {
        input.read_exact(&mut word)?;
        Ok(u64::from_le_bytes(word))
    };
    if next(&mut input)?.to_le_bytes() != MAGIC {
        return Err(damaged());
    }
    let (header_bytes, n_words) = (next(&mut input)?, next(&mut input)?);
    let n_blocks = n_words.div_ceil(BLOCK_WORDS as u64);
    let expected =
        n_words.checked_mul(8).and_then(|bytes| bytes.checked_add(28 + 4 * n_blocks)?.checked_add(header_bytes));
    // Nothing is allocated by what a damaged file says.
    if header_bytes > MOST_HEADER_BYTES as u64 || expected != Some(file_bytes) {
        return Err(damaged());
    }
    let checked = |input: &mut BufReader<File>, seed: u32, bytes: &[u8]| -> io::Result<u32> {
        let mut sum = [0; 4];
        input.read_exact(&mut sum)?;
        let found = crc32c::crc32c_append(seed, bytes);
        if found.to_le_bytes() == sum { Ok(found) } else { Err(damaged()) }
    };
    let mut sum = [0; 4];
    input.read_exact(&mut sum)?;
    let mut header = vec![0; header_bytes as usize];
    input.read_exact(&mut header)?;
    let mut seed = crc32c::crc32c(&header);
    if seed.to_le_bytes() != sum {
        return Err(damaged());
    }
    let mut words = Vec::with_capacity(n_words as usize);
    let mut block = vec![0; BLOCK_WORDS * 8];
    while (words.len() as u64) < n_words {
        let n = (n_words - words.len() as u64).min(BLOCK_WORDS as u64) as usize;
        input.read_exact(&mut block[..8 * n])?;
        seed = checked(&mut input, seed, &block[..8 * n])?;
        let (chunks, _) = block[..8 * n].as_chunks::<8>();
        words.extend(chunks.iter().map(|bytes| u64::from_le_bytes(*bytes)));
    }
    Ok((serde_json::from_slice(&header)?, words))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(n: u64) -> impl ExactSizeIterator<Item = u64> {
        (0..n as usize).map(|nth| (nth as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    #[test]
    fn what_was_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record");
        assert_eq!(read::<String>(&path), Err(Lost::Missing));
        for n in [0, 1, 7, BLOCK_WORDS as u64 - 1, BLOCK_WORDS as u64, 3 * BLOCK_WORDS as u64 + 5] {
            write(&path, &"header", words(n)).unwrap();
            assert_eq!(read(&path), Ok(("header".to_owned(), words(n).collect())), "{n}");
        }
    }

    #[test]
    fn a_flipped_bit_or_a_missing_end_anywhere_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record");
        write(&path, &"header", words(40)).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            for damaged in [&flipped[..], &whole[..at], &[&whole[..], &[0; 3]].concat()] {
                std::fs::write(&path, damaged).unwrap();
                assert_eq!(read::<String>(&path), Err(Lost::Damaged), "byte {at}");
            }
        }
    }
}
