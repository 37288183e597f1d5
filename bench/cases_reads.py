"""Cases in which source chunks are decoded: first reads, sweeps, random reads."""

import math
import random
import shutil

from bench.context import Row, spread
from bench.mounts import PROGRAM, names, view
from bench.process import Failed, run
from bench.stores import strict
from bench.yardsticks import dd, decode, null_read

OBJECTS = ["--chunks", "object=15,epoch=full"]
PEERS = {"tensorstore": "tensorstore", "zarrs-python": "zarrs_python"}


def rows_of(bench, n_rows):
    """A row for each run: the same ones every time."""
    return random.Random(7).sample(range(n_rows), bench.runs)


def first_lightcurves(bench, row, store, flags, with_mount=False, peer_runs=None):
    """A lightcurve through zarr-python, from the source and from a fresh mount: the values must be the same."""
    bench.worker.do("warm", store=store, readers=["zarr", "tensorstore", "zarrs"])
    picked = rows_of(bench, 47_287)
    checksums = {}

    def source(i):
        found = bench.worker.do("zarr_python", store=store, array="lightcurves", row=picked[i])
        checksums[i] = found["checksum"]
        return found["seconds"]

    def mounted(i):
        with view(bench, store, flags) as mount:
            found = bench.worker.do("zarr_python", store=mount.path, array="lightcurves", row=picked[i])
            peaks.append(mount.memory_bytes("VmHWM"))
            if found["checksum"] != checksums[i]:
                raise Failed(f"object {picked[i]}: the mount's values are not the source's")
            return found["seconds"] + (mount.seconds if with_mount else 0)

    peaks = []
    bench.alternate(row, source, mounted)
    for name, task in PEERS.items():
        asked = picked[: peer_runs or bench.runs]
        found = [bench.worker.do(task, store=strict(store), array="lightcurves", row=i) for i in asked]
        if any(peer["checksum"] != checksums[i] for i, peer in enumerate(found)):
            raise Failed(f"the values of {name} are not those of zarr-python")
        row.notes.append(f"{name} {spread([peer['seconds'] for peer in found])} s")
    row.notes.append(f"peak RSS {max(peaks) / 2**20:.0f} MiB")
    return peaks


def lightcurve(bench):
    store = bench.store("idf")
    row = Row(bench.case, "first lightcurve of idf, zarr-python", "zarr-python on the source", 1 / 12)
    first_lightcurves(bench, row, store, OBJECTS)
    return [row]


def mount(bench):
    store = bench.store("idf")
    row = Row(bench.case, "`mount` and first lightcurve of idf", "zarr-python on the source", 1 / 8)
    first_lightcurves(bench, row, store, OBJECTS, with_mount=True, peer_runs=1)
    row.notes = row.notes[-1:]
    return [row]


def lightcurve_1000(bench):
    store = bench.store("idf-1000")
    row = Row(bench.case, "first lightcurve of idf, 1,000 epochs, --memory 1GiB", "zarr-python on the source", 1 / 12)
    peaks = first_lightcurves(bench, row, store, [*OBJECTS, "--memory", "1GiB"], peer_runs=1)
    row.require("RSS <= 1 GiB", max(peaks) <= 2**30)
    return [row]


def seed(bench):
    store = bench.store("seed")
    work = "first lightcurve of seed: ten virtual chunks of (1,100,2)"
    row = Row(bench.case, work, "its 1,000 source chunks decoded + null FS", 1.2)
    bench.worker.do("warm", store=store, readers=["tensorstore"])
    flags = ["--chunks", "object=1,epoch=100"]
    with view(bench, store, flags) as mounted:
        grid, n_bytes = mounted.grid(), mounted.array["chunk_bytes"]
    picked = rows_of(bench, grid[0])

    def files(i):
        return names(grid, range(picked[i] * grid[1], (picked[i] + 1) * grid[1]))

    def loop(i):
        keys = [f"c/{picked[i] // 1000}/{epoch}/0" for epoch in range(1000)]
        # Three times in one process: ours must not be flattered by its first.
        decoded = decode(bench, "chunks", store, *keys, repeat=3)
        return decoded["seconds"] + null_read(bench, {"grid": grid, "bytes": n_bytes}, files(i))

    def ours(i):
        with view(bench, store, flags) as mounted:
            return bench.worker.do("read_files", folder=mounted.folder, names=files(i))["seconds"]

    bench.alternate(row, loop, ours)
    peer = [bench.worker.do("tensorstore", store=strict(store), array="lightcurves", row=i)["seconds"] for i in picked]
    row.notes.append(f"tensorstore on the source {spread(peer)} s")
    row.require("faster than tensorstore", sorted(row.ours)[len(row.ours) // 2] < sorted(peer)[len(peer) // 2])
    return [row]


def sweep_with(bench, row, flags):
    """Every virtual chunk in order against decoding everything and the same reads of the null file system."""
    store = bench.store("idf")
    with view(bench, store, OBJECTS, log=False) as mounted:
        grid, n_bytes = mounted.grid(), mounted.array["chunk_bytes"]
    files, counts = names(grid), []

    def loop(_):
        decoded = decode(bench, "all", store)
        counts.append(decoded["blocks"])
        return decoded["seconds"] + null_read(bench, {"grid": grid, "bytes": n_bytes}, files)

    def ours(_):
        with view(bench, store, [*OBJECTS, *flags]) as mounted:
            seconds = bench.worker.do("read_files", folder=mounted.folder, names=files)["seconds"]
            counts.append(mounted.blocks())
            row.peak_bytes = mounted.memory_bytes("VmHWM")
            return seconds

    bench.alternate(row, loop, ours)
    row.notes.append(f"{len(files) * n_bytes / 1e9:.2f} GB; blocks decoded: {counts[-1]} of {counts[0]}")
    row.notes.append(f"peak RSS {row.peak_bytes / 2**20:.0f} MiB")
    row.counts = counts
    return row


def sweep(bench):
    work = "every virtual chunk of idf in order, plain reader"
    return [sweep_with(bench, Row(bench.case, work, "decode everything + null FS", 1.2), [])]


def sweep_256(bench):
    work = "the same with --memory 256MiB"
    row = sweep_with(bench, Row(bench.case, work, "decode everything + null FS", 1.3), ["--memory", "256MiB"])
    row.require("each block decoded once", all(ours == all_of_them for all_of_them, ours in pairs(row.counts)))
    return [row]


def pairs(values):
    return zip(values[::2], values[1::2])


def random_reads(bench):
    store = bench.store("idf")
    work = "every virtual chunk of idf in random order, --memory 512MiB: per read that misses"
    row = Row(bench.case, work, "the fewest blocks that hold its rows, decoded", 1.3, unit="ms")
    flags = [*OBJECTS, "--memory", "160MiB" if bench.quick else "512MiB"]
    with view(bench, store, flags, log=False) as mounted:
        grid, n_rows = mounted.grid(), mounted.array["virtual_chunks"][0]
    missed = []

    def ours(run):
        order = list(range(math.prod(grid)))
        random.Random(run).shuffle(order)
        with view(bench, store, flags) as mounted:
            asked = {"mount": mounted.path, "folder": mounted.folder, "names": names(grid, order)}
            found = bench.worker.do("read_counted", **asked)
            blocks = mounted.blocks()
        times = [seconds for seconds, is_missed in zip(found["each"], found["missed"]) if is_missed]
        missed[:] = [chunk for chunk, is_missed in zip(order, found["missed"]) if is_missed]
        row.notes[:] = [f"{len(missed)} of {len(order)} reads missed; {blocks / len(missed):.0f} blocks decoded per miss"]
        return 1e3 * sum(times) / len(times)

    def loop(_):
        # For the reads that missed just now; the kernel limits the length of an argument.
        files = missed[:: max(1, len(missed) // 500)]
        fewest = decode(bench, "blocks", store, ",".join(str(chunk * n_rows) for chunk in files), n_rows)
        row.notes[1:] = [f"{fewest['blocks'] / len(files):.0f} blocks would do"]
        return 1e3 * fewest["seconds"] / len(files)

    return [bench.alternate(row, loop, ours, ours_first=True)]


def cache_dir(bench):
    store = bench.store("idf")
    work = "every virtual chunk of idf in order, --cache-dir on this disk"
    row = Row(bench.case, work, "decode everything + null FS + dd write and read", 1.3)
    if "--cache-dir" not in run([bench.root / PROGRAM, "mount", "--help"]):
        row.missing = "not available: `mount` has no --cache-dir"
        return [row]
    cache = bench.work / "cache"
    flags = [*OBJECTS, "--cache-dir", cache, "--cache-size", "8GiB"]
    with view(bench, store, OBJECTS, log=False) as mounted:
        grid, n_bytes = mounted.grid(), mounted.array["chunk_bytes"]
    files = names(grid)

    def loop(_):
        decoded = decode(bench, "all", store)
        return decoded["seconds"] + null_read(bench, {"grid": grid, "bytes": n_bytes}, files) + dd(bench, len(files) * n_bytes)

    def ours(_):
        shutil.rmtree(cache, ignore_errors=True)
        try:
            with view(bench, store, flags) as mounted:
                seconds = bench.worker.do("read_files", folder=mounted.folder, names=files)["seconds"]
            with view(bench, store, flags) as mounted:
                again.append(bench.worker.do("read_files", folder=mounted.folder, names=files)["seconds"])
                row.require("second mount decodes nothing", mounted.status()["source_counts"]["decoded_bytes"] == 0)
            return seconds
        finally:
            shutil.rmtree(cache, ignore_errors=True)

    again = []
    bench.alternate(row, loop, ours)
    row.notes.append(f"second mount {spread(again)} s")
    return [row]
