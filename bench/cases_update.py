"""Cases in which a copy is brought up to date: against making all of it anew."""

import os
import shutil
from dataclasses import dataclass, field

from bench.cases_copy import GIB, lacks_command, note_memory
from bench.context import Row
from bench.copies import COPY_SECONDS, folder, materialize, remove
from bench.mounts import PROGRAM
from bench.process import run

HUNDREDS = ["--chunks", "object=15,epoch=100"]
TENTHS = ["--chunks", "object=100,epoch=100"]


def update(bench):
    """One epoch more, and one reprocessed. An epoch in a hundred that is there already has all of that encoded again."""
    appended = Row(bench.case, "idf in (15,40,2,100): one epoch more, the first of a new hundred", "copy of all", 1 / 5)
    rewritten = Row(bench.case, "idf in (15,40,2,100): an epoch of its only hundred is written", "copy of all", 1.1)
    reprocessed = Row(bench.case, "seed in (100,100,2): one of its 1,000 epochs is reprocessed", "copy of all", 1 / 5)
    rows = [appended, rewritten, reprocessed]
    if any([lacks_command(bench, row) for row in rows]):
        return rows
    Case(bench, appended, bench.store("idf"), HUNDREDS, append).measure()
    Case(bench, rewritten, bench.store("idf"), HUNDREDS, rewrite).measure()
    shares = Case(bench, reprocessed, bench.store("seed"), TENTHS, reprocess).measure()
    reprocessed.require("a tenth of the chunks is made again", all(share == 1 / 10 for share in shares))
    return rows


def append(array):
    array.append(array[..., 3:4], axis=3)


def rewrite(array):
    array[..., array.shape[3] - 1] = array[..., 3]


def reprocess(array):
    epoch = array.shape[1] // 2
    array[:, epoch] = array[:, epoch + 1]


@dataclass
class Case:
    """A copy, and what happens to its source before it is brought up to date."""

    bench: object
    row: Row
    store: object
    flags: list
    change: object
    # What the updates said of themselves.
    updates: list = field(default_factory=list)

    def measure(self):
        """Returns which share of the chunks was made again, each time."""
        with folder(self.bench, "grown") as self.source, folder(self.bench, "updated") as self.target:
            self.bench.alternate(self.row, self.anew, self.up_to_date)
        note_memory(self.row, self.updates, 2**30)
        arrays = [update.report["arrays"][0] for update in self.updates]
        shares = [array["touched_chunks"] / array["chunks"] for array in arrays]
        decoded = self.updates[-1].report["decoded_bytes"]
        self.row.notes.append(f"{shares[-1]:.3g} of the chunks made again, {decoded / 1e6:.0f} MB decoded, verified")
        return shares

    def anew(self, _):
        """A copy of a source of our own: the same chunks by links, since zarr-python replaces files and does not change them."""
        remove(self.source)
        remove(self.target)
        shutil.copytree(self.store / "lightcurves", self.source, copy_function=os.link)
        return materialize(self.bench, self.source, self.target, [*self.flags, *GIB]).seconds

    def up_to_date(self, _):
        import zarr

        self.change(zarr.open_array(self.source, mode="r+"))
        os.sync()
        updated = materialize(self.bench, self.source, self.target, ["--update", *GIB])
        run([self.bench.root / PROGRAM, "verify", self.source, self.target], timeout=COPY_SECONDS)
        self.updates.append(updated)
        return updated.seconds
