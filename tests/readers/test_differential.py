"""Random stores from zarr-python's own strategy, random layouts: shown right, or refused by name, never wrong."""

import json
import os
import re
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import zarr
from hypothesis import given, note, settings
from sources import presence
from support import MountRefused, assert_plain_chunks, assert_same_store, mounted
from zarr.storage import LocalStore
from zarr.testing.strategies import arrays

N_STORES = int(os.environ.get("RECHUNKFS_STORES", 240))
BOUND_SECONDS = 300
SAFE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
outcomes = Counter()


def fresh_local_store():
    return LocalStore(tempfile.mkdtemp(prefix="rechunkfs-store-"))


@st.composite
def sources(draw, zarr_format):
    """(root folder, path of its array): as zarr-python wrote it, some chunks deleted, dimensions named or not."""
    array = draw(arrays(stores=st.builds(fresh_local_store), zarr_formats=st.just(zarr_format)))
    root = Path(array.store.root)
    folder = root / array.path
    chunks = sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in ("zarr.json", ".zarray", ".zattrs"))
    if chunks:
        for chunk in draw(st.lists(st.sampled_from(chunks), unique=True, max_size=len(chunks)), label="deleted"):
            chunk.unlink()
    if zarr_format == 3:
        meta = json.loads((folder / "zarr.json").read_text())
        names = draw(st.sampled_from(["as drawn", "d0, d1, ...", "none"]), label="names")
        if names == "none" or not all(n is None or SAFE_NAME.fullmatch(n) for n in meta.get("dimension_names") or ()):
            meta.pop("dimension_names", None)  # names that the command line cannot spell: axis numbers do it
        elif names != "as drawn":
            meta["dimension_names"] = [f"d{i}" for i in range(len(meta["shape"]))]
        if len(set(meta.get("dimension_names") or ())) < len(meta.get("dimension_names") or ()):
            meta.pop("dimension_names")
        (folder / "zarr.json").write_text(json.dumps(meta))
    return root, array.path


@st.composite
def layouts(draw, array):
    """Flags, and the chunk shape that has to come out of them (None: whatever the source has)."""
    names = array.metadata.dimension_names if array.metadata.zarr_format == 3 else None
    chunks, shards, wanted = {}, {}, []
    sharded = draw(st.booleans(), label="sharded")
    for axis, n in enumerate(array.shape):
        kind = draw(
            st.sampled_from(["number", "full"] if sharded else ["number", "full", "number", "source"]), label=f"axis {axis}"
        )
        name = (names and names[axis]) or axis
        length = {"full": max(n, 1), "source": None}.get(kind) or draw(st.integers(1, n + 3), label="length")
        chunks[name] = length if kind == "number" else kind
        shards[name] = draw(st.sampled_from(["full", *(length * k for k in (1, 2, 3))]), label="shard")
        wanted.append(None if kind == "source" else length)
    flags = ["--array", "**"]
    for flag, spec in (("--chunks", chunks), *([("--shards", shards)] if sharded else [])):
        flags += [flag, ",".join(f"{name}={length}" for name, length in spec.items())]
    return flags, wanted, sharded


def may_refuse(array):
    """What cannot be rechunked at all: nothing to cut, a chunk of no length, text of no fixed length."""
    return not array.ndim or 0 in array.chunks or array.dtype.kind in "OT" or array.dtype.itemsize == 0


def compare(data, zarr_format):
    root, path = data.draw(sources(zarr_format), label="source")
    try:
        source = zarr.open_array(root / path, mode="r")
        flags, wanted, sharded = data.draw(layouts(source), label="layout") if source.ndim else (["--chunks", "0=1"], [], False)
        note(f"{source.metadata.to_dict()} {flags}")
        try:
            with mounted(root, *flags) as view:
                shown = zarr.open_array(view / path, mode="r")
                assert_same_store(view, root, use_consolidated=False)
                assert_same_store(view, root) if zarr_format == 3 else None
                assert shown.metadata.zarr_format == 3
                got = shown.chunks
                if source.ndim and not may_refuse(source):
                    assert [g for g, w in zip(got, wanted, strict=True) if w] == [w for w in wanted if w]
                    if not sharded:
                        assert_plain_chunks(
                            view / path, source, presence(root / path, source.shape) if zarr_format == 3 else None
                        )
                    outcomes["rechunked" + (" in shards" if sharded else "")] += 1
                else:
                    outcomes["passed through"] += 1
        except MountRefused as refused:
            assert may_refuse(source), refused
            assert len(refused.stderr.strip().splitlines()) == 1, refused.stderr
            outcomes["refused"] += 1
    finally:
        shutil.rmtree(root)


def run(zarr_format, n_stores):
    outcomes.clear()
    started = time.monotonic()

    @settings(max_examples=n_stores)
    @given(data=st.data())
    def compare_many(data):
        if time.monotonic() - started < BOUND_SECONDS:
            compare(data, zarr_format)
        else:
            outcomes["out of time"] += 1

    compare_many()
    print(f"Zarr v{zarr_format}: {dict(outcomes)} in {time.monotonic() - started:.0f} s")
    return outcomes


@pytest.mark.timeout(2 * BOUND_SECONDS)
def test_random_stores():
    outcomes = run(3, N_STORES)
    assert sum(outcomes.values()) - outcomes["out of time"] >= min(200, N_STORES), outcomes
    assert outcomes["rechunked"] + outcomes["rechunked in shards"] > N_STORES / 3, outcomes


@pytest.mark.timeout(2 * BOUND_SECONDS)
def test_random_v2_stores():
    outcomes = run(2, N_STORES // 4)
    assert outcomes["rechunked"] + outcomes["rechunked in shards"] > N_STORES / 16, outcomes


@pytest.mark.no_mount
@settings(max_examples=25)
@given(data=st.data())
def test_the_strategies_themselves_draw_readable_stores(data):
    root, path = data.draw(sources(3))
    try:
        source = zarr.open_array(root / path, mode="r")
        assert np.asarray(source[...] if source.ndim else source[()]).shape == source.shape
        if source.ndim:
            flags, wanted, _ = data.draw(layouts(source))
            assert flags[0] == "--array" and len(wanted) == source.ndim
    finally:
        shutil.rmtree(root)
