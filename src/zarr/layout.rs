//! TEMPORARY: the words of a layout.

/// What the user asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// `--along`
    pub along: Option<String>,
    /// `--chunks`
    pub chunks: Vec<String>,
    /// `--chunk-size`
    pub chunk_size_bytes: u64,
    /// `--shards`
    pub shards: Vec<String>,
    /// `--array`
    pub array_globs: Vec<String>,
    /// `--exclude`
    pub exclude_globs: Vec<String>,
}

/// Why not.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct LayoutError(pub String);

/// `4MiB`
pub fn parse_size(text: &str) -> Result<u64, LayoutError> {
    let wrong = || LayoutError(format!("`{text}` is not a size; write 4MiB, 512K or 1000000"));
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = match text[digits..].to_ascii_lowercase().trim_end_matches("ib") {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        _ => return Err(wrong()),
    };
    Ok(text[..digits].parse::<u64>().map_err(|_| wrong())? * unit)
}
