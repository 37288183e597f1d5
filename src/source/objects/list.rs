//! Which objects there are, from listings.

use super::{IN_FLIGHT, Objects, PAGE, state_of};
use crate::source::FileState;
use futures::{Stream, StreamExt, stream};
use object_store::path::Path as Key;
use object_store::{Error, ListResult};
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::Ordering::Relaxed;

/// Names below a prefix.
#[derive(Debug, Default)]
pub struct Entries {
    /// Of what has further names below it.
    pub folders: Vec<String>,
    /// Of objects.
    pub objects: Vec<(String, FileState)>,
}

impl Objects {
    /// The names directly below a key.
    ///
    /// # Errors
    /// Where the server fails for good, or does not list.
    pub fn entries(&self, key: &str) -> io::Result<Entries> {
        self.check_listed()?;
        let Some(below) = self.key(key) else { return Ok(Entries::default()) };
        let found = self.runtime.block_on(self.store.list_with_delimiter(Some(&below)));
        let ListResult { common_prefixes, objects, .. } = found.map_err(|error| self.failed(&error))?;
        let n = common_prefixes.len() + objects.len();
        self.totals.listings.fetch_add(n.div_ceil(PAGE).max(1) as u64, Relaxed);
        let name = |key: &Key| key.filename().map(str::to_owned);
        Ok(Entries {
            folders: common_prefixes.iter().filter_map(name).collect(),
            objects: objects.iter().filter_map(|meta| Some((name(&meta.location)?, state_of(meta)))).collect(),
        })
    }

    /// The first `most` objects below a key: their names within all that is below it, and states.
    ///
    /// # Errors
    /// Where the server fails for good, or does not list.
    pub fn first_below(&self, key: &str, most: usize) -> io::Result<Vec<(String, FileState)>> {
        self.runtime.block_on(self.list_below(key, most))
    }

    /// What [`Self::first_below`] gives for each of many keys, in their order.
    pub fn first_below_each(&self, keys: &[&str], most: usize) -> Vec<io::Result<Vec<(String, FileState)>>> {
        let lists = keys.iter().map(|key| self.list_below(key, most));
        self.runtime.block_on(stream::iter(lists).buffered(IN_FLIGHT).collect())
    }

    async fn list_below(&self, key: &str, most: usize) -> io::Result<Vec<(String, FileState)>> {
        let found: Vec<_> = self.below(key)?.take(most).collect().await;
        self.totals.listings.fetch_add(found.len().div_ceil(PAGE).max(1) as u64, Relaxed);
        found.into_iter().collect()
    }

    /// Goes through all objects below a key in pages of `most` at the most, as long as `visit` wants more.
    ///
    /// # Errors
    /// Likewise.
    pub fn walk_below(
        &self,
        key: &str,
        most: usize,
        visit: &mut dyn FnMut(Vec<(String, FileState)>) -> bool,
    ) -> io::Result<()> {
        let mut pages = self.below(key)?.chunks(most.min(PAGE));
        // Not within the runtime: whoever visits may ask for further objects.
        while let Some(page) = self.runtime.block_on(pages.next()) {
            self.totals.listings.fetch_add(1, Relaxed);
            if !visit(page.into_iter().collect::<Result<_, _>>()?) {
                break;
            }
        }
        Ok(())
    }

    /// All that is below a key.
    fn below(&self, key: &str) -> io::Result<impl Stream<Item = io::Result<(String, FileState)>> + Unpin> {
        self.check_listed()?;
        let below = self.key(key);
        let skipped = below.as_ref().map_or(0, |below| below.as_ref().len() + usize::from(!below.as_ref().is_empty()));
        let listing = match &below {
            Some(below) => self.store.list(Some(below)),
            None => stream::empty().boxed(),
        };
        Ok(listing.map(move |meta| {
            let meta = meta.map_err(|error| self.failed(&error))?;
            let name = meta.location.as_ref().get(skipped..).unwrap_or_default();
            Ok((name.to_owned(), state_of(&meta)))
        }))
    }

    fn check_listed(&self) -> io::Result<()> {
        if self.is_listed {
            return Ok(());
        }
        Err(self.error(io::ErrorKind::Unsupported, format!("{}: the server does not list names", self.name)))
    }

    /// What a listing tells of `keys`, and whether it told of all that are there: it ends where asking one by one is cheaper.
    pub(super) async fn list_around<'k>(
        &self,
        keys: &'k [String],
    ) -> Result<(HashMap<&'k str, FileState>, bool), Error> {
        let wanted: HashSet<&str> = keys.iter().map(String::as_str).collect();
        let (first, last) = (wanted.iter().min().copied(), wanted.iter().max().copied());
        let (Some(first), Some(last)) = (first, last) else { return Ok((HashMap::new(), true)) };
        let shared = first.bytes().zip(last.bytes()).take_while(|(first, last)| first == last).count();
        let folder = first.get(..shared).and_then(|same| same.rsplit_once('/')).map_or("", |(folder, _)| folder);
        let Some(below) = self.key(folder) else { return Ok((HashMap::new(), false)) };
        let most = PAGE * (keys.len() / IN_FLIGHT).max(2);
        let root = self.key("").map_or(0, |root| root.as_ref().len() + usize::from(!root.as_ref().is_empty()));
        let mut found = HashMap::new();
        let mut listing = match self.key(&first[..first.len() - 1]) {
            // Names from a shorter one on: the first one itself is among them.
            Some(before) if first.len() > folder.len() + 2 => self.store.list_with_offset(Some(&below), &before),
            _ => self.store.list(Some(&below)),
        };
        let mut n = 0;
        while let Some(meta) = listing.next().await {
            let meta = meta?;
            if n % PAGE == 0 {
                self.totals.listings.fetch_add(1, Relaxed);
            }
            n += 1;
            let key = meta.location.as_ref().get(root..).unwrap_or_default();
            if key > last {
                return Ok((found, true));
            }
            if let Some(&key) = wanted.get(key) {
                found.insert(key, state_of(&meta));
            }
            if found.len() == wanted.len() {
                return Ok((found, true));
            }
            if n >= most {
                return Ok((found, false));
            }
        }
        Ok((found, true))
    }
}
