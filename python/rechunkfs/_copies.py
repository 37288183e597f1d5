"""Copies: what one would take, making one, and comparing."""

from __future__ import annotations

from dataclasses import replace

from ._arguments import Codecs, Globs, Lengths, Size, Store, codecs as codec_words, layout, options, store
from ._bar import Show, shown
from ._command import Finished, run
from ._results import Comparison, Copy, Plan, UpdatePlan, build


def materialize(
    source: Store,
    target: Store,
    *,
    along: str | None = None,
    chunks: Lengths | None = None,
    chunk_size: Size | None = None,
    shards: Lengths | None = None,
    array: Globs = (),
    exclude: Globs = (),
    codecs: Codecs | None = None,
    resume: bool = False,
    update: bool = False,
    overwrite: bool = False,
    keep_going: bool = False,
    verify: bool = False,
    memory: Size | None = None,
    threads: int | None = None,
    temp: Store | None = None,
    progress: Show = True,
) -> Copy:
    """Writes the view of `source` to `target`: complete, or not there at all.

    A Ctrl-C stops it, and the KeyboardInterrupt says how to go on; so does `Incomplete` after a signal or with a full disk: the
    same call with `resume=True`. It also stops when this process ends, however it does.

    `progress` shows a bar (tqdm, where installed); or is called with each `Progress`, and may raise to stop the copy.

    Raises `RechunkError` with the command's words; its `copy` says what was done where `keep_going` left something out.
    `verify=True` raises `DifferencesFound`, with a `comparison`, in place of a copy that is not what its source is.
    """
    given = arguments(
        source, target, layout(along, chunks, chunk_size, shards, array, exclude), codecs, memory, threads, temp,
        resume=resume, update=update, overwrite=overwrite, keep_going=keep_going, verify=verify,
    )  # fmt: skip
    return copied(given, progress)


def plan(
    source: Store,
    target: Store,
    *,
    along: str | None = None,
    chunks: Lengths | None = None,
    chunk_size: Size | None = None,
    shards: Lengths | None = None,
    array: Globs = (),
    exclude: Globs = (),
    codecs: Codecs | None = None,
    resume: bool = False,
    overwrite: bool = False,
    memory: Size | None = None,
    threads: int | None = None,
    temp: Store | None = None,
) -> Plan:
    """What `materialize` would take, by a sample of two seconds. Nothing is written."""
    given = arguments(
        source, target, layout(along, chunks, chunk_size, shards, array, exclude), codecs, memory, threads, temp,
        resume=resume, overwrite=overwrite, dry_run=True,
    )  # fmt: skip
    return build(Plan, run(given).checked())


def plan_update(
    source: Store,
    target: Store,
    *,
    along: str | None = None,
    chunks: Lengths | None = None,
    chunk_size: Size | None = None,
    shards: Lengths | None = None,
    array: Globs = (),
    exclude: Globs = (),
    codecs: Codecs | None = None,
    memory: Size | None = None,
    threads: int | None = None,
    temp: Store | None = None,
) -> UpdatePlan:
    """What `materialize` with `update=True` would do. Nothing is written."""
    given = arguments(
        source, target, layout(along, chunks, chunk_size, shards, array, exclude), codecs, memory, threads, temp,
        update=True, dry_run=True,
    )  # fmt: skip
    answer = run(given).checked()
    if answer["created"]:
        return replace(build(UpdatePlan, {**answer, "arrays": ()}), copy=build(Plan, answer), json=answer)
    return build(UpdatePlan, answer)


def verify(
    source: Store,
    target: Store,
    *,
    sample: int | None = None,
    seed: int | None = None,
    memory: Size | None = None,
    threads: int | None = None,
    progress: Show = True,
) -> Comparison:
    """Compares two stores, whatever their chunks and codecs: every document and every bit, or a `sample` of so many chunks.

    Returns where they are equal. Raises `DifferencesFound` where they are not, and `RechunkError` where nothing differs and something
    could not be compared; both have the `comparison`.
    """
    given = options(sample=sample, seed=seed, memory=memory, threads=threads, json=True, until_eof=True)
    with shown(progress, "verify") as on_progress:
        finished = run(["verify", store(source), store(target), *given], on_progress)
        comparison = _comparison(finished)
        if finished.exit_code or comparison is None:
            error = finished.error()
            error.comparison = comparison
            raise error
    return comparison


def copied(arguments: list[str], progress: Show) -> Copy:
    """Runs a copy, or a share of one, to its end."""
    with shown(progress, "materialize") as on_progress:
        finished = run([*arguments, "--until-eof"], on_progress)
        copy = build(Copy, finished.result) if finished.result.get("rechunkfs") == "materialize" else None
        if finished.exit_code or copy is None:
            error = finished.error()
            error.copy, error.comparison = copy, _comparison(finished)
            raise error
    return copy


def arguments(
    source: Store, target: Store, layout: list[str], codecs: Codecs | None, memory: Size | None, threads: int | None,
    temp: Store | None, **flags: bool,
) -> list[str]:  # fmt: skip
    """What the command takes for a copy."""
    given = options(
        codecs=codec_words(codecs), memory=memory, threads=threads, temp=None if temp is None else store(temp), json=True, **flags
    )  # fmt: skip
    return ["materialize", store(source), store(target), *layout, *given]


def _comparison(finished: Finished) -> Comparison | None:
    return build(Comparison, finished.result) if finished.result.get("rechunkfs") == "verify" else None
