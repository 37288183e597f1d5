"""Whole stores copied: groups, columns, attributes, v2; memory stays below its bound."""

import json
import subprocess
import time
import warnings

import numpy as np
import pytest
import xarray as xr
import zarr
from copies import LAYOUT, RECORDS, assert_same_tree, copy, copying, partial, report, tree, verify
from sources import root_of
from support import assert_same_bits, assert_same_store, document, rechunkfs
from test_v2 import ENCODING
from test_v2 import survey as dataset


def assert_identical(got, want):
    """xarray's `identical`, which takes any NaN for any other, and the bits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        got, want = (xr.open_zarr(p, chunks=None).load() for p in (got, want))
    xr.testing.assert_identical(got, want)
    for name, variable in want.variables.items():
        assert_same_bits(got[name].values, variable.values, name)


def assert_consolidated(target):
    """The root's copy of every document is the document."""
    entries = document(target / "zarr.json")["consolidated_metadata"]["metadata"]
    nodes = {str(p.parent.relative_to(target)) for p in target.rglob("zarr.json")} - {"."}
    assert entries.keys() == nodes
    for name, entry in entries.items():
        node = document(target / name / "zarr.json")
        for either in (entry, node):
            either.pop("consolidated_metadata", None)
        assert entry == node, name


# -- whole stores ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("zarr_format", [3, 2])
@pytest.mark.parametrize("flags", [[], ["--codecs", "none"], ["--shards", "object=6,epoch=full", "--codecs", "zstd"]], ids=len)
def test_xarray_finds_the_same_dataset(tmp_path, zarr_format, flags):
    source, target = tmp_path / "s.zarr", tmp_path / "t.zarr"
    encoding = {k: dict(v) for k, v in ENCODING.items() if k != "n_frames"}
    encoding["n_frames"] = {"chunks": (4, 2), "_FillValue": 3}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset().to_zarr(source, zarr_format=zarr_format, encoding=encoding)
    before = tree(source)
    copy(source, target, "--chunks", "object=3,epoch=full", *flags)
    assert_identical(target, source)
    assert zarr.open_array(target / "mag", mode="r").chunks == (3, 7)
    assert_consolidated(target)
    verify(source, target)
    assert_same_tree(source, before)
    assert not [p for p in target.rglob(".z*")]


@pytest.mark.parametrize("case", ["seed", "idf"])
def test_the_demo_stores_with_nested_groups(case, request, tmp_path):
    source, target = request.getfixturevalue(case), tmp_path / "t.zarr"
    found = report(source, target, "--chunks", "object=150,epoch=full", "--codecs", "lightcurves=blosc:lz4", "--memory", "512MiB")
    assert_same_store(target, source)
    assert_consolidated(target)
    got, want = (xr.open_datatree(p, engine="zarr", chunks={}) for p in (target, source))
    assert [n.path for n in got.subtree] == [n.path for n in want.subtree]
    arrays = {array["path"].strip("/") for array in found["arrays"]}
    assert {"lightcurves", "calibration/flags"} <= arrays
    assert found["failures"] == [] and found["resumed"] is False and found["peak_rss_bytes"] <= found["memory_bytes"] == 512 << 20
    files = [p for p in target.rglob("*") if p.is_file() and p.name not in RECORDS]
    assert found["files"] in (len(files), len([p for p in files if p.name != "zarr.json"]))
    assert 0 < found["written_bytes"] <= sum(p.stat().st_size for p in files)
    for path in ("lightcurves", "calibration/flags"):
        codecs = [c["name"] for c in document(target / path / "zarr.json")["codecs"]]
        own = [c["name"] for c in document(source / path / "zarr.json")["codecs"]]
        assert codecs == (["bytes", "blosc"] if path == "lightcurves" else own)
    # What is not rechunked is there byte for byte, its document too.
    nodes = [p.parent.relative_to(source) for p in source.rglob("zarr.json")]
    passing = [n for n in nodes if document(source / n / "zarr.json")["node_type"] == "array" and str(n) not in arrays]
    assert len(passing) > 20 or arrays > {"lightcurves", "calibration/flags"}
    for node in nodes:
        if str(node) not in ("lightcurves", "calibration/flags") and node in passing:
            run = subprocess.run(["diff", "-r", source / node, target / node], capture_output=True, text=True, timeout=60)
            assert run.returncode == 0, run.stdout + run.stderr


def test_holes_stay_holes(source, tmp_path):
    """Objects 40 to 79 were never written: chunks 3 and 4 draw on nothing."""
    copy(root_of(source), tmp_path / "t.zarr", *LAYOUT, "--codecs", "none")
    files = {p.relative_to(tmp_path / "t.zarr/mag").as_posix() for p in (tmp_path / "t.zarr/mag/c").rglob("*") if p.is_file()}
    assert files == {f"c/{i}/0" for i in (0, 1, 2, 5, 6)}
    assert_same_store(tmp_path / "t.zarr", root_of(source))


def test_a_dry_run_writes_nothing(source, tmp_path):
    found = json.loads(copy_nothing(root_of(source), tmp_path / "t.zarr", *LAYOUT, "--dry-run", "--json").stdout)
    assert found["arrays"] and all("passes" in array for array in found["arrays"]) and found["files"] > 0
    assert copy_nothing(root_of(source), tmp_path / "t.zarr", *LAYOUT, "-n").stdout.strip()


def copy_nothing(source, target, *flags):
    run = rechunkfs("materialize", source, target, *flags)
    assert run.returncode == 0, run.stderr
    assert not target.exists() and not partial(target).exists()
    return run


# -- memory ---------------------------------------------------------------------------------------------

N_OBJECTS, N_EPOCHS = 60_000, 125


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """300 MB decoded, in chunks of 2.4 MB."""
    folder = tmp_path_factory.mktemp("large") / "s.zarr"
    array = zarr.create_group(folder).create_array(
        "mag", shape=(N_OBJECTS, 10, N_EPOCHS), chunks=(N_OBJECTS, 10, 1), dtype="f4",
        dimension_names=("object", "value", "epoch"), compressors=zarr.codecs.BloscCodec(cname="lz4", typesize=4),
    )  # fmt: skip
    plane = np.arange(N_OBJECTS * 10, dtype="f4").reshape(N_OBJECTS, 10, 1)
    for epoch in range(N_EPOCHS):
        array[:, :, epoch : epoch + 1] = plane + epoch / 8
    zarr.consolidate_metadata(folder)
    return folder


def peak_rss_bytes(process):
    """The most that a process has taken so far; None when it has ended."""
    try:
        with open(f"/proc/{process.pid}/status") as lines:
            return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM")), None)
    except OSError:
        return None


@pytest.mark.parametrize("layout", [
    ["--chunks", "object=60,epoch=full"],
    ["--chunks", "object=60,epoch=full", "--shards", "object=6000"],
    ["--chunks", "object=full,epoch=full", "--codecs", "none"],
], ids=["chunks", "shards", "one-chunk"])  # fmt: skip
def test_memory_stays_below_its_bound(large, tmp_path, layout):
    bound, target, peak = 128 << 20, tmp_path / "t.zarr", 0
    if "object=full,epoch=full" in layout:
        # A chunk of 300 MB cannot be encoded in less than itself: refused with the need, or written in parts.
        run = rechunkfs("materialize", large, target, *layout, "--memory", "128MiB", timeout=120)
        assert run.returncode == 0 or (run.returncode in (1, 2) and "memory" in run.stderr and not target.exists()), run.stderr
        return
    with copying(large, target, *layout, "--memory", "128MiB", "--json") as process:
        while process.poll() is None:
            peak = max(peak, peak_rss_bytes(process) or 0)
            time.sleep(0.005)
        assert process.returncode == 0, process.log.read_text()
    found = json.loads(process.printed.read_text())
    assert found["memory_bytes"] == bound and found["bytes"] == N_OBJECTS * N_EPOCHS * 40
    assert 0 < found["peak_rss_bytes"] <= bound and peak <= bound, f"{found['peak_rss_bytes'] >> 20} and {peak >> 20} MiB"
    got, want = (zarr.open_array(p / "mag", mode="r") for p in (target, large))
    for rows in (slice(0, 130), slice(31_000, 31_100), slice(N_OBJECTS - 70, None)):
        assert_same_bits(got[rows], want[rows])
    verify(large, target, "--memory", "128MiB")
