//! The figures of docs/SCALE.md are those that the planner gives, at 10^9 source chunks too.

mod table;

use std::path::Path;

#[test]
fn the_page_on_scale_says_what_the_planner_says() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/SCALE.md")).expect("there");
    let table = table::table();
    assert!(table.contains("| 1,000,000,000 |"), "a store of 10^9 chunks is among them:\n{table}");
    assert!(page.contains(&table), "docs/SCALE.md is to say:\n{table}");
}
