#![no_main]

use libfuzzer_sys::fuzz_target;
use rechunkfs_fuzz::Target;
use std::sync::LazyLock;

static TARGET: LazyLock<Target> = LazyLock::new(rechunkfs_fuzz::blosc::target);

fuzz_target!(|data: &[u8]| TARGET(data));
