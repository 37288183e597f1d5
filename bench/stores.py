"""The reference stores: made once, below the working directory, and never changed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from bench.process import ROOT, Failed

# name: (arguments of make-demo-store, bytes it takes) at full size and for --quick.
DEMO = {
    "idf": (["--case", "idf"], 1e9, ["--case", "idf", "--scale", "0.1"], 2e8),
    "idf-1000": (["--case", "idf", "--scale", "10", "--distinct", "100"], 9.2e9,
                 ["--case", "idf", "--scale", "0.3", "--distinct", "10"], 4e8),
    "seed": (["--case", "seed"], 5e8, ["--case", "seed", "--scale", "0.05"], 1e8),
}  # fmt: skip
# name: (shape, chunk shape, data type), for listings and for very many virtual chunks.
PLAIN = {
    "million": ((1_000_000, 8), (100_000, 1), "f4"),
    "billion": ((1_000_000_000, 10), (10_000_000, 10), "u1"),
}
PLAIN_QUICK = {"million": ((100_000, 8), (10_000, 1), "f4")}
# name: shape at full size and for --quick, for copies that do not fit in memory. A chunk is one epoch.
ZSTD = {"zstd": ((2_000_000, 1000), (500_000, 128))}


def store(work, name, quick):
    """The path of a store; makes it where it is missing. Its files are in the page cache then."""
    is_smaller = quick and (name in DEMO or name in PLAIN_QUICK or name in ZSTD)
    path = work / f"{name}{'-quick' if is_smaller else ''}.zarr"
    if not path.exists():
        print(f"making {path.name}", file=sys.stderr, flush=True)
        partial = path.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        if name in DEMO:
            make_demo(partial, *DEMO[name][2:] if is_smaller else DEMO[name][:2])
        elif name in ZSTD:
            make_zstd(partial, ZSTD[name][is_smaller])
        else:
            make_plain(partial, *(PLAIN_QUICK if is_smaller else PLAIN)[name])
        # All or nothing: a run that was interrupted leaves nothing that looks like a store.
        partial.rename(path)
    warm(path)
    return path


def make_demo(path, arguments, n_bytes):
    free = shutil.disk_usage(path.parent).free
    if free < 1.2 * n_bytes:
        raise Failed(f"{path.name} takes {n_bytes / 1e9:.1f} GB, {free / 1e9:.1f} GB are free: choose another --work")
    subprocess.run([sys.executable, ROOT / "scripts/make-demo-store", path, *arguments], check=True)


def make_plain(path, shape, chunks, dtype):
    """One array in which every chunk is a copy of the first."""
    import numpy as np
    import zarr

    root = zarr.create_group(path)
    array = root.create_array(
        "lightcurves", shape=shape, chunks=chunks, dtype=dtype, fill_value=0, dimension_names=("object", "epoch"),
        compressors=zarr.codecs.BloscCodec(cname="zstd", clevel=1, shuffle="shuffle"),
    )  # fmt: skip
    values = np.arange(chunks[0] * chunks[1]).reshape(chunks) % 251
    array[tuple(slice(length) for length in chunks)] = values.astype(dtype)
    folder = path / "lightcurves"
    grid = [length // chunk for length, chunk in zip(shape, chunks)]
    first = folder / array.metadata.encode_chunk_key((0, 0))
    for idxs in np.ndindex(*grid):
        key = folder / array.metadata.encode_chunk_key(tuple(map(int, idxs)))
        if key != first:
            key.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(first, key)


def make_zstd(path, shape, n_distinct=8):
    """Magnitudes rounded to hundredths, in zstd without a shuffle; a few epochs are computed, the rest are copies."""
    import numpy as np
    import zarr

    array = zarr.create_group(path).create_array(
        "lightcurves", shape=shape, chunks=(shape[0], 1), dtype="f4", fill_value=0, dimension_names=("object", "epoch"),
        compressors=zarr.codecs.ZstdCodec(level=1),
    )  # fmt: skip
    for epoch in range(n_distinct):
        values = np.random.default_rng(epoch).normal(20, 1, (shape[0], 1))
        array[:, epoch : epoch + 1] = np.round(values, 2).astype("f4")
    row = path / "lightcurves/c/0"
    for epoch in range(n_distinct, shape[1]):
        shutil.copyfile(row / str(epoch % n_distinct), row / str(epoch))


def shape_of(path):
    return json.loads((path / "lightcurves/zarr.json").read_text())["shape"]


def v2(path):
    """The same array as Zarr v2: a document of its own, the same chunks by links."""
    twin = path.with_name(f"{path.stem}-v2.zarr")
    if not twin.exists():
        document = json.loads((path / "lightcurves/zarr.json").read_text())
        blosc = next(codec["configuration"] for codec in document["codecs"] if codec["name"] == "blosc")
        shuffle = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}[blosc["shuffle"]]
        compressor = {"id": "blosc", "cname": blosc["cname"], "clevel": blosc["clevel"], "shuffle": shuffle, "blocksize": 0}
        assert document["data_type"] == "float32" and document["chunk_key_encoding"]["name"] == "default"
        partial = twin.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        for entry in (path / "lightcurves/c").iterdir():
            (partial / entry.name).symlink_to(entry.resolve())
        text = json.dumps({
            "zarr_format": 2, "shape": document["shape"], "chunks": document["chunk_grid"]["configuration"]["chunk_shape"],
            "dtype": "<f4", "fill_value": "NaN", "order": "C", "filters": None, "compressor": compressor, "dimension_separator": "/",
        })  # fmt: skip
        (partial / ".zarray").write_text(text)
        partial.rename(twin)
    return twin


def strict(path):
    """The same array for readers that refuse the bare NaN in its attributes: a document without them, the same chunks."""
    twin = path.with_name(f"{path.stem}-strict.zarr")
    if not twin.exists():
        partial = twin.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        (partial / "lightcurves").mkdir(parents=True)
        (partial / "lightcurves/c").symlink_to((path / "lightcurves/c").resolve())
        document = json.loads((path / "lightcurves/zarr.json").read_text())
        (partial / "lightcurves/zarr.json").write_text(json.dumps({**document, "attributes": {}}, allow_nan=False))
        partial.rename(twin)
    return twin


def warm(path):
    """Reads every file once: source data comes from the page cache in every case."""
    buffer = bytearray(8 << 20)
    for folder, _, names in os.walk(path):
        for name in names:
            with open(Path(folder, name), "rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass


def disk_and_memory(work, cases):
    """What stands in the way of a full run, or None."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if "lightcurve-1000" in cases and memory < 14e9:
        return f"{memory / 1e9:.0f} GB of memory do not hold idf-1000 (9 GB) in the page cache: its figures will be the disk's"
    return None
