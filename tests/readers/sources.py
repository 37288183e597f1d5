"""What sources are made of: arrays of every bit pattern, a small survey to damage, and which chunks of a store exist."""

import json
import math
import os
import re

import numpy as np
import zarr
from zarr.codecs import BloscCodec

LAYOUT = ["--chunks", "object=15,epoch=full"]
SHAPE, CHUNKS = (101, 23), (40, 1)


def random_bits(dtype, shape, seed=7):
    """Every bit pattern that the type can hold: NaN payloads, NaT and subnormals among them."""
    dtype, r = np.dtype(dtype), np.random.default_rng(seed)
    n = math.prod(shape)
    if dtype.kind == "b":
        return r.integers(0, 2, shape).astype("?")
    if dtype.kind == "U":
        letters = np.array(list("aZ09 üλ星𝄞"))
        words = ["".join(r.choice(letters, r.integers(0, dtype.itemsize // 4 + 1))) for _ in range(n)]
        return np.array(words, dtype).reshape(shape)
    raw = r.integers(0, 256, n * dtype.itemsize, dtype="u1")
    return raw.view(dtype).reshape(shape)


def survey(folder, values=None, **create):
    """mag (object, epoch), cut by epoch, in a group with a column."""
    group = zarr.create_group(folder)
    options = {"shape": SHAPE, "chunks": CHUNKS, "dtype": "f4", "fill_value": float("nan"), "compressors": BloscCodec(typesize=4)}
    mag = group.create_array("mag", **{**options, **create}, dimension_names=("object", "epoch"))
    mag[...] = random_bits("f4", SHAPE) if values is None else values
    group.create_array("ra", data=np.arange(101.0), dimension_names=("object",))
    zarr.consolidate_metadata(folder)
    return mag


def root_of(array):
    return array.store.root


def stored_chunks(folder):
    """Which source chunks exist, by index, from file names alone; None where one file holds several (shards)."""
    meta = json.loads((folder / "zarr.json").read_text())
    if any(c["name"] == "sharding_indexed" for c in meta["codecs"]):
        return None
    shape = tuple(meta["chunk_grid"]["configuration"]["chunk_shape"])
    files = [os.path.relpath(os.path.join(d, f), folder) for d, _, fs in os.walk(folder) for f in fs if f != "zarr.json"]
    grid = [-(-n // c) for n, c in zip(meta["shape"], shape, strict=True)]
    indices = {tuple(map(int, re.findall(r"\d+", f))) for f in files}
    return shape, {i for i in indices if all(k < n for k, n in zip(i, grid, strict=True))}


def presence(folder, array_shape):
    """A function telling whether any source chunk exists in a region, or None."""
    if (stored := stored_chunks(folder)) is None:
        return None
    chunks, indices = stored

    def present(region):
        box = [(s.start, min(s.stop, n)) for s, n in zip(region, array_shape, strict=True)]
        return any(
            all(i * c < stop and (i + 1) * c > start for i, c, (start, stop) in zip(idx, chunks, box, strict=True))
            for idx in indices
        )

    return present
