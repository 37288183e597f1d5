//! Each form of `--codecs`, which of several counts, and the exact text of each error.

use crate::zarr::copy::tests::{BLOSC, LITTLE, array, codecs, copy, store};

#[test]
fn every_form_of_codecs_is_understood() {
    let blosc = |cname: &str, level: u8, shuffle: &str, size: u8| {
        format!(
            r#"{{"name":"blosc","configuration":{{"cname":"{cname}","clevel":{level},"shuffle":"{shuffle}","typesize":{size},"blocksize":0}}}}"#
        )
    };
    let zstd = |level: i32| format!(r#"{{"name":"zstd","configuration":{{"level":{level},"checksum":false}}}}"#);
    for (wish, expected) in [
        ("none", vec![]),
        ("[]", vec![]),
        ("zstd", vec![zstd(3)]),
        ("zstd:22", vec![zstd(22)]),
        (" zstd:-131072 ", vec![zstd(-131_072)]),
        ("gzip", vec![r#"{"name":"gzip","configuration":{"level":5}}"#.to_owned()]),
        ("gzip:0", vec![r#"{"name":"gzip","configuration":{"level":0}}"#.to_owned()]),
        ("blosc", vec![blosc("zstd", 5, "shuffle", 4)]),
        ("blosc:lz4", vec![blosc("lz4", 5, "shuffle", 4)]),
        ("blosc:lz4hc:9", vec![blosc("lz4hc", 9, "shuffle", 4)]),
        ("blosc:blosclz:0:bitshuffle", vec![blosc("blosclz", 0, "bitshuffle", 4)]),
        ("blosc:zlib:1:noshuffle", vec![blosc("zlib", 1, "noshuffle", 4)]),
        ("source", vec![BLOSC.to_owned()]),
        (
            r#"[{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "blosc"}, "crc32c"]"#,
            vec![blosc("zstd", 5, "shuffle", 4), r#"{"name":"crc32c"}"#.to_owned()],
        ),
        (
            r#"[{"name": "blosc", "configuration": {"typesize": 8, "cname": "zlib", "clevel": 2, "shuffle": "bitshuffle", "blocksize": 0}}]"#,
            vec![blosc("zlib", 2, "bitshuffle", 8)],
        ),
        (
            r#"[{"name": "zstd", "configuration": {"checksum": true}}]"#,
            vec![r#"{"name":"zstd","configuration":{"level":3,"checksum":true}}"#.to_owned()],
        ),
    ] {
        let (document, encoding, notices) = codecs("float32", &format!("{LITTLE}, {BLOSC}"), &[wish]);
        let written: Vec<&str> = [LITTLE].into_iter().chain(expected.iter().map(String::as_str)).collect();
        assert_eq!(document, format!("[{}]", written.join(", ")), "{wish}");
        assert_eq!((encoding.bytes_to_bytes, notices.len()), (expected, 0), "{wish}");
    }
    assert_eq!(codecs("uint8", "\"bytes\"", &["blosc"]).1.bytes_to_bytes, [blosc("zstd", 5, "bitshuffle", 1)]);
    assert_eq!(codecs("float64", LITTLE, &["blosc"]).1.bytes_to_bytes, [blosc("zstd", 5, "shuffle", 8)]);
}

#[test]
fn the_last_of_the_most_particular_counts() {
    // The name of one of them is a glob, too.
    let arrays = ["[c]", "a", "b"].map(|path| (path, array("int16", LITTLE)));
    let wishes =
        ["*=gzip:1", r#"a = [{"name": "crc32c"}]"#, "zstd:9", "[c]=none", "[ab]=gzip:2", "/a=gzip:3", "gzip:4"];
    let gzip = |level: u8| format!(r#"{{"name":"gzip","configuration":{{"level":{level}}}}}"#);
    let crc32c = || r#"{"name":"crc32c"}"#.to_owned();
    for (wishes, expected) in [
        (&wishes[..0], [vec![], vec![], vec![]]),
        (&wishes[..3], [vec![gzip(1)], vec![crc32c()], vec![gzip(1)]]),
        (&wishes[..], [vec![], vec![gzip(3)], vec![gzip(2)]]),
        (&wishes[6..], [vec![gzip(4)], vec![gzip(4)], vec![gzip(4)]]),
        (&[wishes[1], wishes[6]], [vec![gzip(4)], vec![crc32c()], vec![gzip(4)]]),
    ] {
        let copy = copy(&store(&arrays), None, wishes).unwrap();
        let found: Vec<_> = copy.copied.into_iter().map(|copied| copied.encoding.bytes_to_bytes).collect();
        assert_eq!(found, expected, "{wishes:?}");
    }
}

#[test]
fn errors_say_what_and_how() {
    let forms = "write for example zstd:5, blosc:zstd:5:shuffle, gzip, none or source";
    let list = r#"write a list such as [{"name": "zstd", "configuration": {"level": 5}}]"#;
    let named = |name: &str| format!(r#"[{{"name":"{name}"}}]"#);
    let cases: Vec<(String, String)> = [
        ("", format!("no codec is named; {forms}")),
        ("lz4", format!("\"lz4\" is no codec of a copy; {forms}")),
        ("none:1", format!("\"1\" is more than none takes; {forms}")),
        ("zstd:", "\"\" is no level of zstd; write a whole number from -131072 to 22".to_owned()),
        ("zstd:23", "\"23\" is no level of zstd; write a whole number from -131072 to 22".to_owned()),
        ("gzip:fast", "\"fast\" is no level of gzip; write a whole number from 0 to 9".to_owned()),
        ("blosc:zstd:10", "\"10\" is no level of blosc; write a whole number from 0 to 9".to_owned()),
        ("blosc:zst", "blosc has no compressor \"zst\"; use blosclz, lz4, lz4hc, zlib, zstd".to_owned()),
        ("blosc:snappy", "zarr-python's blosc has no snappy; use blosclz, lz4, lz4hc, zlib, zstd".to_owned()),
        ("blosc:lz4:1:no", "blosc has no shuffle \"no\"; use noshuffle, shuffle, bitshuffle".to_owned()),
        ("=zstd", format!("no array stands before =; {forms}")),
        ("time=zstd", "it is for arrays that are not rechunked; leave it out, or name one of small, wide".to_owned()),
        ("small=[1]", format!("1 is no codec; {list}")),
        ("[{\"name\": \"x=y\"", format!("no JSON: the text ends too early at byte 15; {list}")),
        ("small=[{\"name\": 'x'}]", format!("no JSON: expected a value at byte 10; {list}")),
        (
            r#"["bytes","transpose"]"#,
            "transpose stands after a codec that gives bytes; put transposes first, then bytes once, then the others"
                .to_owned(),
        ),
        (
            r#"["transpose"]"#,
            r#"transpose has no readable order; write its "configuration": {"order": [1, 0]}"#.to_owned(),
        ),
        (
            r#"[{"name":"zstd","level":3}]"#,
            "zstd has no member \"level\"; its configuration may have level, checksum".to_owned(),
        ),
        (
            r#"[{"name":"crc32c","configuration":[]}]"#,
            "the configuration of crc32c is no JSON object; write {} or leave it out".to_owned(),
        ),
        (
            r#"[{"name":"zstd","configuration":{"level":"3"}}]"#,
            "zstd has the level \"3\"; write a whole number from -131072 to 22".to_owned(),
        ),
        (
            r#"[{"name":"zstd","configuration":{"checksum":0}}]"#,
            "the checksum of zstd is no truth value; write true or false".to_owned(),
        ),
        (
            r#"[{"name":"bytes","configuration":{"endian":"big"}}]"#,
            "bytes is big-endian, wide is little-endian and stays so; leave the endian out".to_owned(),
        ),
        (
            r#"[{"name":"bytes","configuration":{"endian":1}}]"#,
            "bytes has the endian 1; leave the endian out".to_owned(),
        ),
    ]
    .map(|(wish, expected)| (wish.to_owned(), expected))
    .into_iter()
    .chain([
        (
            named("numcodecs.lz4"),
            "codec \"numcodecs.lz4\" is none that zarr-python and tensorstore both read; use blosc, zstd, gzip, crc32c"
                .to_owned(),
        ),
        (named("bitround"), "codec bitround changes values, and a copy holds the source's; leave it out".to_owned()),
        (
            named("sharding_indexed"),
            "shards are no part of --codecs; leave sharding_indexed out, give --shards".to_owned(),
        ),
    ])
    .collect();
    let arrays = [("wide", array("int16", LITTLE)), ("small", array("int8", "\"bytes\""))];
    let mut time = array("int16", LITTLE).replace("[60, 8]", "[8]").replace("[60, 2]", "[2]");
    time = time.replace("[\"x\", \"t\"]", "[\"t\"]");
    let hierarchy = store(&[arrays[0].clone(), arrays[1].clone(), ("time", time)]);
    for (wish, expected) in cases {
        let error = copy(&hierarchy, None, &[&wish]).unwrap_err().to_string();
        assert_eq!(error, format!("--codecs '{wish}': {expected}"));
    }
    // Long ones are cut, and stay on one line.
    let wish = "[{\"name\":\n\"transpose\", \"configuration\": {\"order\": [0, 1, 2]}}]";
    assert_eq!(
        copy(&hierarchy, None, &[wish]).unwrap_err().to_string(),
        "--codecs '[{\"name\": \"transpose\", \"configuration\": {\"order\": [0, 1, 2]}...': the order [0, 1, 2] of \
         transpose does not fit small, which has 2 axes; name each axis once, counted from 0"
    );
    assert_eq!(
        copy(&hierarchy, None, &["flux=zstd"]).unwrap_err().to_string(),
        "\"flux\" names no array; the arrays are small, time, wide"
    );
}

#[test]
fn no_text_makes_it_panic() {
    let hierarchy = store(&[("", array("int16", LITTLE))]);
    let whole =
        r#"/=[{"name": "transpose", "configuration": {"order": [18446744073709551616, -1, 1e99, 0]}}, "blosc"]"#;
    let cut = (0..whole.len()).flat_map(|at| [&whole[..at], &whole[at..]]);
    for wish in cut.chain([
        "=",
        "==",
        "[=[",
        "[[]=zstd",
        "a\u{e9}=\u{0}",
        ":::",
        "zstd:99999999999999999999999999999999999999999",
    ]) {
        // What comes out matters less than that something does, on one line.
        let error = copy(&hierarchy, None, &[wish]).map_err(|error| error.to_string());
        assert!(error.is_ok() || error.is_err_and(|error| !error.contains(['\n', '\u{0}'])), "{wish}");
    }
}
