//! Copies made in shares, against copies that one run makes: any store, any number of shares, in any order, two at a time,
//! some of them stopped.

use crate::copies::{Copying, copying, files_below};
use proptest::prelude::*;
use rechunkfs::materialize::{CopyError, Outcome, Progress, Share, copy_share, finish, partial_of};
use rechunkfs::source::Counters;
use rechunkfs::zarr::Hierarchy;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A run of one share, which is stopped after so many microseconds if at all.
fn make(
    copying: &Copying,
    (source, target): (&Path, &Path),
    share: Share,
    (memory_mib, stop): (u64, Option<u64>),
) -> Result<Outcome, CopyError> {
    let progress = Progress::default();
    std::thread::scope(|scope| {
        if let Some(micros) = stop {
            let progress = &progress;
            scope.spawn(move || {
                std::thread::sleep(Duration::from_micros(micros));
                progress.stop();
            });
        }
        let options = copying.options(source, target, true, memory_mib << 20);
        let counters = Arc::new(Counters::default());
        copy_share(&Hierarchy::default(), copying.projection(), &options, share, &progress, &counters)
    })
}

fn put_together(copying: &Copying, source: &Path, target: &Path) -> Result<Outcome, CopyError> {
    let options = copying.options(source, target, false, 96 << 20);
    let counters = Arc::new(Counters::default());
    finish(&Hierarchy::default(), copying.projection(), &options, &Progress::default(), &counters)
}

proptest! {
    // Each of them syncs the disk some times for each share.
    #![proptest_config(ProptestConfig { cases: 80, ..ProptestConfig::default() })]

    #[test]
    fn shares_make_the_tree_that_one_run_makes(
        copying in copying(),
        shares in (1u64..6).prop_flat_map(|n| Just((1..=n).collect::<Vec<u64>>()).prop_shuffle()),
        stops in prop::collection::vec((0u64..3000, 80u64..200), 0..4),
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let (source, target) = (folder.path().join("source"), folder.path().join("target"));
        std::fs::create_dir(&source).expect("a folder");
        let source = source.canonicalize().expect("there");
        copying.case.model.write(&source);
        let places = (source.as_path(), target.as_path());
        let share = |number: u64| Share::new(number, shares.len() as u64).expect("a share");
        let mut is_last_made = false;
        for (nth, (micros, memory_mib)) in stops.iter().enumerate() {
            let number = shares[nth % shares.len()];
            match make(&copying, places, share(number), (*memory_mib, Some(*micros))) {
                Ok(_) => is_last_made |= Some(&number) == shares.last(),
                Err(error) => prop_assert!(matches!(error, CopyError::Stopped), "{error}"),
            }
        }
        for pair in shares.chunks(2) {
            let together: Vec<_> = std::thread::scope(|scope| {
                let one = |&number: &u64| {
                    let copying = &copying;
                    scope.spawn(move || make(copying, places, share(number), (96, None)))
                };
                let threads: Vec<_> = pair.iter().map(one).collect();
                threads.into_iter().map(|thread| thread.join().expect("ended")).collect()
            });
            for outcome in together {
                outcome.expect("made");
            }
            if is_last_made || pair.contains(shares.last().expect("one")) {
                continue;
            }
            let error = put_together(&copying, &source, &target).expect_err("some are missing").to_string();
            let missing = format!("{}/{}", shares.last().expect("one"), shares.len());
            prop_assert!(error.contains(&missing), "{error}");
        }
        let before = files_below(&partial_of(&target));
        make(&copying, places, share(shares[0]), (96, None)).expect("made already");
        prop_assert!(files_below(&partial_of(&target)) == before, "a share that is made is left alone");
        prop_assert!(!target.exists());
        put_together(&copying, &source, &target).expect("finished");
        prop_assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 2, "nothing is left beside it");
        let whole = folder.path().join("whole");
        copying.run(&source, &whole, false).expect("copied");
        prop_assert_eq!(files_below(&target), files_below(&whole));
    }
}
