//! How often the source is looked at again.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Looking again at things of one kind takes at most this part of the time: of all three, a hundredth,
const MAX_SHARE: u32 = 300;
/// after this much of it.
const CREDIT: Duration = Duration::from_millis(20);

/// What is looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The documents of the hierarchy, and the arrays that are shown as they are.
    Documents,
    /// The source chunk files of virtual chunks that are asked for.
    Footprints,
    /// All source chunk files that were looked at, for the times of directories.
    Surveys,
}

/// Follows the time that looking takes. First looks do not count: nothing can be shown without.
#[derive(Debug)]
pub(super) struct Looks {
    /// What was found holds for so long; `None` for ever.
    refresh: Option<Duration>,
    began: Instant,
    spent: [Spent; 3],
    pub(super) n_changes: AtomicU64,
}

#[derive(Debug, Default)]
struct Spent {
    ns: AtomicU64,
    longest_ns: AtomicU64,
    n: AtomicU64,
    n_files: AtomicU64,
    n_put_off: AtomicU64,
}

impl Looks {
    pub(super) fn new(refresh: Option<Duration>) -> Self {
        Looks { refresh, began: Instant::now(), spent: Default::default(), n_changes: AtomicU64::new(0) }
    }

    /// For how long what was found holds, if not for ever.
    pub(super) fn refresh(&self) -> Option<Duration> {
        self.refresh
    }

    /// Whether what was found at `looked` is to be looked at again.
    pub(super) fn is_due(&self, kind: Kind, looked: Instant) -> bool {
        let Some(refresh) = self.refresh else { return false };
        if looked.elapsed() < refresh {
            return false;
        }
        let spent = &self.spent[kind as usize];
        // Who asks for every change at once pays for it.
        let may = refresh.is_zero()
            || Duration::from_nanos(spent.ns.load(Relaxed)) <= CREDIT + self.began.elapsed() / MAX_SHARE;
        if !may {
            spent.n_put_off.fetch_add(1, Relaxed);
        }
        may
    }

    /// Enters a look at `n_files` files that began at `since`.
    pub(super) fn spend(&self, kind: Kind, since: Instant, n_files: u64) {
        let (spent, ns) = (&self.spent[kind as usize], since.elapsed().as_nanos() as u64);
        spent.ns.fetch_add(ns, Relaxed);
        spent.longest_ns.fetch_max(ns, Relaxed);
        spent.n.fetch_add(1, Relaxed);
        spent.n_files.fetch_add(n_files, Relaxed);
    }

    /// What was spent so far. The interval that is kept is the one asked for or, where looking takes long, as long as that
    /// makes it.
    pub(super) fn spent(&self) -> LooksSpent {
        let kind = |kind: Kind| {
            let spent = &self.spent[kind as usize];
            let longest = Duration::from_nanos(spent.longest_ns.load(Relaxed)) * MAX_SHARE;
            let put_off = spent.n_put_off.load(Relaxed);
            let kept = self.refresh.map(|refresh| if put_off > 0 { refresh.max(longest) } else { refresh });
            KindSpent {
                interval_s: kept.map(|kept| kept.as_secs_f64()),
                looks: spent.n.load(Relaxed),
                files: spent.n_files.load(Relaxed),
                ns: spent.ns.load(Relaxed),
                put_off,
            }
        };
        LooksSpent {
            seconds: self.refresh.map(|refresh| refresh.as_secs_f64()),
            changed_files: self.n_changes.load(Relaxed),
            documents: kind(Kind::Documents),
            footprints: kind(Kind::Footprints),
            surveys: kind(Kind::Surveys),
        }
    }
}

/// What looking at the source again has taken.
#[derive(Debug, serde::Serialize)]
pub(super) struct LooksSpent {
    /// As asked for; `None` for never.
    seconds: Option<f64>,
    /// Source chunk files found changed.
    changed_files: u64,
    documents: KindSpent,
    footprints: KindSpent,
    surveys: KindSpent,
}

#[derive(Debug, serde::Serialize)]
struct KindSpent {
    interval_s: Option<f64>,
    looks: u64,
    files: u64,
    ns: u64,
    put_off: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_is_put_off_once_it_takes_more_than_its_share_of_the_time() {
        let hour = Duration::from_secs(3600);
        let ago = |time: Duration| Instant::now().checked_sub(time).expect("the machine has been up that long");
        let short = Duration::from_millis(5);
        assert!(!Looks::new(None).is_due(Kind::Footprints, ago(short)), "never");
        assert!(!Looks::new(Some(hour)).is_due(Kind::Footprints, ago(short)), "not yet");
        let looks = Looks::new(Some(Duration::from_millis(1)));
        assert!(looks.is_due(Kind::Footprints, ago(short)));
        looks.spend(Kind::Footprints, ago(Duration::from_millis(100)), 7);
        assert!(!looks.is_due(Kind::Footprints, ago(short)), "it took 100 ms of a few");
        assert!(looks.is_due(Kind::Surveys, ago(short)), "each kind has its own share");
        let spent = looks.spent();
        assert_eq!((spent.footprints.put_off, spent.footprints.interval_s > Some(29.0)), (1, true), "300 times 100 ms");
        let at_once = Looks::new(Some(Duration::ZERO));
        at_once.spend(Kind::Footprints, ago(Duration::from_millis(100)), 7);
        assert!(at_once.is_due(Kind::Footprints, Instant::now()), "asked for");
    }
}
