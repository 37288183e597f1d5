//! What `verify` says of each kind of difference, and how it ends.

use crate::support::*;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// The test store, and a copy of it in another chunking at `copy.zarr`.
fn pair() -> Store {
    let store = Store::new();
    let layout = ["materialize", "epochs.zarr", "copy.zarr", "--chunks", "object=3,epoch=4", "-q"];
    store.run(&layout).assert_success();
    store
}

/// The JSON result of `verify`, which must end with `code`.
#[track_caller]
fn verify(store: &Store, code: i32, flags: &[&str]) -> Value {
    let finished = store.run(&[&["verify", "epochs.zarr", "copy.zarr", "--json"], flags].concat());
    assert_eq!(finished.code(), code, "{finished:?}");
    serde_json::from_str(&finished.stdout).unwrap()
}

#[track_caller]
fn array<'v>(found: &'v Value, path: &str) -> &'v Value {
    found["arrays"].as_array().unwrap().iter().find(|array| array["path"] == path).unwrap()
}

fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut document = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    change(&mut document);
    fs::write(path, document.to_string()).unwrap();
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x40;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_copy_is_equal_and_says_so() {
    let store = pair();
    let found = verify(&store, 0, &[]);
    let expected = json!({
        "rechunkfs": "verify", "version": 1, "differences": 0, "elements": 28, "bytes": 112, "sampled": false,
        "groups": [],
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(found[key], *value, "{key}");
    }
    assert!(found["seconds"].is_number() && found["peak_rss_bytes"].is_number(), "{found}");
    let text = store.run(&["verify", "epochs.zarr", "copy.zarr"]).assert_success();
    assert!(text.stdout.starts_with("verified: 2 arrays, 112 B, equal ("), "{text:?}");
}

#[test]
fn a_flipped_bit_is_found_with_its_place() {
    let store = pair();
    // Object 1, epoch 2; float32.
    flip(&store.path("copy.zarr/lightcurves/c/0/0"), (4 + 2) * 4 + 3);
    let found = verify(&store, 3, &[]);
    let lightcurves = array(&found, "lightcurves");
    let (ours, theirs) = (value(1, 2), f32::from_bits(value(1, 2).to_bits() ^ 0x4000_0000));
    let first = json!([{"at": [1, 2], "source": format!("{ours:?}"), "target": format!("{theirs:?}")}]);
    assert_eq!((&lightcurves["differences"], &lightcurves["first"]), (&1.into(), &first));
    assert_eq!((&found["differences"], &found["elements"]), (&1.into(), &28.into()));
    let text = store.run(&["verify", "epochs.zarr", "copy.zarr"]);
    assert_eq!(text.code(), 3);
    let lines: Vec<&str> = text.stdout.lines().collect();
    assert!(lines[0].starts_with("lightcurves: 1 of 24 elements differ: [1, 2]: 2001.0 in the source"), "{text:?}");
    assert!(lines[1].starts_with("1 of 2 arrays differs: "), "{text:?}");
}

#[test]
fn a_missing_chunk_differs_where_it_is_not_fill_value() {
    let store = pair();
    fs::remove_file(store.path("copy.zarr/lightcurves/c/0/1")).unwrap();
    let found = verify(&store, 3, &[]);
    // Three objects of epoch 4; epoch 5 was never written.
    assert_eq!(array(&found, "lightcurves")["differences"], 3);
    assert_eq!(array(&found, "lightcurves")["first"][1], json!({"at": [1, 4], "source": "4001.0", "target": "0.0"}));
}

#[test]
fn what_documents_say_counts() {
    let lightcurves = "copy.zarr/lightcurves/zarr.json";
    let in_text = |change: &dyn Fn(&Store), path: &str, words: &str| {
        let store = pair();
        change(&store);
        let found = verify(&store, 3, &[]);
        assert!(array(&found, path)["metadata"].to_string().contains(words), "no `{words}` in {found}");
        let text = store.run(&["verify", "epochs.zarr", "copy.zarr"]);
        assert!(text.code() == 3 && text.stdout.contains(path), "{text:?}");
    };
    let set = |key: &'static str, to: Value| {
        move |store: &Store| edit(&store.path(lightcurves), |document| document[key] = to.clone())
    };
    in_text(&set("fill_value", json!("NaN")), "lightcurves", "fill value: 0.0 in the source, NaN in the target");
    in_text(&set("fill_value", json!(-0.0)), "lightcurves", "fill value: 0.0 in the source, -0.0 in the target");
    in_text(&set("attributes", json!({"a": [1]})), "lightcurves", "nothing in the source, [1] in the target");
    in_text(&set("dimension_names", json!(["object", "night"])), "lightcurves", "night");
    in_text(&set("dimension_names", json!(null)), "lightcurves", "[null, null] in the target");
    in_text(&set("shape", json!([4, 7])), "lightcurves", "shape: [4, 6] in the source, [4, 7] in the target");
    in_text(&set("data_type", json!("int32")), "lightcurves", "int32");
    in_text(&|store| fs::remove_dir_all(store.path("copy.zarr/objid")).unwrap(), "objid", "only in the source");
    in_text(&|store| fs::remove_dir_all(store.path("epochs.zarr/objid")).unwrap(), "objid", "only in the target");
}

#[test]
fn groups_are_compared_too() {
    let store = pair();
    edit(&store.path("copy.zarr/zarr.json"), |document| document["attributes"]["survey"] = json!("other"));
    let found = verify(&store, 3, &[]);
    assert_eq!(found["groups"][0]["path"], "");
    assert_eq!(found["differences"], 1);
    let text = store.run(&["verify", "epochs.zarr", "copy.zarr"]);
    assert!(text.stdout.starts_with("/: attribute \"survey\": \"test\" in the source, \"other\" in"), "{text:?}");
}

#[test]
fn values_count_and_not_their_byte_order() {
    let store = pair();
    let objid = store.path("copy.zarr/objid");
    edit(&objid.join("zarr.json"), |document| document["codecs"][0]["configuration"]["endian"] = json!("big"));
    fs::write(objid.join("c/0"), (0..4i32).flat_map(i32::to_be_bytes).collect::<Vec<u8>>()).unwrap();
    verify(&store, 0, &[]);
    flip(&objid.join("c/0"), 8);
    let found = verify(&store, 3, &[]);
    assert_eq!(array(&found, "objid")["first"], json!([{"at": [2], "source": "2", "target": "1073741826"}]));
    let turned = store.run(&["verify", "copy.zarr", "epochs.zarr", "--json"]);
    assert!(turned.code() == 3 && turned.stdout.contains(r#""source":"1073741826","target":"2""#), "{turned:?}");
}

#[test]
fn a_store_of_zarr_v2_is_equal_to_its_copy_and_to_one_without_a_made_fill_value() {
    let store = Store::new();
    let write = |name: &str, fortran: bool| {
        let root = store.path(name);
        fs::create_dir_all(root.join("a")).unwrap();
        fs::write(root.join(".zgroup"), r#"{"zarr_format": 2}"#).unwrap();
        let (order, bytes) = if fortran { ("F", [0, 3, 1, 4, 2, 5]) } else { ("C", [0, 1, 2, 3, 4, 5]) };
        let zarray = json!({"zarr_format": 2, "shape": [2, 3], "chunks": [2, 3], "dtype": if fortran { ">u2" } else { "<u2" },
            "order": order, "fill_value": 7, "filters": null, "compressor": null});
        fs::write(root.join("a/.zarray"), zarray.to_string()).unwrap();
        fs::write(root.join("a/.zattrs"), r#"{"_ARRAY_DIMENSIONS": ["x", "y"], "limit": NaN}"#).unwrap();
        let to_bytes = |number: u16| if fortran { number.to_be_bytes() } else { number.to_le_bytes() };
        fs::write(root.join("a/0.0"), bytes.into_iter().flat_map(to_bytes).collect::<Vec<u8>>()).unwrap();
    };
    write("f.zarr", true);
    write("c.zarr", false);
    store.run(&["verify", "f.zarr", "c.zarr"]).assert_success();
    store.run(&["materialize", "f.zarr", "t.zarr", "--chunks", "x=1,y=2", "--verify"]).assert_success();
    store.run(&["verify", "c.zarr", "t.zarr"]).assert_success();
    edit_text(&store.path("t.zarr/a/zarr.json"), "\"_FillValue\"", "\"other\"");
    let found = store.run(&["verify", "c.zarr", "t.zarr"]);
    assert!(
        found.code() == 3 && found.stdout.contains("\"other\"") && !found.stdout.contains("_FillValue"),
        "{found:?}"
    );
}

fn edit_text(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "no {from} in {text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn what_cannot_be_read_is_an_error_of_its_array_and_the_rest_is_compared() {
    for side in ["epochs.zarr/lightcurves/c/0/1", "copy.zarr/lightcurves/c/0/1"] {
        let store = pair();
        fs::write(store.path(side), [0; 5]).unwrap();
        let found = verify(&store, 1, &[]);
        let error = array(&found, "lightcurves")["error"].to_string();
        let words = if side.starts_with('e') { "source: chunk file c/0/1" } else { "target: chunk file c/0/1" };
        assert!(error.contains(words), "{error}");
        assert_eq!(array(&found, "objid")["elements"], 4);
        let text = store.run(&["verify", "epochs.zarr", "copy.zarr"]);
        assert_eq!(text.code(), 1);
        assert!(text.stdout.contains("1 of 2 arrays could not be compared"), "{text:?}");
        flip(&store.path("copy.zarr/objid/c/0"), 0);
        let found = verify(&store, 3, &[]);
        assert_eq!((&found["differences"], array(&found, "lightcurves")["error"].is_string()), (&1.into(), true));
    }
}

#[test]
fn arrays_that_cannot_be_read_are_compared_as_files_or_not_at_all() {
    let store = pair();
    for name in ["epochs.zarr", "copy.zarr"] {
        let array = store.path(name).join("names");
        fs::create_dir_all(array.join("c")).unwrap();
        let document = array_json("string", &[3], &[2], &["object"]);
        fs::write(array.join("zarr.json"), document).unwrap();
        fs::write(array.join("c/0"), "anything").unwrap();
    }
    let names = |name: &str| store.path(name).join("names");
    let found = verify(&store, 0, &[]);
    assert_eq!((&array(&found, "names")["elements"], &array(&found, "names")["bytes"]), (&3.into(), &8.into()));
    edit(&names("copy.zarr").join("zarr.json"), |document| document["attributes"] = json!({"a": 1}));
    let found = verify(&store, 3, &[]);
    assert_eq!((&found["differences"], &array(&found, "names")["elements"]), (&1.into(), &3.into()));
    edit(&names("copy.zarr").join("zarr.json"), |document| document["attributes"] = json!({}));
    fs::write(names("copy.zarr").join("c/1"), "more").unwrap();
    let found = verify(&store, 3, &[]);
    assert_eq!(array(&found, "names")["files"], json!(["c/1: only in the target"]));
    fs::rename(names("copy.zarr").join("c/1"), names("copy.zarr").join("c/0")).unwrap();
    let found = verify(&store, 3, &[]);
    assert_eq!(array(&found, "names")["files"], json!(["c/0: not the same bytes"]));
    edit(&names("copy.zarr").join("zarr.json"), |document| document["codecs"] = json!([{"name": "vlen-utf8"}]));
    let found = verify(&store, 1, &[]);
    let error = array(&found, "names")["error"].to_string();
    assert!(error.contains("cannot be compared") && error.contains("no string") && error.contains("codecs"), "{error}");
    assert_eq!(array(&found, "names")["elements"], 0);
}

#[test]
fn scalars_and_arrays_without_elements_are_compared() {
    let store = pair();
    for name in ["epochs.zarr", "copy.zarr"] {
        for (array, shape) in [("scalar", &[][..]), ("empty", &[3, 0][..])] {
            let folder = store.path(name).join(array);
            fs::create_dir_all(&folder).unwrap();
            let chunks: Vec<u64> = shape.iter().map(|_| 2).collect();
            let document = array_json("float32", shape, &chunks, &["object", "epoch"][..shape.len()]);
            fs::write(folder.join("zarr.json"), document).unwrap();
        }
        fs::write(store.path(name).join("scalar/c"), 1.5f32.to_le_bytes()).unwrap();
    }
    assert_eq!(verify(&store, 0, &[])["elements"], 29);
    fs::remove_file(store.path("copy.zarr/scalar/c")).unwrap();
    let found = verify(&store, 3, &[]);
    assert_eq!(array(&found, "scalar")["first"], json!([{"at": [], "source": "1.5", "target": "0.0"}]));
}

#[test]
fn a_sample_is_called_one_and_can_be_repeated() {
    let store = pair();
    let found = verify(&store, 0, &["--sample", "2", "--seed", "5"]);
    assert_eq!((&found["sampled"], &found["seed"], &found["sampled_chunks"]), (&true.into(), &5.into(), &2.into()));
    assert!(found["elements"].as_u64().unwrap() < 28);
    let text = store.run(&["verify", "epochs.zarr", "copy.zarr", "--sample", "2"]).assert_success();
    assert!(text.stdout.contains("a sample of 2 chunks (--seed "), "{text:?}");
    edit(&store.path("copy.zarr/objid/zarr.json"), |document| document["attributes"] = json!({"a": 1}));
    assert_eq!(verify(&store, 3, &["--sample", "0"])["elements"], 0);
    store.run(&["verify", "a", "b", "--seed", "5"]).assert_refused(2, &["--sample"]);
}

#[test]
fn stores_that_cannot_be_opened_are_errors() {
    let store = pair();
    store.run(&["verify", "epochs.zarr", "nowhere.zarr"]).assert_refused(1, &["nowhere.zarr"]);
    store.run(&["verify", "nowhere.zarr", "copy.zarr"]).assert_refused(1, &["nowhere.zarr"]);
    fs::create_dir(store.path("empty")).unwrap();
    store.run(&["verify", "epochs.zarr", "empty"]).assert_refused(1, &["empty", "not a Zarr store"]);
    store.run(&["verify", "epochs.zarr"]).assert_refused(2, &["TARGET"]);
}

#[test]
fn a_copy_is_verified_before_it_appears() {
    let store = Store::new();
    let copy = ["materialize", "epochs.zarr", "copy.zarr", "--along", "epoch", "--verify"];
    let made = store.run(&copy).assert_success();
    assert!(made.stdout.contains("verified: 2 arrays, equal") && made.stdout.contains("96 B in"), "{made:?}");
    store.run(&[&copy[..], &["--keep-going"]].concat()).assert_refused(2, &["--keep-going"]);
    verify(&store, 0, &[]);
}

#[test]
fn a_mount_is_equal_to_its_source() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let mount = store.mount(&[]);
    store.run(&["verify", "epochs.zarr", "objects.zarr"]).assert_success();
    mount.unmount(&[]).assert_success();
}
