//! Elements of any length, as `vlen-utf8` and `vlen-bytes` have them: how many there are, then of each its length and its
//! bytes, all numbers four bytes, little-endian.

/// The elements of a decoded leaf, in encoded order.
#[derive(Debug)]
pub struct Strings {
    bytes: Vec<u8>,
    /// Where the length of each element stands.
    starts: Vec<u32>,
}

/// What there is of a leaf.
#[derive(Debug)]
pub enum FoundStrings {
    /// No such leaf.
    Absent,
    /// It takes, or says that it takes, more memory than it may.
    TooLarge,
    /// Its elements.
    Here(Strings),
}

impl Strings {
    /// Finds the `n_elems` elements in `bytes`. Nothing is allocated by what these claim.
    pub(super) fn parse(bytes: Vec<u8>, n_elems: u64, is_text: bool) -> Result<Self, String> {
        let word = |at: usize| -> Option<u64> { Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?).into()) };
        let n_found = word(0).ok_or("it is shorter than the number of its elements")?;
        if n_found != n_elems {
            return Err(format!("it says that it has {n_found} elements, not {n_elems}"));
        }
        if u32::try_from(bytes.len()).is_err() || n_elems > bytes.len() as u64 / 4 {
            return Err(format!("{} bytes cannot be {n_elems} elements", bytes.len()));
        }
        let mut starts = Vec::with_capacity(n_elems as usize);
        let mut at = 4;
        for nth in 0..n_elems {
            let end = word(at).map(|len| at as u64 + 4 + len).filter(|&end| end <= bytes.len() as u64);
            let end = end.ok_or_else(|| format!("its element {nth} reaches beyond its end"))? as usize;
            if is_text && std::str::from_utf8(&bytes[at + 4..end]).is_err() {
                return Err(format!("its element {nth} is not UTF-8"));
            }
            starts.push(at as u32);
            at = end;
        }
        match bytes.len() - at {
            0 => Ok(Strings { bytes, starts }),
            more => Err(format!("{more} bytes follow its last element")),
        }
    }

    /// The element at position `nth`.
    pub fn get(&self, nth: u64) -> &[u8] {
        let start = self.starts[nth as usize] as usize;
        let body = &self.bytes[start + 4..];
        let len = self.bytes[start..].first_chunk().map_or(0, |len| u32::from_le_bytes(*len));
        &body[..len as usize]
    }

    /// Bytes of memory.
    pub fn held_bytes(&self) -> u64 {
        (self.bytes.capacity() + 4 * self.starts.capacity()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(n: u32, elements: &[&[u8]]) -> Vec<u8> {
        let mut bytes = n.to_le_bytes().to_vec();
        for element in elements {
            bytes.extend((element.len() as u32).to_le_bytes());
            bytes.extend_from_slice(element);
        }
        bytes
    }

    #[test]
    fn elements_are_found_where_they_lie() {
        let elements: [&[u8]; 4] = [b"ab", b"", "\u{3bb}\u{1f600}".as_bytes(), b"c"];
        let strings = Strings::parse(encoded(4, &elements), 4, true).expect("sound");
        assert_eq!((0..4).map(|nth| strings.get(nth)).collect::<Vec<_>>(), elements);
        assert!(Strings::parse(encoded(0, &[]), 0, true).is_ok());
    }

    #[test]
    fn damage_is_seen_before_anything_is_allocated_by_it() {
        let fails = |bytes: Vec<u8>, n_elems| Strings::parse(bytes, n_elems, true).expect_err("damaged");
        assert_eq!(fails(vec![1, 0], 1), "it is shorter than the number of its elements");
        assert_eq!(fails(encoded(2, &[b"a", b"b"]), 3), "it says that it has 2 elements, not 3");
        assert_eq!(fails(encoded(u32::MAX, &[b"a"]), u32::MAX.into()), "9 bytes cannot be 4294967295 elements");
        let mut long = encoded(1, &[b"abc"]);
        long[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(fails(long, 1), "its element 0 reaches beyond its end");
        assert_eq!(fails(encoded(2, &[b"abcd"]), 2), "its element 1 reaches beyond its end");
        assert_eq!(fails(encoded(1, &[b"a", b"b"]), 1), "5 bytes follow its last element");
        assert_eq!(fails(encoded(1, &[&[0xff]]), 1), "its element 0 is not UTF-8");
        assert!(Strings::parse(encoded(1, &[&[0xff]]), 1, false).is_ok());
    }
}
