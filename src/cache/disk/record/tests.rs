//! The format, byte by byte.

use super::*;

const NAME: Name = Name { family: 0xfeed_0000_0000_0000_0001, number: 42 };

/// Sections of these lengths, every byte another than its neighbours.
fn sections(lens: &[u64]) -> Vec<Vec<u8>> {
    let section = |nth: usize, len: u64| (0..len).map(|at| (at * 7 + nth as u64 * 13) as u8).collect();
    lens.iter().enumerate().map(|(nth, len)| section(nth, *len)).collect()
}

fn written(lens: &[u64]) -> tempfile::NamedTempFile {
    let held = tempfile::NamedTempFile::new().unwrap();
    let sections = sections(lens);
    let mut file = held.reopen().unwrap();
    write(&mut file, (NAME, 5, 6), lens, &mut |nth, sink| {
        // In parts, as they come.
        sections[nth].chunks(1000).try_for_each(&mut *sink)
    })
    .unwrap();
    assert_eq!(file.metadata().unwrap().len(), bytes_of(lens));
    held
}

/// Every section, or the first fault.
fn read_all(file: File, n_sections: u64) -> Result<Vec<Vec<u8>>, Fault> {
    let record = Record::open(file, NAME)?;
    let read = |nth| {
        let (start, end) = record.section(nth)?;
        let mut bytes = Vec::new();
        record.read(start, end - start, &mut bytes)?;
        Ok(bytes)
    };
    (0..n_sections).map(read).collect()
}

#[test]
fn what_was_written_is_read() {
    let one_window = DATA_BYTES * WINDOW_BLOCKS;
    let cases: [&[u64]; 6] = [
        &[],
        &[0, 0],
        &[1, 0, 3],
        &[DATA_BYTES - 24, 0, DATA_BYTES],
        &[one_window - 16],
        &[17, one_window * 2 + 5, 0, 40_000],
    ];
    for lens in cases {
        let held = written(lens);
        assert_eq!(read_all(held.reopen().unwrap(), lens.len() as u64).unwrap(), sections(lens));
    }
}

#[test]
fn any_range_is_read_without_the_rest() {
    let lens = [10, 3 * DATA_BYTES, 20];
    let (held, sections) = (written(&lens), sections(&lens));
    let record = Record::open(held.reopen().unwrap(), NAME).unwrap();
    let (start, _) = record.section(1).unwrap();
    for from in (0..3 * DATA_BYTES).step_by(997) {
        for len in [0, 1, 1000, DATA_BYTES, DATA_BYTES + 1] {
            let len = len.min(3 * DATA_BYTES - from);
            let mut bytes = vec![9];
            record.read(start + from, len, &mut bytes).unwrap();
            assert_eq!(bytes[1..], sections[1][from as usize..(from + len) as usize]);
        }
    }
    assert_eq!(record.section(3).unwrap(), (0, 0), "no such section");
}

#[test]
fn no_flipped_bit_and_no_truncation_goes_unnoticed() {
    let lens = [3, 0, 200];
    let held = written(&lens);
    let whole = std::fs::read(held.path()).unwrap();
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        std::fs::write(held.path(), &damaged).unwrap();
        assert!(matches!(read_all(held.reopen().unwrap(), 3), Err(Fault::Damaged(_))), "byte {at}");
        std::fs::write(held.path(), &whole[..at]).unwrap();
        assert!(matches!(read_all(held.reopen().unwrap(), 3), Err(Fault::Damaged(_))), "cut at {at}");
    }
    std::fs::write(held.path(), &whole).unwrap();
    assert!(read_all(held.reopen().unwrap(), 3).is_ok());
    let other = Name { number: 43, ..NAME };
    assert!(matches!(Record::open(held.reopen().unwrap(), other), Err(Fault::Damaged(_))), "another's record");
}

#[test]
fn a_block_of_an_earlier_state_is_noticed() {
    let [first, second] = [7, 8].map(|nonce| {
        let held = tempfile::NamedTempFile::new().unwrap();
        let mut file = held.reopen().unwrap();
        write(&mut file, (NAME, 5, nonce), &[100], &mut |_, sink| sink(&[1; 100])).unwrap();
        std::fs::read(held.path()).unwrap()
    });
    let mixed = [&first[..HEADER_BYTES as usize], &second[HEADER_BYTES as usize..]].concat();
    let held = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(held.path(), mixed).unwrap();
    assert!(matches!(read_all(held.reopen().unwrap(), 1), Err(Fault::Damaged(_))));
}
