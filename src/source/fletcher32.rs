//! HDF5's Fletcher-32, as numcodecs writes it: the checksum follows the data, little-endian.
//!
//! zarrs sums data of odd length otherwise, and would refuse most compressed chunks.
//! Source: H5checksum.c of HDF5 (`H5_checksum_fletcher32`).

/// Bytes of the checksum.
const SUM_BYTES: usize = 4;
/// Words that can be summed before the sums must be folded to stay within 32 bits.
const WORDS_PER_FOLD: usize = 360;

/// Checks and takes off the checksum.
pub(super) fn decode(mut encoded: Vec<u8>) -> Result<Vec<u8>, String> {
    let Some((data, stored)) = encoded.split_last_chunk::<SUM_BYTES>() else {
        return Err("a chunk shorter than its fletcher32 checksum".into());
    };
    let (stored, found) = (u32::from_le_bytes(*stored), checksum(data));
    if stored != found {
        return Err(format!("the fletcher32 checksum is {found:08x}, the chunk says {stored:08x}"));
    }
    encoded.truncate(encoded.len() - SUM_BYTES);
    Ok(encoded)
}

/// Sums big-endian 16-bit words; a last odd byte is the high half of one.
fn checksum(data: &[u8]) -> u32 {
    let fold = |sum: u32| (sum & 0xffff) + (sum >> 16);
    let (mut low, mut high) = (0u32, 0u32);
    for words in data.chunks(2 * WORDS_PER_FOLD) {
        for word in words.chunks(2) {
            low += u32::from(word[0]) << 8 | word.get(1).map_or(0, |&byte| u32::from(byte));
            high += low;
        }
        (low, high) = (fold(low), fold(high));
    }
    fold(high) << 16 | fold(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_that_of_numcodecs() {
        // numcodecs.Fletcher32().encode(bytes((i * 7 + 3) % 256 for i in range(n)))[-4:]
        let sums: [(u32, [u8; 4]); 8] = [
            (1, [0x00, 0x03, 0x00, 0x03]),
            (2, [0x0a, 0x03, 0x0a, 0x03]),
            (3, [0x0a, 0x14, 0x14, 0x17]),
            (7, [0x48, 0x60, 0xbc, 0xaa]),
            (8, [0x7c, 0x60, 0xf0, 0xaa]),
            (721, [0xab, 0x84, 0x1e, 0x32]),
            (1000, [0xc5, 0x16, 0xd1, 0x1d]),
            (4097, [0x03, 0xff, 0xde, 0xf5]),
        ];
        for (n, sum) in sums {
            let data: Vec<u8> = (0..n).map(|i| (i * 7 + 3) as u8).collect();
            let mut encoded = data.clone();
            encoded.extend(sum);
            assert_eq!(decode(encoded.clone()), Ok(data), "{n} bytes");
            encoded[0] ^= 1;
            assert!(decode(encoded).is_err());
        }
        assert!(decode(vec![1, 2, 3]).is_err());
    }
}
