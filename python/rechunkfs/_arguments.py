"""From what Python programs pass to what the command takes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

#: A store: a path, or an address.
Store: TypeAlias = str | os.PathLike[str]
#: A number, "full" (or -1), "source", "auto".
Length: TypeAlias = int | str
# Of any keys: names and axis numbers in a union are more than type checkers can tell of a literal.
_Axes: TypeAlias = Mapping[Any, Length]
#: `{"object": 15, "epoch": "full"}`, by axis numbers where dimensions have no names; `{"lightcurves": {"object": 15}}` for one
#: array; or as the command takes it: "object=15,epoch=full", or several of these.
Lengths: TypeAlias = str | Sequence[str] | Mapping[Any, Length | _Axes]
#: One glob or several.
Globs: TypeAlias = str | Iterable[str]
#: Bytes, or "512M", "2GiB", "25%".
Size: TypeAlias = int | str
#: "zstd:3", "blosc:lz4", "none", ... or a list of Zarr v3 codecs; by array, if in a mapping.
_Chain: TypeAlias = str | Sequence[Mapping[str, Any]]
Codecs: TypeAlias = _Chain | Mapping[str, _Chain]


def store(given: Store) -> str:
    """A path that holds wherever the command looks at it from, or an address as it is."""
    text = os.fspath(given)
    if not isinstance(text, str):
        raise TypeError(f"a store is a path of text, not {text!r}")
    return text if "://" in text else os.path.abspath(os.path.expanduser(text))


def options(**given: object) -> list[str]:
    """`memory="2GiB"` as `--memory=2GiB`; what is None, and a flag that is off, are left out, a list is several."""
    words = []
    for name, value in given.items():
        flag = "--" + name.replace("_", "-")
        if value is None or value is False:
            continue
        if value is True:
            words.append(flag)
        else:
            # In one word: a value may begin with a hyphen.
            words += [f"{flag}={each}" for each in (value if isinstance(value, list) else [value])]
    return words


def layout(
    along: str | None, chunks: Lengths | None, chunk_size: Size | None, shards: Lengths | None, array: Globs, exclude: Globs
) -> list[str]:
    """The layout's options."""
    return options(
        along=along, chunks=lengths(chunks), chunk_size=chunk_size, shards=lengths(shards), array=globs(array), exclude=globs(exclude)
    )  # fmt: skip


def lengths(given: Lengths | None) -> list[str]:
    """As the command takes them: those of all arrays in one word, those of an array each in one of its own."""
    if given is None:
        return []
    if isinstance(given, str):
        return [given]
    if not isinstance(given, Mapping):
        return list(given)
    of_all = [f"{name}={length}" for name, length in given.items() if not isinstance(length, Mapping)]
    of_one = [f"{name}:{_joined(each)}" for name, each in given.items() if isinstance(each, Mapping)]
    return ([",".join(of_all)] if of_all else []) + of_one


def _joined(axes: _Axes) -> str:
    return ",".join(f"{name}={length}" for name, length in axes.items())


def globs(given: Globs) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def codecs(given: Codecs | None) -> list[str]:
    """As the command takes them: `SPEC`, or `ARRAY=SPEC`."""
    if given is None:
        return []
    if isinstance(given, Mapping):
        return [f"{name}={_codecs(each)}" for name, each in given.items()]
    return [_codecs(given)]


def _codecs(given: _Chain) -> str:
    return given if isinstance(given, str) else json.dumps(list(given))
