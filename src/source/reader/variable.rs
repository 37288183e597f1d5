//! Leaves whose elements are of any length: decoded whole, within a bound on memory.

use super::super::codecs::LeafCodec;
use super::super::{Counters, FoundStrings, SourceError, Stamp, Strings};
use super::{ArrayReader, Folder};
use crate::zarr::Encoding;
use std::time::Instant;

impl ArrayReader {
    /// Reads all elements of `leaf`, which must not be more than `most_bytes` encoded, decoded or at any step between. At
    /// most twice as much is held at a time.
    ///
    /// `expected` is the stamp of the leaf's file in the version that is being read, as for [`Self::read`].
    ///
    /// # Errors
    /// [`SourceError::Changed`] where the file is no longer what `expected` says, before or after reading.
    pub fn read_strings(&self, leaf: &[u64], expected: Stamp, most_bytes: u64) -> Result<FoundStrings, SourceError> {
        if !expected.is_present() {
            return Ok(FoundStrings::Absent);
        }
        let began = Instant::now();
        let file = self.file_of(leaf);
        let found = self.with_encoded(&Folder::default(), leaf, &file, expected, &mut Vec::new(), |encoded| {
            if encoded.len > most_bytes {
                return Ok(FoundStrings::TooLarge);
            }
            self.strings(self.fetch_all(encoded)?, most_bytes).map_err(|why| self.corrupt(&file, why))
        });
        Counters::add(&self.counters.decode_ns, began.elapsed().as_nanos() as u64);
        Ok(found?.unwrap_or(FoundStrings::Absent))
    }

    fn strings(&self, encoded: Vec<u8>, most_bytes: u64) -> Result<FoundStrings, String> {
        let (LeafCodec::Variable(codecs), Encoding::Variable { is_text, .. }) = (&self.codec, &self.array.encoding)
        else {
            return Err("its elements have a fixed size".to_owned());
        };
        let mut bytes = encoded;
        for codec in codecs.iter().rev() {
            match codec.decode_up_to(bytes, most_bytes)? {
                Some(decoded) => bytes = decoded,
                None => return Ok(FoundStrings::TooLarge),
            }
        }
        self.count_decoded(1, bytes.len() as u64);
        let n_elems = self.array.leaf_shape.iter().fold(1, |n: u64, &len| n.saturating_mul(len));
        Strings::parse(bytes, n_elems, *is_text).map(FoundStrings::Here)
    }
}
