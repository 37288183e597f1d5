//! Makes a store of shares that are all there: documents, records, and the rename to the target.

use super::{folder_of, header};
use crate::materialize::array::ArrayCopy;
use crate::materialize::commits::Commits;
use crate::materialize::done::Done;
use crate::materialize::earlier::Earlier;
use crate::materialize::journal::{self, Commit, SharedPlan};
use crate::materialize::progress::Progress;
use crate::materialize::run::Run;
use crate::materialize::site::{Hold, Permission, Site, partial_of};
use crate::materialize::{CopyError, Options, Outcome};
use crate::source::{Counters, Stamp};
use crate::zarr::CopyProjection;
use crate::zarr::hierarchy::Hierarchy;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Missing shares that are named.
const SHOWN: usize = 20;

/// Finishes the copy of the store at `options.source`, whose shares are all made.
///
/// # Errors
/// [`CopyError`]: of shares that are missing, among others.
pub fn finish(
    hierarchy: &Hierarchy,
    projection: CopyProjection,
    options: &Options,
    progress: &Progress,
    counters: &Arc<Counters>,
) -> Result<Outcome, CopyError> {
    let partial = partial_of(&options.target);
    if !partial.exists() {
        return Err(CopyError::NoShares(partial));
    }
    let permission = Permission { overwrite: options.overwrite, resume: true };
    let site = match Site::open(&options.source, &options.target, permission, Hold::Alone) {
        // Better than that somebody is at it: at what.
        Err(busy @ CopyError::Busy(_)) => {
            let plan = SharedPlan::read(&partial.join("plan"))?;
            return Err(plan.map_or(Ok(None), |plan| missing(&partial, plan.shares))?.unwrap_or(busy));
        }
        opened => opened?,
    };
    let outcome = Outcome { is_resumed: true, failures: Vec::new(), incomplete: None, comparison: None };
    if site.is_published() {
        // A run was ended while it cleared away.
        site.clear_away()?;
        return Ok(outcome);
    }
    let Some(found) = SharedPlan::read(&site.plan())? else { return Err(CopyError::NoShares(site.partial)) };
    let wanted = SharedPlan { header: header(hierarchy, &projection, options), shares: found.shares };
    if let Some(what) = found.difference(&wanted) {
        return Err(CopyError::OtherPlan { partial: site.partial, what });
    }
    if let Some(missing) = missing(&site.partial, found.shares)? {
        return Err(missing);
    }
    let CopyProjection { projection, copied, .. } = projection;
    let arrays = ArrayCopy::all(&options.source, copied, counters)?;
    let journals: Vec<PathBuf> =
        (1..=found.shares).map(|number| folder_of(&site.partial, number).join("journal")).collect();
    gather(&site, &arrays, &journals)?;
    let run = Run {
        hierarchy,
        projection: &projection,
        options,
        progress,
        arrays: &arrays,
        commits: Commits::new(vec![site.store()], None),
        journals,
        site: &site,
        is_resumed: true,
        earlier: &Earlier::default(),
        part: None,
    };
    let comparison = run.rest(counters)?;
    site.publish()?;
    progress.complete();
    site.clear_away()?;
    Ok(Outcome { comparison, ..outcome })
}

/// The error that names the shares which are not made, if any.
fn missing(partial: &Path, n_shares: u64) -> Result<Option<CopyError>, CopyError> {
    let mut missing = Vec::new();
    for number in 1..=n_shares {
        let journal = folder_of(partial, number).join("journal");
        if !journal.exists() || !journal::is_ended(&journal)? {
            missing.push(format!("{number}/{n_shares}"));
        }
    }
    let n_more = missing.len().saturating_sub(SHOWN);
    missing.truncate(SHOWN);
    let more = if n_more > 0 { format!(" and {n_more} more") } else { String::new() };
    let error = CopyError::MissingShares { partial: partial.to_owned(), missing: missing.join(", ") + &more };
    Ok((!missing.is_empty()).then_some(error))
}

/// Puts on record of which states of the source's files the shares are, which must be the same for all of them; and counts
/// the target files.
fn gather(site: &Site, arrays: &[ArrayCopy], journals: &[PathBuf]) -> Result<(), CopyError> {
    let mut made: Vec<Done> = arrays.iter().map(|_| Done::default()).collect();
    let mut each = |commit: Commit| -> Option<CopyError> {
        for (at, done) in commit.arrays {
            let Some((array, made)) = arrays.get(at as usize).zip(made.get_mut(at as usize)) else { continue };
            for (file, raw) in done.stamps {
                let stamp = Stamp::from_raw(raw).unwrap_or(Stamp::ABSENT);
                if array.stamps.settle(file, stamp) != stamp {
                    let indices = crate::geometry::unravel(file, array.reader.file_grid());
                    return Some(CopyError::source(Arc::new(array.changed(&indices))));
                }
            }
            made.extend(&done.files);
        }
        None
    };
    for journal in journals {
        if let Some(changed) = journal::search(journal, &mut each)? {
            return Err(changed);
        }
    }
    for (array, made) in arrays.iter().zip(&made) {
        let n_files: u64 = array.file_grid.iter().product();
        if made.len() != n_files {
            let what = format!("array '{}': its shares name {} of {n_files} files", array.path(), made.len());
            return Err(CopyError::OtherPlan { partial: site.partial.clone(), what });
        }
    }
    Ok(())
}
