"""Cases in which source chunks are decoded: first reads, sweeps, random reads."""

import random
import shutil
import statistics

from bench.context import Row, spread
from bench.mounts import PROGRAM, files_of, view
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
    files = files_of(bench, store, flags)
    picked = rows_of(bench, files.grid[0])

    def chunks(i):
        return range(picked[i] * files.grid[1], (picked[i] + 1) * files.grid[1])

    def loop(i):
        keys = [f"c/{picked[i] // 1000}/{epoch}/0" for epoch in range(1000)]
        # Three times in one process: ours must not be flattered by its first.
        decoded = decode(bench, "chunks", store, *keys, repeat=3)
        return decoded["seconds"] + null_read(bench, files, chunks(i))

    def ours(i):
        with view(bench, store, flags) as mounted:
            return bench.read(mounted.folder, files, chunks(i))

    bench.alternate(row, loop, ours)
    peer = [bench.worker.do("tensorstore", store=strict(store), array="lightcurves", row=i)["seconds"] for i in picked]
    row.notes.append(f"tensorstore on the source {spread(peer)} s")
    row.require("faster than tensorstore", statistics.median(row.ours) < statistics.median(peer))
    return [row]


def sweep_with(bench, row, flags):
    """Every virtual chunk in order against decoding everything and the same reads of the null file system.

    Returns whether each block was decoded once."""
    store = bench.store("idf")
    files, counts, peaks = files_of(bench, store, OBJECTS), [], []

    def loop(_):
        decoded = decode(bench, "all", store)
        counts.append(decoded["blocks"])
        return decoded["seconds"] + null_read(bench, files)

    def ours(_):
        with view(bench, store, [*OBJECTS, *flags]) as mounted:
            seconds = bench.read(mounted.folder, files)
            counts.append(mounted.blocks())
            peaks.append(mounted.memory_bytes("VmHWM"))
            return seconds

    bench.alternate(row, loop, ours)
    row.notes.append(f"{len(files) * files.n_bytes / 1e9:.2f} GB; blocks decoded: {max(counts[1::2])} of {counts[0]}")
    row.notes.append(f"peak RSS {max(peaks) / 2**20:.0f} MiB")
    return all(ours == all_of_them for all_of_them, ours in zip(counts[::2], counts[1::2]))


def sweep(bench):
    row = Row(bench.case, "every virtual chunk of idf in order, plain reader", "decode everything + null FS", 1.2)
    sweep_with(bench, row, [])
    return [row]


def sweep_256(bench):
    row = Row(bench.case, "every virtual chunk of idf in order, --memory 256MiB", "decode everything + null FS", 1.3)
    row.require("each block decoded once", sweep_with(bench, row, ["--memory", "256MiB"]))
    return [row]


def random_reads(bench):
    store = bench.store("idf")
    # Little enough for most reads to miss; 160 MiB is the least that this store can be mounted with.
    memory = "160MiB" if bench.quick else "512MiB"
    work = f"idf in random order, --memory {memory}: a read that misses"
    row = Row(bench.case, work, "the fewest blocks that hold its rows, decoded", 1.3, unit="ms")
    flags = [*OBJECTS, "--memory", memory]
    files, missed = files_of(bench, store, flags), []

    def ours(run):
        order = list(range(len(files)))
        random.Random(run).shuffle(order)
        with view(bench, store, flags) as mounted:
            asked = {"folder": mounted.folder, "names": files.names(order), "file_bytes": files.n_bytes}
            found = bench.worker.do("read_counted", mount=mounted.path, **asked)
            blocks = mounted.blocks()
        times = [seconds for seconds, is_missed in zip(found["each"], found["missed"]) if is_missed]
        missed[:] = [chunk for chunk, is_missed in zip(order, found["missed"]) if is_missed]
        row.notes[:] = [f"{len(missed)} of {len(order)} reads missed; {blocks / len(missed):.0f} blocks decoded per miss"]
        return 1e3 * sum(times) / len(times)

    def loop(_):
        # For the reads that missed just now; the kernel limits the length of an argument.
        some = missed[:: max(1, len(missed) // 500)]
        fewest = decode(bench, "blocks", store, ",".join(str(chunk * files.n_rows) for chunk in some), files.n_rows)
        row.notes[1:] = [f"{fewest['blocks'] / len(some):.0f} blocks would do"]
        return 1e3 * fewest["seconds"] / len(some)

    return [bench.alternate(row, loop, ours, ours_first=True)]


def cache_dir(bench):
    store = bench.store("idf")
    # As in the case before; 160 MiB is the least that this store can be mounted with.
    memory = "176MiB" if bench.quick else "512MiB"
    work = f"every virtual chunk of idf in random order, --memory {memory}, --cache-dir"
    row = Row(bench.case, work, "decode everything + null FS + dd write and read", 1.3)
    if "--cache-dir" not in run([bench.root / PROGRAM, "mount", "--help"]):
        row.missing = "not available: `mount` has no --cache-dir"
        return [row]
    cache = bench.work / "cache"
    flags = [*OBJECTS, "--memory", memory, "--cache-dir", cache, "--cache-size", "8GiB"]
    files = files_of(bench, store, OBJECTS)
    order = list(range(len(files)))
    random.Random(7).shuffle(order)

    def loop(_):
        decoded = decode(bench, "all", store)
        return decoded["seconds"] + null_read(bench, files, order) + dd(bench, len(files) * files.n_bytes)

    def ours(_):
        shutil.rmtree(cache, ignore_errors=True)
        try:
            with view(bench, store, flags) as mounted:
                seconds = bench.read(mounted.folder, files, order)
            with view(bench, store, flags) as mounted:
                again.append(bench.read(mounted.folder, files, order))
                row.require("second mount decodes nothing", mounted.status()["source_counts"]["decoded_bytes"] == 0)
            return seconds
        finally:
            shutil.rmtree(cache, ignore_errors=True)

    again = []
    bench.alternate(row, loop, ours)
    row.notes.append(f"second mount {spread(again)} s")
    return [row]
