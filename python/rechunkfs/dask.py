"""Copies on a cluster of dask.distributed: one task for each share, and one that puts them together.

    client = distributed.Client(...)
    rechunkfs.dask.materialize("epochs.zarr", "objects.zarr", chunks={"object": 15, "epoch": "full"}, client=client)

All workers must see source and target at the same paths.
"""

from __future__ import annotations

import os
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ._arguments import Codecs, Globs, Lengths, Size, Store, layout, options
from ._copies import arguments, copied
from ._results import Copy

if TYPE_CHECKING:
    from distributed import Client

#: Shares for each thread of the cluster, where their number is left to us: the slowest of them keeps others waiting for less.
SHARES_PER_THREAD = 4
#: Of a worker's memory, what its tasks may take: the rest is its own.
SHARE_OF_MEMORY = 0.8


def materialize(
    source: Store,
    target: Store,
    *,
    client: Client,
    partitions: int | None = None,
    along: str | None = None,
    chunks: Lengths | None = None,
    chunk_size: Size | None = None,
    shards: Lengths | None = None,
    array: Globs = (),
    exclude: Globs = (),
    codecs: Codecs | None = None,
    overwrite: bool = False,
    verify: bool = False,
    memory: Size | None = None,
    threads: int | None = None,
    temp: Store | None = None,
    retries: int = 10,
) -> Copy:
    """Writes the view of `source` to `target`, as `rechunkfs.materialize` does, on the workers of `client`.

    The copy is made in `partitions` shares [default: four for each thread of the workers]: a task each, `rechunkfs-share` in the dashboard.
    A task goes on with what an earlier one has left of its share: a worker that is lost costs seconds, and so does a copy that was
    stopped, if it is called with the same `partitions` again. A task that fails is tried again `retries` times.

    `threads` and `memory` are those of each task [default: one, and its part of the worker's memory]. Raises what
    `rechunkfs.materialize` raises. After a Ctrl-C shares that are under way come to their end on their workers.
    """
    _check_distributed()
    cluster: Any = client  # not all of its calls have types
    partitions = partitions or max(1, SHARES_PER_THREAD * sum(cluster.nthreads().values()))
    words = arguments(
        source, target, layout(along, chunks, chunk_size, shards, array, exclude), codecs, memory, threads or 1, temp, overwrite=overwrite
    )  # fmt: skip
    numbers = [f"{number}/{partitions}" for number in range(1, partitions + 1)]
    shares = cluster.map(_share, numbers, words=words, has_memory=memory is not None, key="rechunkfs-share", pure=False, retries=retries)
    try:
        made: list[Copy] = cluster.gather(shares)
    finally:
        # Before they are put together, or with a lost worker some of them would be made again beside the whole.
        cluster.cancel(shares)
    # Two copies at the same time are two tasks.
    key = f"rechunkfs-finish-{uuid.uuid4()}"
    whole: Copy = cluster.submit(_finish, words, verify, key=key, pure=False, retries=retries).result()

    def total(of: str) -> int:
        return sum(getattr(copy, of) or 0 for copy in [*made, whole])

    return replace(
        whole,
        seconds=whole.seconds + sum(copy.seconds for copy in made),
        bytes=total("bytes"),
        resumed_bytes=total("resumed_bytes"),
        written_bytes=total("written_bytes"),
        files=total("files"),
        resumed=any(copy.resumed for copy in made),
        peak_rss_bytes=max(copy.peak_rss_bytes or 0 for copy in [*made, whole]) or None,
    )


def _check_distributed() -> None:
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise ImportError("rechunkfs.dask needs dask.distributed: pip install 'rechunkfs[dask]'") from error


def _share(number: str, words: list[str], has_memory: bool) -> Copy:
    """A task: it ends with its worker, and a later one goes on."""
    memory = [] if has_memory else options(memory=_memory_bytes())
    return copied([*words, *memory, f"--partition={number}", "--resume"], progress=False)


def _finish(words: list[str], verify: bool) -> Copy:
    """A task. Where the shares are gone, one before it has put them together, and was lost with its answer."""
    source, target = words[1:3]
    if os.path.exists(target) and not os.path.exists(os.path.abspath(target) + ".rechunkfs-partial"):
        return Copy(
            source, target, seconds=0.0, bytes=0, resumed_bytes=None, written_bytes=0, files=0, resumed=True, verified=verify, changed=True,
            failures=(), incomplete=None, peak_rss_bytes=None, json={},
        )  # fmt: skip
    return copied([*words, *options(verify=verify), "--finish"], progress=False)


def _memory_bytes() -> int | None:
    from distributed import get_worker

    worker: Any = get_worker()
    limit = worker.memory_manager.memory_limit
    return int(SHARE_OF_MEMORY * limit / worker.state.nthreads) if limit else None
