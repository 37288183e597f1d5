//! Names that nobody has given in good faith.

mod documents;

use std::fs;
use std::os::unix::ffi::OsStrExt;

use crate::support::*;

#[test]
fn names_of_any_bytes_pass_through_and_find_nothing_outside() {
    if cannot_mount() {
        return;
    }
    let store = Store::new();
    let long = "n".repeat(255);
    let names: [&[u8]; 6] = [b"\xff\xfe", b"new\nline", b"\x01", b"c.0.0", long.as_bytes(), "c.\u{664}.0".as_bytes()];
    for name in names {
        fs::write(store.source().join(std::ffi::OsStr::from_bytes(name)), name).unwrap();
    }
    let _mount = store.mount(&[]);
    for name in names {
        assert_eq!(fs::read(store.point().join(std::ffi::OsStr::from_bytes(name))).unwrap(), name);
    }
    let array = store.point().join("lightcurves");
    for name in [
        "c.0.00",
        "c.-1.0",
        "c.0",
        "c.0.0.0",
        "c.18446744073709551616.0",
        "c.18446744073709551615.0",
        "c.\u{660}.0",
        "c..",
        "c/0",
        &"n".repeat(256),
    ] {
        let error = fs::metadata(array.join(name)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{name}");
    }
}
