//! Documents of an array in any words, of Zarr v3 and v2: what is made of them, without any chunk, is documents, or an error.
//!
//! The first byte chooses: `zarr.json`; a group's with everything below it consolidated; `.zarray` with `.zattrs` behind a NUL.

use super::{Target, document};
use rechunkfs::view::{Options, View};
use rechunkfs::zarr::json;
use rechunkfs::zarr::{Hierarchy, Layout, NodeDocs, Projection, project, project_copy, read_nodes};
use std::ffi::OsStr;
use std::time::Duration;

pub fn target() -> Target {
    let folder = super::folder();
    Box::new(move |data| {
        let Some((&which, text)) = data.split_first() else { return };
        let Ok(text) = std::str::from_utf8(text) else { return };
        let hierarchy = hierarchy(which, text);
        let Ok(nodes) = read_nodes(&hierarchy) else { return };
        let dimension = nodes.array("a").and_then(|array| array.dimension_names.first().cloned().flatten());
        let mut is_first = true;
        for layout in layouts(dimension) {
            let Ok(projection) = project(&hierarchy, &layout) else { continue };
            check(&projection);
            if std::mem::take(&mut is_first) {
                look(folder.path(), projection);
            }
        }
        for layout in layouts(None) {
            if let Ok(copy) = project_copy(&hierarchy, &layout, &[]) {
                check(&copy.projection);
            }
        }
    })
}

fn hierarchy(which: u8, text: &str) -> Hierarchy {
    let array = match which % 3 {
        0 => NodeDocs::V3(document(text)),
        1 => {
            let plain = super::array(&[10, 4], &[10, 1], r#"{"name":"bytes"}"#, &["object", "epoch"]);
            let mut hierarchy = super::store(&[("a", plain)]);
            hierarchy.nodes.insert(String::new(), NodeDocs::V3(document(text)));
            return hierarchy;
        }
        _ => {
            let (array, attributes) = text.split_once('\0').unwrap_or((text, "{}"));
            NodeDocs::V2Array { array: document(array), attributes: Some(document(attributes)) }
        }
    };
    let mut hierarchy = super::store(&[]);
    hierarchy.nodes.insert("a".to_owned(), array);
    hierarchy
}

fn layouts(dimension: Option<String>) -> Vec<Layout> {
    let chunks = |spec: &str| Layout { chunks: vec![spec.to_owned()], ..Layout::default() };
    let shards = Layout { shards: vec!["full".to_owned()], ..chunks("0=3") };
    let along = dimension.map(|name| Layout { along: Some(name), ..Layout::default() });
    [chunks("0=2,1=full"), chunks("auto"), shards].into_iter().chain(along).collect()
}

/// Whatever is shown is JSON.
fn check(projection: &Projection) {
    for (path, text) in &projection.documents {
        assert!(json::parse(text).is_ok(), "{path}: {text}");
    }
}

/// A view of a store without any chunk finds no file in it.
fn look(folder: &std::path::Path, projection: Projection) {
    let options = Options { memory_bytes: 96 << 20, threads: 1, max_tile_bytes: None, cache_dir: None, follow: None };
    let ranks: Vec<usize> = projection.arrays.iter().map(|array| array.source.shape.len()).collect();
    let is_small = projection.arrays.iter().all(|array| {
        let source = &array.source;
        source.shape.iter().zip(&source.file_shape).fold(1u64, |n, (len, file)| n.saturating_mul(len.div_ceil(*file)))
            <= 1 << 12
    });
    // A view's watch ends at its next look.
    let Ok(view) = View::open_guarded(folder, projection, options, Duration::from_millis(8)) else { return };
    let Ok((array, _)) = view.lookup(&view.root(), OsStr::new("a")) else { return };
    // A virtual chunk may draw on any number of files, each of which is looked for.
    if is_small {
        for rank in ranks {
            let found = view.lookup(&array, OsStr::new(&format!("c{}", ".0".repeat(rank))));
            assert!(found.is_err());
        }
    }
    let _ = view.costs();
}
