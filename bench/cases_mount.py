"""Cases about the mount itself: what is read is in our cache, or in the kernel's."""

import os
import random
import shutil
import statistics
import subprocess
import time

from bench.cases_reads import OBJECTS
from bench.context import Row
from bench.mounts import files_of, null, view
from bench.process import Failed, Worker

SMALL = ["--chunks", "object=1,epoch=100"]
# Everything that these views hold fits in.
ROOMY = ["--memory", "3GiB"]


def first_touch(bench):
    """Reads that the kernel makes for the first time, of chunks that came into our cache with a neighbour."""
    small = Row(bench.case, "800 B chunk in our cache, first read by the kernel", "null FS", 1.1, unit="us")
    work = f"{'48' if bench.quick else '480'} KB chunk in our cache, first read by the kernel"
    large = Row(bench.case, work, "null FS", 1.1, unit="us")
    # A tile holds 1,000 small chunks of one column, or 54 large ones.
    touch(bench, large, bench.store("idf"), OBJECTS, lambda chunk, _: range(chunk, chunk + 20), 40)
    touch(bench, small, bench.store("seed"), SMALL, column, 6)
    return [large, small]


def column(chunk, grid):
    """500 objects of the same hundred epochs, from near the start of a source chunk on."""
    objects = chunk // grid[1] // 1000 * 1000
    return [(objects + i) * grid[1] + chunk % grid[1] for i in range(1, 501)]


def touch(bench, row, store, flags, batch_of, n_batches):
    files, kept = files_of(bench, store, flags), []

    def ours(run):
        kept.clear()
        with view(bench, store, [*flags, *ROOMY]) as mounted:
            seconds = 0.0
            for start in random.Random(run).sample(range(len(files) - 25), n_batches):
                first, *rest = batch_of(start, files.grid)
                bench.read(mounted.folder, files, [first])
                before = mounted.blocks()
                took = bench.read(mounted.folder, files, rest)
                # A batch that crossed into the next tile is no measure of the cache.
                if mounted.blocks() == before:
                    kept.append((first, rest))
                    seconds += took
        return 1e6 * seconds / count()

    def nothing(_):
        with null(bench, files) as folder:
            seconds = 0.0
            for first, rest in kept:
                bench.read(folder, files, [first])
                seconds += bench.read(folder, files, rest)
        return 1e6 * seconds / count()

    def count():
        if not kept:
            raise Failed("no batch of reads stayed within our cache")
        return sum(len(rest) for _, rest in kept)

    bench.alternate(row, nothing, ours, ours_first=True)
    row.notes.append(f"{count()} files a sample, one reader")


def again(bench):
    """Small files that the kernel holds, against the null file system and against plain files on disk."""
    store = bench.store("seed")
    null_row = Row(bench.case, "800 B chunks read again", "null FS", 1.1, unit="us")
    disk_row = Row(bench.case, "800 B chunks read again", "ext4", 2.0, unit="us")
    files = files_of(bench, store, SMALL)
    chunks = column(0, files.grid)
    folder = bench.work / "small"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    disk_row.yardstick = file_system_of(folder)

    def twice(where):
        bench.read(where, files, chunks)
        # Many rounds in one clock: a disturbance of a millisecond would be a fifth of one.
        return 1e6 * bench.read(where, files, chunks * 20) / len(chunks) / 20

    try:
        for name in files.names(chunks):
            (folder / name).write_bytes(bytes(files.n_bytes))
        for run in range(bench.runs):
            with null(bench, files) as nothing:
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
            name = files_of(bench, store, OBJECTS).names([0])[0]
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
        files, growths = files_of(bench, store, flags), []

        def nothing(_):
            with null(bench, files) as folder:
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
    work = "16 readers of random chunks in our cache: rate, one = 1"
    row = Row(bench.case, work, "the same of the null FS", 0.9, at_least=True, unit="x")
    files = files_of(bench, store, OBJECTS)
    rates = {"null FS": [], "rechunkfs": []}
    crew = [Worker() for _ in range(16)]

    def speed_up(whose, folder, run):
        asked = random.Random(run).sample(files.names(), 1600)
        # First everybody's files, so that all of them are known to the kernel, and in our cache.
        bench.read(folder, files)
        one, sixteen = (crew_seconds(folder, some, asked, files.n_bytes) for some in (crew[:1], crew))
        rates[whose].append([len(asked) * files.n_bytes / seconds / 1e6 for seconds in (one, sixteen)])
        return one / sixteen

    def nothing(run):
        with null(bench, files) as folder:
            return speed_up("null FS", folder, run)

    def ours(run):
        with view(bench, store, [*OBJECTS, *ROOMY]) as mounted:
            found = speed_up("rechunkfs", mounted.folder, run)
            if mounted.status()["cache"]["evicted"]:
                raise Failed("not everything stayed in our cache: is 3 GiB of memory more than there is?")
            return found

    try:
        bench.alternate(row, nothing, ours)
    finally:
        for worker in crew:
            worker.__exit__()
    for whose, found in rates.items():
        one, sixteen = (statistics.median(rate) for rate in zip(*found))
        row.notes.append(f"{whose}: one {one:.0f}, sixteen {sixteen:.0f} MB/s")
    return [row]


def crew_seconds(folder, crew, names, file_bytes):
    """Wall time of the files shared out among the workers, who begin together."""
    start_at = time.monotonic() + 1.0
    for i, worker in enumerate(crew):
        share = names[i :: len(crew)]
        worker.ask("read_and_forget", folder=folder, names=share, file_bytes=file_bytes, start_at=start_at)
    answers = [worker.answer() for worker in crew]
    return max(answer["ended"] for answer in answers) - min(answer["began"] for answer in answers)
