//! The command line program: arguments in, one library call, a report and an exit code out.

use std::process::ExitCode;

mod cli;

fn main() -> ExitCode {
    // Before the first allocation of any size.
    rechunkfs::memory::tame_allocator();
    cli::run()
}
