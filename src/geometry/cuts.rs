//! One axis cut into intervals: for pieces of virtual chunks, and for tiles.

use super::div_ceil;

/// An axis cut at every multiple of `outer` and, counted from each of those, at every multiple of `step`.
///
/// With `step == outer` this is a regular grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cuts {
    /// Length of the axis, elements.
    pub len: u64,
    /// Coarse cuts: the virtual chunk length, or a multiple of it. At least 1.
    pub outer: u64,
    /// Fine cuts within the coarse ones; between 1 and `outer`.
    pub step: u64,
}

impl Cuts {
    /// A regular grid.
    pub fn regular(len: u64, step: u64) -> Self {
        Cuts { len, outer: step.max(1), step: step.max(1) }
    }

    /// Fine intervals per coarse one.
    pub fn per_outer(&self) -> u64 {
        div_ceil(self.outer, self.step)
    }

    /// Number of intervals; the last ones may lie beyond `len` where fine cuts divide a ragged coarse interval.
    pub fn n(&self) -> u64 {
        div_ceil(self.len, self.outer).saturating_mul(self.per_outer())
    }

    /// The interval in which position `at` lies.
    pub fn of(&self, at: u64) -> u64 {
        (at / self.outer) * self.per_outer() + (at % self.outer) / self.step
    }

    /// The positions `start..end`, as parts of intervals: in as few runs as there are.
    pub fn runs(&self, start: u64, end: u64) -> Vec<CutRun> {
        let mut runs = Vec::new();
        let mut at = start;
        while at < end {
            let first = self.of(at);
            let (from, to) = self.interval(first);
            let (len, part_end) = (to - from, to.min(end));
            let n = if (at, part_end) != (from, to) {
                1
            } else if self.outer.is_multiple_of(self.step) {
                (end - at) / len
            } else {
                // The last one of a coarse interval is shorter.
                let outer_end = (at / self.outer + 1).saturating_mul(self.outer);
                (end.min(outer_end) - at) / len
            };
            runs.push(CutRun { first, n, len, part_start: at - from, part_len: part_end - at, at });
            at = part_end + (n - 1) * len;
        }
        runs
    }

    /// Start and end of interval `idx`, not clipped to `len`.
    pub fn interval(&self, idx: u64) -> (u64, u64) {
        let outer_start = (idx / self.per_outer()).saturating_mul(self.outer);
        let within = (idx % self.per_outer()) * self.step;
        let end = within.saturating_add(self.step).min(self.outer);
        (outer_start.saturating_add(within), outer_start.saturating_add(end))
    }
}

/// Intervals that follow each other, of the same length, and of each the same part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CutRun {
    /// The first interval, and how many there are.
    pub first: u64,
    /// At least 1; more where whole intervals are meant.
    pub n: u64,
    /// Length of each interval.
    pub len: u64,
    /// Where the part begins in its interval, and how long it is.
    pub part_start: u64,
    /// At most `len`.
    pub part_len: u64,
    /// Position on the axis where the first part begins.
    pub at: u64,
}

/// How one axis is cut into tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AxisTiling {
    /// On source chunk borders, so that each source chunk lies in one tile: tile `j` takes the chunks that
    /// start in `j * group .. (j + 1) * group`. Virtual chunks that straddle a border become seams.
    Source {
        /// Length of the axis, elements.
        len: u64,
        /// Source chunk length.
        chunk: u64,
        /// At least `chunk`.
        group: u64,
    },
    /// On virtual chunk (or piece) borders: no seams; source chunks that straddle are decoded for each side.
    Virtual(Cuts),
}

impl AxisTiling {
    /// The same cuts of an axis of another length.
    pub(super) fn resized(self, len: u64) -> Self {
        match self {
            AxisTiling::Source { chunk, group, .. } => AxisTiling::Source { len, chunk, group },
            AxisTiling::Virtual(cuts) => AxisTiling::Virtual(Cuts { len, ..cuts }),
        }
    }

    /// Number of tiles along the axis.
    pub fn n(&self) -> u64 {
        match *self {
            AxisTiling::Source { len, .. } => {
                if len == 0 {
                    0
                } else {
                    self.of(len - 1) + 1
                }
            }
            AxisTiling::Virtual(cuts) => cuts.n(),
        }
    }

    /// The tile in which position `at` lies.
    pub fn of(&self, at: u64) -> u64 {
        match *self {
            AxisTiling::Source { chunk, group, .. } => (at / chunk) * chunk / group,
            AxisTiling::Virtual(cuts) => cuts.of(at),
        }
    }

    /// Start and end of tile `idx`, not clipped to the axis. May be empty only beyond the axis.
    pub fn interval(&self, idx: u64) -> (u64, u64) {
        match *self {
            AxisTiling::Source { chunk, group, .. } => {
                let border = |j: u64| div_ceil(j.saturating_mul(group), chunk).saturating_mul(chunk);
                (border(idx), border(idx.saturating_add(1)))
            }
            AxisTiling::Virtual(cuts) => cuts.interval(idx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every position lies in the interval that `of` names, and intervals follow each other without gap.
    fn check(n: u64, len: u64, of: impl Fn(u64) -> u64, interval: impl Fn(u64) -> (u64, u64)) {
        for at in 0..len {
            let (start, end) = interval(of(at));
            assert!(start <= at && at < end, "{at} not in {start}..{end}");
            assert!(of(at) < n);
        }
        for idx in 1..n {
            assert!(interval(idx).0 >= interval(idx - 1).1 || interval(idx).0 >= len);
        }
    }

    /// The runs of `start..end` are the parts of its intervals, one after the other.
    fn check_runs(cuts: Cuts, start: u64, len: u64) {
        for end in start..=len {
            let mut at = start;
            for run in cuts.runs(start, end) {
                for nth in 0..run.n {
                    assert_eq!((run.at + nth * run.len, cuts.of(at)), (at, run.first + nth));
                    let (from, to) = cuts.interval(run.first + nth);
                    assert_eq!((run.len, run.part_start, run.part_len), (to - from, at - from, to.min(end) - at));
                    at += run.part_len;
                }
                assert!(run.n == 1 || run.part_len == run.len);
            }
            assert_eq!(at, end);
        }
    }

    #[test]
    fn intervals_partition_the_axis() {
        for len in [0, 1, 7, 30, 31] {
            for outer in 1..12 {
                for step in 1..=outer {
                    let cuts = Cuts { len, outer, step };
                    check(cuts.n(), len, |at| cuts.of(at), |idx| cuts.interval(idx));
                    (0..=len).for_each(|start| check_runs(cuts, start, len));
                }
                for chunk in 1..12 {
                    let tiling = AxisTiling::Source { len, chunk, group: outer.max(chunk) };
                    check(tiling.n(), len, |at| tiling.of(at), |idx| tiling.interval(idx));
                    for at in 0..len {
                        assert_eq!(tiling.of(at), tiling.of(at / chunk * chunk), "a source chunk lies in one tile");
                    }
                }
            }
        }
    }
}
