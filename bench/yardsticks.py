"""What rechunkfs is held against, besides other tools: decoding and encoding alone, FUSE alone, the disk alone."""

import json
import time

from bench.mounts import null
from bench.process import run

DECODE = "target/release/examples/decode"
RECODE = "target/release/examples/recode"


def decode(bench, mode, store, *arguments, repeat=1):
    """The loop that opens, reads and decodes, on all cores; its answer (seconds is the median of its repeats)."""
    command = [bench.root / DECODE, mode, store, "lightcurves", *arguments, "--repeat", repeat, "--threads", bench.n_cpus]
    bench.note_command(command)
    return json.loads(run(command, timeout=1800))


def recode(bench, mode, store, *arguments):
    """Decoding all of the source, and encoding all of the target or writing as much; its answer."""
    command = [bench.root / RECODE, mode, store, "lightcurves", *arguments, "--threads", bench.n_cpus]
    bench.note_command(command)
    return json.loads(run(command, timeout=1800))


def null_read(bench, files, chunks=None):
    """Reading the same files, of the same sizes, by the same reader, from a fresh null file system."""
    with null(bench, files) as folder:
        return bench.read(folder, files, chunks)


def dd(bench, n_bytes):
    """Writing that many bytes into the working directory, and reading them again. Not synced: the page cache may help."""
    file = bench.work / "dd"
    mib = -(-n_bytes // (1 << 20))
    seconds = []
    try:
        for command in (
            ["dd", "if=/dev/zero", f"of={file}", "bs=1M", f"count={mib}"],
            ["dd", f"if={file}", "of=/dev/null", "bs=1M"],
        ):
            bench.note_command(command)
            start = time.perf_counter()
            run(command)
            seconds.append(time.perf_counter() - start)
    finally:
        file.unlink(missing_ok=True)
    return sum(seconds)
