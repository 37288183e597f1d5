//! What a place does with what runs before have left there.

use super::*;
use std::collections::BTreeMap;

fn claim(folder: &Path, overwrite: bool, resume: bool) -> Result<(Site, bool), CopyError> {
    match Site::claim(&(&folder.join("source")).into(), &folder.join("target"), Permission { overwrite, resume })? {
        Claimed::Site(site, resume) => Ok((site, resume)),
        Claimed::Complete => panic!("it is complete"),
    }
}

fn file(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("created");
    fs::write(path, text).expect("written");
}

#[test]
fn what_a_copy_has_replaced_is_never_put_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let document = folder.join("target/zarr.json");
    file(&document, "old");
    assert!(matches!(claim(folder, false, false), Err(CopyError::TargetExists(_))));
    let (site, resume) = claim(folder, true, true).expect("claimed");
    assert!(!resume);
    file(&site.store().join("zarr.json"), "new");
    file(&site.journal(), "whatever");
    site.publish().expect("published");
    assert_eq!(fs::read_to_string(&document).expect("there"), "new");
    // Killed here: the journal is there, and beside it the old store.
    drop(site);
    let partial = partial_of(&folder.join("target"));
    assert_eq!(fs::read_to_string(partial.join("store/zarr.json")).expect("there"), "old");
    assert!(matches!(claim(folder, false, false), Err(CopyError::TargetExists(_))));
    assert_eq!(fs::read_to_string(&document).expect("there"), "new");
    let (site, _) = claim(folder, true, false).expect("claimed");
    file(&site.store().join("zarr.json"), "newer");
    file(&site.journal(), "whatever");
    site.publish().expect("published");
    drop(site);
    let permission = Permission { overwrite: true, resume: true };
    let again = Site::claim(&(&folder.join("source")).into(), &folder.join("target"), permission).expect("claimed");
    assert!(matches!(again, Claimed::Complete));
    assert_eq!(fs::read_to_string(&document).expect("there"), "newer");
    assert_eq!(fs::read_dir(folder).expect("a folder").count(), 1);
}

#[test]
fn an_unfinished_copy_is_taken_up_or_cleared_only_as_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let (site, _) = claim(folder, false, false).expect("claimed");
    assert!(matches!(claim(folder, true, true), Err(CopyError::Busy(_))));
    file(&site.journal(), "whatever");
    file(&site.store().join("a/0"), "chunk");
    drop(site);
    assert!(matches!(claim(folder, false, false), Err(CopyError::Unfinished(_))));
    let (site, resume) = claim(folder, true, true).expect("claimed");
    assert!(resume && site.store().join("a/0").exists());
    drop(site);
    let (site, resume) = claim(folder, true, false).expect("claimed");
    assert!(!resume && !site.store().join("a/0").exists());
}

#[test]
fn temporary_files_of_an_earlier_run_go_wherever_they_are_and_those_of_others_stay() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let (site, _) = claim(folder, false, false).expect("claimed");
    let (ours, others) = (site.temp(Some(&folder.join("elsewhere"))), folder.join("elsewhere/of-another"));
    let header = journal::Header::new(&folder.join("source"), BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
    let mut journal = journal::Journal::create(&site.journal(), &header).expect("created");
    for path in [ours.join("array-0"), others.join("array-0")] {
        file(&path, "decoded");
        let (max_tile_bytes, leaves_per_band, tiles_per_bundle) = (1, 1, 0);
        let spool = journal::Spool { max_tile_bytes, leaves_per_band, tiles_per_bundle, path, inode: 0, len_bytes: 0 };
        let array = journal::ArrayCommit { spool: Some(spool), ..journal::ArrayCommit::default() };
        let commit = journal::Commit { arrays: [(0, array)].into(), passed: Vec::new(), is_last: false };
        journal.append(&commit).expect("appended");
    }
    drop(site);
    let (_, resume) = claim(folder, false, true).expect("claimed");
    assert!(resume && ours.exists());
    claim(folder, true, false).expect("claimed");
    assert!(!ours.exists() && others.join("array-0").exists());
}
