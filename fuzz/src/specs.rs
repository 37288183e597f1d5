//! Layouts and codecs in any words, against a few arrays: chunks that somebody can read, or an error of one line.
//!
//! Each line is a flag's value; its first letter chooses the flag.

use super::{Target, array};
use rechunkfs::zarr::{Layout, parse_size, project, project_copy};

pub fn target() -> Target {
    let bytes = r#"{"name":"bytes"}"#;
    let store = super::store(&[
        ("lightcurves", array(&[47_287, 40, 2, 95], &[47_287, 40, 2, 1], bytes, &["object", "value", "band", "epoch"])),
        ("group/sky", array(&[95, 10_000, 10_000], &[1, 10_000, 10_000], bytes, &["epoch", "y", "x"])),
        ("times", array(&[95], &[95], bytes, &["epoch"])),
        ("huge", array(&[1 << 62, 2], &[1 << 40, 1], bytes, &["object", "a=b:c"])),
        ("none", array(&[0, 3], &[1, 3], bytes, &["object", "epoch"])),
    ]);
    Box::new(move |data| {
        let Ok(text) = std::str::from_utf8(data) else { return };
        let (mut layout, mut codecs) = (Layout::default(), Vec::new());
        for line in text.lines().take(8) {
            let Some(flag) = line.chars().next() else { continue };
            let value = line[flag.len_utf8()..].to_owned();
            match flag {
                'a' => layout.along = Some(value),
                's' => layout.shards.push(value),
                'g' => layout.array_globs.push(value),
                'x' => layout.exclude_globs.push(value),
                'o' => codecs.push(value),
                'z' => drop(parse_size(&value)),
                'n' => layout.chunk_size_bytes = value.parse().unwrap_or(1),
                _ => layout.chunks.push(value),
            }
        }
        match project(&store, &layout) {
            Ok(projection) => {
                for array in &projection.arrays {
                    let (chunk, shape) = (&array.chunk_shape, &array.source.shape);
                    assert_eq!(chunk.len(), shape.len());
                    assert!(chunk.iter().all(|length| *length > 0));
                    let n_bytes = chunk.iter().fold(1u64, |n, length| n.saturating_mul(*length));
                    assert!(n_bytes <= 2 << 30, "{chunk:?}");
                    let shard = array.shard_shape.as_ref().unwrap_or(chunk);
                    assert!(shard.iter().zip(chunk).all(|(shard, chunk)| shard % chunk == 0));
                }
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        let _ = project_copy(&store, &layout, &codecs);
    })
}
