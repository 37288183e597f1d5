//! `--codecs` as the user types it: `zstd:5`, `blosc:lz4`, `ARRAY=none`, a JSON list.

use super::chain::Chain;
use super::codec::{self, Codec};
use crate::zarr::array::ArrayNode;
use crate::zarr::json;
use crate::zarr::layout::LayoutError;
use crate::zarr::naming::{display_path, listed};
use crate::zarr::select::Pattern;
use crate::zarr::types::VirtualArray;
use std::ops::RangeInclusive;

/// What is wrong with a `--codecs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    problem: String,
    remedy: String,
}

impl Problem {
    const FORMS: &str = "write for example zstd:5, blosc:zstd:5:shuffle, gzip, none or source";
    pub(super) const LIST: &str = r#"write a list such as [{"name": "zstd", "configuration": {"level": 5}}]"#;

    pub(super) fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Problem { problem: problem.into(), remedy: remedy.into() }
    }

    /// As the error of the `--codecs` that was given as `text`.
    pub(super) fn of(self, text: &str) -> LayoutError {
        LayoutError::Codecs { spec: brief(text), problem: self.problem, remedy: self.remedy }
    }
}

/// `text` on one line of at most 60 characters.
fn brief(text: &str) -> String {
    const SHOWN: usize = 60;
    let mut words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words.retain(|c| !c.is_control());
    if let Some((end, _)) = words.char_indices().nth(SHOWN) {
        words.truncate(end);
        words.push_str("...");
    }
    words
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    /// The source's codecs, as far as they can be kept.
    Source,
    /// These codecs.
    Chain(Chain),
}

struct Spec {
    text: String,
    /// The arrays that it is for; all where it is missing.
    pattern: Option<Pattern>,
    wish: Wish,
}

/// Every `--codecs`, read.
pub(super) struct Specs(Vec<Spec>);

impl Specs {
    /// Reads `texts`, the arrays of which must be among `arrays`.
    pub(super) fn read(texts: &[String], arrays: &[ArrayNode]) -> Result<Self, LayoutError> {
        let read = |text: &String| {
            let (array, wish) = split(text);
            if array == Some("") {
                return Err(Problem::new("no array stands before =", Problem::FORMS).of(text));
            }
            let wish = read_wish(wish).map_err(|problem| problem.of(text))?;
            let pattern = array.map(Pattern::new).transpose()?;
            if let Some(pattern) = &pattern {
                pattern.check(arrays)?;
            }
            Ok(Spec { text: text.clone(), pattern, wish })
        };
        texts.iter().map(read).collect::<Result<Vec<_>, _>>().map(Specs)
    }

    /// What is asked for the array `path`, and in which words: of several the last, those for the array first.
    pub(super) fn wish(&self, path: &str) -> Option<(&str, &Wish)> {
        let own = |spec: &&Spec| spec.pattern.as_ref().is_some_and(|pattern| pattern.matches(path));
        let own = self.0.iter().rev().find(own);
        let spec = own.or_else(|| self.0.iter().rev().find(|spec| spec.pattern.is_none()))?;
        Some((&spec.text, &spec.wish))
    }

    /// Codecs asked for arrays that all stay as they are would be dropped without a word.
    pub(super) fn check_used(&self, rechunked: &[VirtualArray]) -> Result<(), LayoutError> {
        let idle = |pattern: &Pattern| !rechunked.iter().any(|array| pattern.matches(&array.source.path));
        match self.0.iter().find(|spec| spec.pattern.as_ref().is_some_and(idle)) {
            None => Ok(()),
            Some(spec) => {
                let known = listed(rechunked.iter().map(|array| display_path(&array.source.path)).collect());
                let remedy = format!("leave it out, or name one of {known}");
                Err(Problem::new("it is for arrays that are not rechunked", remedy).of(&spec.text))
            }
        }
    }
}

/// The array and the rest. Both a glob and a JSON list can begin with a bracket, and a path can contain `=`.
fn split(text: &str) -> (Option<&str>, &str) {
    let text = text.trim();
    let is_list = |text: &str| text.starts_with('[') && json::parse(text).is_ok();
    // A list that is not quite JSON: no glob has quotes in it.
    let is_broken_list = |text: &str| text.starts_with('[') && text.contains('"');
    let splits = || text.match_indices('=').map(|(at, _)| (text.get(..at), text.get(at + 1..).unwrap_or_default()));
    let before_list = |is: &dyn Fn(&str) -> bool| splits().find(|(_, rest)| is(rest.trim_start()));
    if is_list(text) {
        return (None, text);
    }
    let found = before_list(&is_list);
    if found.is_none() && is_broken_list(text) {
        return (None, text);
    }
    let found = found.or_else(|| before_list(&is_broken_list)).or_else(|| splits().next_back());
    found.map_or((None, text), |(array, rest)| (array.map(str::trim), rest.trim()))
}

fn read_wish(text: &str) -> Result<Wish, Problem> {
    if text.starts_with('[') {
        return Chain::read(text).map(Wish::Chain);
    }
    let mut words = text.split(':');
    let name = words.next().unwrap_or_default();
    let parameters: Vec<&str> = words.collect();
    let most = match name {
        "none" | "source" => 0,
        "zstd" | "gzip" => 1,
        "blosc" => 3,
        "" => return Err(Problem::new("no codec is named", Problem::FORMS)),
        _ => return Err(Problem::new(format!("{name:?} is no codec of a copy"), Problem::FORMS)),
    };
    if let Some(first) = parameters.get(most) {
        return Err(Problem::new(format!("{first:?} is more than {name} takes"), Problem::FORMS));
    }
    let parameter = |at: usize| parameters.get(at).copied();
    let codec = match name {
        "source" => return Ok(Wish::Source),
        "none" => return Ok(Wish::Chain(Chain::default())),
        "zstd" => Codec::Zstd { level: level(name, parameter(0), codec::ZSTD_LEVELS, 3)?, checksum: false },
        "gzip" => Codec::Gzip { level: level(name, parameter(0), codec::GZIP_LEVELS, 5)? },
        _ => Codec::blosc(
            parameter(0).map_or(Ok("zstd"), codec::cname)?,
            level(name, parameter(1), codec::BLOSC_LEVELS, 5)?,
            parameter(2).map(codec::shuffle).transpose()?,
        ),
    };
    Ok(Wish::Chain(Chain::of(vec![codec])))
}

fn level(name: &str, text: Option<&str>, range: RangeInclusive<i128>, default: i128) -> Result<i128, Problem> {
    let Some(text) = text else {
        return Ok(default);
    };
    text.parse().ok().filter(|level| range.contains(level)).ok_or_else(|| {
        let remedy = format!("write a whole number from {} to {}", range.start(), range.end());
        Problem::new(format!("{text:?} is no level of {name}"), remedy)
    })
}

#[cfg(test)]
mod tests;
