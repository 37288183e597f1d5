//! From the encoded bytes of a leaf to the wanted elements: by range, by block, or whole.

use super::super::blosc::{HEADER_BYTES, Header};
use super::super::codecs::{LeafCodec, READ_BYTES, most_encoded_bytes, unwrap};
use super::super::{Counters, SourceError, stream};
use super::{ArrayReader, RAW_BLOCK_BYTES};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::time::Instant;

/// A Blosc leaf up to here is read at once: less than what the other requests would cost.
const SMALL_BYTES: u64 = 64 << 10;
/// Of a longer one, header and most block tables: a page is no dearer than a few bytes of it.
const HEAD_BYTES: u64 = 4 << 10;

impl ArrayReader {
    /// Decodes elements `range` of the leaf whose encoded bytes lie at `offset..offset + len` of `opened`.
    pub(super) fn read_encoded(
        &self,
        opened: &File,
        file: &[u64],
        offset: u64,
        len: u64,
        range: (u64, u64),
        out: &mut [u8],
    ) -> Result<(), SourceError> {
        let item_bytes = self.array.item_bytes as u64;
        let (start, end) = (range.0 * item_bytes, range.1 * item_bytes);
        match &self.codec {
            LeafCodec::Raw => {
                if len != self.leaf_bytes {
                    return Err(self.corrupt(
                        file,
                        format!("an uncompressed chunk of {len} bytes where {} are expected", self.leaf_bytes),
                    ));
                }
                self.pread(opened, file, offset + start, out)?;
                self.count_decoded(end.div_ceil(RAW_BLOCK_BYTES) - start / RAW_BLOCK_BYTES, end - start);
                Ok(())
            }
            _ if len > most_encoded_bytes(self.leaf_bytes) => {
                Err(self.corrupt(file, format!("{len} encoded bytes for a chunk of {}", self.leaf_bytes)))
            }
            LeafCodec::Blosc(_) if len >= HEADER_BYTES as u64 => {
                let mut head = vec![0; if len <= SMALL_BYTES { len } else { HEAD_BYTES } as usize];
                self.pread(opened, file, offset, &mut head)?;
                let Some(raw) = head.first_chunk() else { return Err(self.corrupt(file, "it ends early".into())) };
                let header = self.header(raw, len).map_err(|why| self.corrupt(file, why))?;
                let encoded = Headed { opened, file, offset, head };
                if header.is_stored() {
                    self.count_decoded(header.touched(start, end).count() as u64, end - start);
                    return self.fetch(&encoded, HEADER_BYTES as u64 + start, out);
                }
                self.read_blosc(&encoded, &header, (start, end), out)
            }
            LeafCodec::Stream(format, after) => {
                let mut span = Span { opened, at: offset, end: offset + len, counters: &self.counters };
                let decoded = if after.is_empty() {
                    let mut encoded = BufReader::with_capacity(READ_BYTES.min(len.max(1)) as usize, span);
                    stream::decode(*format, &mut encoded, self.leaf_bytes, start, out)
                } else {
                    let mut encoded = Vec::with_capacity(len as usize);
                    span.read_to_end(&mut encoded).and_then(|_| {
                        let encoded = unwrap(after, encoded).map_err(io::Error::other)?;
                        stream::decode(*format, &mut encoded.as_slice(), self.leaf_bytes, start, out)
                    })
                };
                let decoded = decoded.map_err(|error| match error.raw_os_error() {
                    Some(_) => self.io(file, "read it", error),
                    None => self.corrupt(file, error.to_string()),
                })?;
                self.count_decoded(1, decoded);
                Ok(())
            }
            codec => {
                let mut encoded = vec![0; len as usize];
                self.pread(opened, file, offset, &mut encoded)?;
                let decoded = codec.decode(encoded, self.leaf_bytes).map_err(|why| self.corrupt(file, why))?;
                self.count_decoded(1, self.leaf_bytes);
                if decoded.len() as u64 != self.leaf_bytes {
                    return Err(
                        self.corrupt(file, format!("it decodes to {} bytes, not {}", decoded.len(), self.leaf_bytes))
                    );
                }
                out.copy_from_slice(&decoded[start as usize..end as usize]);
                Ok(())
            }
        }
    }

    /// Decodes the blocks that hold decoded bytes `start..end` of a Blosc chunk.
    fn read_blosc(
        &self,
        encoded: &Headed<'_>,
        header: &Header,
        (start, end): (u64, u64),
        out: &mut [u8],
    ) -> Result<(), SourceError> {
        let file = encoded.file;
        let wanted = header.touched(start, end);
        let mut table = vec![0; 4 * header.n_blocks() as usize];
        self.fetch(encoded, HEADER_BYTES as u64, &mut table)?;
        let blocks = header.locate(&table, &wanted).map_err(|why| self.corrupt(file, why))?;
        let mut miniature = header.miniature(&blocks);
        let mut block = 0;
        while block < blocks.encoded.len() {
            let run_start = blocks.encoded[block].start;
            let mut run_end = blocks.encoded[block].end;
            block += 1;
            while block < blocks.encoded.len() && blocks.encoded[block].start == run_end {
                run_end = blocks.encoded[block].end;
                block += 1;
            }
            let at = miniature.len();
            miniature.resize(at + (run_end - run_start) as usize, 0);
            self.fetch(encoded, run_start, &mut miniature[at..])?;
        }
        let part = header.decoded(&wanted);
        let decoded = self.codec.decode(miniature, part.end - part.start).map_err(|why| self.corrupt(file, why))?;
        self.count_decoded(wanted.end - wanted.start, part.end - part.start);
        if decoded.len() as u64 != part.end - part.start {
            return Err(self.corrupt(
                file,
                format!("blosc blocks decode to {} bytes, not {}", decoded.len(), part.end - part.start),
            ));
        }
        out.copy_from_slice(&decoded[(start - part.start) as usize..(end - part.start) as usize]);
        Ok(())
    }

    /// Reads encoded bytes of a leaf, from its head where they are in it.
    fn fetch(&self, encoded: &Headed<'_>, at: u64, out: &mut [u8]) -> Result<(), SourceError> {
        match encoded.head.get(at as usize..).and_then(|rest| rest.get(..out.len())) {
            Some(bytes) => out.copy_from_slice(bytes),
            None => self.pread(encoded.opened, encoded.file, encoded.offset + at, out)?,
        }
        Ok(())
    }
}

/// The encoded bytes of one leaf: its first ones are read already.
struct Headed<'a> {
    opened: &'a File,
    file: &'a [u64],
    offset: u64,
    head: Vec<u8>,
}

/// The encoded bytes of one leaf, read in order.
struct Span<'a> {
    opened: &'a File,
    at: u64,
    end: u64,
    counters: &'a Counters,
}

impl Read for Span<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let wanted = out.len().min((self.end - self.at) as usize);
        if wanted == 0 {
            return Ok(0);
        }
        let began = Instant::now();
        let n = self.opened.read_at(&mut out[..wanted], self.at)?;
        Counters::add(&self.counters.read_ns, began.elapsed().as_nanos() as u64);
        if n == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ends early"));
        }
        self.at += n as u64;
        Counters::add(&self.counters.read_bytes, n as u64);
        Ok(n)
    }
}
