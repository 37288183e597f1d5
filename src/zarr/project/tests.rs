//! Whole stores through a layout: documents, selection, and the exact text of each error.

use super::super::consolidated;
use super::super::hierarchy::Document;
use super::super::splice;
use super::*;

fn array(shape: &[u64], chunks: &[u64], dimensions: &[&str], data_type: &str) -> String {
    let names: Vec<String> = dimensions.iter().map(|name| splice::quote(name)).collect();
    let names =
        if names.is_empty() { String::new() } else { format!("\n  \"dimension_names\": [{}],", names.join(", ")) };
    let fill = if data_type == "string" { "\"\"" } else { "0" };
    format!(
        r#"{{
  "shape": {}, "data_type": "{data_type}",
  "chunk_grid": {{"name": "regular", "configuration": {{"chunk_shape": {}}}}},
  "chunk_key_encoding": {{"name": "default"}},
  "fill_value": {fill},
  "codecs": [{{"name": "bytes", "configuration": {{"endian": "little"}}}}, {{"name": "zstd", "configuration": {{"level": 0}}}}],
  "attributes": {{"missing": NaN, "big": 1180591620717411303424, "pi": 3.140}},{names}
  "zarr_format": 3, "node_type": "array"
}}"#,
        splice::lengths(shape),
        splice::lengths(chunks),
    )
}

const GROUP: &str = r#"{"attributes": {"x": NaN}, "zarr_format": 3, "node_type": "group"}"#;

fn store(nodes: &[(&str, String)]) -> Hierarchy {
    let document = |text: &String| NodeDocs::V3(Document { text: text.clone(), mtime_ns: 1 });
    let mut nodes: BTreeMap<String, NodeDocs> =
        nodes.iter().map(|(path, text)| ((*path).to_owned(), document(text))).collect();
    if nodes.values().len() > 1 || !nodes.contains_key("") {
        nodes.entry(String::new()).or_insert_with(|| document(&GROUP.to_owned()));
    }
    Hierarchy { nodes }
}

fn survey() -> Hierarchy {
    store(&[
        ("flux", array(&[1000, 40, 95], &[1000, 40, 1], &["object", "band", "epoch"], "float32")),
        ("mask", array(&[1000, 95], &[1000, 1], &["object", "epoch"], "uint8")),
        ("names", array(&[1000, 95], &[1000, 1], &["object", "epoch"], "string")),
        ("time", array(&[95], &[95], &["epoch"], "float64")),
        ("sub", GROUP.to_owned()),
        ("sub/plain", array(&[6, 7], &[2, 7], &[], "int16")),
    ])
}

fn layout(flags: &[&str]) -> Layout {
    let mut layout = Layout::default();
    for pair in flags.chunks(2) {
        let value = pair[1].to_owned();
        match pair[0] {
            "--along" => layout.along = Some(value),
            "--chunks" => layout.chunks.push(value),
            "--shards" => layout.shards.push(value),
            "--array" => layout.array_globs.push(value),
            "--exclude" => layout.exclude_globs.push(value),
            "--chunk-size" => layout.chunk_size_bytes = value.parse().unwrap(),
            other => panic!("{other}"),
        }
    }
    layout
}

/// Path, chunk shape, shard shape.
type Shapes<'a> = (&'a str, &'a [u64], Option<&'a [u64]>);

#[track_caller]
fn check_shapes(flags: &[&str], expected: &[Shapes<'_>]) {
    let projection = project(&survey(), &layout(flags)).unwrap();
    let found: Vec<Shapes<'_>> = projection
        .arrays
        .iter()
        .map(|a| (a.source.path.as_str(), a.chunk_shape.as_slice(), a.shard_shape.as_deref()))
        .collect();
    assert_eq!(found, expected, "{flags:?}");
}

#[test]
fn layouts_choose_arrays_and_lengths() {
    let flux: &[u64] = &[15, 40, 95];
    check_shapes(&["--chunks", "object=15,epoch=full"], &[("flux", flux, None), ("mask", &[15, 95], None)]);
    check_shapes(&["--chunks", "object=15,epoch=full,band=source"], &[("flux", flux, None)]);
    check_shapes(&["--chunks", "object=15,epoch=-1", "--exclude", "m*"], &[("flux", flux, None)]);
    check_shapes(&["--array", "time", "--along", "epoch"], &[("time", &[95], None)]);
    check_shapes(&["--chunks", "flux:object=15,epoch=full"], &[("flux", flux, None)]);
    check_shapes(&["--chunks", "sub/plain:1=3"], &[("sub/plain", &[2, 3], None)]);
    check_shapes(&["--chunks", "0=5"], &[("sub/plain", &[5, 7], None)]);
    check_shapes(
        &["--chunks", "object=15,epoch=full", "--chunks", "**/pl*:0=full"],
        &[("flux", flux, None), ("mask", &[15, 95], None), ("sub/plain", &[6, 7], None)],
    );
    // 64 KiB: band is short and taken whole, object takes the rest, and mask agrees with flux.
    check_shapes(
        &["--along", "epoch", "--chunk-size", "65536"],
        &[("flux", &[13, 13, 95], None), ("mask", &[13, 95], None)],
    );
    check_shapes(
        &["--chunks", "object=15,epoch=full", "--shards", "object=full", "--exclude", "mask"],
        &[("flux", flux, Some(&[1005, 40, 95]))],
    );
    check_shapes(
        &["--chunks", "object=1000", "--shards", "epoch=4", "--array", "mask"],
        &[("mask", &[1000, 1], Some(&[1000, 4]))],
    );
}

#[test]
fn errors_say_what_and_how() {
    let dimensions = "object (1000), band (40), epoch (95), 0 (6), 1 (7)";
    for (flags, expected) in [
        (vec![], format!("no layout given; the dimensions are {dimensions}. Try --along epoch")),
        (vec!["--along", "time"], format!("no array has a dimension \"time\"; the dimensions are {dimensions}")),
        (vec!["--chunks", "object=1,x=2"], format!("no array has a dimension \"x\"; the dimensions are {dimensions}")),
        (
            vec!["--chunks", "object=15,epoch=full", "--shards", "object=100"],
            "flux: shard length 100 of object is no multiple of the chunk length 15; try 90".to_owned(),
        ),
        (
            vec!["--along", "epoch", "--array", "names"],
            "names: cannot be rechunked: data type string has elements of variable length; leave it out of --array, and it \
             is shown as it is"
                .to_owned(),
        ),
        (
            vec!["--along", "epoch", "--array", "na*"],
            "nothing to rechunk: names matches but cannot be: data type string has elements of variable length".to_owned(),
        ),
        (vec!["--along", "object", "--array", "time"], "time: has no dimension \"object\"; its dimensions are epoch (95)".to_owned()),
        (
            vec!["--along", "epoch", "--array", "flx"],
            "\"flx\" names no array; the arrays are flux, mask, names, sub/plain, time".to_owned(),
        ),
        (
            vec!["--along", "epoch", "--array", "a[b"],
            "\"a[b\": unclosed character class; missing ']'; write a path inside the store such as group/array, or ** for any groups"
                .to_owned(),
        ),
        (vec!["--along", "epoch", "--exclude", "**"], "nothing to rechunk: no array of two axes or more has every dimension of \
             the layout; name one with --array, of flux, mask, names, sub/plain, time".to_owned()),
    ] {
        assert_eq!(project(&survey(), &layout(&flags)).unwrap_err().to_string(), expected, "{flags:?}");
    }
}

#[test]
fn chunks_beyond_the_limit_come_with_the_sum_and_a_better_layout() {
    let cube = store(&[("t2m", array(&[96432, 721, 1440], &[1, 721, 1440], &["time", "lat", "lon"], "float32"))]);
    let error = project(&cube, &layout(&["--chunks", "time=full"])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "t2m: chunk (96432,721,1440) is 373 GiB, limit 2 GiB. Try --along time: (96432,3,3), 3.3 MiB"
    );
    let long = store(&[("x", array(&[1 << 40, 4], &[1 << 20, 4], &[], "float64"))]);
    let error = project(&long, &layout(&["--chunks", "0=full"])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "x: chunk (1099511627776,4) is 32 TiB, limit 2 GiB. Try --along 1: (131072,4), 4.0 MiB"
    );
}

#[test]
fn only_grid_keys_and_codecs_of_a_document_change() {
    let source = array(&[1000, 95], &[1000, 1], &["object", "epoch"], "uint8");
    let flags = ["--chunks", "object=15,epoch=full", "--shards", "object=30"];
    let projection = project(&store(&[("", source.clone())]), &layout(&flags)).unwrap();
    let expected = source
        .replace("\"chunk_shape\": [1000, 1]", "\"chunk_shape\": [30, 95]")
        .replace(r#"{"name": "default"}"#, CHUNK_KEY_ENCODING);
    let codecs = r#"[{"name": "sharding_indexed", "configuration": {"chunk_shape": [15, 95], "codecs": [{"name": "bytes"}], "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}], "index_location": "end"}}]"#;
    let (head, tail) = expected.split_once("\"codecs\": ").unwrap();
    let (_, tail) = tail.split_once("\n  \"attributes\"").unwrap();
    // A bare array is a store of its own: no group, no consolidated metadata.
    assert_eq!(projection.documents[""], format!("{head}\"codecs\": {codecs},\n  \"attributes\"{tail}"));
    assert_eq!((projection.array_paths, projection.group_paths), (vec![String::new()], vec![]));
}

#[test]
fn shards_that_no_reader_could_read_are_dropped_with_a_warning() {
    let raw = array(&[6, 7], &[2, 7], &["x", "y"], "T")
        .replace("\"T\"", r#"{"name": "raw_bytes", "configuration": {"length_bytes": 3}}"#);
    let projection = project(&store(&[("v", raw)]), &layout(&["--chunks", "x=3", "--shards", "x=6"])).unwrap();
    assert_eq!(projection.arrays[0].shard_shape, None);
    assert_eq!(projection.warnings, ["v: shown without shards: zarr-python cannot read shards of data type raw_bytes"]);
}

#[test]
fn consolidated_copies_match_the_nodes() {
    let projection = project(&survey(), &layout(&["--along", "epoch"])).unwrap();
    assert_eq!(projection.documents.keys().collect::<Vec<_>>(), ["", "flux", "mask"]);
    let root = json::parse(&projection.documents[""]).unwrap();
    let copies = consolidated::carried(&root).unwrap();
    let keys: Vec<&str> = copies.members().iter().map(|member| member.key.as_str()).collect();
    assert_eq!(keys, ["flux", "mask", "names", "sub", "time", "sub/plain"]);
    assert_eq!(copies.get("flux").unwrap().text(), projection.documents["flux"]);
    assert_eq!(copies.get("sub").unwrap().get("consolidated_metadata").unwrap().text(), consolidated::EMPTY);
    assert_eq!(
        projection.warnings,
        ["names: shown as it is: it cannot be rechunked: data type string has elements of variable length"]
    );
    assert_eq!(root.get("attributes").unwrap().text(), "{\"x\": NaN}");
}

#[test]
fn a_stale_copy_is_rebuilt_with_a_warning_and_a_true_one_passes() {
    let one = array(&[6, 7], &[2, 7], &["x", "y"], "int16");
    let two = array(&[9, 9], &[9, 9], &["u", "v"], "int16");
    let group_of = |copy: &str| {
        format!(
            r#"{{"attributes": {{}}, "zarr_format": 3, "node_type": "group", "consolidated_metadata": {{"kind": "inline", "must_understand": false, "metadata": {{"one": {copy}}}}}}}"#
        )
    };
    let run = |copy: &str| {
        let nodes = [("g", group_of(copy)), ("g/one", one.clone()), ("two", two.clone())];
        project(&store(&nodes), &layout(&["--chunks", "u=3"])).unwrap()
    };
    let current = run(&one.replace("[6, 7]", "[6.0,7]"));
    assert!(!current.documents.contains_key("g") && current.warnings.is_empty());
    let stale = run(&one.replace("[6, 7]", "[5, 7]"));
    assert_eq!(
        stale.warnings,
        [
            "g/zarr.json: its consolidated metadata disagrees with the store about one; the view follows each node's own \
         zarr.json. Consolidate the source again"
        ]
    );
    assert!(stale.documents["g"].contains("\"shape\": [6, 7]"));
}

#[test]
fn absurd_lengths_do_not_panic() {
    let huge = u64::MAX;
    let text = array(&[huge, huge, huge], &[huge, 1, huge], &[], "float64");
    let store = store(&[("x", text)]);
    for flags in [
        &[][..],
        &["--chunks", "0=full"],
        &["--along", "1"],
        &["--chunks", "auto", "--shards", "full"],
        &["--chunks", "auto", "--shards", "auto"],
        &["--chunks", "0=9223372036854775808,1=9223372036854775808"],
    ] {
        // What comes out matters less than that something does.
        let _ = project(&store, &layout(flags)).map_err(|error| error.to_string());
    }
}
