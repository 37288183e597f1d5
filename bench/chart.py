"""The chart: ratios against targets."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from bench.report import ratio_text, target_text

MET, MISSED, INK = "#4c8c6b", "#c8553d", "#222222"
TICKS = [1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8, 16, 32]


def draw(rows, path, title):
    """A bar per row, from the yardstick (1) to what was measured; a tick where the target is."""
    rows = [row for row in rows if not row.missing][::-1]
    figure, axes = plt.subplots(figsize=(11, 1.6 + 0.46 * len(rows)), layout="constrained")
    for y, row in enumerate(rows):
        colour = MET if row.is_met else MISSED
        axes.barh(y, row.ratio - 1, left=1, height=0.56, color=colour, zorder=2)
        axes.plot([row.target, row.target], [y - 0.4, y + 0.4], color=INK, linewidth=2.2, zorder=4)
    values = [value for row in rows for value in (row.ratio, row.target, 1)]
    low, high = min(values) / 1.5, max(values) * 1.35
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in TICKS if low < tick < high]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"1/{1 / x:.0f}" if x < 1 else f"{x:.0f}"))
    axes.axvline(1, color=INK, linewidth=0.8, zorder=3)
    axes.set_yticks(range(len(rows)), [label(row) for row in rows], fontsize=8.5, linespacing=1.25)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    # The figures stand in a column of their own, where no bar can cover them.
    for y, row in enumerate(rows):
        axes.annotate(
            f"{ratio_text(row.ratio)}  ({target_text(row)})", (1, y), xycoords=("axes fraction", "data"), xytext=(8, 0),
            textcoords="offset points", va="center", fontsize=9, color=MET if row.is_met else MISSED, annotation_clip=False,
        )  # fmt: skip
    axes.grid(axis="x", color="#dddddd", zorder=0)
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.set_xlabel("rechunkfs / yardstick (log scale): 1/4 is four times as fast")
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    handles = [Patch(color=MET, label="target met"), Patch(color=MISSED, label="target missed"),
               Line2D([], [], color=INK, linewidth=2.2, label="target")]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower right", ncols=3, frameon=False, fontsize=9)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def label(row):
    """What is compared, on two lines."""
    return f"{shortened(row.work)}\nagainst {shortened(row.yardstick)}"


def shortened(text):
    return text if len(text) <= 64 else text[:61] + "..."
