"""The table, and the record in docs/BENCHMARKS.md."""

import datetime

from bench import machine
from bench.context import spread

HEADINGS = ["case", "work", "rechunkfs", "yardstick", "ratio", "target", "met", "notes"]
TOP = """# Benchmarks

What `scripts/bench` measured, newest first. The yardstick is taken in the same run, in turn with rechunkfs: figures are
medians and, in brackets, the least and the most; `ratio` is that of the medians. The source is in the page cache; a sample of
ours has a mount of its own, with nothing cached, unless the row says otherwise. *null FS* is `examples/null_fs.rs`: a FUSE file
system of the same tree that answers from memory. *Decoding* is `examples/decode.rs`: open, read, decode on all cores. A copy,
ours or another's, goes to an ext4 that is made for it, on an image file. The readers are those of `bench/tasks.py`; clocks run
from opening the array, or the first file, to having the values.

![ratios](benchmarks.png)
"""


def ratio_text(ratio):
    """1/14.9 says more than 0.067."""
    return f"1/{1 / ratio:.3g}" if ratio < 0.5 else f"{ratio:.2f}"


def target_text(row):
    return (">= " if row.at_least else "<= ") + (f"1/{1 / row.target:.0f}" if row.target < 0.5 else f"{row.target:g}")


def cells(row):
    conditions = [what + ("" if held else ": NO") for what, held in row.conditions]
    if row.missing:
        return [row.case, row.work, "", row.yardstick, "", target_text(row), "not measured", row.missing]
    return [
        row.case,
        row.work,
        f"{spread(row.ours)} {row.unit}",
        f"{row.yardstick}: {spread(row.theirs)} {row.unit}",
        ratio_text(row.ratio),
        target_text(row),
        "yes" if row.is_met else "no",
        "; ".join(conditions + row.notes),
    ]


def table(rows):
    lines = [HEADINGS, ["---"] * len(HEADINGS), *map(cells, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def summary(rows):
    measured = [row for row in rows if not row.missing]
    text = f"{sum(row.is_met for row in measured)} of {len(measured)} targets met"
    left = len(rows) - len(measured)
    return text + (f", {left} not measured" if left else "")


def today():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")


def title(bench):
    """Of the chart."""
    return f"rechunkfs {machine.commit(bench.root)} on {bench.n_cpus} cores, {today()}"


def record(bench, rows):
    """One run, as Markdown."""
    samples = f"{bench.runs} sample{'s' if bench.runs > 1 else ''} each"
    facts = machine.describe(bench.root) + [("command", f"`{machine.command_line(bench.work)}`, {samples}")]
    if not bench.has_fresh_disk:
        facts.append(("copies", "in the working directory, without file systems of their own"))
    lines = [f"## {today()}, {facts[0][1]}", "", *(f"* {what}: {value}" for what, value in facts), ""]
    lines += [table(rows), "", summary(rows) + ".", "", "The commands, each of a kind once:", "", "```text"]
    for case, commands in bench.commands.items():
        lines += [f"{case}:", *(f"  {command}" for command in commands)]
    return "\n".join([*lines, "```", ""])


def write(bench, rows):
    """Puts the record before the older ones."""
    path = bench.root / "docs/BENCHMARKS.md"
    older = path.read_text().partition("\n## ") if path.exists() else ("", "", "")
    path.write_text(f"{TOP}\n{record(bench, rows)}{older[1]}{older[2]}")
    return path
