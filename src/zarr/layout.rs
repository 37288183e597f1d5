//! The layout as the user types it: `--along`, `--chunks`, `--shards`, `--array`, `--exclude`.

use super::json::JsonError;

/// The layout as the user types it.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// `--along DIM`: all of DIM in each chunk, the rest `auto`.
    pub along: Option<String>,
    /// Each `--chunks SPEC`.
    pub chunks: Vec<String>,
    /// What `auto` aims at.
    pub chunk_size_bytes: u64,
    /// Each `--shards SPEC`.
    pub shards: Vec<String>,
    /// Each `--array GLOB`.
    pub array_globs: Vec<String>,
    /// Each `--exclude GLOB`.
    pub exclude_globs: Vec<String>,
}

impl Default for Layout {
    /// No wish at all, with chunks of 4 MiB where `auto` chooses.
    fn default() -> Self {
        Layout {
            along: None,
            chunks: Vec::new(),
            chunk_size_bytes: 4 << 20,
            shards: Vec::new(),
            array_globs: Vec::new(),
            exclude_globs: Vec::new(),
        }
    }
}

/// Why a layout cannot be had. Each is one line that names the thing and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// A `--chunks` or `--shards` that cannot be read.
    #[error("{flag} {spec:?}: {problem}; write for example {flag} object=15,epoch=full")]
    Spec {
        /// Which flag.
        flag: &'static str,
        /// What was given.
        spec: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A glob that cannot be read.
    #[error("{glob:?}: {problem}; write a path inside the store such as group/array, or ** for any groups")]
    Glob {
        /// What was given.
        glob: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A dimension that no array has.
    #[error("no array has a dimension {dimension:?}; the dimensions are {known}")]
    UnknownDimension {
        /// What was given.
        dimension: String,
        /// Those that exist, with their lengths.
        known: String,
    },
    /// No wish at all.
    #[error("no layout given; the dimensions are {known}. Try {suggestion}")]
    NoLayout {
        /// Those that exist, with their lengths.
        known: String,
        /// A flag to try.
        suggestion: String,
    },
    /// A virtual chunk that few readers could take.
    #[error("{array}: chunk ({shape}) is {size}, limit 2 GiB. {suggestion}")]
    ChunkTooLarge {
        /// Which array.
        array: String,
        /// The chunk's shape.
        shape: String,
        /// Its size.
        size: String,
        /// A better layout.
        suggestion: String,
    },
    /// Shards that are not whole numbers of chunks.
    #[error("{array}: shard length {shard} of {dimension} is no multiple of the chunk length {chunk}; try {remedy}")]
    ShardNotDivided {
        /// Which array.
        array: String,
        /// Which axis.
        dimension: String,
        /// Shard length asked for.
        shard: u64,
        /// Chunk length.
        chunk: u64,
        /// A length that would do.
        remedy: u64,
    },
    /// Shards beyond what a file can hold.
    #[error("{array}: a shard of ({shape}) elements is larger than a file can be; give smaller --shards")]
    ShardTooLarge {
        /// Which array.
        array: String,
        /// The shard's shape.
        shape: String,
    },
    /// An array that is named but not there.
    #[error("{glob:?} names no array; the arrays are {known}")]
    NoSuchArray {
        /// What was given.
        glob: String,
        /// Those that exist.
        known: String,
    },
    /// A named array that cannot be rechunked.
    #[error("{array}: cannot be rechunked: {reason}; leave it out of --array, and it is shown as it is")]
    CannotRechunk {
        /// Which array.
        array: String,
        /// Why.
        reason: String,
    },
    /// A named array that lacks a dimension of the layout.
    #[error("{array}: has no dimension {dimension:?}; its dimensions are {known}")]
    LacksDimension {
        /// Which array.
        array: String,
        /// What was asked for.
        dimension: String,
        /// Those that it has.
        known: String,
    },
    /// A layout under which every array passes.
    #[error("nothing to rechunk: {reason}")]
    NothingLeft {
        /// Why, with the remedy.
        reason: String,
    },
    /// A `--codecs` that cannot be had.
    #[error("--codecs '{spec}': {problem}; {remedy}")]
    Codecs {
        /// What was given, shortened.
        spec: String,
        /// What is wrong with it.
        problem: String,
        /// What to write instead.
        remedy: String,
    },
    /// A layout or codecs that are not those of the copy that is to be brought up to date.
    #[error("{array}: {asked}, the copy has {has}: {remedy}")]
    Disagrees {
        /// Which array.
        array: String,
        /// What was asked for.
        asked: String,
        /// What the copy has.
        has: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A node of a copy that cannot be brought up to date.
    #[error("{node}: it cannot be brought up to date: {reason}; {remedy}")]
    NotUpdated {
        /// Which array or group.
        node: String,
        /// Why not.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// A document that describes no node.
    #[error("{key}: {reason}; write it again, or restore it from the store's origin")]
    Document {
        /// Key of the document.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Layout {
    /// Nothing is asked for.
    pub fn is_empty(&self) -> bool {
        let Layout { along, chunks, chunk_size_bytes: _, shards, array_globs, exclude_globs } = self;
        along.is_none() && [chunks, shards, array_globs, exclude_globs].iter().all(|given| given.is_empty())
    }

    /// As flags: the same for the same wishes in the same words.
    pub fn words(&self) -> String {
        let Layout { along, chunks, chunk_size_bytes, shards, array_globs, exclude_globs } = self;
        let mut words = Vec::new();
        let mut add =
            |flag: &str, values: &[String]| words.extend(values.iter().map(|value| format!("{flag} {value}")));
        add("--along", along.as_slice());
        add("--chunks", chunks);
        add("--shards", shards);
        add("--array", array_globs);
        add("--exclude", exclude_globs);
        add("--chunk-size", &[chunk_size_bytes.to_string()]);
        words.join(" ")
    }
}

impl LayoutError {
    /// The error for a document that is not JSON.
    pub(crate) fn json(key: &str, error: &JsonError) -> Self {
        LayoutError::Document { key: key.to_owned(), reason: error.to_string() }
    }
}

/// One length as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// This many elements.
    Elements(u64),
    /// The whole axis.
    Full,
    /// What the source has.
    Source,
    /// Chosen, so that chunks are about as large as wished.
    Auto,
}

/// A `--chunks` or `--shards`, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// The arrays that it is for, a path or glob; all where it is missing.
    pub array: Option<String>,
    /// Dimension (name or axis number) and length, in the order given.
    pub lengths: Vec<(String, Length)>,
    /// The length of the dimensions that are not named (`auto` alone, `full` alone).
    pub rest: Option<Length>,
}

/// Reads `object=15,epoch=full`, `auto`, `ARRAY:SPEC`.
///
/// # Errors
/// [`LayoutError::Spec`].
pub fn parse_spec(flag: &'static str, text: &str) -> Result<Spec, LayoutError> {
    let error = |problem: String| LayoutError::Spec { flag, spec: text.to_owned(), problem };
    let before_first = text.find('=').unwrap_or(text.len());
    let colon = text.get(..before_first).and_then(|head| head.rfind(':'));
    let (array, list) = match colon {
        Some(at) => (text.get(..at), text.get(at + 1..).unwrap_or_default()),
        None => (None, text),
    };
    let mut spec = Spec { array: array.map(|a| a.trim_matches('/').to_owned()), lengths: Vec::new(), rest: None };
    for item in list.split(',').map(str::trim) {
        match item.rsplit_once('=') {
            Some((dimension, length)) => {
                let dimension = dimension.trim().to_owned();
                let length = parse_length(&dimension, length.trim()).map_err(error)?;
                if dimension.is_empty() {
                    return Err(error(format!("{item:?} names no dimension")));
                }
                if spec.lengths.iter().any(|(known, _)| *known == dimension) {
                    return Err(error(format!("{dimension} is given twice")));
                }
                spec.lengths.push((dimension, length));
            }
            None if item.is_empty() => return Err(error("a DIM=LENGTH is missing".to_owned())),
            None => match parse_length("all", item) {
                Ok(Length::Elements(_)) | Err(_) => {
                    return Err(error(format!("{item:?} is no DIM=LENGTH")));
                }
                Ok(length) => spec.rest = Some(length),
            },
        }
    }
    Ok(spec)
}

fn parse_length(dimension: &str, text: &str) -> Result<Length, String> {
    match text {
        "full" | "-1" => return Ok(Length::Full),
        "source" => return Ok(Length::Source),
        "auto" => return Ok(Length::Auto),
        "" => return Err(format!("{dimension} has no length")),
        _ => {}
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("{dimension}={text}: a length is a number, full, source or auto"));
    }
    match text.parse::<u64>() {
        Ok(0) => Err(format!("{dimension}=0: a chunk holds at least 1; full is the whole axis")),
        Ok(elements) if elements <= 1 << 63 => Ok(Length::Elements(elements)),
        _ => Err(format!("{dimension}={text}: larger than 2^63; full is the whole axis")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_are_read() {
        let spec = parse_spec("--chunks", "object=15, epoch=full,x=-1,0=auto,y=source").unwrap();
        assert_eq!(spec.array, None);
        assert_eq!(
            spec.lengths,
            [
                ("object".to_owned(), Length::Elements(15)),
                ("epoch".to_owned(), Length::Full),
                ("x".to_owned(), Length::Full),
                ("0".to_owned(), Length::Auto),
                ("y".to_owned(), Length::Source),
            ]
        );
        let spec = parse_spec("--chunks", "/sub/**/flux*:epoch=full").unwrap();
        assert_eq!((spec.array.as_deref(), spec.lengths.len()), (Some("sub/**/flux*"), 1));
        assert_eq!(parse_spec("--shards", "auto").unwrap().rest, Some(Length::Auto));
    }

    #[test]
    fn unreadable_specs_say_what_and_how() {
        let tail = "; write for example --chunks object=15,epoch=full";
        for (text, expected) in [
            ("", "--chunks \"\": a DIM=LENGTH is missing"),
            ("15", "--chunks \"15\": \"15\" is no DIM=LENGTH"),
            ("a=0", "--chunks \"a=0\": a=0: a chunk holds at least 1; full is the whole axis"),
            (
                "a=9223372036854775809",
                "--chunks \"a=9223372036854775809\": a=9223372036854775809: larger than 2^63; full is the whole axis",
            ),
            (
                "a=99999999999999999999999",
                "--chunks \"a=99999999999999999999999\": a=99999999999999999999999: larger than 2^63; full is the whole axis",
            ),
            ("a=-2", "--chunks \"a=-2\": a=-2: a length is a number, full, source or auto"),
            ("a=", "--chunks \"a=\": a has no length"),
            ("a=1,a=2", "--chunks \"a=1,a=2\": a is given twice"),
            ("=2", "--chunks \"=2\": \"=2\" names no dimension"),
        ] {
            assert_eq!(parse_spec("--chunks", text).unwrap_err().to_string(), format!("{expected}{tail}"));
        }
    }
}
