//! gzip, zlib and zstd: streams that can only be decoded from their start, and need not be decoded to their end.
//!
//! What was wanted is decoded straight into its place; what lies before it passes through a small window. Nothing is
//! allocated by what a header claims: a stream decodes to as many bytes as the array says, or is damaged.

use flate2::bufread::GzDecoder;
use flate2::{Decompress, FlushDecompress, Status};
use std::io::{self, BufRead, Read};

/// How far back a zstd stream may reach: what zstd itself takes for the most that a decoder must bear.
const MAX_ZSTD_WINDOW_LOG: u32 = 27;
/// So little is decoded for the sake of the checks that come with the end of a stream.
const SHORT_REST_BYTES: u64 = 64 << 10;
/// What a zstd frame begins with, and the bit of the byte after it that stands for a checksum.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const ZSTD_CHECKSUM: u8 = 1 << 2;
/// What every gzip member begins with.
const GZIP_MAGIC: u8 = 0x1f;

/// A format of compressed streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// One or more gzip members; anything else that follows one is ignored.
    Gzip,
    /// One zlib stream; what follows it is ignored.
    Zlib,
    /// One or more zstd frames and nothing else.
    Zstd,
}

impl Format {
    /// The format of what a codec of this name encodes, where it is one of these.
    pub(super) fn of(codec: &str) -> Option<Self> {
        match codec {
            "gzip" => Some(Format::Gzip),
            "numcodecs.zlib" => Some(Format::Zlib),
            "zstd" => Some(Format::Zstd),
            _ => None,
        }
    }

    /// Most memory that a decoder of `n_bytes` holds.
    pub(super) fn decoder_bytes(self, n_bytes: u64) -> u64 {
        match self {
            Format::Gzip | Format::Zlib => 128 << 10,
            // Tables, one encoded block, and the window with two blocks beyond it. A window longer than the stream is
            // allocated and not touched.
            Format::Zstd => (1 << 20) + n_bytes.min(1 << MAX_ZSTD_WINDOW_LOG),
        }
    }

    /// Whoever wrote the stream asked for a checksum of all of it: then nothing of it is believed before that has been checked.
    /// (gzip and zlib streams all have one.)
    fn is_checked(self, first: &[u8]) -> bool {
        let descriptor = first.strip_prefix(&ZSTD_MAGIC).and_then(<[u8]>::first);
        self == Format::Zstd && descriptor.is_none_or(|descriptor| descriptor & ZSTD_CHECKSUM != 0)
    }

    fn decoder<'a>(self, encoded: &'a mut dyn BufRead) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Format::Gzip => Box::new(Gzip { member: Some(GzDecoder::new(encoded)) }),
            Format::Zlib => Box::new(Zlib { encoded, state: Decompress::new(true), is_ended: false }),
            Format::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(encoded)?;
                decoder.window_log_max(MAX_ZSTD_WINDOW_LOG)?;
                Box::new(decoder)
            }
        })
    }
}

/// Decodes the bytes from `start` on that fill `out`, of a stream that decodes to `n_bytes`. Returns how many bytes
/// were decoded: to the end of `out`, or of the stream where little was left or a checksum was asked for.
///
/// At the end of the stream its length is checked, and its checksum where it has one. Errors that the operating system
/// gave for `encoded` are passed on as they are.
pub(super) fn decode(
    format: Format,
    encoded: &mut dyn BufRead,
    n_bytes: u64,
    start: u64,
    out: &mut [u8],
) -> io::Result<u64> {
    let ends_early = || damaged(&format!("it decodes to fewer than {n_bytes} bytes"));
    let is_checked = format.is_checked(encoded.fill_buf()?);
    let mut decoder = format.decoder(encoded)?;
    let skip = |decoder: &mut dyn Read, n: u64| match io::copy(&mut decoder.take(n), &mut io::sink())? {
        skipped if skipped < n => Err(ends_early()),
        _ => Ok(()),
    };
    skip(&mut decoder, start)?;
    let mut filled = 0;
    while filled < out.len() {
        match decoder.read(&mut out[filled..])? {
            0 => return Err(ends_early()),
            n => filled += n,
        }
    }
    let end = start + filled as u64;
    if !is_checked && n_bytes - end > SHORT_REST_BYTES {
        return Ok(end);
    }
    skip(&mut decoder, n_bytes - end)?;
    // Decoders check the sums when they are asked for what comes after the last byte.
    match decoder.read(&mut [0])? {
        0 => Ok(n_bytes),
        _ => Err(damaged(&format!("it decodes to more than {n_bytes} bytes"))),
    }
}

/// Decodes a whole stream, of up to `most_bytes`.
pub(super) fn decode_all(format: Format, encoded: &[u8], most_bytes: u64) -> io::Result<Vec<u8>> {
    let decoded = decode_up_to(format, encoded, most_bytes)?;
    decoded.ok_or_else(|| damaged(&format!("it decodes to more than {most_bytes} bytes")))
}

/// The same; `None` where it is more.
pub(super) fn decode_up_to(format: Format, mut encoded: &[u8], most_bytes: u64) -> io::Result<Option<Vec<u8>>> {
    let mut decoded = Vec::new();
    format.decoder(&mut encoded)?.take(most_bytes.saturating_add(1)).read_to_end(&mut decoded)?;
    Ok((decoded.len() as u64 <= most_bytes).then_some(decoded))
}

fn damaged(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// gzip members, one after the other.
struct Gzip<R> {
    /// Always there but while one member makes way for the next.
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let n = member.read(out)?;
            if n > 0 || out.is_empty() || member.get_mut().fill_buf()?.first() != Some(&GZIP_MAGIC) {
                return Ok(n);
            }
            self.member = self.member.take().map(|ended| GzDecoder::new(ended.into_inner()));
        }
        Ok(0)
    }
}

/// A zlib stream. flate2's own reader takes one that is cut off for one that has ended.
struct Zlib<R> {
    encoded: R,
    state: Decompress,
    is_ended: bool,
}

impl<R: BufRead> Read for Zlib<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while !self.is_ended && !out.is_empty() {
            let input = self.encoded.fill_buf()?;
            let is_cut_off = input.is_empty();
            let (taken, given) = (self.state.total_in(), self.state.total_out());
            let status = self.state.decompress(input, out, FlushDecompress::None);
            let status = status.map_err(|_| damaged("the zlib stream makes no sense, or its checksum differs"))?;
            self.encoded.consume((self.state.total_in() - taken) as usize);
            self.is_ended = status == Status::StreamEnd;
            let n = (self.state.total_out() - given) as usize;
            if n > 0 {
                return Ok(n);
            }
            if is_cut_off && !self.is_ended {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the zlib stream is cut off"));
            }
        }
        Ok(0)
    }
}
