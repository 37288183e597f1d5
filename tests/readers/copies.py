"""Making copies with `rechunkfs materialize`: to the end, or stopped in the middle; and what lies where meanwhile."""

import json
import os
import shlex
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import zarr
from sources import random_bits
from support import BINARY, rechunkfs
from zarr.codecs import BloscCodec

COPY_SECONDS = 120
# What a second's grace for a signal may come to on a busy machine.
SIGNAL_SECONDS = 5
LAYOUT = ["--chunks", "object=15,epoch=full"]
# What a copy keeps in the folders of arrays: of which state of the source it is.
RECORDS = {".rechunkfs", ".rechunkfs-passed"}


def partial(target):
    """Where a copy grows until it is complete."""
    return Path(f"{target}.rechunkfs-partial")


def copy(source, target, *flags, code=0, timeout=COPY_SECONDS):
    """`rechunkfs materialize` to its end; the exit code must be the one that is expected."""
    run = rechunkfs("materialize", source, target, *flags, timeout=timeout)
    assert run.returncode == code, f"{shlex.join(run.args)}\nexit {run.returncode}, not {code}\n{run.stdout}{run.stderr}"
    if code == 0:
        assert Path(target).is_dir() and not partial(target).exists(), run.stderr
    return run


def report(source, target, *flags, code=0):
    """The same with --json: the one object that it prints."""
    found = json.loads(copy(source, target, "--json", *flags, code=code).stdout)
    assert found["rechunkfs"] == "materialize" and found["version"] == 1
    return found


def update(source, target, *flags, code=0):
    """`rechunkfs materialize --update`, as JSON; with `said`, what was said on stderr."""
    run = rechunkfs("materialize", source, target, "--update", "--json", *flags, timeout=COPY_SECONDS)
    assert run.returncode == code, f"{shlex.join(run.args)}\nexit {run.returncode}, not {code}\n{run.stdout}{run.stderr}"
    if code in (0, 4) and Path(target).is_dir():
        assert code or not partial(target).exists(), run.stderr
    found = json.loads(run.stdout) if run.stdout else {}
    return {**found, "said": run.stderr}


def touched(found):
    """Chunks (or shards) of the copy that an update made again, by array."""
    return {array["path"]: array["touched_chunks"] for array in found["arrays"] if array["state"] != "same"}


def verify(source, target, *flags, code=0):
    """`rechunkfs verify`, as JSON."""
    run = rechunkfs("verify", source, target, "--json", *flags, timeout=COPY_SECONDS)
    assert run.returncode == code, f"{shlex.join(run.args)}\nexit {run.returncode}, not {code}\n{run.stdout}{run.stderr}"
    found = json.loads(run.stdout)
    assert found["rechunkfs"] == "verify"
    assert (found["differences"] == 0) == (code == 0), found
    return found


def tree(folder):
    """Every file below a folder and what it holds; directories end with a slash."""
    folder = Path(folder)
    return {f"{p.relative_to(folder)}{'/' if p.is_dir() else ''}": None if p.is_dir() else p.read_bytes() for p in folder.rglob("*")}


def assert_same_tree(got, want):
    got, want = (tree(folder) if isinstance(folder, (str, Path)) else folder for folder in (got, want))
    assert got.keys() == want.keys(), f"more: {sorted(got.keys() - want.keys())[:5]}; less: {sorted(want.keys() - got.keys())[:5]}"
    assert not (differ := [name for name in want if got[name] != want[name]]), f"{len(differ)} files differ: {differ[:5]}"


@contextmanager
def copying(source, target, *flags):
    """A copy under way, as a Popen; what it says goes to the files `log` and `printed`. Killed at the end where it still runs."""
    log, printed = Path(f"{target}.log"), Path(f"{target}.printed")
    with open(log, "w") as err, open(printed, "w") as out:
        command = [BINARY, "materialize", source, target, *map(str, flags)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True)
    process.log, process.printed = log, printed
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def files_written(target):
    store = partial(target) / "store"
    return sum(len(names) for _, _, names in os.walk(store))


def committed(target, journal="journal", n_before=1):
    """Whether the journal has more than its header: what was written before is kept."""
    journal = partial(target) / journal
    return journal.exists() and journal.read_bytes().count(b"\n") > n_before


def halt(process, until, standing=0.003, seconds=60):
    """Lets a copy run until `until()`, and leaves it standing still; `go_on` lets it run.

    It runs for a few milliseconds at a time and is looked at while it stands: no machine is too quick for that.
    """
    deadline = time.monotonic() + seconds
    while True:
        process.send_signal(signal.SIGSTOP)
        assert process.poll() is None, f"done before it was met in the middle: {process.log.read_text()}"
        if until():
            return
        assert time.monotonic() < deadline, f"not met in {seconds} s: {process.log.read_text()}"
        time.sleep(standing)
        go_on(process)
        time.sleep(0.003)


def go_on(process):
    process.send_signal(signal.SIGCONT)


def stopped(source, target, *flags, n_files=20):
    """Kills a copy when it has written so many files and committed some: what a power cut leaves, as far as a test can have one."""
    with copying(source, target, *flags) as process:
        halt(process, lambda: files_written(target) >= n_files)
        halt(process, lambda: committed(target), standing=0.05)  # commits come by the clock
        process.send_signal(signal.SIGKILL)
        process.wait(COPY_SECONDS)
    assert partial(target).is_dir() and not Path(target).exists()
    return partial(target)


# Slow enough to be met in the middle also where the program is quick: Blosc's zstd at its level 9 takes
# 60 ms for a megabyte of such noise, and there are 26 of them, in a thousand files to make.
SLOW_SHAPE, SLOW_CHUNKS = (16_000, 400), (16_000, 10)
SLOW = ["--chunks", "mag:object=16,epoch=full", "--codecs", "blosc:zstd:9:shuffle", "-j", "2"]


def slow_source(folder):
    """A store for SLOW: 26 MB in 40 chunks, of which a copy makes 1,000 files."""
    group = zarr.create_group(folder, attributes={"title": "slow"})
    values = random_bits("u4", SLOW_SHAPE) >> 14
    mag = group.create_array("mag", shape=SLOW_SHAPE, chunks=SLOW_CHUNKS, dtype="u4", dimension_names=("object", "epoch"),
                             compressors=BloscCodec(cname="lz4", typesize=4))  # fmt: skip
    mag[...] = values
    group.create_array("ra", data=random_bits("f8", (SLOW_SHAPE[0],)), chunks=(1000,), dimension_names=("object",))
    zarr.consolidate_metadata(folder)
    return folder
