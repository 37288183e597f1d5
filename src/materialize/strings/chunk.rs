//! A target chunk of strings in the making.

use super::leaves::Leaf;
use crate::geometry::{EncodedOrder, Region};
use crate::materialize::encode::Encoder;
use std::borrow::Cow;

/// A span of bytes: first and how many.
type Span = (u64, u32);

/// The elements placed so far.
#[derive(Debug)]
pub(super) struct Chunk {
    region: Region,
    order: EncodedOrder,
    /// Where each element lies in `bytes`, in encoded order.
    spans: Vec<Span>,
    /// The fill value, which all elements are at first, then every element that is another.
    bytes: Vec<u8>,
    fill_bytes: usize,
    n_placed: u64,
    /// Memory for all of it.
    most_bytes: u64,
}

/// What a chunk came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Gathered {
    /// All fill value.
    Fill,
    /// Encoded.
    Encoded(Vec<u8>),
    /// There is not the memory to encode it.
    TooLarge,
}

impl Chunk {
    /// A chunk at `region` of nothing but `fill`, to be encoded in C order over the axes `order`; `None` where that takes
    /// more than `most_bytes`.
    pub(super) fn new(region: &Region, order: &[usize], fill: &[u8], most_bytes: u64) -> Option<Self> {
        let order = EncodedOrder::new(&region.shape(), order);
        let spans_bytes = order.n_elems().saturating_mul(size_of::<Span>() as u64);
        if spans_bytes.saturating_add(fill.len() as u64) > most_bytes {
            return None;
        }
        let spans = vec![(0, fill.len() as u32); order.n_elems() as usize];
        let (bytes, fill_bytes) = (fill.to_vec(), fill.len());
        Some(Chunk { region: region.clone(), order, spans, bytes, fill_bytes, n_placed: 0, most_bytes })
    }

    /// Takes over the elements of `leaf` within `inside`; `false` where there is no more memory.
    pub(super) fn place(&mut self, inside: &Region, leaf: &Leaf<'_>) -> bool {
        let wanted = leaf.region.intersect(inside).intersect(&self.region);
        let mut fits = true;
        wanted.for_each(|at| fits = fits && self.put(at, leaf.element(at)));
        fits
    }

    fn put(&mut self, at: &[u64], element: &[u8]) -> bool {
        if *element == self.bytes[..self.fill_bytes] {
            return true;
        }
        // A vector that grows is twice as long as it must be.
        let bytes = 2 * (self.bytes.len() + element.len()) as u64;
        if bytes.saturating_add(self.spans_bytes()) > self.most_bytes {
            return false;
        }
        let axes = at.iter().zip(&self.region.start).zip(self.order.strides());
        let place: u64 = axes.map(|((at, start), stride)| (at - start) * stride).sum();
        self.spans[place as usize] = (self.bytes.len() as u64, element.len() as u32);
        self.bytes.extend_from_slice(element);
        self.n_placed += 1;
        true
    }

    fn spans_bytes(&self) -> u64 {
        (self.spans.len() * size_of::<Span>()) as u64
    }

    /// Elements that are not the fill value.
    pub(super) fn n_placed(&self) -> u64 {
        self.n_placed
    }

    /// Their bytes.
    pub(super) fn placed_bytes(&self) -> u64 {
        (self.bytes.len() - self.fill_bytes) as u64
    }

    /// Encodes it: how many elements there are, then of each its length and its bytes; then through `encoder`.
    pub(super) fn encode(self, encoder: &Encoder) -> Result<Gathered, String> {
        if self.n_placed == 0 {
            return Ok(Gathered::Fill);
        }
        let n = u32::try_from(self.spans.len()).map_err(|_| "more elements in a chunk than 32 bits can count")?;
        let len = self.spans.iter().map(|(_, len)| 4 + u64::from(*len)).sum::<u64>() + 4;
        // What was gathered is dropped before the rest begins, for which the encoder counts the elements themselves too.
        let gathering = self.spans_bytes() + self.bytes.capacity() as u64 + len;
        if gathering.max(encoder.scratch_bytes(len)) > self.most_bytes {
            return Ok(Gathered::TooLarge);
        }
        let mut stream = Vec::with_capacity(len as usize);
        stream.extend(n.to_le_bytes());
        for (start, len) in &self.spans {
            stream.extend(len.to_le_bytes());
            stream.extend_from_slice(&self.bytes[*start as usize..][..*len as usize]);
        }
        drop((self.spans, self.bytes));
        encoder.encode(Cow::Owned(stream)).map(|encoded| Gathered::Encoded(encoded.into_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zarr::ChunkEncoding;

    fn chunk(order: &[usize], fill: &[u8], most_bytes: u64) -> Option<Chunk> {
        Chunk::new(&Region { start: vec![10, 20], end: vec![12, 22] }, order, fill, most_bytes)
    }

    fn plain(order: &[usize]) -> Encoder {
        Encoder::new(&ChunkEncoding { order: order.to_vec(), bytes_to_bytes: Vec::new() }).expect("no codecs")
    }

    #[test]
    fn the_layout_is_that_of_numcodecs() {
        for (order, elements) in [([0, 1], ["", "ab", "-", "c"]), ([1, 0], ["", "-", "ab", "c"])] {
            let mut chunk = chunk(&order, b"-", 1 << 20).expect("room");
            assert!(chunk.put(&[10, 20], b"") && chunk.put(&[10, 21], b"ab") && chunk.put(&[11, 21], b"c"));
            assert!(chunk.put(&[11, 20], b"-"), "the fill value");
            assert_eq!((chunk.n_placed(), chunk.placed_bytes()), (3, 3));
            let mut expected = vec![4, 0, 0, 0];
            for element in elements {
                expected.extend([element.len() as u8, 0, 0, 0]);
                expected.extend(element.as_bytes());
            }
            assert_eq!(chunk.encode(&plain(&order)), Ok(Gathered::Encoded(expected)));
        }
    }

    #[test]
    fn what_is_all_fill_value_is_not_encoded() {
        let mut chunk = chunk(&[0, 1], b"x", 1 << 20).expect("room");
        assert!(chunk.put(&[10, 20], b"x"));
        assert_eq!(chunk.encode(&plain(&[0, 1])), Ok(Gathered::Fill));
    }

    #[test]
    fn memory_is_asked_for_first() {
        assert!(chunk(&[0, 1], b"x", 60).is_none());
        let mut small = chunk(&[0, 1], b"x", 90).expect("room");
        assert!(!small.put(&[10, 20], &[7; 40]) && small.put(&[10, 20], b"abc"));
        assert_eq!(small.encode(&plain(&[0, 1])), Ok(Gathered::TooLarge));
    }
}
