"""Looking at stores and mounts; nothing is changed by it."""

from __future__ import annotations

from typing import overload

from ._arguments import Globs, Lengths, Size, Store, globs, layout, options, store
from ._command import run
from ._results import Inspection, MountStatus, Preview, Status, build


def inspect(source: Store, *, array: Globs = ()) -> Inspection:
    """Arrays, chunks, codecs, how full they are, and a layout to try."""
    return build(Inspection, run(["inspect", store(source), *options(array=globs(array), json=True)]).checked())


def preview(
    source: Store,
    *,
    along: str | None = None,
    chunks: Lengths | None = None,
    chunk_size: Size | None = None,
    shards: Lengths | None = None,
    array: Globs = (),
    exclude: Globs = (),
    memory: Size | None = None,
) -> Preview:
    """What `mount` would show, and what a first read and reading everything would cost. Nothing is mounted."""
    words = layout(along, chunks, chunk_size, shards, array, exclude)
    # The place of a mount that does not come about is not looked at.
    given = ["mount", store(source), "view.zarr", *words, *options(memory=memory, dry_run=True, json=True)]
    return build(Preview, run(given).checked())


@overload
def status() -> Status: ...


@overload
def status(mountpoint: Store) -> MountStatus: ...


def status(mountpoint: Store | None = None) -> Status | MountStatus:
    """What a mount has done, with its last errors; without one all mounts, and whether this machine can mount."""
    if mountpoint is None:
        return build(Status, run(["status", "--json"]).checked())
    return build(MountStatus, run(["status", store(mountpoint), "--json"]).checked())
