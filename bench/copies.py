"""Copies made by rechunkfs and by its peers: each into a directory of its own, synced once, removed afterwards."""

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from bench.disk import fresh, touch_memory
from bench.mounts import PROGRAM
from bench.process import Failed, Worker, end, run

V2_PYTHON = ".venv-bench-v2/bin/python"
REENCODE = "target/peers/bin/zarrs_reencode"
COPY_SECONDS = 3600


@dataclass
class Copied:
    """What a copy took. `report` is what rechunkfs printed."""

    seconds: float
    peak_bytes: int
    report: dict


def is_available(bench):
    return "materialize" in run([bench.root / PROGRAM, "--help"])


@contextmanager
def folder(bench, name, is_large=False):
    """A place for a copy, on a file system of its own unless it `is_large`: nothing lies there, and nothing of what ran before
    is still on its way to the disk."""
    with nullcontext() if is_large else fresh(bench) as own:
        path = (own or bench.work) / f"copy-{name}"
        remove(path)
        os.sync()
        touch_memory()
        try:
            yield path
        finally:
            if not own:
                remove(path)


def remove(path):
    for each in (path, path.with_name(f"{path.name}.rechunkfs-partial")):
        if each.is_file():
            each.unlink()
        shutil.rmtree(each, ignore_errors=True)


def materialize(bench, source, target, flags, kill_after=None):
    """Our copy, from the shell to its end. Where it is killed there is no report."""
    command = [bench.root / PROGRAM, "materialize", "-q", "--json", source, target, *flags, "-j", bench.n_cpus]
    bench.note_command(command)
    start = time.perf_counter()
    process = subprocess.Popen(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        printed, said = process.communicate(timeout=kill_after or COPY_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        if kill_after is None:
            raise Failed(f"materialize: not done after {COPY_SECONDS} s") from None
        return None
    finally:
        end(process)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise Failed(f"materialize: exit code {process.returncode}: {said.strip()[-500:]}")
    report = json.loads(printed)
    return Copied(seconds, report["peak_rss_bytes"], report)


def verified(bench, source, target):
    """Outside of any clock: a copy that is quick and wrong must not pass."""
    run([bench.root / PROGRAM, "verify", source, target, "--sample", 50], timeout=COPY_SECONDS)


def peer(task, **arguments):
    """A copy by another, in a process of its own; its imports are not in the clock, its one sync is."""
    with Worker() as worker:
        worker.do("warm_copy", **arguments)
        worker.ask(task, **arguments)
        found = worker.answer(COPY_SECONDS)
    return Copied(found["seconds"], found["peak_bytes"], {})


def rechunker(bench, source, target, chunks, codec, max_mem):
    """rechunker in the environment of Zarr v2."""
    python = bench.root / V2_PYTHON
    command = [python, "-m", "bench.recode_v2", source, target, target.with_name("copy-temp"), json.dumps(chunks), codec, max_mem]
    bench.note_command(command)
    done = subprocess.run(
        [str(part) for part in command],
        cwd=bench.root, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COPY_SECONDS, start_new_session=True,
    )  # fmt: skip
    if done.returncode:
        raise Failed(f"rechunker: exit code {done.returncode}: {done.stderr.strip()[-500:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return Copied(found["seconds"], found["peak_bytes"], {})


def zarrs_reencode(bench, source, target, chunks, shards):
    """The Rust library's own tool, in shards: without them each of its chunks would decode every source chunk. None where
    it is not there."""
    program = bench.root / REENCODE
    if not program.exists():
        return None
    words = [",".join(map(str, lengths)) for lengths in (chunks, shards)]
    command = [program, "--chunk-shape", words[0], "--shard-shape", words[1], source / "lightcurves", target]
    bench.note_command(command)
    start = time.perf_counter()
    process = subprocess.Popen([str(part) for part in command], stdout=sys.stderr, start_new_session=True)
    # `wait4` tells of this child alone.
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise Failed(f"zarrs_reencode: exit code {process.returncode}")
    run(["sync", "-f", target])
    return Copied(time.perf_counter() - start, usage.ru_maxrss << 10, {})
