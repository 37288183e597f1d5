//! Copies in shares: N runs, each with a number of its own, on one machine or on many, write into one unfinished copy, and
//! one more run finishes it.
//!
//! What a share makes follows from the layout and N alone ([`order`]). In the folder of the unfinished copy `plan` says of
//! what all shares are; each of them has a folder there with a lock and a journal of its own, as a copy has.

mod finish;
mod order;
mod place;

pub use finish::finish;

use super::array::ArrayCopy;
use super::commits::Commits;
use super::done::Done;
use super::earlier;
use super::journal::{Header, Journal};
use super::progress::Progress;
use super::run::{Run, folders, texts};
use super::site::{Claimed, Permission};
use super::{CopyError, Options, Outcome};
use crate::geometry::n_elems;
use crate::source::Counters;
use crate::zarr::CopyProjection;
use crate::zarr::hierarchy::Hierarchy;
use order::{FileOrder, runs_of};
use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// More shares than anybody has machines.
const MOST_SHARES: u64 = 1_000_000;

/// The K-th of N shares of a copy; K from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    number: u64,
    of: u64,
}

impl Share {
    /// `None` where there is no such share.
    pub fn new(number: u64, of: u64) -> Option<Self> {
        (number >= 1 && number <= of && of <= MOST_SHARES).then_some(Share { number, of })
    }

    /// Which of them it is, from 1.
    pub fn number(self) -> u64 {
        self.number
    }

    /// How many there are.
    pub fn of(self) -> u64 {
        self.of
    }

    /// Whether it is this share that copies the file with this key, which passes through.
    pub(super) fn has_passed(self, key: &str) -> bool {
        // The same on every machine.
        let digest = key
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        digest % self.of == self.number - 1
    }
}

impl fmt::Display for Share {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}/{}", self.number, self.of)
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        let share = parts.and_then(|(number, of)| Share::new(number, of));
        share.ok_or_else(|| format!("give K/N, such as 1/8: share K, from 1, of N, at most {MOST_SHARES}"))
    }
}

/// What a share makes of an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PartOf {
    /// Target files, and decoded bytes of them.
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// Decoded bytes of the source chunks that they draw on, at most.
    pub(super) leaf_bytes: u64,
    /// That is all of the array.
    pub(super) is_all: bool,
}

impl PartOf {
    /// All of `array`.
    pub(super) fn all(array: &ArrayCopy) -> Self {
        let (bytes, leaf_bytes) = (array.array_bytes(), array.leaf_bytes());
        PartOf { files: n_elems(&array.file_grid).unwrap_or(u64::MAX), bytes, leaf_bytes, is_all: true }
    }
}

/// A share of the files of all arrays.
#[derive(Debug)]
pub(super) struct Part {
    share: Share,
    orders: Vec<FileOrder>,
    runs: Vec<std::ops::Range<u64>>,
}

impl Part {
    pub(super) fn new<'a>(share: Share, arrays: impl Iterator<Item = &'a ArrayCopy>) -> Self {
        let orders: Vec<FileOrder> = arrays.map(FileOrder::of).collect();
        let runs = runs_of(&orders, share);
        Part { share, orders, runs }
    }

    pub(super) fn share(&self) -> Share {
        self.share
    }

    /// What it makes of the array at position `at`.
    pub(super) fn of(&self, at: usize, array: &ArrayCopy) -> PartOf {
        let (order, run) = (&self.orders[at], &self.runs[at]);
        let files = run.end - run.start;
        // Those of all shares come to those of the array.
        let before =
            |position: u64| u128::from(array.array_bytes()) * u128::from(position) / u128::from(order.n_files().max(1));
        PartOf {
            files,
            bytes: (before(run.end) - before(run.start)) as u64,
            is_all: files == order.n_files(),
            leaf_bytes: order.n_leaves(run, &array.source().shape).saturating_mul(array.reader.leaf_bytes()),
        }
    }

    /// Its files of the array at position `at`; `None` where that is all of them.
    pub(super) fn files(&self, at: usize) -> Option<Done> {
        let (order, run) = (&self.orders[at], self.runs[at].clone());
        if run == (0..order.n_files()) {
            return None;
        }
        let mut files = Done::default();
        run.for_each(|position| files.insert(order.file_at(position)));
        Some(files)
    }
}

/// Makes `share` of the copy of the store at `options.source`, which `hierarchy` and `projection` describe.
///
/// # Errors
/// [`CopyError`]; what was committed stays, for a run with [`Options::resume`].
pub fn copy_share(
    hierarchy: &Hierarchy,
    projection: CopyProjection,
    options: &Options,
    share: Share,
    progress: &Progress,
    counters: &Arc<Counters>,
) -> Result<Outcome, CopyError> {
    let header = header(hierarchy, &projection, options);
    let nothing_to_do = Outcome { is_resumed: true, failures: Vec::new(), incomplete: None, comparison: None };
    let permission = Permission { overwrite: options.overwrite, resume: options.resume };
    let Claimed::Site(site, is_resumed) = place::claim(options, share, &header, permission)? else {
        return Ok(nothing_to_do);
    };
    let CopyProjection { projection, copied, .. } = projection;
    let arrays = ArrayCopy::all(&options.source, copied, counters)?;
    let (mut journal, commits) = Journal::open(&site.journal(), &header, is_resumed)?;
    if commits.iter().any(|commit| commit.is_last) {
        return Ok(nothing_to_do);
    }
    let earlier = earlier::recall(&arrays, commits, &mut journal, options)?;
    let part = Part::new(share, arrays.iter());
    let total = arrays.iter().enumerate().map(|(at, array)| part.of(at, array).bytes).sum();
    progress.total_bytes.store(total, Relaxed);
    let run = Run {
        hierarchy,
        projection: &projection,
        options,
        progress,
        arrays: &arrays,
        commits: Commits::new(folders(&site, options, &earlier), None),
        journals: vec![site.journal()],
        site: &site,
        // Without its journal a share may have left anything.
        is_resumed: true,
        earlier: &earlier,
        part: Some(&part),
    };
    run.share(journal)?;
    Ok(Outcome { is_resumed, ..nothing_to_do })
}

/// Of what all shares are.
fn header(hierarchy: &Hierarchy, projection: &CopyProjection, options: &Options) -> Header {
    Header::new(&options.source.name(), texts(hierarchy), projection.projection.documents.clone(), BTreeSet::new())
}

/// What is in the folder of an unfinished copy for the share with this number.
pub(super) fn folder_of(partial: &std::path::Path, number: u64) -> PathBuf {
    partial.join("shares").join(number.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_spelled_as_k_of_n() {
        assert_eq!("3/8".parse(), Ok(Share { number: 3, of: 8 }));
        for wrong in ["", "3", "0/8", "9/8", "1/0", "-1/3", "1/2/3", "1/1000001"] {
            assert!(wrong.parse::<Share>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn each_passed_file_is_of_one_share() {
        for key in ["zarr.json", "names/c/0", "a/b/c/1/2"] {
            assert_eq!((1..=7).filter(|&number| Share { number, of: 7 }.has_passed(key)).count(), 1);
        }
    }
}
