//! Versions against a model that keeps a copy of everything at every version.

use super::*;
use crate::zarr::{Encoding, KeyEncoding, KeyStyle, SourceArray};
use proptest::prelude::*;
use std::path::Path;

const LONG_AGO: i64 = 1_600_000_000_000_000_000;

/// An array of `n` files along one axis.
fn reader(n: u64) -> ArrayReader {
    let array = SourceArray {
        path: "a".into(),
        shape: vec![n],
        file_shape: vec![1],
        leaf_shape: vec![1],
        key_encoding: KeyEncoding { style: KeyStyle::Default, separator: '.' },
        item_bytes: 1,
        fill: vec![0],
        sharding: None,
        encoding: Encoding::Linear { order: vec![0], bytes_to_bytes: Vec::new() },
    };
    ArrayReader::new(Path::new("nowhere"), &array, 1, Arc::default()).expect("it reads nothing")
}

/// A file in its `nth` state; absent in its 0th.
fn state(nth: u64) -> FileState {
    match nth {
        0 => FileState::ABSENT,
        _ => {
            let stamp = Stamp::from_raw(nth + 10).expect("not 0");
            FileState { stamp, size_bytes: 1, mtime_ns: LONG_AGO + nth as i64, changed_ns: LONG_AGO }
        }
    }
}

/// One that was changed just now.
fn fresh(nth: u64) -> FileState {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    FileState { changed_ns: now.as_nanos() as i64 - 1_000_000_000, ..state(nth) }
}

proptest! {
    /// A model that keeps a copy of everything at every version.
    #[test]
    fn what_a_version_is_of_never_changes(
        looks in prop::collection::vec(prop::collection::vec((0u64..8, 0u64..4), 1..5), 1..12),
        ranges in prop::collection::vec((0u64..8, 1u64..8), 4),
    ) {
        let (versions, reader) = (Versions::default(), reader(8));
        let mut now: Vec<Option<u64>> = vec![None; 8];
        let mut model = vec![now.clone()];
        for look in looks {
            let found: std::collections::BTreeMap<u64, u64> = look.into_iter().collect();
            let n = versions.enter(&found.iter().map(|(file, nth)| (*file, state(*nth))).collect::<Vec<_>>());
            let before = now.clone();
            for (file, nth) in found {
                let known = &mut now[file as usize];
                if known.is_none() {
                    model.iter_mut().for_each(|version| version[file as usize] = Some(nth));
                }
                *known = Some(nth);
            }
            let changed = (0..8).filter(|&file| before[file].is_some() && before[file] != now[file]).count();
            prop_assert_eq!(n, changed);
            if changed > 0 {
                model.push(now.clone());
            }
        }
        prop_assert_eq!(versions.now() as usize, model.len() - 1);
        for (version, files) in model.iter().enumerate() {
            for (file, nth) in files.iter().enumerate() {
                let expected = nth.map(|nth| state(nth).stamp);
                prop_assert_eq!(versions.stamp_at(file as u64, version as Version), expected);
            }
        }
        for (start, len) in ranges {
            let files = Region { start: vec![start], end: vec![(start + len).min(8)] };
            let part = |version: usize| &model[version][start as usize..files.end[0] as usize];
            let mut seen: Vec<(Vec<Option<u64>>, i64)> = Vec::new();
            for version in 0..model.len() {
                let last = (1..=version).rev().find(|&at| part(at) != part(at - 1)).unwrap_or(0);
                let footprint = versions.footprint(&reader, &files, version as Version);
                if part(version).contains(&None) {
                    prop_assert_eq!(footprint, Err(Untold::Unseen));
                    continue;
                }
                let footprint = footprint.expect("all files are known");
                prop_assert_eq!(footprint.version as usize, last);
                prop_assert_eq!(footprint.is_present, part(version).iter().any(|nth| *nth != Some(0)));
                let time = footprint.times.time_ns();
                for (other, at) in &seen {
                    prop_assert_eq!(other.as_slice() == part(version), *at == time, "a time for each state");
                }
                seen.push((part(version).to_vec(), time));
            }
        }
    }
}

#[test]
fn a_file_that_came_just_now_or_is_torn_is_taken_for_what_it_has_become_until_it_is_read() {
    let versions = Versions::default();
    let stamp = |nth| state(nth).stamp;
    versions.enter(&(0..6).map(|file| (file, state(u64::from(file >= 3)))).collect::<Vec<_>>());
    versions.enter(&[(0, fresh(1)), (1, fresh(1)), (2, state(1)), (3, fresh(2))]);
    assert!(versions.amend(0, stamp(1), &fresh(2)), "it has only just come");
    assert_eq!((versions.stamp_at(0, 0), versions.stamp_at(0, 1), versions.now()), (Some(stamp(0)), Some(stamp(2)), 1));
    assert!(!versions.settle(0, stamp(1)), "what was read meanwhile was of the state before");
    assert!(versions.settle(0, stamp(2)));
    assert!(!versions.amend(0, stamp(2), &fresh(3)), "somebody has read it");
    assert!(!versions.amend(2, stamp(1), &fresh(2)), "it came long ago");
    assert!(!versions.amend(3, stamp(2), &fresh(3)), "it was something else before, and is good for all that is known");
    assert!(!versions.amend(1, stamp(1), &FileState::ABSENT), "that would be a deletion");
    assert!(versions.may_pass(3, &fresh(2)), "somebody may be writing it");
    assert!(versions.amend(3, stamp(2), &fresh(3)), "it was torn");
    // Found changed by another look, before anything could be read of it.
    versions.enter(&[(1, fresh(2))]);
    assert!(versions.may_amend(1, stamp(1)) && versions.amend(1, stamp(1), &fresh(2)));
    assert_eq!((versions.stamp_at(1, 1), versions.stamp_at(1, 2)), (Some(stamp(2)), Some(stamp(2))));
    assert!(versions.settle(1, stamp(2)) && !versions.amend(1, stamp(2), &fresh(3)));
    assert!(
        versions.settle(4, stamp(1)) && !versions.may_pass(4, &state(1)),
        "it was read, and makes no sense: damage"
    );
}

#[test]
fn what_was_long_ago_is_forgotten_and_not_mistaken() {
    let (versions, reader) = (Versions::default(), reader(1 << 10));
    let all = |nth: u64| (0..1 << 10).map(|file| (file, state(nth))).collect::<Vec<_>>();
    for nth in 1..140 {
        versions.enter(&all(nth));
    }
    assert!(!versions.remembers(0) && versions.remembers(versions.now()));
    let files = Region { start: vec![3], end: vec![4] };
    assert_eq!(versions.stamp_at(3, 0), None);
    assert_eq!(versions.footprint(&reader, &files, 0), Err(Untold::Forgotten));
    assert_eq!(versions.footprint(&reader, &files, versions.now()).map(|found| found.version), Ok(versions.now()));
    assert_eq!(versions.n_known(), 1 << 10);
    let mut known = Vec::new();
    while let some = versions.known_from(known.last().map_or(0, |last| last + 1))
        && !some.is_empty()
    {
        known.extend(some);
    }
    assert_eq!(known, (0..1 << 10).collect::<Vec<u64>>());
}
