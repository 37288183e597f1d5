//! The place of a share: many runs hold it at the same time, each a share of its own.
//!
//! The copy's lock is shared by all shares; who begins the copy, or finishes it, has it alone. On several machines that
//! takes a file system whose locks hold between them, which they do on NFS, Lustre (`flock`) and GPFS.

use super::{Share, folder_of};
use crate::materialize::journal::{self, Header, SharedPlan};
use crate::materialize::site::{self, Claimed, Hold, Permission, Site};
use crate::materialize::{CopyError, Options, disk};
use std::time::{Duration, Instant};

/// How long another run may take to begin a copy: disks that are busy take their time to sync.
const BEGINNING: Duration = Duration::from_secs(60);
/// How long the run before of the same share may take to end.
const ENDING: Duration = Duration::from_secs(10);
const GLANCE: Duration = Duration::from_millis(20);

/// Takes the place of `share`; begins the copy where nobody has. [`Claimed::Site`] is `true` where the share was begun.
pub(super) fn claim(
    options: &Options,
    share: Share,
    header: &Header,
    permission: Permission,
) -> Result<Claimed, CopyError> {
    let wanted = SharedPlan { header: header.clone(), shares: share.of() };
    let began = Instant::now();
    loop {
        match try_claim(options, share, &wanted, permission) {
            // It is being begun just now, or its folder goes; or whoever had the share is being ended.
            Err(CopyError::Busy(_)) if began.elapsed() < BEGINNING => std::thread::sleep(GLANCE),
            Err(CopyError::ShareBusy { .. }) if permission.resume && began.elapsed() < ENDING => {
                std::thread::sleep(GLANCE)
            }
            Ok(None) => {}
            claimed => return claimed.map(|claimed| claimed.unwrap_or(Claimed::Complete)),
        }
    }
}

/// `None` where to try once more.
fn try_claim(
    options: &Options,
    share: Share,
    wanted: &SharedPlan,
    permission: Permission,
) -> Result<Option<Claimed>, CopyError> {
    let Options { source, target, .. } = options;
    let begun = |site: &Site| SharedPlan::read(&site.plan());
    let site = Site::open(source, target, permission, Hold::Shared)?;
    let Some(found) = begun(&site)? else {
        drop(site);
        begin(options, wanted, permission)?;
        return Ok(None);
    };
    if site.is_published() {
        return Ok(Some(Claimed::Complete));
    }
    if let Some(what) = found.difference(wanted) {
        return Err(CopyError::OtherPlan { partial: site.partial, what });
    }
    let folder = folder_of(&site.partial, share.number());
    let shares = folder.parent().unwrap_or(&folder);
    disk::make_folders(shares).map_err(|error| CopyError::io(shares, "create it", error))?;
    let site = site.for_share(folder.clone()).map_err(|error| match error {
        CopyError::Busy(_) => CopyError::ShareBusy { folder: folder.clone(), share: share.to_string() },
        other => other,
    })?;
    let is_begun = site.journal().exists();
    let is_done = is_begun && journal::is_ended(&site.journal())?;
    if is_done && !permission.overwrite {
        return Ok(Some(Claimed::Complete));
    }
    if is_begun && !permission.resume && !permission.overwrite {
        return Err(CopyError::ShareUnfinished { folder, share: share.to_string() });
    }
    if is_begun && !permission.resume {
        site.clear_temps()?;
        site::remove(&site.journal())?;
    }
    Ok(Some(Claimed::Site(site, is_begun && permission.resume)))
}

/// Begins the copy, if nobody has meanwhile.
fn begin(options: &Options, wanted: &SharedPlan, permission: Permission) -> Result<(), CopyError> {
    let site = Site::open(&options.source, &options.target, permission, Hold::Alone)?;
    if site.plan().exists() {
        return Ok(());
    }
    if site.is_published() {
        // A run was ended while it cleared away what it had replaced.
        return site.clear_away();
    }
    if site.journal().exists() && !permission.overwrite {
        return Err(CopyError::Unfinished(site.partial));
    }
    site.clear()?;
    SharedPlan::create(wanted, &site.plan())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::materialize::Words;
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;

    fn options(folder: &Path, resume: bool) -> Options {
        Options {
            source: (&folder.join("source")).into(),
            target: folder.join("target"),
            memory_bytes: 1 << 30,
            threads: 1,
            temp: None,
            resume,
            overwrite: false,
            keep_going: false,
            verify: false,
            lives: false,
            words: Words::default(),
            max_tile_bytes: None,
            always_spool: false,
        }
    }

    fn header(layout: &str) -> Header {
        let documents = BTreeMap::from([(String::new(), layout.to_owned())]);
        Header::new(Path::new("/source"), BTreeMap::new(), documents, BTreeSet::new())
    }

    fn take(folder: &Path, share: &str, layout: &str, resume: bool) -> Result<Claimed, CopyError> {
        let permission = Permission { overwrite: false, resume };
        claim(&options(folder, resume), share.parse().expect("a share"), &header(layout), permission)
    }

    #[test]
    fn many_that_come_at_once_begin_one_copy_and_each_has_its_share() {
        let folder = tempfile::tempdir().expect("a folder");
        let barrier = std::sync::Barrier::new(8);
        let claimed: Vec<_> = std::thread::scope(|scope| {
            let one = |number: u64| {
                let (barrier, folder) = (&barrier, folder.path());
                scope.spawn(move || {
                    barrier.wait();
                    take(folder, &format!("{number}/8"), "x", false)
                })
            };
            let threads: Vec<_> = (1..=8).map(one).collect();
            threads.into_iter().map(|thread| thread.join().expect("ended")).collect()
        });
        let sites: Vec<Site> = claimed
            .into_iter()
            .map(|claimed| match claimed.expect("claimed") {
                Claimed::Site(site, false) => site,
                other => panic!("{other:?}"),
            })
            .collect();
        let busy = take(folder.path(), "3/8", "x", false).expect_err("another has it");
        assert!(busy.to_string().contains("share 3/8"), "{busy}");
        let permission = Permission { overwrite: true, resume: false };
        let alone = Site::claim(&(&folder.path().join("source")).into(), &folder.path().join("target"), permission);
        assert!(matches!(alone, Err(CopyError::Busy(_))), "a copy that is not in shares waits for all of them");
        drop(sites);
    }

    #[test]
    fn another_plan_is_refused_and_says_what_differs() {
        let folder = tempfile::tempdir().expect("a folder");
        take(folder.path(), "1/2", "x", false).expect("claimed");
        let error = take(folder.path(), "2/3", "x", false).expect_err("refused").to_string();
        assert!(error.contains("2 shares, not 3"), "{error}");
        let error = take(folder.path(), "2/2", "y", false).expect_err("refused").to_string();
        assert!(error.contains("layout or codecs differ"), "{error}");
    }
}
