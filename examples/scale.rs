//! Prints the table of docs/SCALE.md: what the planner says of stores of 100 TB and 10 PB.

#[path = "../tests/it/scale/table.rs"]
mod table;

fn main() {
    print!("{}", table::table());
}
