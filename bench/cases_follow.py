"""What following the source costs while it is quiet."""

import statistics

from bench.cases_reads import OBJECTS, rows_of
from bench.context import Row
from bench.mounts import files_of, view

NEVER = ["--refresh", "never"]
# A first lightcurve takes some hundredths of a second: a sample is the median of so many, each from a mount of its own.
LIGHTCURVES = 9


def follow(bench):
    store = bench.store("idf")
    files = files_of(bench, store, OBJECTS)
    bench.worker.do("warm", store=store, readers=["zarr"])
    picked = rows_of(bench, 47_287)

    def lightcurve(flags):
        def sample(i):
            times = []
            for nth in range(LIGHTCURVES):
                with view(bench, store, [*OBJECTS, *flags]) as mount:
                    row = (picked[i] + nth * 1013) % 47_287
                    found = bench.worker.do("zarr_python", store=mount.path, array="lightcurves", row=row)
                    times.append(found["seconds"])
            return statistics.median(times)

        return sample

    def sweep(flags):
        def sample(_):
            with view(bench, store, [*OBJECTS, "--memory", "256MiB", *flags]) as mount:
                return bench.read(mount.folder, files)

        return sample

    rows = []
    for work, sample in (("first lightcurve of idf, zarr-python", lightcurve), ("idf in order, --memory 256MiB", sweep)):
        row = Row(bench.case, f"{work}: following the source (--refresh 2)", "the same with --refresh never", 1.05)
        rows.append(bench.alternate(row, sample(NEVER), sample([])))
    return rows
