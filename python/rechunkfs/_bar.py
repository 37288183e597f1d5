"""Progress of a long command: a bar of tqdm where that is installed, else a line now and then."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from ._results import Progress, build

#: Whether to show it; or who is to be told.
Show: TypeAlias = bool | Callable[[Progress], object]

#: Without a bar, as the command does without a terminal.
LINE_SECONDS = 30


@contextmanager
def shown(show: Show, what: str) -> Iterator[Callable[[dict[str, Any]], None]]:
    """What to call with each line of progress. At a good end the bar is full."""
    if callable(show):
        teller = show
        yield lambda line: _tell(teller, line)
        return
    if not show:
        yield lambda line: None
        return
    try:
        tqdm = importlib.import_module("tqdm.auto").tqdm
    except ImportError:
        yield _lines(what)
        return
    # Nothing is shown of what is over before there is a first line: a bar comes with it.
    bars: list[Any] = []

    def update(line: dict[str, Any]) -> None:
        progress = _progress(line)
        if not bars:
            bars.append(tqdm(total=progress.total_bytes, desc=what, unit="B", unit_scale=True))
        bar = bars[0]
        # What is to be done can grow: with what is found, and with a comparison at the end.
        bar.total = progress.total_bytes
        bar.set_postfix_str(f"mostly {progress.waits_for}", refresh=False)
        bar.update(progress.done_bytes - bar.n)

    try:
        yield update
        for bar in bars:
            bar.update(bar.total - bar.n)
    finally:
        for bar in bars:
            bar.close()


def _progress(line: dict[str, Any]) -> Progress:
    return build(Progress, {**line, "share": line.get("progress")})


def _tell(teller: Callable[[Progress], object], line: dict[str, Any]) -> None:
    teller(_progress(line))


def _lines(what: str) -> Callable[[dict[str, Any]], None]:
    due = [time.monotonic() + LINE_SECONDS]

    def update(line: dict[str, Any]) -> None:
        if time.monotonic() < due[0]:
            return
        due[0] += LINE_SECONDS
        progress = _progress(line)
        left = "" if progress.seconds_left is None else f", {progress.seconds_left} s left"
        print(f"{what}: {progress.share:.0%} of {progress.total_bytes / 1e9:.3g} GB{left}", file=sys.stderr)

    return update
