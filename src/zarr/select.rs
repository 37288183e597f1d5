//! Which arrays are rechunked, and which length is asked for on each of their axes.

use globset::{GlobBuilder, GlobMatcher};

use super::array::ArrayNode;
use super::layout::{Layout, LayoutError, Length, Spec, parse_spec};
use super::naming::{dimensions, display_path, listed, suggestion};

/// An array that is to be rechunked, and how.
pub(super) struct Selection<'a> {
    pub(super) array: &'a ArrayNode,
    /// The wish for each axis of its chunks.
    pub(super) chunks: Vec<Length>,
    /// The wish for each axis of its shards, where there are to be shards.
    pub(super) shards: Option<Vec<Length>>,
    /// Whether a specification of its own gave the lengths, so that `auto` is chosen for it alone.
    pub(super) by_itself: bool,
}

/// What becomes of the arrays of a store.
pub(super) struct Selected<'a> {
    pub(super) rechunked: Vec<Selection<'a>>,
    /// Arrays that matched but cannot be rechunked.
    pub(super) refused: Vec<(&'a ArrayNode, String)>,
}

/// A path or glob on paths inside the store.
pub(super) struct Pattern {
    text: String,
    matcher: GlobMatcher,
    is_glob: bool,
}

impl Pattern {
    pub(super) fn new(text: &str) -> Result<Self, LayoutError> {
        let trimmed = text.trim_matches('/');
        let glob = GlobBuilder::new(trimmed).literal_separator(true).build();
        let glob = glob.map_err(|e| LayoutError::Glob { glob: text.to_owned(), problem: e.kind().to_string() })?;
        let is_glob = trimmed.contains(['*', '?', '[', '{']);
        Ok(Pattern { text: trimmed.to_owned(), matcher: glob.compile_matcher(), is_glob })
    }

    pub(super) fn matches(&self, path: &str) -> bool {
        // A name with a bracket in it is still a name.
        self.text == path || self.matcher.is_match(path)
    }

    /// Every pattern must name something, or a typing error would silently rechunk less.
    pub(super) fn check(&self, arrays: &[ArrayNode]) -> Result<(), LayoutError> {
        if arrays.iter().any(|array| self.matches(&array.path)) {
            return Ok(());
        }
        let known = arrays.iter().map(|array| display_path(&array.path)).collect();
        Err(LayoutError::NoSuchArray { glob: self.text.clone(), known: listed(known) })
    }
}

struct Wishes {
    along: Option<String>,
    chunks: Vec<(Spec, Option<Pattern>)>,
    shards: Vec<(Spec, Option<Pattern>)>,
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
}

fn read_specs(flag: &'static str, texts: &[String]) -> Result<Vec<(Spec, Option<Pattern>)>, LayoutError> {
    let read = |text: &String| {
        let spec = parse_spec(flag, text)?;
        let pattern = spec.array.as_deref().map(Pattern::new).transpose()?;
        Ok((spec, pattern))
    };
    texts.iter().map(read).collect()
}

impl Wishes {
    fn read(layout: &Layout) -> Result<Self, LayoutError> {
        let patterns = |globs: &[String]| globs.iter().map(|glob| Pattern::new(glob)).collect::<Result<Vec<_>, _>>();
        Ok(Wishes {
            along: layout.along.clone(),
            chunks: read_specs("--chunks", &layout.chunks)?,
            shards: read_specs("--shards", &layout.shards)?,
            include: patterns(&layout.array_globs)?,
            exclude: patterns(&layout.exclude_globs)?,
        })
    }

    fn check_patterns(&self, arrays: &[ArrayNode]) -> Result<(), LayoutError> {
        let specs = self.chunks.iter().chain(&self.shards).filter_map(|(_, pattern)| pattern.as_ref());
        self.include.iter().chain(&self.exclude).chain(specs).try_for_each(|pattern| pattern.check(arrays))
    }

    /// Every dimension named must be one of some array that it is named for.
    fn check_dimensions(&self, arrays: &[ArrayNode]) -> Result<(), LayoutError> {
        let check = |dimension: &String, pattern: Option<&Pattern>| {
            let meant = |array: &&ArrayNode| pattern.is_none_or(|pattern| pattern.matches(&array.path));
            if arrays.iter().filter(meant).any(|array| axis_of(array, dimension, pattern.is_some()).is_some()) {
                return Ok(());
            }
            let meant: Vec<ArrayNode> = arrays.iter().filter(meant).cloned().collect();
            Err(LayoutError::UnknownDimension { dimension: dimension.clone(), known: dimensions(&meant) })
        };
        for (spec, pattern) in self.chunks.iter().chain(&self.shards) {
            // One array alone gets the message that names it.
            let pattern = pattern.as_ref();
            if pattern.is_some_and(|pattern| !pattern.is_glob) {
                continue;
            }
            spec.lengths.iter().try_for_each(|(dimension, _)| check(dimension, pattern))?;
        }
        self.along.iter().try_for_each(|dimension| check(dimension, None))
    }
}

/// Sorts the arrays of a store by what the layout wants of them; `has_strings` tells whether those with elements of any
/// length can be rechunked. `again`, the layout has been found good, and the store may have come to lack what it names.
pub(super) fn select<'a>(
    arrays: &'a [ArrayNode],
    layout: &Layout,
    has_strings: bool,
    again: bool,
) -> Result<Selected<'a>, LayoutError> {
    let wishes = Wishes::read(layout)?;
    if wishes.along.is_none() && wishes.chunks.is_empty() && wishes.shards.is_empty() {
        return Err(LayoutError::NoLayout { known: dimensions(arrays), suggestion: suggestion(arrays) });
    }
    if !again {
        wishes.check_patterns(arrays)?;
        wishes.check_dimensions(arrays)?;
    }
    let mut selected = Selected { rechunked: Vec::new(), refused: Vec::new() };
    for array in arrays {
        let Some(selection) = wishes.for_array(array)? else {
            continue;
        };
        match array.cut(has_strings) {
            Ok(_) => selected.rechunked.push(selection),
            Err(reason) if wishes.names(array) && !again => {
                let array = display_path(&array.path);
                return Err(LayoutError::CannotRechunk { array, reason: reason.to_owned() });
            }
            Err(reason) => selected.refused.push((array, reason.to_owned())),
        }
    }
    if selected.rechunked.is_empty() && !again {
        return Err(nothing_left(arrays, &selected, wishes.include.is_empty()));
    }
    Ok(selected)
}

impl Wishes {
    /// Whether `--array` or `ARRAY:SPEC` gives the array's path, letter by letter.
    fn names(&self, array: &ArrayNode) -> bool {
        let specs = self.chunks.iter().chain(&self.shards).filter_map(|(_, pattern)| pattern.as_ref());
        self.include.iter().chain(specs).any(|pattern| pattern.text == array.path && !pattern.is_glob)
    }

    fn for_array<'a>(&self, array: &'a ArrayNode) -> Result<Option<Selection<'a>>, LayoutError> {
        let own = |specs: &[(Spec, Option<Pattern>)]| {
            let own = specs.iter().filter(|(_, p)| p.as_ref().is_some_and(|p| p.matches(&array.path)));
            own.map(|(spec, _)| spec.clone()).collect::<Vec<Spec>>()
        };
        let (own_chunks, own_shards) = (own(&self.chunks), own(&self.shards));
        let by_itself = !own_chunks.is_empty();
        let included = self.include.iter().any(|pattern| pattern.matches(&array.path));
        let excluded = self.exclude.iter().any(|pattern| pattern.matches(&array.path));
        let asked_for = by_itself || !own_shards.is_empty() || included;
        let enough_axes = array.shape.len() > usize::from(!asked_for);
        if excluded || !enough_axes || (!self.include.is_empty() && !asked_for) {
            return Ok(None);
        }
        let global = |specs: &[(Spec, Option<Pattern>)]| -> Vec<Spec> {
            specs.iter().filter(|(_, p)| p.is_none()).map(|(spec, _)| spec.clone()).collect()
        };
        // A specification of its own stands instead of the one for all.
        let along = if by_itself { None } else { self.along.as_deref() };
        let chunk_specs = if by_itself { own_chunks } else { global(&self.chunks) };
        let shard_specs = if own_shards.is_empty() { global(&self.shards) } else { own_shards };
        if along.is_none() && chunk_specs.is_empty() && shard_specs.is_empty() {
            return Ok(None);
        }
        let rest = if along.is_some() { Length::Auto } else { Length::Source };
        let mut chunks = match resolve(array, &chunk_specs, rest, by_itself) {
            Ok(lengths) => lengths,
            Err(dimension) => return self.lacking(array, dimension),
        };
        if let Some(dimension) = along {
            match axis_of(array, dimension, false).and_then(|axis| chunks.get_mut(axis)) {
                Some(length) => *length = Length::Full,
                None => return self.lacking(array, dimension.to_owned()),
            }
        }
        let shards = match shard_specs.is_empty() {
            true => None,
            // Shards are an addition: a dimension that the array lacks does not keep it out.
            false => resolve(array, &present(array, &shard_specs), Length::Elements(0), true).ok(),
        };
        Ok(Some(Selection { array, chunks, shards, by_itself }))
    }

    /// An array without a dimension of the layout is left alone, unless it is asked for by its name.
    fn lacking<'a>(&self, array: &ArrayNode, dimension: String) -> Result<Option<Selection<'a>>, LayoutError> {
        if !self.names(array) {
            return Ok(None);
        }
        let known = dimensions(std::slice::from_ref(array));
        Err(LayoutError::LacksDimension { array: display_path(&array.path), dimension, known })
    }
}

fn present(array: &ArrayNode, specs: &[Spec]) -> Vec<Spec> {
    let mut specs = specs.to_vec();
    for spec in &mut specs {
        spec.lengths.retain(|(dimension, _)| axis_of(array, dimension, true).is_some());
    }
    specs
}

/// The wish for each axis; the dimension that the array lacks, if there is one.
fn resolve(array: &ArrayNode, specs: &[Spec], rest: Length, by_itself: bool) -> Result<Vec<Length>, String> {
    let rest = specs.iter().rev().find_map(|spec| spec.rest).unwrap_or(rest);
    let mut lengths = vec![rest; array.shape.len()];
    for (dimension, length) in specs.iter().flat_map(|spec| &spec.lengths) {
        let axis = axis_of(array, dimension, by_itself).ok_or_else(|| dimension.clone())?;
        if let Some(slot) = lengths.get_mut(axis) {
            *slot = *length;
        }
    }
    Ok(lengths)
}

/// The axis that `dimension` means: by name, or by number where the axis has no name (or the array is spoken of alone).
fn axis_of(array: &ArrayNode, dimension: &str, by_itself: bool) -> Option<usize> {
    let named = array.dimension_names.iter().position(|name| name.as_deref() == Some(dimension));
    named.or_else(|| {
        let axis: usize = dimension.parse().ok()?;
        let unnamed = array.dimension_names.get(axis)?.is_none();
        (unnamed || by_itself).then_some(axis)
    })
}

fn nothing_left(arrays: &[ArrayNode], selected: &Selected<'_>, any_array: bool) -> LayoutError {
    let reason = match selected.refused.first() {
        Some((array, reason)) => format!("{} matches but cannot be: {reason}", display_path(&array.path)),
        None if arrays.is_empty() => "the store has no arrays; give one that has".to_owned(),
        None if !any_array => {
            "no array of --array has every dimension of the layout; drop --array or name others".to_owned()
        }
        None => format!(
            "no array of two axes or more has every dimension of the layout; name one with --array, of {}",
            listed(arrays.iter().map(|array| display_path(&array.path)).collect())
        ),
    };
    LayoutError::NothingLeft { reason }
}
