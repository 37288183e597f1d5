//! From the encoded bytes of a leaf to the wanted elements: by range, by block, or whole.

use super::super::SourceError;
use super::super::blosc::{HEADER_BYTES, Header};
use super::super::codecs::LeafCodec;
use super::{ArrayReader, RAW_BLOCK_BYTES};
use std::fs::File;

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
            // Codecs expand what they cannot compress by little; more is damage, and must not become memory.
            _ if len > self.leaf_bytes + self.leaf_bytes / 2 + (1 << 20) => {
                Err(self.corrupt(file, format!("{len} encoded bytes for a chunk of {}", self.leaf_bytes)))
            }
            LeafCodec::Blosc(_) if len >= HEADER_BYTES as u64 => {
                let mut raw = [0; HEADER_BYTES];
                self.pread(opened, file, offset, &mut raw)?;
                let header = Header::parse(&raw, self.leaf_bytes, len).map_err(|why| self.corrupt(file, why))?;
                if header.is_stored() {
                    self.count_decoded(header.touched(start, end).count() as u64, end - start);
                    return self.pread(opened, file, offset + HEADER_BYTES as u64 + start, out);
                }
                self.read_blosc(opened, file, offset, &header, (start, end), out)
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
        opened: &File,
        file: &[u64],
        offset: u64,
        header: &Header,
        (start, end): (u64, u64),
        out: &mut [u8],
    ) -> Result<(), SourceError> {
        let wanted = header.touched(start, end);
        let mut table = vec![0; 4 * header.n_blocks() as usize];
        self.pread(opened, file, offset + HEADER_BYTES as u64, &mut table)?;
        let blocks = header.locate(&table, &wanted).map_err(|why| self.corrupt(file, why))?;
        let total: u64 = blocks.encoded.iter().map(|block| block.end - block.start).sum();
        // Blocks cannot overlap in a sound chunk, so together they are no longer than it.
        if total > header.encoded_bytes {
            return Err(self.corrupt(file, "the blosc block table overlaps itself".into()));
        }
        let mut bodies = vec![0; total as usize];
        let mut at = 0;
        let mut block = 0;
        while block < blocks.encoded.len() {
            let run_start = blocks.encoded[block].start;
            let mut run_end = blocks.encoded[block].end;
            block += 1;
            while block < blocks.encoded.len() && blocks.encoded[block].start == run_end {
                run_end = blocks.encoded[block].end;
                block += 1;
            }
            let len = (run_end - run_start) as usize;
            self.pread(opened, file, offset + run_start, &mut bodies[at..at + len])?;
            at += len;
        }
        let part = header.decoded(&wanted);
        let miniature = header.miniature(&blocks, &bodies);
        drop(bodies);
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
}
