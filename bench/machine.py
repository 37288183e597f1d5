"""What the figures were measured on."""

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

PEERS = ("zarr", "tensorstore", "obstore", "zarrs", "dask", "numcodecs", "numpy")


def describe(root):
    """Lines for the record: (what, value)."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    peers = ", ".join(f"{name} {metadata.version(name)}" for name in PEERS)
    return [
        ("commit", commit(root)),
        ("processor", f"{processor()}, {len(os.sched_getaffinity(0))} of {os.cpu_count()} cores"),
        ("memory", f"{memory:.0f} GiB"),
        ("kernel", platform.release()),
        ("compiler", first_line(["rustc", "--version"])),
        ("Python", f"{platform.python_version()}, {peers}"),
    ]


def commit(root):
    found = first_line(["git", "-C", root, "rev-parse", "--short=10", "HEAD"]) or "unknown"
    # The record itself is no change of what was measured.
    changed = first_line(["git", "-C", root, "status", "--porcelain", "--", ".", ":!docs/BENCHMARKS.md", ":!docs/benchmarks.png"])
    return found + ("-dirty" if changed else "")


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def first_line(command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except OSError:
        return ""
    return done.stdout.partition("\n")[0].strip()


def command_line(work):
    """Without the place of the stores, which is of interest on this machine only."""
    words = [str(arg).replace(str(work), "DIR") for arg in sys.argv[1:]]
    return " ".join(["scripts/bench", *words])
