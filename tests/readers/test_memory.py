"""`--memory` bounds the process: sources several times larger than it, many readers at once, chunks larger than it."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr
from support import mounted
from zarr.codecs import BloscCodec, GzipCodec

N_OBJECTS, N_EPOCHS = 20_000, 50
COMPRESSORS = {"blosc": BloscCodec(cname="lz4", typesize=4), "gzip": GzipCodec(level=1), "none": None}


def value(objects, epochs):
    """float32 of every (object, 40, epoch): 160 MB in all; any wrong placement shows."""
    o, e = np.meshgrid(objects, epochs, indexing="ij")
    plane = (o * 64 + e).astype("f4")
    return np.repeat(plane[:, None, :], 40, axis=1)


@pytest.fixture(scope="module", params=COMPRESSORS)
def source(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("memory") / "s.zarr"
    group = zarr.create_group(folder)
    array = group.create_array("mag", shape=(N_OBJECTS, 40, N_EPOCHS), chunks=(N_OBJECTS, 40, 1), dtype="f4",
                               dimension_names=("object", "value", "epoch"), compressors=COMPRESSORS[request.param])  # fmt: skip
    for epoch in range(N_EPOCHS):
        array[:, :, epoch : epoch + 1] = value(range(N_OBJECTS), [epoch])
    zarr.consolidate_metadata(folder)
    return folder


def peak_and_limit(view):
    memory = view.status()["view"]["memory"]
    return memory["peak_rss_bytes"], memory["limit_bytes"]


def test_sweeps_and_many_readers_stay_within_the_bound(source):
    # Base, scratch for one source chunk, and a cache of an eighth of the data.
    with mounted(source, "--chunks", "object=15,epoch=full", "--memory", "100MiB") as view:
        n_chunks = -(-N_OBJECTS // 15)

        def check(chunk):
            data = np.frombuffer((view / f"mag/c.{chunk}.0.0").read_bytes(), "f4").reshape(15, 40, N_EPOCHS)
            objects = range(chunk * 15, min(chunk * 15 + 15, N_OBJECTS))
            assert (data[: len(objects)] == value(objects, range(N_EPOCHS))).all(), chunk

        with ThreadPoolExecutor(16) as readers:  # sixteen cold tiles at once
            list(readers.map(check, range(0, n_chunks, n_chunks // 16)))
        for chunk in range(0, n_chunks, 3):
            check(chunk)
        peak, limit = peak_and_limit(view)
        assert limit == 100 << 20 and peak <= limit, f"{peak / 2**20:.0f} MiB"


def test_a_virtual_chunk_larger_than_the_bound_is_read_in_slabs(source):
    with mounted(source, "--chunks", "object=full,epoch=full", "--memory", "100MiB") as view:
        path = view / "mag/c.0.0.0"
        assert path.stat().st_size == N_OBJECTS * 40 * N_EPOCHS * 4 > 100 << 20
        row_bytes = 40 * N_EPOCHS * 4
        with open(path, "rb", buffering=0) as file:
            for first in (0, 9_999, 19_000):
                data = np.frombuffer(os.pread(file.fileno(), 500 * row_bytes, first * row_bytes), "f4")
                objects = range(first, first + 500)
                assert (data.reshape(500, 40, N_EPOCHS) == value(objects, range(N_EPOCHS))).all()
        peak, limit = peak_and_limit(view)
        assert peak <= limit, f"{peak / 2**20:.0f} MiB"


def test_too_little_memory_is_refused_with_the_need(source, tmp_path):
    from support import rechunkfs

    run = rechunkfs("mount", source, tmp_path / "view", "--chunks", "object=15,epoch=full", "--memory", "64MiB")
    assert run.returncode == 1 and "needs at least" in run.stderr and len(run.stderr.strip().splitlines()) == 1
