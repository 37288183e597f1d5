"""What every case needs: where things are, how often to measure, and rows for what was found."""

import os
import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path

from bench import stores
from bench.process import Worker


@dataclass
class Row:
    """One line of the table: samples of ours and of the yardstick, and the ratio that is wanted."""

    case: str
    work: str
    yardstick: str
    target: float
    ours: list = field(default_factory=list)
    theirs: list = field(default_factory=list)
    at_least: bool = False
    unit: str = "s"
    notes: list = field(default_factory=list)
    # Further things that must hold for the target to be met: (what, whether).
    conditions: list = field(default_factory=list)
    # Why there is no figure.
    missing: str = ""

    @property
    def ratio(self):
        return statistics.median(self.ours) / statistics.median(self.theirs)

    @property
    def is_met(self):
        holds = self.ratio >= self.target if self.at_least else self.ratio <= self.target
        return holds and all(held for _, held in self.conditions)

    def require(self, what, held):
        if (what, held) not in self.conditions:
            self.conditions.append((what, bool(held)))


class Bench:
    """One run."""

    def __init__(self, root, work, runs, quick):
        self.root, self.work, self.runs, self.quick = root, work, runs, quick
        self.n_cpus = len(os.sched_getaffinity(0))
        self.worker = None
        self.case = ""
        # Copies get a file system of their own; not where that turns out to be denied.
        self.has_fresh_disk = True
        # Of each case the commands it ran, each of a kind once.
        self.commands = {}

    def store(self, name):
        return stores.store(self.work, name, self.quick)

    def begin(self, case):
        self.case = case
        self.worker = Worker()

    def finish(self):
        if self.worker:
            self.worker.__exit__()
            self.worker = None

    def read(self, folder, files, chunks=None):
        """Seconds in which one plain reader reads these chunk files, all of them where none are named."""
        names = files.names(chunks)
        return self.worker.do("read_files", folder=folder, names=names, file_bytes=files.n_bytes)["seconds"]

    def note_command(self, command):
        """Keeps a command for the record, with what differs from sample to sample left out."""
        words = []
        for word in map(str, command):
            word = word.replace(str(self.root) + "/", "")
            path = Path(word)
            if path.parent == self.work and path.name.startswith("mnt-"):
                word = "MOUNTPOINT"
            elif path.parent in (self.work, self.work / "fresh"):
                word = path.name
            words.append(word if len(word) < 60 else word[:24] + "...")
        text = " ".join(words[:14] + (["..."] if len(words) > 14 else []))
        known = self.commands.setdefault(self.case, [])
        if text not in known:
            known.append(text)

    def alternate(self, row, theirs, ours, ours_first=False):
        """Yardstick and rechunkfs in turn, so that what else the machine does meets both."""
        steps = [(row.theirs, theirs), (row.ours, ours)]
        for run in range(self.runs):
            for samples, sample in reversed(steps) if ours_first else steps:
                samples.append(sample(run))
            took = f"{row.yardstick} {row.theirs[-1]:.4g} {row.unit}, rechunkfs {row.ours[-1]:.4g} {row.unit}"
            print(f"{row.case}, {run + 1} of {self.runs}: {took}", file=sys.stderr, flush=True)
        return row


def spread(values, digits=3):
    """Median and range, as text."""
    middle, low, high = statistics.median(values), min(values), max(values)
    text = f"{middle:.{digits}g}"
    return text if len(values) == 1 else f"{text} ({low:.{digits}g} to {high:.{digits}g})"
