//! What is fuzzed, with the seeds that are kept: those that once were too much, and some to begin with.

#[expect(unreachable_pub, reason = "the fuzzer's crate has it as its library")]
#[path = "../../fuzz/src/lib.rs"]
mod targets;

use std::fs;
use std::path::Path;

#[test]
fn every_seed_ends_with_bytes_or_an_error() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let mut of_folder: Vec<String> = fs::read_dir(root.join("fuzz_targets"))
        .expect("a folder")
        .map(|entry| {
            entry.expect("an entry").path().with_extension("").file_name().expect("a name").display().to_string()
        })
        .collect();
    of_folder.sort();
    assert_eq!(of_folder, targets::TARGETS.map(|(name, _)| name), "a target is missing here");
    for (name, target) in targets::TARGETS {
        let target = target();
        let mut n = 0;
        for entry in fs::read_dir(root.join("seeds").join(name)).expect("seeds") {
            let path = entry.expect("an entry").path();
            println!("{name}: {}", path.display());
            target(&fs::read(path).expect("a seed"));
            n += 1;
        }
        assert!(n >= 3, "{name} has no seeds");
        // What every fuzzer tries first.
        target(&[]);
    }
}
