//! What a copy is to become, in its own layout, whatever has happened to the source.

use super::*;
use crate::zarr::copy::project_copy;
use crate::zarr::copy::tests::{BLOSC, LITTLE};
use crate::zarr::hierarchy::Document;

const GROUP: &str = r#"{"zarr_format": 3, "node_type": "group", "attributes": {"x": NaN}}"#;

fn array(shape: &[u64], chunks: &[u64], dimensions: &[&str], data_type: &str) -> String {
    let names: Vec<String> = dimensions.iter().map(|name| splice::quote(name)).collect();
    format!(
        r#"{{"shape": {}, "data_type": "{data_type}", "chunk_grid": {{"name": "regular", "configuration": {{"chunk_shape": {}}}}}, "chunk_key_encoding": {{"name": "default"}}, "fill_value": 0, "codecs": [{LITTLE}, {BLOSC}], "attributes": {{"gap": NaN}}, "dimension_names": [{}], "zarr_format": 3, "node_type": "array"}}"#,
        splice::lengths(shape),
        splice::lengths(chunks),
        names.join(", "),
    )
}

fn store(nodes: &[(&str, String)]) -> Hierarchy {
    let node = |text: &str| NodeDocs::V3(Document { text: text.to_owned(), mtime_ns: 1 });
    let mut nodes: BTreeMap<String, NodeDocs> =
        nodes.iter().map(|(path, text)| ((*path).to_owned(), node(text))).collect();
    nodes.entry(String::new()).or_insert_with(|| node(GROUP));
    Hierarchy { nodes }
}

/// `n_epochs` of a survey: two arrays to be cut, one that passes.
fn survey(n_epochs: u64) -> Vec<(&'static str, String)> {
    vec![
        ("flux", array(&[30, n_epochs], &[30, 1], &["object", "epoch"], "float32")),
        ("sub", GROUP.to_owned()),
        ("sub/mask", array(&[30, n_epochs], &[30, 1], &["object", "epoch"], "uint8")),
        ("time", array(&[n_epochs], &[100], &["epoch"], "float64")),
    ]
}

fn layout(chunks: &str) -> Layout {
    Layout { chunks: vec![chunks.to_owned()], ..Layout::default() }
}

const LAYOUT: &str = "object=5,epoch=10";

/// The copy of a store, as it is on disk.
fn copied(source: &Hierarchy, layout: &Layout, codecs: &[String]) -> Hierarchy {
    let projection = project_copy(source, layout, codecs).unwrap().projection;
    let mut target = source.clone();
    for (path, text) in projection.documents {
        target.nodes.insert(path, NodeDocs::V3(Document { text, mtime_ns: 1 }));
    }
    target
}

fn texts(hierarchy: &Hierarchy) -> BTreeMap<String, String> {
    let text = |docs: &NodeDocs| match docs {
        NodeDocs::V3(document) => document.text.clone(),
        other => panic!("{other:?}"),
    };
    hierarchy.nodes.iter().map(|(path, docs)| (path.clone(), text(docs))).collect()
}

/// What our own copies know of themselves.
fn own(path: &str) -> Option<Came> {
    Some(if ["flux", "sub/mask"].contains(&path) { Came::Cut } else { Came::Passed })
}

const OWN: Origin<'_> = Origin { came: &own, is_copied: &|path| own(path).is_some() };

fn asked<'a>(layout: Option<&'a Layout>, codecs: &'a [String]) -> Asked<'a> {
    Asked { layout, is_same_layout: false, codecs, is_same_codecs: false }
}

fn updated(source: &Hierarchy, target: &Hierarchy) -> CopyUpdate {
    project_update(source, target, OWN, asked(None, &[])).unwrap()
}

#[test]
fn the_documents_are_those_of_a_copy_made_anew_in_the_same_layout() {
    let target = copied(&store(&survey(25)), &layout(LAYOUT), &[]);
    for n_epochs in [25, 26, 40, 7] {
        let source = store(&survey(n_epochs));
        let update = updated(&source, &target);
        assert_eq!(update.documents, texts(&copied(&source, &layout(LAYOUT), &[])), "{n_epochs}");
        let cuts: Vec<&[u64]> = update.copy.copied.iter().map(|copied| &copied.array.chunk_shape[..]).collect();
        assert_eq!(cuts, [[5, 10], [5, 10]]);
        assert!(update.fresh.is_empty() && update.removed.is_empty() && update.kept.is_empty());
        assert_eq!(update.shapes["time"], [25]);
        assert_eq!(update.interim.is_empty(), n_epochs >= 25);
        assert_eq!(update.grown.len(), if n_epochs > 25 { 3 } else { 0 });
        assert_eq!(update.copy.copied, project_copy(&source, &layout(LAYOUT), &[]).unwrap().copied);
    }
}

#[test]
fn what_shrinks_or_goes_is_out_of_the_documents_first() {
    let target = copied(&store(&survey(25)), &layout(LAYOUT), &[]);
    let mut less = survey(20);
    less.retain(|(path, _)| !path.starts_with("sub"));
    let source = store(&less);
    let update = updated(&source, &target);
    assert_eq!(update.removed, Paths { arrays: vec!["sub/mask".to_owned()], groups: vec!["sub".to_owned()] });
    let paths: Vec<&str> = update.interim.keys().map(String::as_str).collect();
    assert_eq!(paths, ["", "flux", "time"]);
    let root = json::parse(&update.interim[""]).unwrap();
    let copies = root.get("consolidated_metadata").and_then(|copy| copy.get("metadata")).unwrap();
    assert_eq!(copies.members().len(), 2);
    assert_eq!(copies.get("flux").and_then(|flux| flux.get("shape")).unwrap().text(), "[30, 20]");
    assert!(update.interim["flux"].contains("[5, 10]"), "as it is cut");
    // What others have put there stays, and is in every copy of the documents.
    let others = Origin { is_copied: &|path| path != "sub/mask", ..OWN };
    let update = project_update(&source, &target, others, asked(None, &[])).unwrap();
    assert!(update.removed.is_empty());
    assert_eq!(update.kept, Paths { arrays: vec!["sub/mask".to_owned()], groups: vec!["sub".to_owned()] });
    assert!(update.documents[""].contains("\"sub/mask\": ") && !update.documents.contains_key("sub/mask"));
}

#[test]
fn a_new_array_is_cut_as_its_sisters_are_or_as_the_layout_says() {
    let target = copied(&store(&survey(25)), &layout(LAYOUT), &["zstd:7".to_owned()]);
    let mut more = survey(25);
    more.push(("sub/error", array(&[30, 25], &[30, 1], &["object", "epoch"], "float32")));
    more.push(("sub/image", array(&[8, 8], &[8, 8], &["x", "y"], "float32")));
    let source = store(&more);
    let update = updated(&source, &target);
    let cut = |update: &CopyUpdate, path: &str| {
        update
            .copy
            .copied
            .iter()
            .find(|copied| copied.array.source.path == path)
            .map(|copied| copied.array.chunk_shape.clone())
    };
    assert_eq!(cut(&update, "sub/error"), Some(vec![5, 10]));
    assert_eq!(cut(&update, "sub/image"), None);
    assert!(
        update.copy.notices.iter().any(|notice| notice.starts_with("sub/image: new in the source")),
        "{:?}",
        update.copy.notices
    );
    assert_eq!(update.fresh.iter().map(String::as_str).collect::<Vec<_>>(), ["sub/error", "sub/image"]);
    assert!(update.documents["flux"].contains("\"level\":7"), "the copy's own codecs");
    let wishes = Layout { chunks: vec![LAYOUT.to_owned(), "sub/error:object=2".to_owned()], ..Layout::default() };
    let update = project_update(&source, &target, OWN, asked(Some(&wishes), &[])).unwrap();
    assert_eq!(cut(&update, "sub/error"), Some(vec![2, 1]));
}

#[test]
fn elements_of_another_kind_are_made_anew() {
    let target = copied(&store(&survey(25)), &layout(LAYOUT), &[]);
    let mut other = survey(25);
    other[0].1 = array(&[30, 25], &[30, 1], &["object", "epoch"], "float64");
    other[3].1 = array(&[25], &[5], &["epoch"], "float64");
    let update = updated(&store(&other), &target);
    assert_eq!(update.fresh.iter().map(String::as_str).collect::<Vec<_>>(), ["flux", "time"]);
    assert_eq!(update.copy.copied[0].array.chunk_shape, [5, 10], "cut as it was");
    assert!(!update.interim[""].contains("\"flux\": ") && !update.interim[""].contains("\"time\": "));
    assert!(update.copy.notices[0].starts_with("flux: its data type is another"), "{:?}", update.copy.notices);
}

#[test]
fn layouts_and_codecs_must_be_those_of_the_copy() {
    let codecs = ["zstd:7".to_owned()];
    let target = copied(&store(&survey(25)), &layout(LAYOUT), &codecs);
    let source = store(&survey(26));
    let check = |chunks: &str, shards: &[&str], codecs: &[&str]| {
        let shards = shards.iter().map(|text| (*text).to_owned()).collect();
        let wishes = Layout { shards, ..layout(chunks) };
        let codecs: Vec<String> = codecs.iter().map(|text| (*text).to_owned()).collect();
        project_update(&source, &target, OWN, asked(Some(&wishes), &codecs))
            .map(drop)
            .map_err(|error| error.to_string())
    };
    for chunks in [LAYOUT, "epoch=10,object=auto", "object=5,epoch=10"] {
        check(chunks, &[], &["zstd:7"]).unwrap();
    }
    for (chunks, shards, codecs, words) in [
        (
            "object=5,epoch=20",
            &[][..],
            &[][..],
            "flux: the layout asks for other chunks, the copy has chunks [5, 10]: leave it out",
        ),
        ("object=5,epoch=full", &[], &[], "other chunks"),
        ("object=5", &[], &[], "other chunks"),
        (LAYOUT, &["epoch=20"], &[], "the layout asks for shards, the copy has none"),
        ("flux:object=5,epoch=10", &[], &[], "sub/mask: the layout asks for it as it is"),
        (LAYOUT, &[], &["zstd:6"], "flux: --codecs asks for {\"name\":\"zstd\",\"configuration\":{\"level\":6,"),
    ] {
        let error = check(chunks, shards, codecs).unwrap_err();
        assert!(error.contains(words), "{chunks} {shards:?} {codecs:?}: {error}");
    }
    // What was `full` when the copy was made may have grown since: the same words are not held against it.
    let wishes = layout("object=5,epoch=full");
    let target = copied(&store(&survey(10)), &wishes, &[]);
    let same = Asked { is_same_layout: true, ..asked(Some(&wishes), &[]) };
    assert_eq!(project_update(&source, &target, OWN, same).unwrap().copy.copied[0].array.chunk_shape, [5, 10]);
    assert!(project_update(&store(&survey(10)), &target, OWN, asked(Some(&wishes), &[])).is_ok());
}

#[test]
fn copies_by_others_are_taken_as_they_are_or_refused_by_name() {
    let source = store(&survey(25));
    let index = r#"{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}"#;
    let sharded = |codecs: &str, index: &str, place: &str| {
        let sharding = format!(
            r#"[{{"name": "sharding_indexed", "configuration": {{"chunk_shape": [5, 5], "codecs": [{codecs}], "index_codecs": [{index}], "index_location": "{place}"}}}}]"#
        );
        let document = array(&[30, 25], &[30, 5], &["object", "epoch"], "float32");
        let text = splice::edit_object(&document, &[("codecs", Edit::Set(sharding))]).unwrap();
        let mut nodes = survey(25);
        nodes[0].1 = text;
        nodes[2].1 = array(&[30, 25], &[3, 25], &["object", "epoch"], "uint8");
        store(&nodes)
    };
    let update = |target: &Hierarchy| {
        let nobody = Origin { came: &|_| None, is_copied: &|_| false };
        project_update(&source, target, nobody, asked(None, &[]))
    };
    let good = update(&sharded(LITTLE, index, "end")).unwrap();
    let flux = &good.copy.copied[0].array;
    assert_eq!((&flux.chunk_shape[..], flux.shard_shape.as_deref()), (&[5, 5][..], Some(&[30, 5][..])));
    assert_eq!(
        good.documents,
        texts(&{
            let mut target = sharded(LITTLE, index, "end");
            target
                .nodes
                .insert(String::new(), NodeDocs::V3(Document { text: good.documents[""].clone(), mtime_ns: 1 }));
            target
        })
    );
    for (target, words) in [
        (sharded(LITTLE, index, "start"), "an index that is not at their end"),
        (
            sharded(r#"{"name": "bytes", "configuration": {"endian": "big"}}"#, index, "end"),
            "little in the source, big in the copy",
        ),
        (
            sharded(
                &format!(r#"{LITTLE}, {{"name": "numcodecs.bz2", "configuration": {{"level": 1}}}}"#),
                index,
                "end",
            ),
            "numcodecs.bz2",
        ),
        (sharded(r#"{"name": "numcodecs.delta"}"#, index, "end"), "the copy's chunks cannot be written"),
    ] {
        let error = update(&target).unwrap_err().to_string();
        assert!(error.starts_with("flux: it cannot be brought up to date: ") && error.contains(words), "{error}");
    }
    let mut group = survey(25);
    group[0].1 = GROUP.to_owned();
    assert!(
        update(&store(&group)).unwrap_err().to_string().contains("it is an array in the source, a group in the copy")
    );
}

#[test]
fn a_layout_under_which_an_append_touches_everything_is_named() {
    let n = |n_epochs: u64, chunks: &str, shards: &[&str]| {
        let shards = shards.iter().map(|text| (*text).to_owned()).collect();
        project_copy(&store(&survey(n_epochs)), &Layout { shards, ..layout(chunks) }, &[]).unwrap().appends
    };
    let appends = n(1000, "object=5,epoch=full", &[]);
    assert_eq!(
        appends[0],
        "flux: whatever the source gains along epoch touches all 6 chunks of the copy, each of which holds all 1000 of it: with \
         --chunks object=5,epoch=100 it would touch one in 10"
    );
    assert_eq!(appends.len(), 2);
    assert!(n(1000, "object=5,epoch=100", &["object=full,epoch=1000"])[0].contains("the one shard"));
    for chunks in ["object=5,epoch=100", "object=5,epoch=500"] {
        assert_eq!(n(1000, chunks, &[]), Vec::<String>::new(), "{chunks}");
    }
    assert_eq!(n(19, "object=5,epoch=full", &[]), Vec::<String>::new(), "there is little to cut");
}
