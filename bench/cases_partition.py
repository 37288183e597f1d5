"""Copies in shares, against the same copy by one process with all cores."""

import json
import subprocess
import time

from bench.cases_copy import GIB, OBJECTS, SHARDS, lacks_command, ours
from bench.context import Row
from bench.copies import COPY_SECONDS, folder, verified
from bench.mounts import PROGRAM
from bench.process import Failed, end


def partitions(bench):
    one = shared(bench, "idf", "idf to (15,40,2,100)", OBJECTS)
    two = shared(bench, "seed", "seed to shards (1000,1000,2) of (1,100,2)", SHARDS)
    return [one, two]


def shared(bench, name, work, layout):
    """Two shares at the same time with a core each, and then --finish."""
    store = bench.store(name)
    row = Row(bench.case, f"{work}, two shares at a time, -j 1 each, and --finish", "one process with both cores", 1.1)
    if lacks_command(bench, row):
        return row

    def sample(i):
        with folder(bench, "shares") as target:
            start = time.perf_counter()
            decoded = sum(report["decoded_bytes"] for report in both(bench, store / "lightcurves", target, layout))
            run(begin(bench, store / "lightcurves", target, [*layout, "--finish"]))
            seconds = time.perf_counter() - start
            verified(bench, store / "lightcurves", target)
            row.decoded = decoded
            return seconds

    copies = []
    bench.alternate(row, ours(bench, store, [*layout, *GIB], copies), sample)
    row.notes.append(f"{row.decoded / copies[-1].report['decoded_bytes']:.2f} times as many bytes decoded")
    return row


def both(bench, source, target, layout):
    flags = [*layout, "--memory", "512MiB", "-j", 1]
    processes = [begin(bench, source, target, [*flags, "--partition", f"{number}/2"]) for number in (1, 2)]
    try:
        return [run(process) for process in processes]
    finally:
        for process in processes:
            end(process)


def begin(bench, source, target, flags):
    command = [bench.root / PROGRAM, "materialize", "-q", "--json", source, target, *flags]
    bench.note_command(command)
    return subprocess.Popen(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def run(process):
    printed, said = process.communicate(timeout=COPY_SECONDS)
    if process.returncode:
        raise Failed(f"materialize: exit code {process.returncode}: {said.strip()[-500:]}")
    return json.loads(printed)
