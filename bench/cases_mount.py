"""Cases about the mount itself: what is read is in our cache, or in the kernel's."""

import os
import random
import shutil
import statistics
import subprocess
import time

from bench.cases_reads import OBJECTS
from bench.context import Row, spread
from bench.mounts import names, null, view
from bench.process import Failed, Worker

SMALL = ["--chunks", "object=1,epoch=100"]
# Everything that these views hold fits in.
ROOMY = ["--memory", "3GiB"]


def first_touch(bench):
    """Reads that the kernel makes for the first time, of chunks that came into our cache with a neighbour."""
    small = Row(bench.case, "800 B chunk in our cache, first read by the kernel", "null FS", 1.1, unit="us")
    work = f"{'48' if bench.quick else '480'} KB chunk in our cache, first read by the kernel"
    large = Row(bench.case, work, "null FS", 1.1, unit="us")
    # A tile holds 1,000 small chunks of one column, or 54 large ones at full size.
    touch(bench, large, bench.store("idf"), OBJECTS, lambda chunk, _: range(chunk, chunk + 20), 40)
    touch(bench, small, bench.store("seed"), SMALL, column, 6)
    return [large, small]


def column(chunk, grid):
    """500 objects of the same hundred epochs, from near the start of a source chunk on."""
    objects = chunk // grid[1] // 1000 * 1000
    return [(objects + i) * grid[1] + chunk % grid[1] for i in range(1, 501)]


def touch(bench, row, store, flags, batch_of, n_batches):
    shape = {}

    def batches(run):
        r = random.Random(run)
        starts = r.sample(range(shape["n_chunks"] - 25), n_batches)
        return [(start, list(batch_of(start, shape["grid"]))) for start in starts]

    def ours(run):
        shape["kept"] = []
        with view(bench, store, [*flags, *ROOMY]) as mounted:
            seconds = 0.0
            for start, batch in batches(run):
                first, *rest = batch
                read(bench, mounted.folder, shape["grid"], [first])
                before = mounted.blocks()
                took = read(bench, mounted.folder, shape["grid"], rest)
                # A batch that crossed into the next tile is no measure of the cache.
                if mounted.blocks() == before:
                    shape["kept"].append((first, rest))
                    seconds += took
        return 1e6 * seconds / count()

    def nothing(_):
        with null(bench, shape["grid"], shape["bytes"]) as folder:
            seconds = 0.0
            for first, rest in shape["kept"]:
                read(bench, folder, shape["grid"], [first])
                seconds += read(bench, folder, shape["grid"], rest)
        return 1e6 * seconds / count()

    def count():
        if not shape["kept"]:
            raise Failed("no batch of reads stayed within our cache")
        return sum(len(rest) for _, rest in shape["kept"])

    with view(bench, store, flags, log=False) as mounted:
        shape |= {"grid": mounted.grid(), "bytes": mounted.array["chunk_bytes"]}
        shape["n_chunks"] = len(names(mounted.grid()))
    bench.alternate(row, nothing, ours, ours_first=True)
    row.notes.append(f"{count()} files a sample, one reader")


def read(bench, folder, grid, chunks):
    return bench.worker.do("read_files", folder=folder, names=names(grid, chunks))["seconds"]


def again(bench):
    """Small files that the kernel holds, against the null file system and against plain files on disk."""
    store = bench.store("seed")
    null_row = Row(bench.case, "800 B chunks read again", "null FS", 1.1, unit="us")
    disk_row = Row(bench.case, "800 B chunks read again", "ext4", 2.0, unit="us")
    with view(bench, store, SMALL, log=False) as mounted:
        grid, n_bytes = mounted.grid(), mounted.array["chunk_bytes"]
    files = names(grid, column(0, grid))
    folder = bench.work / "small"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    disk_row.yardstick = file_system_of(folder)

    def twice(where):
        bench.worker.do("read_files", folder=where, names=files)
        # Microseconds: many rounds in one clock, or the clock is what is measured.
        return 1e6 * bench.worker.do("read_files", folder=where, names=files * 20)["seconds"] / len(files) / 20

    try:
        for name in files:
            (folder / name).write_bytes(bytes(n_bytes))
        for run in range(bench.runs):
            with null(bench, grid, n_bytes) as nothing:
                null_row.theirs.append(twice(nothing))
            with view(bench, store, SMALL) as mounted:
                null_row.ours.append(twice(mounted.folder))
            disk_row.theirs.append(twice(folder))
    finally:
        shutil.rmtree(folder)
    disk_row.ours = null_row.ours
    return [null_row, disk_row]


def file_system_of(folder):
    found = subprocess.run(["stat", "-f", "-c", "%T", folder], capture_output=True, text=True, timeout=10)
    return {"ext2/ext3": "ext4"}.get(found.stdout.strip(), found.stdout.strip())


def shard(bench):
    store = bench.store("idf")
    flags = [*OBJECTS, "--shards", "object=1500", *ROOMY]
    rows = random.Random(5).sample(range(1500), 200)
    row = Row(bench.case, "200 inner chunks of a virtual shard, random, warm, zarr-python", "the same shard on disk", 1.5)
    bench.worker.do("warm", store=store, readers=["zarr"])
    copy = bench.work / "shard"
    shutil.rmtree(copy, ignore_errors=True)
    try:
        with view(bench, store, flags) as mounted:
            name = names(mounted.grid(), [0])[0]
            (copy / "lightcurves").mkdir(parents=True)
            for file in ("zarr.json", name):
                shutil.copyfile(mounted.folder / file, copy / "lightcurves" / file)
            row.yardstick = f"the same shard on {file_system_of(copy)}"
            checksums = set()

            def reader(path):
                def sample(_):
                    found = bench.worker.do("inner_chunks", store=path, array="lightcurves", rows=rows)
                    checksums.add(found["checksum"])
                    return found["seconds"]

                return sample

            bench.alternate(row, reader(copy), reader(mounted.path))
            if len(checksums) > 1:
                raise Failed("the shard's values differ between the mount and its copy")
    finally:
        shutil.rmtree(copy, ignore_errors=True)
    return [row]


def listing(bench):
    store = bench.store("million")
    scale = 10 if bench.quick else 1
    scans = Row(bench.case, f"scandir of {1_000_000 // scale:,} virtual chunks", "null FS", 1.2)
    lists = Row(bench.case, f"ls -l of {100_000 // scale:,} virtual chunks", "null FS", 1.2)

    def scandir(folder):
        return bench.worker.do("scandir", folder=folder)["seconds"]

    def ls(folder):
        start = time.perf_counter()
        subprocess.run(["ls", "-l", folder], stdout=subprocess.DEVNULL, check=True, timeout=300)
        return time.perf_counter() - start

    for row, chunk_rows, action in ((scans, 1, scandir), (lists, 10, ls)):
        flags = ["--chunks", f"object={chunk_rows},epoch=full"]
        grid = [1_000_000 // scale // chunk_rows, 1]
        growths = []

        def nothing(_):
            with null(bench, grid, 32 * chunk_rows) as folder:
                return action(folder)

        def ours(_):
            with view(bench, store, flags) as mounted:
                before = mounted.memory_bytes()
                seconds = action(mounted.folder)
                growths.append((mounted.memory_bytes() - before) / 2**20)
                return seconds

        bench.alternate(row, nothing, ours)
        row.notes.append(f"memory grew by {max(growths):.1f} MiB")
        # Reply buffers of the threads; a million entries kept would be ten times that.
        row.require("memory constant (+8 MiB)", max(growths) <= 8)
    return [scans, lists]


def huge(bench):
    store = bench.store("billion")
    ready = Row(bench.case, "view with 10^9 virtual chunks: ready", "view of the same source with ten", 1.1)
    rss = Row(bench.case, "view with 10^9 virtual chunks: RSS", "view of the same source with ten", 1.1, unit="MiB")
    for _ in range(bench.runs):
        for virtual, mine in ((100_000_000, False), (1, True)):
            with view(bench, store, ["--chunks", f"object={virtual},epoch=full"]) as mounted:
                # A first look, which is where a view that counts its chunks would count them.
                os.stat(mounted.folder / "c.0.0")
                (ready.ours if mine else ready.theirs).append(mounted.seconds)
                (rss.ours if mine else rss.theirs).append(mounted.memory_bytes("VmHWM") / 2**20)
    return [ready, rss]


def readers(bench):
    """How much more 16 readers get than one, from chunks in our cache and none in the kernel's."""
    store = bench.store("idf")
    work = "16 readers of random chunks in our cache: their rate, one reader's = 1"
    row = Row(bench.case, work, "null FS: the same", 0.9, at_least=True, unit="x")
    with view(bench, store, OBJECTS, log=False) as mounted:
        grid, n_bytes = mounted.grid(), mounted.array["chunk_bytes"]
    files = names(grid)
    rates = {"one": [], "sixteen": []}
    crew = [Worker() for _ in range(16)]

    def speed_up(folder, run):
        r = random.Random(run)
        asked = r.choices(files, k=1600)
        one = crew_seconds(folder, crew[:1], asked)
        sixteen = crew_seconds(folder, crew, asked)
        if folder.parent in ours_at:
            rates["one"].append(len(asked) * n_bytes / one / 1e6)
            rates["sixteen"].append(len(asked) * n_bytes / sixteen / 1e6)
        return one / sixteen

    def nothing(run):
        with null(bench, grid, n_bytes) as folder:
            bench.worker.do("read_files", folder=folder, names=files)
            return speed_up(folder, run)

    def ours(run):
        with view(bench, store, [*OBJECTS, *ROOMY]) as mounted:
            bench.worker.do("read_files", folder=mounted.folder, names=files)
            before, ours_at[:] = mounted.blocks(), [mounted.path]
            found = speed_up(mounted.folder, run)
            if mounted.blocks() != before:
                raise Failed("not everything stayed in our cache: is 3 GiB of memory more than there is?")
            return found

    ours_at = []
    try:
        bench.alternate(row, nothing, ours)
    finally:
        for worker in crew:
            worker.__exit__()
    row.notes.append(f"one {statistics.median(rates['one']):.0f} MB/s, sixteen {spread(rates['sixteen'])} MB/s")
    return [row]


def crew_seconds(folder, crew, files):
    """Wall time of `files` shared out among the workers, who begin together."""
    start_at = time.monotonic() + 1.0
    for i, worker in enumerate(crew):
        worker.ask("read_and_forget", folder=folder, names=files[i :: len(crew)], start_at=start_at)
    answers = [worker.answer() for worker in crew]
    return max(answer["ended"] for answer in answers) - min(answer["began"] for answer in answers)
