//! Each numbered sentence of docs/SEMANTICS.md names at least one test, and each test that it names exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Names in code font that look like a test's: `a::b::c` or `test_x.py::test_y`.
fn names(sentence: &str) -> Vec<&str> {
    sentence.split('`').skip(1).step_by(2).filter(|name| name.contains("::")).collect()
}

/// The numbered sentences; each may go on over several lines, up to the next number, heading or empty line.
fn sentences(text: &str) -> Vec<(u32, String)> {
    let mut found: Vec<(u32, String)> = Vec::new();
    let mut goes_on = false;
    for line in text.lines() {
        let numbered = line.split_once(". ").and_then(|(number, rest)| Some((number.parse().ok()?, rest)));
        match (numbered, found.last_mut()) {
            (Some((number, rest)), _) => {
                found.push((number, rest.to_owned()));
                goes_on = true;
            }
            (None, Some((_, sentence))) if goes_on && line.starts_with("   ") => {
                sentence.push(' ');
                sentence.push_str(line.trim());
            }
            _ => goes_on = false,
        }
    }
    found
}

/// The tests of all Rust files below `folder`, as `module::function`.
fn rust_tests(folder: &Path, module: &str, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let module = if module.is_empty() { stem.to_owned() } else { format!("{module}::{stem}") };
        if path.is_dir() {
            rust_tests(&path, &module, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let inner = if text.contains("mod tests {") { "::tests" } else { "" };
            for after in text.split("#[test]").skip(1) {
                let name = after.split_once("fn ").and_then(|(_, rest)| rest.split_once('(')).map(|(name, _)| name);
                found.insert(format!("{module}{inner}::{}", name.expect("a function")));
            }
        }
    }
}

fn python_tests(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        if file.starts_with("test_") {
            let text = fs::read_to_string(&path).unwrap();
            let tests = text.lines().filter_map(|line| line.strip_prefix("def ")?.split_once('('));
            found.extend(tests.map(|(name, _)| format!("{file}::{name}")));
        }
    }
}

#[test]
fn every_sentence_names_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut known = BTreeSet::new();
    rust_tests(&root.join("src"), "", &mut known);
    rust_tests(&root.join("tests/it"), "", &mut known);
    python_tests(&root.join("tests/readers"), &mut known);
    python_tests(&root.join("python/tests"), &mut known);
    let text = fs::read_to_string(root.join("docs/SEMANTICS.md")).unwrap();
    let sentences = sentences(&text);
    assert!(sentences.len() > 40, "the sentences were not found");
    let mut wrong = Vec::new();
    for (position, (number, sentence)) in sentences.iter().enumerate() {
        if *number as usize != position + 1 {
            wrong.push(format!("sentence {number} stands in place {}", position + 1));
        }
        if names(sentence).is_empty() || !sentence.ends_with('`') {
            wrong.push(format!("sentence {number} does not end with a test"));
        }
        let unknown = names(sentence).into_iter().filter(|name| !known.contains(*name));
        wrong.extend(unknown.map(|name| format!("sentence {number}: there is no {name}")));
    }
    // And the other way round: a test of this module that the page does not name has no reason to be here.
    let ours = known.iter().filter(|name| name.starts_with("semantics::") && !name.starts_with("semantics::sentences"));
    wrong.extend(ours.filter(|name| !text.contains(*name)).map(|name| format!("no sentence names {name}")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_page_is_read_as_it_is_meant() {
    let text = "# Head\n\n1. One\n   goes on. `a::b`\n2. Two. `x` `test_c.py::test_d`\n\nnot 3. this";
    let read = sentences(text);
    assert_eq!(read, [(1, "One goes on. `a::b`".to_owned()), (2, "Two. `x` `test_c.py::test_d`".to_owned())]);
    assert_eq!(names(&read[1].1), ["test_c.py::test_d"]);
}
