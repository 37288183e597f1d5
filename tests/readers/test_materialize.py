"""Random stores, layouts and codecs: a copy reads as its source does, bit for bit, and is what was asked for."""

import json
import os
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import tensorstore as ts
import zarr
from copies import COPY_SECONDS, RECORDS, partial, verify
from hypothesis import Phase, given, note, settings
from support import Expected, assert_same_array, assert_same_bits, assert_same_store, bits, mounted, rechunkfs
from test_differential import layouts, may_refuse, sources

N_COPIES = int(os.environ.get("RECHUNKFS_COPIES", 60))
BOUND_SECONDS = 120
outcomes = Counter()

# Elements are never swapped: the byte order is the source's.
BYTES = {"name": "bytes"}
# Spec, and the names of the codecs that have to come out of it (None: whatever fits the source).
CODECS = {
    "none": ["bytes"],
    "zstd": ["bytes", "zstd"],
    "zstd:9": ["bytes", "zstd"],
    "gzip": ["bytes", "gzip"],
    "gzip:1": ["bytes", "gzip"],
    "blosc:lz4": ["bytes", "blosc"],
    "blosc:zstd:3": ["bytes", "blosc"],
    "blosc:lz4hc:5:bitshuffle": ["bytes", "blosc"],
    "blosc:blosclz:1:noshuffle": ["bytes", "blosc"],
    "blosc:zlib:6:shuffle": ["bytes", "blosc"],
    json.dumps([BYTES, {"name": "crc32c"}]): ["bytes", "crc32c"],
    json.dumps([BYTES, {"name": "zstd", "configuration": {"level": 1, "checksum": True}}]): ["bytes", "zstd"],
    "source": None,
    "": None,
}
TENSORSTORE_READS = {"bool", *(f"{s}int{n}" for s in ("", "u") for n in (8, 16, 32, 64)),
                     "float16", "float32", "float64", "complex64", "complex128"}  # fmt: skip


def innermost(codecs):
    """The codecs that encode a chunk, within a shard where there are shards."""
    if [c["name"] for c in codecs] != ["sharding_indexed"]:
        return codecs
    inside = codecs[0]["configuration"]
    assert inside.get("index_location", "end") == "end"
    assert [c["name"] for c in inside["index_codecs"]] == ["bytes", "crc32c"], inside
    return inside["codecs"]


def lengths(flags, flag):
    """What a spec asks for along each axis: a number, or a word."""
    spec = flags[flags.index(flag) + 1]
    return [int(length) if length.isdigit() else length for _, length in (part.rsplit("=", 1) for part in spec.split(","))]


def assert_as_asked(folder, copied, source, flags, wanted, codecs):
    """Chunks, shards, codecs and key encoding."""
    meta = json.loads((folder / "zarr.json").read_text())
    assert [c for c, w in zip(copied.chunks, wanted, strict=True) if w] == [w for w in wanted if w]
    assert (copied.shards is not None) == ("--shards" in flags)
    if copied.shards:
        asked = lengths(flags, "--shards")
        assert [s for s, a in zip(copied.shards, asked, strict=True) if a != "full"] == [a for a in asked if a != "full"]
        full = [-(-max(n, 1) // c) * c for n, c in zip(copied.shape, copied.chunks, strict=True)]
        assert all(s == f for s, f, a in zip(copied.shards, full, asked, strict=True) if a == "full"), copied.shards
    if codecs is not None:
        assert [c["name"] for c in innermost(meta["codecs"])] == codecs
    if source.metadata.zarr_format == 3:
        keys = json.loads((Path(source.store.root) / source.path / "zarr.json").read_text())["chunk_key_encoding"]
        assert meta["chunk_key_encoding"] == keys
    else:
        separator = source.metadata.dimension_separator
        assert meta["chunk_key_encoding"] == {"name": "v2", "configuration": {"separator": separator}}
        if source.fill_value is not None:
            fills = (np.asarray(array.fill_value, dtype=array.dtype) for array in (copied, source))
            assert_same_bits(*fills, "fill value")


def assert_no_file_is_all_fill(folder, copied, source):
    """What holds nothing but the fill value is not written, and nothing lies there that is no chunk."""
    cut = Expected.of(source, folder)
    keys = {copied.metadata.encode_chunk_key(idx): idx for idx in cut.grid()}
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} - {"zarr.json", *RECORDS}
    assert files <= keys.keys(), files - keys.keys()
    for key, idx in keys.items():
        is_fill = bits(chunk := cut.chunk(idx)) == bits(np.full_like(chunk, cut.fill))
        assert (key in files) != is_fill, f"{key}: {'all fill value, and written' if is_fill else 'missing'}"


def assert_files_of_the_mount(root, path, target, flags, source):
    """Without codecs and shards a chunk's file is the one that a mount shows; its absence means fill value."""
    copied = zarr.open_array(target / path, mode="r")
    with mounted(root, *flags) as view:
        shown, kept = (json.loads((p / path / "zarr.json").read_text()) for p in (view, target))
        assert kept["codecs"] == shown["codecs"]
        cut = Expected.of(source, view / path)
        for idx in cut.grid():
            there, here = view / path / cut.key(idx), target / path / copied.metadata.encode_chunk_key(idx)
            if here.exists():
                assert here.read_bytes() == there.read_bytes(), idx
            elif there.exists():
                assert bits(chunk := cut.chunk(idx)) == bits(np.full_like(chunk, cut.fill)), f"{idx} is missing"


def assert_tensorstore_reads(folder, want):
    """Where it knows the data type. It refuses a bare NaN in attributes, so they are taken out: the last use of this copy."""
    meta = json.loads((folder / "zarr.json").read_text())
    if not isinstance(meta["data_type"], str) or meta["data_type"] not in TENSORSTORE_READS:
        return
    known = ("shape", "data_type", "chunk_grid", "chunk_key_encoding", "fill_value", "codecs", "zarr_format", "node_type")
    text = json.dumps({key: meta[key] for key in known})
    (folder / "zarr.json").write_text(text.replace(', "checksum": true', "").replace(', "checksum": false', ""))
    store = {"driver": "file", "path": f"{folder}/"}
    got = ts.open({"driver": "zarr3", "kvstore": store}, read=True).result()
    assert_same_bits(got.read().result(), want[...], "tensorstore")
    outcomes["read by tensorstore"] += 1


def compare(data, zarr_format):
    root, path = data.draw(sources(zarr_format), label="source")
    target = Path(tempfile.mkdtemp(prefix="rechunkfs-copy-")) / "copy.zarr"
    try:
        source = zarr.open_array(root / path, mode="r")
        flags, wanted, sharded = data.draw(layouts(source), label="layout") if source.ndim else (["--chunks", "0=1"], [], False)
        spec = data.draw(st.sampled_from(list(CODECS)), label="codecs")
        note(f"{source.metadata.to_dict()} {flags} {spec}")
        run = rechunkfs("materialize", root, target, *flags, *(["--codecs", spec] if spec else []), timeout=COPY_SECONDS)
        if run.returncode:
            assert may_refuse(source), f"exit {run.returncode}: {run.stderr}"
            assert run.returncode in (1, 2) and run.stderr.strip()
            assert not target.exists() and not partial(target).exists()
            outcomes["refused"] += 1
            return
        assert_same_store(target, root, use_consolidated=False)
        assert_same_store(target, root) if zarr_format == 3 else None
        verify(root, target)
        if may_refuse(source):
            outcomes["passed through"] += 1
            return
        copied = zarr.open_array(target / path, mode="r")
        assert copied.metadata.zarr_format == 3
        assert_same_array(copied, source, "by its own document")
        assert_as_asked(target / path, copied, source, flags, wanted, CODECS[spec])
        assert_no_file_is_all_fill(target / path, copied, source)
        if spec == "none" and not sharded:
            assert_files_of_the_mount(root, path, target, flags, source)
            outcomes["compared with a mount"] += 1
        outcomes["copied" + (" in shards" if sharded else "")] += 1
        assert_tensorstore_reads(target / path, source)
    finally:
        shutil.rmtree(root)
        shutil.rmtree(target.parent)


@pytest.mark.timeout(2 * BOUND_SECONDS)
@pytest.mark.parametrize("zarr_format", [3, 2])
def test_random_copies(zarr_format):
    outcomes.clear()
    started = time.monotonic()

    # Shown as it was drawn: each step of making it smaller would run the program, and the time may be up by then.
    @settings(max_examples=N_COPIES, phases=[Phase.explicit, Phase.reuse, Phase.generate])
    @given(data=st.data())
    def compare_many(data):
        if time.monotonic() - started < BOUND_SECONDS:
            compare(data, zarr_format)
        else:
            outcomes["out of time"] += 1

    compare_many()
    print(f"Zarr v{zarr_format}: {dict(outcomes)} in {time.monotonic() - started:.0f} s")
    assert outcomes["copied"] + outcomes["copied in shards"] > N_COPIES / 3, outcomes
    assert N_COPIES < 50 or outcomes["read by tensorstore"], outcomes
