//! Panics where a test asks for them, in debug builds: a bug in any thread is to cost whoever meets it an error, and nobody else
//! anything.

/// Panics as often as `RECHUNKFS_DRILL`, `PLACE:TIMES` or several of them with commas between, still says for `place`.
#[inline]
pub(crate) fn at(place: &str) {
    #[cfg(debug_assertions)]
    armed::at(place);
    #[cfg(not(debug_assertions))]
    let _ = place;
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    static PLACES: OnceLock<Vec<(String, AtomicU64)>> = OnceLock::new();

    pub(super) fn at(place: &str) {
        let places = PLACES.get_or_init(|| {
            let text = std::env::var("RECHUNKFS_DRILL").unwrap_or_default();
            let read = |part: &str| Some((part.split_once(':')?.0.to_owned(), part.split_once(':')?.1.parse().ok()?));
            text.split(',').filter_map(read).map(|(place, n): (String, u64)| (place, AtomicU64::new(n))).collect()
        });
        let armed = places.iter().find(|(known, _)| known == place);
        let is_left =
            |(_, left): &(String, AtomicU64)| left.fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1)).is_ok();
        assert!(!armed.is_some_and(is_left), "a drill at {place}");
    }
}
