"""Mounts of rechunkfs and of the null file system: made fresh, and taken down whatever happens."""

import json
import math
import os
import subprocess
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from bench.process import Failed, end, is_alive, run, wait_until

PROGRAM = "target/release/rechunkfs"
NULL_FS = "target/release/examples/null_fs"


@dataclass
class Files:
    """The chunk files of a view: how many there are along each axis, bytes and rows of each."""

    grid: list
    n_bytes: int
    n_rows: int

    def __len__(self):
        return math.prod(self.grid)

    def names(self, chunks=None):
        """Their names in the array's order; of these chunks alone where they are given."""
        names = []
        for chunk in range(len(self)) if chunks is None else chunks:
            idxs = []
            for length in reversed(self.grid):
                chunk, idx = divmod(chunk, length)
                idxs.append(str(idx))
            names.append(".".join(["c", *reversed(idxs)]))
        return names


def files_of(bench, store, flags):
    """What a view will hold, without mounting it."""
    command = [bench.root / PROGRAM, "mount", "--dry-run", "--quiet", "--json", store, bench.work / "mnt-none", *flags]
    array = next(array for array in json.loads(run(command))["rechunked"] if array["path"] == "lightcurves")
    chunk = array["virtual_chunks"]
    grid = [-(-length // chunk_length) for length, chunk_length in zip(array["shape"], chunk)]
    return Files(grid, array["chunk_bytes"], chunk[0])


class View:
    """A mount of ours."""

    def __init__(self, root, path, pid, seconds):
        self.root, self.path, self.pid, self.seconds = root, path, pid, seconds
        self.folder = path / "lightcurves"

    def status(self):
        return json.loads(run([self.root / PROGRAM, "status", self.path, "--json"], timeout=30))["view"]

    def blocks(self):
        return self.status()["source_counts"]["blocks"]

    def memory_bytes(self, field="VmRSS"):
        """VmRSS is what it takes now, VmHWM the most it took."""
        with open(f"/proc/{self.pid}/status") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


@contextmanager
def view(bench, store, flags):
    """A fresh mount of `store`; `seconds` is what the command took, from the shell to a mount that answers."""
    point = mountpoint(bench)
    command = [bench.root / PROGRAM, "mount", "--quiet", "--json", store, point, *flags, "--threads", bench.n_cpus]
    bench.note_command(command)
    mounted = None
    try:
        start = time.perf_counter()
        printed = run(command, timeout=120)
        seconds = time.perf_counter() - start
        mounted = View(bench.root, point, json.loads(printed)["pid"], seconds)
        yield mounted
    finally:
        remove(bench, point)
        if mounted:
            # Its memory is to be free again before anything else is measured.
            wait_until(lambda: not is_alive(mounted.pid), "the end of a mount's process", 30)


@contextmanager
def null(bench, files):
    """A fresh mount of the null file system with the same files; gives the array's directory."""
    point = mountpoint(bench)
    command = [bench.root / NULL_FS, point, "--grid", ",".join(map(str, files.grid)), "--chunk-bytes", files.n_bytes]
    bench.note_command(command)
    process = subprocess.Popen([str(part) for part in command], start_new_session=True)
    try:
        # The array's directory, once looked up in vain, would be remembered as missing: so the mount table is asked.
        wait_until(lambda: os.path.ismount(point) or process.poll() is not None, "the null file system")
        if process.poll() is not None:
            raise Failed(f"the null file system has ended, exit code {process.returncode}")
        yield point / "lightcurves"
    finally:
        remove(bench, point)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        end(process)


def mountpoint(bench):
    point = bench.work / f"mnt-{os.getpid()}-{time.monotonic_ns()}"
    point.mkdir()
    return point


def remove(bench, point):
    """Unmounts, and removes the mount point. Where we were interrupted while mounting, the mount may come yet."""

    def is_gone():
        unmount(bench, point)
        with suppress(OSError):
            point.chmod(0o755)
            point.rmdir()
        return not os.path.lexists(point)

    wait_until(is_gone, f"the end of {point}", 30)


def unmount(bench, point):
    """Both file systems are of our type, so our own command ends both; what is still busy is detached."""
    if not os.path.ismount(point):
        return
    try:
        run([bench.root / PROGRAM, "unmount", point], timeout=60)
    except Failed:
        run([bench.root / PROGRAM, "unmount", "--lazy", point], timeout=60)
