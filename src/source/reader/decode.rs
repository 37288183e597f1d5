//! From the encoded bytes of a leaf to the wanted elements: by range, by block, or whole.

use super::super::blosc::{Decoder, HEADER_BYTES, Header};
use super::super::codecs::{LeafCodec, READ_BYTES, most_encoded_bytes, unwrap};
use super::super::objects::is_of_the_store;
use super::super::{Counters, SourceError, stream};
use super::{ArrayReader, Opened, RAW_BLOCK_BYTES};
use std::io::{self, BufReader, Read};
use std::ops::Range;
use std::time::Instant;

/// A leaf up to here is read at once: less than what further requests would cost.
pub(super) const SMALL_BYTES: u64 = 64 << 10;
/// Of a longer Blosc leaf, header and most block tables: a page is no dearer than a few bytes of it.
pub(super) const HEAD_BYTES: u64 = 4 << 10;
/// Encoded blocks that are read together, one at the least.
const RUN_BYTES: u64 = 1 << 20;

/// Memory in which leaves are read and decoded, used again from one to the next.
#[derive(Debug, Default)]
pub struct Workspace {
    pub(super) head: Vec<u8>,
    pub(super) decoding: Decoding,
}

/// The part of it that decoding takes.
#[derive(Debug, Default)]
pub(super) struct Decoding {
    /// Encoded blocks.
    run: Vec<u8>,
    decoder: Decoder,
}

impl Workspace {
    /// Bytes that it keeps.
    pub fn bytes(&self) -> u64 {
        (self.head.capacity() + self.decoding.run.capacity()) as u64 + self.decoding.decoder.bytes()
    }
}

/// The encoded bytes of one leaf; the first ones are read already, of a small leaf all.
#[derive(Debug, Clone, Copy)]
pub(super) struct Encoded<'a> {
    pub(super) opened: &'a Opened,
    pub(super) file: &'a [u64],
    pub(super) offset: u64,
    pub(super) len: u64,
    pub(super) head: &'a [u8],
}

impl ArrayReader {
    /// How many of a leaf's first bytes are read before anything else.
    pub(super) fn head_bytes(&self, len: u64) -> u64 {
        match &self.codec {
            // Any range can be read for itself.
            LeafCodec::Raw => 0,
            _ if len <= SMALL_BYTES => len,
            LeafCodec::Blosc(_) => HEAD_BYTES,
            _ => 0,
        }
    }

    /// Reads the first bytes of a leaf into `buffer`.
    pub(super) fn head<'b>(
        &self,
        opened: &Opened,
        file: &[u64],
        offset: u64,
        len: u64,
        buffer: &'b mut Vec<u8>,
    ) -> Result<&'b [u8], SourceError> {
        let head = prefix(buffer, self.head_bytes(len));
        if !head.is_empty() {
            self.pread(opened, file, offset, head)?;
        }
        Ok(head)
    }

    /// Reads as much of a file as makes a small leaf into `buffer`. Returns how many bytes there were.
    pub(super) fn read_start(&self, opened: &Opened, file: &[u64], buffer: &mut Vec<u8>) -> Result<usize, SourceError> {
        let began = Instant::now();
        let read = self.counters.calls.during(|| opened.read_at(prefix(buffer, SMALL_BYTES), 0));
        let n = read.map_err(|error| self.unread(file, error))?;
        Counters::add(&self.counters.read_ns, began.elapsed().as_nanos() as u64);
        Counters::add(&self.counters.read_bytes, n as u64);
        Ok(n)
    }

    pub(super) fn pread(&self, opened: &Opened, file: &[u64], offset: u64, out: &mut [u8]) -> Result<(), SourceError> {
        Counters::add(&self.counters.read_bytes, out.len() as u64);
        let began = Instant::now();
        let read = self.counters.calls.during(|| opened.read_exact_at(out, offset));
        Counters::add(&self.counters.read_ns, began.elapsed().as_nanos() as u64);
        read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.corrupt(file, "it ends early".into()),
            _ => self.unread(file, error),
        })
    }

    /// Decodes elements `range` of a leaf.
    pub(super) fn decode(
        &self,
        encoded: &Encoded<'_>,
        range: (u64, u64),
        decoding: &mut Decoding,
        out: &mut [u8],
    ) -> Result<(), SourceError> {
        let item_bytes = self.array.item_bytes as u64;
        let (start, end) = (range.0 * item_bytes, range.1 * item_bytes);
        let (file, len) = (encoded.file, encoded.len);
        match &self.codec {
            LeafCodec::Raw => {
                if len != self.leaf_bytes {
                    return Err(self.corrupt(
                        file,
                        format!("an uncompressed chunk of {len} bytes where {} are expected", self.leaf_bytes),
                    ));
                }
                self.fetch(encoded, start, out)?;
                self.count_decoded(end.div_ceil(RAW_BLOCK_BYTES) - start / RAW_BLOCK_BYTES, end - start);
                Ok(())
            }
            _ if len > most_encoded_bytes(self.leaf_bytes) => {
                Err(self.corrupt(file, format!("{len} encoded bytes for a chunk of {}", self.leaf_bytes)))
            }
            LeafCodec::Blosc(_) if len >= HEADER_BYTES as u64 => {
                let Some(raw) = encoded.head.first_chunk() else {
                    return Err(self.corrupt(file, "it ends early".into()));
                };
                let header = self.header(raw, len).map_err(|why| self.corrupt(file, why))?;
                if header.is_stored() {
                    self.count_decoded(header.touched(start, end).count() as u64, end - start);
                    return self.fetch(encoded, HEADER_BYTES as u64 + start, out);
                }
                self.decode_blosc(encoded, &header, (start, end), decoding, out)
            }
            LeafCodec::Stream(format, after) => {
                let span = Span {
                    opened: encoded.opened,
                    at: encoded.offset,
                    end: encoded.offset + len,
                    counters: &self.counters,
                };
                let decoded = if !after.is_empty() {
                    let encoded = self.fetch_all(encoded)?;
                    let encoded = unwrap(after, encoded).map_err(|why| self.corrupt(file, why))?;
                    stream::decode(*format, &mut encoded.as_slice(), self.leaf_bytes, start, out)
                } else if encoded.head.len() as u64 == len {
                    stream::decode(*format, &mut &*encoded.head, self.leaf_bytes, start, out)
                } else {
                    let mut encoded = BufReader::with_capacity(READ_BYTES.min(len.max(1)) as usize, span);
                    stream::decode(*format, &mut encoded, self.leaf_bytes, start, out)
                };
                let decoded = decoded.map_err(|error| match is_of_the_store(&error) {
                    true => self.unread(file, error),
                    false => self.corrupt(file, error.to_string()),
                })?;
                self.count_decoded(1, decoded);
                Ok(())
            }
            codec => {
                let encoded = self.fetch_all(encoded)?;
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
    fn decode_blosc(
        &self,
        encoded: &Encoded<'_>,
        header: &Header,
        (start, end): (u64, u64),
        Decoding { run, decoder }: &mut Decoding,
        out: &mut [u8],
    ) -> Result<(), SourceError> {
        let file = encoded.file;
        let corrupt = |why| self.corrupt(file, why);
        let wanted = header.touched(start, end);
        let table = prefix(run, 4 * header.n_blocks());
        self.fetch(encoded, HEADER_BYTES as u64, table)?;
        let blocks = header.locate(table, &wanted).map_err(corrupt)?;
        let part = header.decoded(&wanted);
        self.count_decoded(wanted.end - wanted.start, part.end - part.start);
        if !header.has_plain_blocks() {
            let mut miniature = header.miniature(&blocks);
            let mut at = miniature.len();
            miniature.resize(at + blocks.encoded_bytes() as usize, 0);
            for within in runs(&blocks.encoded, u64::MAX) {
                let (from, len) = span_of(&blocks.encoded[within]);
                self.fetch(encoded, from, &mut miniature[at..][..len])?;
                at += len;
            }
            let decoded = self.codec.decode(miniature, part.end - part.start).map_err(corrupt)?;
            if decoded.len() as u64 != part.end - part.start {
                let why = format!("blosc blocks decode to {} bytes, not {}", decoded.len(), part.end - part.start);
                return Err(corrupt(why));
            }
            out.copy_from_slice(&decoded[(start - part.start) as usize..(end - part.start) as usize]);
            return Ok(());
        }
        for within in runs(&blocks.encoded, RUN_BYTES) {
            let (from, len) = span_of(&blocks.encoded[within.clone()]);
            let bytes: &[u8] = match encoded.head.get(from as usize..from as usize + len) {
                Some(bytes) => bytes,
                None => {
                    let bytes = prefix(run, len as u64);
                    self.pread(encoded.opened, file, encoded.offset + from, bytes)?;
                    bytes
                }
            };
            for nth in within {
                let block = &blocks.encoded[nth];
                let bytes = &bytes[(block.start - from) as usize..(block.end - from) as usize];
                let nth = wanted.start + nth as u64;
                let here = header.decoded(&(nth..nth + 1));
                let here = here.start.max(start)..here.end.min(end);
                let out = &mut out[(here.start - start) as usize..(here.end - start) as usize];
                decoder.decode(header, nth, bytes, here, out).map_err(corrupt)?;
            }
        }
        Ok(())
    }

    /// Reads encoded bytes of a leaf, from its head where they are in it.
    fn fetch(&self, encoded: &Encoded<'_>, at: u64, out: &mut [u8]) -> Result<(), SourceError> {
        match encoded.head.get(at as usize..).and_then(|rest| rest.get(..out.len())) {
            Some(bytes) => out.copy_from_slice(bytes),
            None => self.pread(encoded.opened, encoded.file, encoded.offset + at, out)?,
        }
        Ok(())
    }

    /// Reads all encoded bytes of a leaf.
    pub(super) fn fetch_all(&self, encoded: &Encoded<'_>) -> Result<Vec<u8>, SourceError> {
        let mut bytes = vec![0; encoded.len as usize];
        self.fetch(encoded, 0, &mut bytes)?;
        Ok(bytes)
    }
}

/// The first `len` bytes of a buffer, which grows where it is shorter; they hold anything.
fn prefix(buffer: &mut Vec<u8>, len: u64) -> &mut [u8] {
    if (buffer.len() as u64) < len {
        buffer.resize(len as usize, 0);
    }
    &mut buffer[..len as usize]
}

/// Blocks that follow each other in the file, and have at most `most_bytes`, or are one: ranges of positions in `blocks`.
fn runs(blocks: &[Range<u64>], most_bytes: u64) -> impl Iterator<Item = Range<usize>> {
    let mut next = 0;
    std::iter::from_fn(move || {
        let first = next;
        let start = blocks.get(first)?.start;
        next += 1;
        while let (Some(last), Some(block)) = (blocks.get(next - 1), blocks.get(next))
            && block.start == last.end
            && block.end - start <= most_bytes
        {
            next += 1;
        }
        Some(first..next)
    })
}

/// Where a run of blocks begins, and its bytes.
fn span_of(run: &[Range<u64>]) -> (u64, usize) {
    let (start, end) = (run.first().map_or(0, |block| block.start), run.last().map_or(0, |block| block.end));
    (start, (end - start) as usize)
}

/// The encoded bytes of one leaf, read in order.
struct Span<'a> {
    opened: &'a Opened,
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
        let n = self.counters.calls.during(|| self.opened.read_at(&mut out[..wanted], self.at))?;
        Counters::add(&self.counters.read_ns, began.elapsed().as_nanos() as u64);
        if n == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ends early"));
        }
        self.at += n as u64;
        Counters::add(&self.counters.read_bytes, n as u64);
        Ok(n)
    }
}
