"""Mounts of rechunkfs and of the null file system: made fresh, and taken down whatever happens."""

import json
import math
import os
import subprocess
import time
from contextlib import contextmanager, suppress

from bench.process import Failed, end, is_alive, run, wait_until

PROGRAM = "target/release/rechunkfs"
NULL_FS = "target/release/examples/null_fs"


class View:
    """A mount of ours."""

    def __init__(self, root, path, info, seconds):
        self.root, self.path, self.seconds, self.pid = root, path, seconds, info["pid"]
        self.array = next(array for array in info["rechunked"] if array["path"] == "lightcurves")
        self.folder = path / "lightcurves"

    def grid(self):
        """Files along each axis."""
        file_shape = self.array["virtual_shards"] or self.array["virtual_chunks"]
        return [-(-length // chunk) for length, chunk in zip(self.array["shape"], file_shape)]

    def status(self):
        return json.loads(run([self.root / PROGRAM, "status", self.path, "--json"], timeout=30))["view"]

    def blocks(self):
        return self.status()["source_counts"]["blocks"]

    def memory_bytes(self, field="VmRSS"):
        """VmRSS is what it takes now, VmHWM the most it took."""
        with open(f"/proc/{self.pid}/status") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def names(grid, chunks=None):
    """Names of the chunk files, in the array's order; of these chunks alone where they are given."""
    name = []
    for chunk in range(math.prod(grid)) if chunks is None else chunks:
        idxs = []
        for length in reversed(grid):
            chunk, idx = divmod(chunk, length)
            idxs.append(str(idx))
        name.append(".".join(["c", *reversed(idxs)]))
    return name


@contextmanager
def view(bench, store, flags, log=True):
    """A fresh mount of `store`; `seconds` is what the command took, from the shell to a mount that answers."""
    point = mountpoint(bench)
    command = [bench.root / PROGRAM, "mount", "--quiet", "--json", store, point, *flags, "--threads", bench.n_cpus]
    if log:
        bench.note_command(command)
    mounted = None
    try:
        start = time.perf_counter()
        printed = run(command, timeout=120)
        seconds = time.perf_counter() - start
        mounted = View(bench.root, point, json.loads(printed), seconds)
        yield mounted
    finally:
        unmount(bench, point)
        if mounted:
            # Its memory is to be free again before anything else is measured.
            wait_until(lambda: not is_alive(mounted.pid), "the end of a mount's process", 30)
        point.chmod(0o755)
        point.rmdir()


@contextmanager
def null(bench, grid, chunk_bytes, copy=None):
    """A fresh mount of the null file system; gives the array's directory."""
    point = mountpoint(bench)
    command = [bench.root / NULL_FS, point, "--grid", ",".join(map(str, grid)), "--chunk-bytes", chunk_bytes]
    command += ["--copy", copy] if copy else []
    bench.note_command(command)
    process = subprocess.Popen([str(part) for part in command], start_new_session=True)
    try:
        # The array's directory, once looked up in vain, would be remembered as missing: so the mount table is asked.
        wait_until(lambda: os.path.ismount(point) or process.poll() is not None, "the null file system")
        if process.poll() is not None:
            raise Failed(f"the null file system has ended, exit code {process.returncode}")
        yield point / "lightcurves"
    finally:
        unmount(bench, point)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        end(process)
        point.rmdir()


def mountpoint(bench):
    point = bench.work / f"mnt-{os.getpid()}-{time.monotonic_ns()}"
    point.mkdir()
    return point


def unmount(bench, point):
    """Both file systems are of our type, so our own command ends both; what is still busy is detached."""
    if not os.path.ismount(point):
        return
    try:
        run([bench.root / PROGRAM, "unmount", point], timeout=60)
    except Failed:
        run([bench.root / PROGRAM, "unmount", "--lazy", point], timeout=60)
