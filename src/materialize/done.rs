//! Which files an earlier run has done.

use super::journal::runs;
use std::collections::HashMap;

/// Numbers per page; a page is allocated when one of its numbers enters.
const PAGE: u64 = 1 << 15;

/// A set of numbers, dense in places.
#[derive(Debug, Default)]
pub(super) struct Done {
    pages: HashMap<u64, Box<[u64]>>,
    n: u64,
}

impl Done {
    /// How many there are.
    pub(super) fn len(&self) -> u64 {
        self.n
    }

    pub(super) fn has(&self, number: u64) -> bool {
        let bit = number % PAGE;
        self.pages.get(&(number / PAGE)).is_some_and(|page| page[(bit / 64) as usize] >> (bit % 64) & 1 == 1)
    }

    /// Adds a number.
    pub(super) fn insert(&mut self, number: u64) {
        let bit = number % PAGE;
        let page = self.pages.entry(number / PAGE).or_insert_with(|| vec![0; (PAGE / 64) as usize].into());
        let word = &mut page[(bit / 64) as usize];
        self.n += u64::from(*word >> (bit % 64) & 1 == 0);
        *word |= 1 << (bit % 64);
    }

    /// Adds runs: first and how many.
    pub(super) fn extend(&mut self, runs: &[(u64, u64)]) {
        runs.iter().flat_map(|&(first, n)| first..first.saturating_add(n)).for_each(|number| self.insert(number));
    }

    /// Takes runs out.
    pub(super) fn remove(&mut self, runs: &[(u64, u64)]) {
        for number in runs.iter().flat_map(|&(first, n)| first..first.saturating_add(n)) {
            let bit = number % PAGE;
            let Some(page) = self.pages.get_mut(&(number / PAGE)) else { continue };
            let word = &mut page[(bit / 64) as usize];
            self.n -= *word >> (bit % 64) & 1;
            *word &= !(1 << (bit % 64));
        }
    }

    /// Those that `other` has, too: as runs.
    pub(super) fn common(&self, other: &Done) -> Vec<(u64, u64)> {
        runs(self.iter().filter(|number| other.has(*number)).collect())
    }

    /// All of them, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u64> {
        let mut numbers: Vec<u64> = self.pages.keys().copied().collect();
        numbers.sort_unstable();
        numbers.into_iter().flat_map(|page| (page * PAGE..(page + 1) * PAGE).filter(|number| self.has(*number)))
    }

    /// Those that `other` has not.
    pub(super) fn without(&self, other: &Done) -> Done {
        let mut rest = Done::default();
        self.iter().filter(|number| !other.has(*number)).for_each(|number| rest.insert(number));
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_what_was_added() {
        let mut done = Done::default();
        assert!(done.len() == 0 && !done.has(0));
        done.extend(&[(3, 4), (PAGE - 1, 2), (5, 3)]);
        let has: Vec<u64> = (0..2 * PAGE).filter(|&number| done.has(number)).collect();
        assert_eq!(has, [3, 4, 5, 6, 7, PAGE - 1, PAGE]);
        assert_eq!((done.iter().collect::<Vec<u64>>(), done.len()), (has, 7));
        let mut some = Done::default();
        some.extend(&[(5, 1), (PAGE, 1), (100, 1)]);
        assert_eq!(done.common(&some), [(5, 1), (PAGE, 1)]);
        some.remove(&[(90, 20), (PAGE - 3, 2)]);
        assert_eq!((some.iter().collect::<Vec<u64>>(), some.len()), (vec![5, PAGE], 2));
        assert_eq!(done.without(&some).iter().collect::<Vec<u64>>(), [3, 4, 6, 7, PAGE - 1]);
    }
}
