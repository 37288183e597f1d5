//! What a comparison of two stores found.

use super::runs::Unequal;
use crate::source::SourceError;
use crate::zarr::Readable;
use crate::zarr::codecs::Endian;
use crate::zarr::show;

/// What a comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Every array of either store, by path.
    pub arrays: Vec<ArrayComparison>,
    /// The groups that differ.
    pub groups: Vec<GroupComparison>,
    /// Target chunks (or shards) that were compared, where that was a sample.
    pub sampled_chunks: Option<u64>,
}

/// What was found of one array.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArrayComparison {
    /// Its path.
    pub path: String,
    /// Elements compared.
    pub elements: u64,
    /// Decoded bytes compared; of an array compared as files, their bytes.
    pub bytes: u64,
    /// Elements that differ; of an array compared as files, files.
    pub differences: u64,
    /// The first elements that differ, in C order.
    pub first: Vec<Difference>,
    /// Of an array compared as files: the first chunk files that differ, and how.
    pub files: Vec<String>,
    /// How the documents differ.
    pub metadata: Vec<String>,
    /// What could not be compared, and why.
    pub error: Option<String>,
}

/// An element that is not the same in both stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Its indices.
    pub at: Vec<u64>,
    /// As the source has it.
    pub source: String,
    /// As the target has it.
    pub target: String,
}

/// How a group differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupComparison {
    /// Its path.
    pub path: String,
    /// How the documents differ.
    pub metadata: Vec<String>,
}

impl Comparison {
    /// Differences of any kind: elements (files, of arrays compared as such) and statements of documents.
    pub fn differences(&self) -> u64 {
        let arrays = self.arrays.iter().map(|array| array.differences + array.metadata.len() as u64);
        let groups = self.groups.iter().map(|group| group.metadata.len() as u64);
        arrays.chain(groups).sum()
    }

    /// Elements compared.
    pub fn elements(&self) -> u64 {
        self.arrays.iter().map(|array| array.elements).sum()
    }

    /// Bytes compared.
    pub fn bytes(&self) -> u64 {
        self.arrays.iter().map(|array| array.bytes).sum()
    }

    /// Something could not be compared.
    pub fn is_incomplete(&self) -> bool {
        self.arrays.iter().any(|array| array.error.is_some())
    }

    /// All was compared that was to be compared, and no difference found.
    pub fn is_equal(&self) -> bool {
        self.differences() == 0 && !self.is_incomplete()
    }

    /// One line: how many arrays, and what is wrong with them.
    pub fn summary(&self) -> String {
        let n = self.arrays.len();
        let of = |n: usize, what: &str| if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") };
        let differing = self.arrays.iter().filter(|array| array.is_different()).count();
        let failed = self.arrays.iter().filter(|array| array.error.is_some()).count();
        let mut said = Vec::new();
        if differing > 0 {
            let verb = if differing == 1 { "differs" } else { "differ" };
            said.push(format!("{differing} of {} {verb}", of(n, "array")));
        }
        if !self.groups.is_empty() {
            let verb = if self.groups.len() == 1 { "differs" } else { "differ" };
            said.push(format!("{} {verb}", of(self.groups.len(), "group")));
        }
        if failed > 0 {
            said.push(format!("{failed} of {} could not be compared", of(n, "array")));
        }
        if said.is_empty() { format!("{}, equal", of(n, "array")) } else { said.join(", ") }
    }
}

impl ArrayComparison {
    /// A difference of any kind was found.
    pub fn is_different(&self) -> bool {
        self.differences > 0 || !self.metadata.is_empty()
    }
}

/// What cannot be read, and in which store.
pub(super) fn unread(side: &str, error: &SourceError) -> String {
    match error {
        // What the error itself says is meant for those who have a view of the store.
        SourceError::Changed { key, .. } => format!("{side}: chunk file {key}: changed while it was compared"),
        SourceError::Io { key, action, error, .. } => format!("{side}: chunk file {key}: cannot {action}: {error}"),
        SourceError::Corrupt { key, why, .. } | SourceError::Torn { key, why, .. } => {
            format!("{side}: chunk file {key}: {why}")
        }
        SourceError::Unsupported { why, .. } => format!("{side}: {why}"),
    }
}

/// Texts of a difference, found in the byte order of `array`, which is the one on this side.
pub(super) fn told(array: &Readable, mut unequal: Unequal, side: &str) -> Difference {
    if side == "target" {
        std::mem::swap(&mut unequal.ours, &mut unequal.theirs);
    }
    if array.endian == Some(Endian::Big) {
        array.data_type.swap(&mut unequal.ours);
        array.data_type.swap(&mut unequal.theirs);
    }
    let (source, target) = show::pair(&array.data_type, &unequal.ours, &unequal.theirs);
    Difference { at: unequal.at, source, target }
}
