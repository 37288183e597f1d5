//! Brings a copy up to date with its source: what has changed is done again, in the copy's own layout, while it is read.
//!
//! Files are made beside the copy, as a copy makes them, and take their places in it once they are on disk (see
//! `place.rs`). What was copied in which state lies in the copy (see `known.rs`): what is to be done is what draws
//! on source chunks that are in another state now. Where that is not known, contents are compared.

mod bring;
mod documents;
mod look;
mod passed;
mod records;
mod scan;
mod take_up;

use super::known::{self, KnownPassed};
use super::progress::Progress;
use super::site::Site;
use super::verify::{Comparison, VerifyOptions, verify_but};
use super::{CopyError, Options, Outcome, copy, engine, record, site};
use crate::source::{Counters, Store};
use crate::zarr::{CopyProjection, Hierarchy, Layout, Projection};
use bring::{Bring, Brought};
use look::Look;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// How often what has changed meanwhile is done again, before it is left to the next run.
const ROUNDS: usize = 4;

/// What is brought to a copy, and with what means.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// The source's nodes.
    pub hierarchy: &'a Hierarchy,
    /// The layout, if one is given; it must be the copy's.
    pub layout: &'a Layout,
    /// Each `--codecs`, likewise.
    pub codecs: &'a [String],
    /// Where, and with what means.
    pub options: &'a Options,
    /// Counts what is read of the source.
    pub counters: &'a Arc<Counters>,
}

/// What becomes of an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It is made as a whole.
    New,
    /// Nobody knows of which state of the source it is: its chunks are compared.
    Compared,
    /// What draws on source chunks that have changed is made again.
    Changed,
    /// It stays as it is.
    Same,
}

/// What there is to do of one array that is cut anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArrayUpdate {
    /// Its path.
    pub path: String,
    /// What becomes of it.
    pub kind: Kind,
    /// Source chunk files that there can be.
    pub source_chunks: u64,
    /// Of them, those of which the copy is not.
    pub changed_source_chunks: u64,
    /// Chunks of the copy, or shards, that there can be.
    pub chunks: u64,
    /// Of them, those that are made again, or compared.
    pub touched_chunks: u64,
    /// Whether they are shards.
    pub is_sharded: bool,
    /// Their decoded bytes.
    pub bytes: u64,
}

/// What there is to do.
#[derive(Debug, Clone, PartialEq)]
pub struct UpdatePlan {
    /// Array by array.
    pub arrays: Vec<ArrayUpdate>,
    /// Files that pass through and are copied again, or compared.
    pub passed_files: u64,
    /// Their bytes.
    pub passed_bytes: u64,
    /// It is not known of which state of the source files are that pass through.
    pub are_passed_compared: bool,
    /// Files that pass through and go.
    pub files_gone: u64,
    /// Documents that become others.
    pub documents: u64,
    /// Nodes that go.
    pub removed: Vec<String>,
    /// Arrays that are made as a whole.
    pub fresh: Vec<String>,
    /// What the user should know, one line each.
    pub notices: Vec<String>,
    /// Likewise: of which arrays an append to the source touches most chunks.
    pub appends: Vec<String>,
    /// What is rechunked and what passes through.
    pub projection: Projection,
}

impl UpdatePlan {
    /// The copy is what it is to be, as far as it is known.
    pub fn is_empty(&self) -> bool {
        let is_same = self.arrays.iter().all(|array| array.kind == Kind::Same);
        let n_files = self.passed_files + self.files_gone + self.documents;
        is_same && n_files == 0 && !self.are_passed_compared && self.removed.is_empty() && self.fresh.is_empty()
    }

    /// Decoded bytes of the chunks that are made again, or compared.
    pub fn bytes(&self) -> u64 {
        self.arrays.iter().map(|array| array.bytes).fold(0, u64::saturating_add)
    }
}

/// How a copy was brought up to date.
#[derive(Debug, Clone, PartialEq)]
pub struct Updated {
    /// What there was to do.
    pub plan: UpdatePlan,
    /// Files or documents of the copy have become others.
    pub is_changed: bool,
    /// It went on with what an earlier run left.
    pub is_resumed: bool,
    /// What could not be read: what draws on it is as it was.
    pub failures: Vec<String>,
    /// What changed again each time that it was copied: likewise.
    pub left: Vec<String>,
    /// The copy shows the old documents, for what the new ones show is not all there.
    pub are_documents_held: bool,
    /// What was found where the copy was verified.
    pub comparison: Option<Comparison>,
}

/// Whether a copy is at `target` that could be brought up to date.
pub fn is_there(target: &Path) -> bool {
    ["zarr.json", ".zgroup", ".zarray"].iter().any(|name| target.join(name).is_file())
}

/// What there is to do. Writes nothing.
///
/// # Errors
/// Where the copy cannot be brought up to date.
pub fn plan_update(sources: &Sources<'_>, progress: &Progress) -> Result<UpdatePlan, CopyError> {
    let pool = engine::pool(sources.options.threads)?;
    let target = &sources.options.target;
    let target = target.canonicalize().map_err(|error| CopyError::io(target, "open it", error))?;
    Ok(Look::new(sources, &target, progress, &pool)?.plan())
}

/// Brings the copy at the target up to date; `tell` is called with what there is to do, before anything is done.
///
/// # Errors
/// [`CopyError`]; the copy is a valid store all the same, each of its chunks the old one or the new one, and running again
/// goes on.
pub fn update(
    sources: &Sources<'_>,
    progress: &Progress,
    tell: &mut dyn FnMut(&UpdatePlan),
) -> Result<Updated, CopyError> {
    let Options { source, target, .. } = sources.options;
    let site = Site::claim_copy(source, target)?;
    let pool = engine::pool(sources.options.threads)?;
    let (mut all, mut first): (Brought, Option<UpdatePlan>) = Default::default();
    let mut kept: BTreeSet<String> = BTreeSet::new();
    let mut outcome = Ok(());
    for round in 0..ROUNDS {
        let look = match Look::new(sources, site.target(), progress, &pool) {
            Ok(look) => look,
            Err(error) => {
                outcome = Err(error);
                break;
            }
        };
        let plan = look.plan();
        if round == 0 {
            tell(&plan);
        }
        let is_empty = plan.is_empty();
        first.get_or_insert(plan);
        kept.extend(look.update.kept.all().cloned());
        kept.extend(look.update.copy.projection.left_out.iter().map(|array| array.path.clone()));
        if is_empty {
            break;
        }
        let brought = Bring::new(sources, &look, &site, progress, &pool)?.run()?;
        all.add(brought);
        if all.left.is_empty() {
            break;
        }
    }
    // Arrays that are not all there are gone on with.
    if !all.are_documents_held {
        site.abandon();
    } else {
        drop(site);
    }
    outcome?;
    let Some(plan) = first else { return Err(CopyError::Stopped) };
    let Brought { is_changed, is_resumed, failures, left, are_documents_held } = all;
    let is_whole = failures.is_empty() && left.is_empty();
    let comparison = if sources.options.verify && is_whole { Some(verify(sources, &kept, progress)?) } else { None };
    Ok(Updated {
        plan,
        is_changed,
        is_resumed,
        failures: failures.into_iter().collect(),
        left: left.into_iter().collect(),
        are_documents_held,
        comparison,
    })
}

impl Brought {
    /// Adds a later round: what was left is what is left now.
    fn add(&mut self, later: Brought) {
        self.is_changed |= later.is_changed;
        self.is_resumed |= later.is_resumed;
        (self.failures, self.left) = (later.failures, later.left);
        self.are_documents_held = later.are_documents_held;
    }
}

/// Compares the copy with the source. Of arrays that differ nothing counts as known any more, so that the next run mends
/// them.
fn verify(sources: &Sources<'_>, kept: &BTreeSet<String>, progress: &Progress) -> Result<Comparison, CopyError> {
    let Options { source, target, memory_bytes, threads, max_tile_bytes, .. } = sources.options;
    let options =
        VerifyOptions { memory_bytes: *memory_bytes, threads: *threads, sample: None, max_tile_bytes: *max_tile_bytes };
    let kept = kept.iter().map(String::as_str).collect();
    let comparison = verify_but(source, &target.into(), &kept, &options, progress, sources.counters)?;
    for array in comparison.arrays.iter().filter(|array| array.is_different() || array.error.is_some()) {
        forget(target, &array.path, &comparison, source)?;
    }
    Ok(comparison)
}

/// Lets nothing count as known of the array at `path`: of one that passes through, of all that does.
fn forget(target: &Path, path: &str, comparison: &Comparison, source: &Store) -> Result<(), CopyError> {
    let record = target.join(path).join(record::STAMPS);
    if record.exists() {
        return site::remove(&record);
    }
    for array in &comparison.arrays {
        let folder = target.join(&array.path);
        if let Ok(known) = KnownPassed::read(&folder, &source.name()) {
            let words = known::words(&folder).unwrap_or_default();
            known.without_states().write(&folder.join(record::PASSED), &source.name(), &words)?;
        }
    }
    Ok(())
}

/// Makes the copy that is to be brought up to date from then on. The source may go on meanwhile.
///
/// # Errors
/// [`CopyError`]; running again goes on.
pub fn create(
    hierarchy: &Hierarchy,
    projection: &CopyProjection,
    options: &Options,
    progress: &Progress,
    counters: &Arc<Counters>,
) -> Result<Outcome, CopyError> {
    let mut options = Options { lives: true, resume: true, ..options.clone() };
    let mut changed = String::new();
    for _ in 0..ROUNDS {
        match copy(hierarchy, projection.clone(), &options, progress, counters) {
            // What is done of what has not changed is not done again.
            Err(CopyError::Changed { what, .. }) => changed = what,
            Err(CopyError::CannotResume { .. }) if options.resume => {
                options = Options { resume: false, overwrite: true, ..options };
            }
            Err(CopyError::TargetExists(path)) => {
                return Err(CopyError::NotReplaced { path, why: "it is not empty, and not a Zarr store" });
            }
            outcome => return outcome,
        }
    }
    Err(CopyError::Restless { what: changed })
}
