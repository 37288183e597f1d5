"""A survey that goes on while it is read: a writer adds epoch after epoch, readers take random light curves from the view.

    $(scripts/venv) tests/readers/night_shift.py [--epochs 200] [--seconds 120] [--readers 8]

Writes every second epoch in place and the others by rename, ten a second, while half of the readers use zarr-python and half
tensorstore with a cache. Every value must be fill value or the one written, each light curve may only gain epochs, nothing may
fail, and the last read must see everything. Then every epoch is reprocessed, at the same pace: old or new values, and no error
but ESTALE.
"""

import argparse
import errno
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tensorstore
import zarr
from support import mounted

FILL = np.float32("nan")
EPOCHS_A_SECOND = 10
CHUNK_EPOCHS = 100


def value(objects, epoch, run):
    """What is written; `run` tells reprocessed epochs from those of the first time."""
    return (np.asarray(objects, "f4") + 10_000 * (epoch + 1) + run * 0.5).astype("f4")


def create(path, n_objects, n_epochs):
    group = zarr.open_group(path, mode="w")
    shape, chunks = (n_objects, 2, n_epochs), (n_objects, 2, 1)
    codec = zarr.codecs.BloscCodec(cname="zstd", clevel=1, shuffle="shuffle")
    options = {"dtype": "f4", "fill_value": FILL, "compressors": codec, "dimension_names": ("object", "band", "epoch")}
    group.create_array("lightcurves", shape=shape, chunks=chunks, **options)
    zarr.consolidate_metadata(path)


class Writer:
    """Writes epochs as chunk files, made by zarr-python in a store beside the source."""

    def __init__(self, source, scratch, n_objects, n_epochs):
        create(scratch, n_objects, n_epochs)
        self.array = zarr.open_group(scratch, mode="r+")["lightcurves"]
        self.scratch, self.source, self.n_objects = scratch, source, n_objects

    def write(self, epoch, run):
        values = value(np.arange(self.n_objects), epoch, run)
        self.array[:, :, epoch] = np.stack([values, -values], axis=1)
        key = f"lightcurves/c/0/0/{epoch}"
        chunk = (self.scratch / key).read_bytes()
        target = self.source / key
        target.parent.mkdir(parents=True, exist_ok=True)
        if epoch % 2:
            partial = target.with_name(f"{epoch}.partial")
            partial.write_bytes(chunk)
            os.replace(partial, target)
        else:
            # Not at once, as a slow writer would: half, and then the rest.
            with open(target, "wb", buffering=0) as file:
                file.write(chunk[: len(chunk) // 2])
                time.sleep(0.002)
                file.write(chunk[len(chunk) // 2 :])


def with_zarr(view):
    array = zarr.open_group(view, mode="r")["lightcurves"]
    return lambda row: array[row]


def with_tensorstore(view):
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": f"{view}/lightcurves/"},
        "context": {"cache_pool": {"total_bytes_limit": 50_000_000}},
        "recheck_cached_data": True,
    }
    array = tensorstore.open(spec, read=True).result()
    return lambda row: array[row].read().result()


def is_stale(error):
    return getattr(error, "errno", None) == errno.ESTALE or "ESTALE" in str(error) or "Stale file handle" in str(error)


def read_all_the_time(view, kind, n_objects, n_epochs, runs, seed, end, stop, results):
    """One reader, in a process of its own. Reports how much it read, how often it was told ESTALE, and what was wrong."""
    read = {"zarr": with_zarr, "tensorstore": with_tensorstore}[kind](view)
    numbers, seen = random.Random(seed), {}
    n_reads = n_stale = n_values = 0
    slowest = 0.0
    wrong = []
    while time.time() < end and not wrong and not stop.is_set():
        row = numbers.randrange(n_objects)
        began = time.time()
        try:
            curve = np.asarray(read(row))
        except Exception as error:  # whatever the reader raises
            if is_stale(error) and len(runs) > 1:
                n_stale += 1
            else:
                wrong.append(f"{kind}: object {row}: {error!r}")
            continue
        slowest = max(slowest, time.time() - began)
        n_reads += 1
        is_there = ~np.isnan(curve)
        known = np.zeros(curve.shape, bool)
        for run in runs:
            expected = np.array([value(row, epoch, run) for epoch in range(n_epochs)])
            known |= curve == np.stack([expected, -expected])
        if not (known | ~is_there).all() or curve.shape != (2, n_epochs):
            wrong.append(f"{kind}: object {row}: a value that nobody wrote: {curve[is_there & ~known][:4]}")
        if (seen.get(row, is_there) & ~is_there).any():
            wrong.append(f"{kind}: object {row} has lost an epoch")
        seen[row] = is_there
        n_values += int(is_there.sum())
    results.put({"reads": n_reads, "stale": n_stale, "values": n_values, "slowest_s": round(slowest, 3), "wrong": wrong})


def shift(view, writer, n_objects, n_epochs, seconds, n_readers, runs):
    """Writes all epochs of the last of `runs` while readers read, and returns what these report."""
    context = multiprocessing.get_context("spawn")
    results, stop = context.Queue(), context.Event()
    end = time.time() + seconds
    readers = [
        context.Process(
            target=read_all_the_time,
            args=(str(view), kind, n_objects, n_epochs, runs, nth, end, stop, results),
        )
        for nth, kind in enumerate(("zarr", "tensorstore")[nth % 2] for nth in range(n_readers))
    ]
    for reader in readers:
        reader.start()
    try:
        began = time.time()
        for epoch in range(n_epochs):
            writer.write(epoch, runs[-1])
            time.sleep(max(0, began + (epoch + 1) / EPOCHS_A_SECOND - time.time()))
        reports = [results.get(timeout=seconds + 60) for _ in readers]
    finally:
        stop.set()
        for reader in readers:
            reader.join(timeout=60)
            if reader.is_alive():
                reader.kill()
    return reports


def check_complete(view, n_objects, n_epochs, run):
    """Who opens it now sees everything."""
    time.sleep(3)
    array = zarr.open_group(view, mode="r")["lightcurves"]
    for row in range(0, n_objects, max(1, n_objects // 50)):
        expected = np.array([value(row, epoch, run) for epoch in range(n_epochs)])
        assert (array[row] == np.stack([expected, -expected])).all(), f"object {row} is not complete"


def night(folder, n_objects, n_epochs, seconds, n_readers, flags=()):
    """Both shifts; returns the reports of each, and what the mount has done."""
    folder = Path(folder)
    create(folder / "s.zarr", n_objects, n_epochs)
    writer = Writer(folder / "s.zarr", folder / "scratch.zarr", n_objects, n_epochs)
    with mounted(folder / "s.zarr", "--chunks", f"object=15,epoch={CHUNK_EPOCHS}", *flags) as view:
        reports = []
        for runs in ((0,), (0, 1)):
            reports.append(shift(view, writer, n_objects, n_epochs, seconds, n_readers, runs))
            assert not (wrong := [line for report in reports[-1] for line in report["wrong"]]), wrong[:5]
            assert all(report["reads"] for report in reports[-1]), reports[-1]
            check_complete(view, n_objects, n_epochs, runs[-1])
        return (*reports, view.status()["view"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--objects", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--readers", type=int, default=8)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="night-shift-") as folder:
        first, again, status = night(folder, args.objects, args.epochs, args.seconds, args.readers)
    for name, reports in (("night", first), ("reprocessing", again)):
        total = {key: sum(report[key] for report in reports) for key in ("reads", "stale", "values")}
        slowest = max(report["slowest_s"] for report in reports)
        print(f"{name}: {total['reads']} light curves, {total['values']} values, {total['stale']} ESTALE, slowest {slowest} s")
    print(json.dumps({key: status[key] for key in ("reads", "hits", "failed", "tiles_built", "refresh", "memory", "errors")}))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
