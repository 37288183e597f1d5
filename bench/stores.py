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


def store(work, name, quick):
    """The path of a store; makes it where it is missing. Its files are in the page cache then."""
    is_smaller = quick and (name in DEMO or name in PLAIN_QUICK)
    path = work / f"{name}{'-quick' if is_smaller else ''}.zarr"
    if not path.exists():
        print(f"making {path.name}", file=sys.stderr, flush=True)
        partial = path.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        if name in DEMO:
            make_demo(partial, *DEMO[name][2:] if is_smaller else DEMO[name][:2])
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
