"""Cases in which a store is copied: against decoding and encoding alone, against writing alone, against other tools."""

import json
import math
import statistics

from bench.context import Row, spread
from bench.copies import REENCODE, folder, is_available, materialize, peer, rechunker, verified, zarrs_reencode
from bench.mounts import PROGRAM
from bench.process import run
from bench.stores import shape_of, strict, v2
from bench.yardsticks import dd, recode

OBJECTS = ["--chunks", "object=15,epoch=full"]
SMALL = ["--chunks", "object=1,epoch=100"]
SHARDS = [*SMALL, "--shards", "object=1000,epoch=1000"]
GIB = ["--memory", "1GiB"]
# Of peers that take minutes.
PEER_RUNS = 3


def ours(bench, store, flags, copies, name="ours", is_large=False):
    """A sample of ours: one copy of `lightcurves` alone, which is a store, too, and all that the peers copy."""

    def sample(i):
        with folder(bench, name, is_large) as target:
            copied = materialize(bench, store / "lightcurves", target, flags)
            if not copies:
                verified(bench, store / "lightcurves", target)
            copies.append(copied)
            return copied.seconds

    return sample


def lacks_command(bench, row):
    if not is_available(bench):
        row.missing = "not available: there is no `materialize`"
    return bool(row.missing)


def note_memory(row, copies, bound=None):
    peak = max(copied.peak_bytes for copied in copies)
    row.notes.append(f"peak RSS {peak / 2**20:.0f} MiB")
    if bound:
        row.require(f"RSS <= {bound >> 20} MiB", peak <= bound)


def faster_than(bench, row, name, copy, times=1):
    """A peer's copies, fewer of them; `copy(target)` gives None where there is no such peer."""
    found = []
    for _ in range(min(bench.runs, PEER_RUNS)):
        with folder(bench, name) as target:
            if (copied := copy(target)) is None:
                row.notes.append(f"{name} is not there")
                return
            found.append(copied)
    seconds = [copied.seconds for copied in found]
    row.notes.append(f"{name} {spread(seconds)} s, {max(copied.peak_bytes for copied in found) / 2**20:.0f} MiB")
    what = f"faster than {name}" if times == 1 else f"{times} times as fast as {name}"
    row.require(what, times * statistics.median(row.ours) < statistics.median(seconds))


def tensorstore(store, chunks, **arguments):
    return lambda target: peer("copy_tensorstore", source=strict(store), target=target, chunks=chunks, **arguments)


def chunks_of(store):
    """(15,40,2,100), or what the smaller store has of it."""
    return [15, *shape_of(store)[1:]]


# -- idf: few large source chunks, 3,153 files ----------------------------------------------------------


def whole(bench):
    store = bench.store("idf")
    chunks, copies = chunks_of(store), []
    row = Row(bench.case, "idf to (15,40,2,100), its codec, --memory 1GiB", "decode all + encode all, in memory", 1.1)
    if lacks_command(bench, row):
        return [row]
    bench.alternate(row, lambda _: recode(bench, "encode", store, "15,0,0,0")["seconds"], ours(bench, store, [*OBJECTS, *GIB], copies))
    note_memory(row, copies, 2**30)
    faster_than(bench, row, "tensorstore", tensorstore(store, chunks))
    faster_than(bench, row, "dask", lambda target: peer("copy_dask", source=store, target=target, chunks=chunks))
    faster_than(bench, row, "rechunker", lambda target: rechunker(bench, v2(store), target, chunks, "source", "1GB"))
    # Three shards: with more of them it decodes the source more often, with fewer it takes more memory.
    shards = [15 * math.ceil(shape_of(store)[0] / 45), *chunks[1:]]
    faster_than(bench, row, "zarrs_reencode", lambda target: zarrs_reencode(bench, strict(store), target, chunks, shards))
    if not (bench.root / REENCODE).exists():
        row.notes.append("(cargo install zarrs_tools --version 0.8.1 --locked --root target/peers)")
    return [row]


def without_codec(bench):
    store, copies = bench.store("idf"), []
    row = Row(bench.case, "idf to (15,40,2,100), --codecs none", "decode all + write the same bytes, one sync", 1.3)
    if lacks_command(bench, row):
        return [row]
    flags = [*OBJECTS, *GIB, "--codecs", "none"]
    bench.alternate(row, decode_and_write(bench, store), ours(bench, store, flags, copies))
    note_memory(row, copies)
    faster_than(bench, row, "tensorstore", tensorstore(store, chunks_of(store), codec="none"))
    # One file is less work than the thousands of a copy, with their directories.
    files = Row(bench.case, row.work, "decode all + creating the same files, one sync", 1.2)
    bench.alternate(files, decode_and_write(bench, store, "--files", "15,0,0,0"), ours(bench, store, flags, copies))
    return [row, files]


def decode_and_write(bench, store, *arguments):
    def sample(_):
        with folder(bench, "written") as file:
            return recode(bench, "write", store, file, *arguments)["seconds"]

    return sample


def lz4(bench):
    store, copies = bench.store("idf"), []
    row = Row(bench.case, "idf to (15,40,2,100), --codecs blosc:lz4", "rechunker 0.5.4 (v2, its lz4)", 1 / 2)
    if lacks_command(bench, row):
        return [row]

    def theirs(_):
        with folder(bench, "rechunker") as target:
            copied = rechunker(bench, v2(store), target, chunks_of(store), "default", "1GB")
            peaks.append(copied.peak_bytes)
            return copied.seconds

    peaks = []
    bench.alternate(row, theirs, ours(bench, store, [*OBJECTS, *GIB, "--codecs", "blosc:lz4"], copies))
    note_memory(row, copies, 2**30)
    row.notes.append(f"rechunker's {max(peaks) / 2**20:.0f} MiB")
    return [row]


# -- seed: 20,000 source chunks, 200,000 chunks of 800 B ------------------------------------------------


def shards(bench):
    store, work = bench.store("seed"), "seed to shards (1000,1000,2) of (1,100,2)"
    encoded = Row(bench.case, f"{work}, its codec", "decode all + encode all, in memory", 1.1)
    plain = Row(bench.case, f"{work}, --codecs none", "decode all + write the same bytes, one sync", 1.5)
    if lacks_command(bench, encoded) and lacks_command(bench, plain):
        return [encoded, plain]
    copies = []
    bench.alternate(encoded, lambda _: recode(bench, "encode", store, "1,100,2")["seconds"], ours(bench, store, SHARDS, copies))
    note_memory(encoded, copies)
    faster_than(bench, encoded, "tensorstore", tensorstore(store, [1, 100, 2], shards=[1000, 1000, 2]))
    bench.alternate(plain, decode_and_write(bench, store), ours(bench, store, [*SHARDS, "--codecs", "none"], []))
    return [encoded, plain]


def files(bench):
    store, copies = bench.store("seed"), []
    n_files = 10 * shape_of(store)[0]
    yardstick = "decode all + encode all, in memory + creating the same files"
    row = Row(bench.case, f"seed to {n_files:,} files of (1,100,2), its codec", yardstick, 1.2)
    if lacks_command(bench, row):
        return [row]

    def theirs(_):
        with folder(bench, "loop") as target:
            return recode(bench, "encode", store, "1,100,2", "--files", target)["seconds"]

    bench.alternate(row, theirs, ours(bench, store, SMALL, copies))
    note_memory(row, copies)
    faster_than(bench, row, "tensorstore", tensorstore(store, [1, 100, 2]), times=5)
    return [row]


# -- more than memory holds, and stopped in the middle --------------------------------------------------


def through_temp(bench):
    store = bench.store("zstd")
    shape = shape_of(store)
    n_bytes = 4 * math.prod(shape)
    little, much = ("128MiB", "2GiB") if bench.quick else ("512MiB", "12GiB")
    work = f"{n_bytes / 1e9:.1f} GB of zstd to (1000,{shape[1]}), --codecs none, --memory {little}"
    row = Row(bench.case, work, f"the same with {much} + dd write and read of as much", 1.2)
    if lacks_command(bench, row):
        return [row]
    flags = ["--chunks", "object=1000,epoch=full", "--codecs", "none", "--temp", bench.work]
    copies, roomy = [], []
    spare = ours(bench, store, [*flags, "--memory", much], roomy, "roomy", is_large=True)
    tight = ours(bench, store, [*flags, "--memory", little], copies, is_large=True)
    bench.alternate(row, lambda i: spare(i) + dd(bench, n_bytes), tight)
    note_memory(row, copies, 128 << 20 if bench.quick else 512 << 20)
    decoded = copies[-1].report["decoded_bytes"]
    row.require("each source chunk decoded once", decoded == n_bytes)
    row.notes.append(f"{decoded / n_bytes:.2f} decodings of each source chunk")
    return [row]


def resume(bench):
    store, copies = bench.store("idf"), []
    row = Row(bench.case, "idf to (15,40,2,100), resumed after kill -9 at half the time", "the same, not interrupted", 0.6)
    if lacks_command(bench, row):
        return [row]
    flags = [*OBJECTS, *GIB]

    def resumed(_):
        with folder(bench, "killed") as target:
            half = row.theirs[-1] / 2
            if materialize(bench, store / "lightcurves", target, flags, kill_after=half):
                # It was quicker this time; killed at nothing it tells nothing.
                return row.theirs[-1]
            copied = materialize(bench, store / "lightcurves", target, [*flags, "--resume"])
            row.require("it went on", copied.report["resumed"])
            verified(bench, store / "lightcurves", target)
            return copied.seconds

    bench.alternate(row, ours(bench, store, flags, copies), resumed)
    return [row]
