//! What an earlier run has left, as far as it is of use.

use super::look::Look;
use crate::materialize::CopyError;
use crate::materialize::earlier::{Earlier, changed_of};
use crate::materialize::journal::{ArrayCommit, Commit, Journal};

/// Stamps in one record of the journal.
const STAMPS: usize = 1 << 16;

/// What an earlier run has made, as far as the source is still what it was then. In the journal stands afterwards what is to
/// be made again, and what will be read of the source.
pub(super) fn take_up(
    look: &Look,
    commits: Vec<Commit>,
    journal: &mut Journal,
    pool: &rayon::ThreadPool,
) -> Result<Earlier, CopyError> {
    let (mut earlier, mut stamps) = Earlier::of(commits);
    for (at, (array, share)) in (0..).zip(look.arrays.iter().zip(&look.shares)) {
        let then = stamps.remove(&at).unwrap_or_default();
        let was = |file: u64| then.binary_search_by_key(&file, |known| known.0).ok().map(|nth| then[nth].1);
        // Of an array that is made as a whole, source files are looked at in the course of that.
        let changed = if share.is_fresh {
            let changed = pool.install(|| changed_of(array, &then))?;
            for (file, stamp) in then.iter().filter(|(file, _)| changed.binary_search(file).is_err()) {
                array.stamps.settle(*file, *stamp);
            }
            changed
        } else {
            if share.run != Some(journal.run) {
                // What was made may have been made of another copy, or was made and is known.
                earlier.forget_all(at).iter().try_for_each(|commit| journal.append(commit))?;
            }
            share.scan.changed.iter().filter(|file| was(*file) != array.stamps.get(*file)).collect()
        };
        earlier.forget(at, array, &changed).iter().try_for_each(|commit| journal.append(commit))?;
        let news: Vec<(u64, u64)> = changed
            .iter()
            .filter(|_| !share.is_fresh)
            .filter_map(|file| Some((*file, array.stamps.get(*file)?.to_raw())))
            .collect();
        for stamps in news.chunks(STAMPS) {
            let array = ArrayCommit { stamps: stamps.to_vec(), ..ArrayCommit::default() };
            journal.append(&Commit { arrays: [(at, array)].into(), ..Commit::default() })?;
        }
    }
    Ok(earlier)
}
