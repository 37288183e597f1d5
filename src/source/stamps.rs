//! Stamps of the source chunk files visited so far: the version of the source that a view shows or a copy is of.
//!
//! The first look at a file decides: what it was then is what is shown, and a file that was absent then stays
//! absent. Reading it in another state is an error ([`crate::source::SourceError::Changed`]), never a mixture.

use crate::source::Stamp;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Stamps per page; a page is allocated when one of its files is visited.
const PAGE: u64 = 512;

/// Stamps by file position, eight bytes for each in pages visited; 0 where nothing is known.
#[derive(Debug, Default)]
pub struct Stamps {
    pages: Mutex<HashMap<u64, Box<[u64]>>>,
}

impl Stamps {
    /// The stamp on record.
    pub fn get(&self, file: u64) -> Option<Stamp> {
        let pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        Stamp::from_raw(*pages.get(&(file / PAGE))?.get((file % PAGE) as usize)?)
    }

    /// Puts `seen` on record unless there is one already; returns the one on record.
    pub fn settle(&self, file: u64, seen: Stamp) -> Stamp {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let page = pages.entry(file / PAGE).or_insert_with(|| vec![0; PAGE as usize].into());
        let slot = &mut page[(file % PAGE) as usize];
        match Stamp::from_raw(*slot) {
            Some(settled) => settled,
            None => {
                *slot = seen.to_raw();
                seen
            }
        }
    }

    /// Every stamp on record, by file position, in order.
    pub fn all(&self) -> Vec<(u64, Stamp)> {
        let pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let mut numbers: Vec<u64> = pages.keys().copied().collect();
        numbers.sort_unstable();
        let page = |number: u64| pages.get(&number).into_iter().flat_map(|page| page.iter().copied());
        let known =
            |number: u64| (number * PAGE..).zip(page(number)).filter_map(|(at, raw)| Some((at, Stamp::from_raw(raw)?)));
        numbers.into_iter().flat_map(known).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_look_decides() {
        let stamps = Stamps::default();
        assert_eq!(stamps.get(1000), None);
        let present = Stamp::from_raw(77).expect("not 0");
        assert_eq!(stamps.settle(1000, present), present);
        assert_eq!(stamps.settle(1000, Stamp::ABSENT), present);
        assert_eq!(stamps.settle(1001, Stamp::ABSENT), Stamp::ABSENT);
        assert_eq!(stamps.get(1000), Some(present));
        assert_eq!(stamps.get(5), None);
        assert_eq!(stamps.all(), [(1000, present), (1001, Stamp::ABSENT)]);
    }
}
