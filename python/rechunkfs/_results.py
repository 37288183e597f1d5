"""What the command answers, as objects. Each is made of the fields of its JSON that it names."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")

#: The command's own answer, whole: newer commands may say more than this package has names for.
_Json = dict[str, Any]


@dataclass(frozen=True)
class SourceArray:
    """An array of a store."""

    path: str
    shape: tuple[int, ...]
    dimensions: tuple[str | None, ...]
    data_type: str
    codecs: tuple[str, ...]
    #: None where the array cannot be rechunked; `not_rechunkable_because` tells why.
    chunks: tuple[int, ...] | None
    shards: tuple[int, ...] | None
    not_rechunkable_because: str | None
    chunk_files_present: int
    chunk_files_expected: int | None
    present_is_a_lower_bound: bool


@dataclass(frozen=True)
class Suggestion:
    """A layout to try."""

    flags: str
    command: str

    @property
    def layout(self) -> dict[str, Any]:
        """As arguments: `rechunkfs.mount(store, **suggestion.layout)`."""
        flag, _, value = self.flags.partition(" ")
        return {flag.removeprefix("--").replace("-", "_"): value}


@dataclass(frozen=True)
class Inspection:
    """What a store holds."""

    source: str
    arrays: tuple[SourceArray, ...]
    #: None where no array has two axes.
    layout_to_try: Suggestion | None
    json: _Json = field(repr=False, compare=False)


@dataclass(frozen=True)
class ViewArray:
    """An array that a view shows in other chunks."""

    path: str
    shape: tuple[int, ...]
    source_chunks: tuple[int, ...]
    source_shards: tuple[int, ...] | None
    virtual_chunks: tuple[int, ...]
    virtual_shards: tuple[int, ...] | None
    chunk_bytes: int


@dataclass(frozen=True)
class PassedArray:
    """An array that a view shows as it is; `reason` tells why one could not be rechunked."""

    path: str
    reason: str | None


@dataclass(frozen=True)
class ArrayCost:
    """What reading an array of a view costs."""

    path: str
    first_read_files: int
    first_read_decoded_bytes: int
    sweep_decoded_bytes: int


@dataclass(frozen=True)
class Preview:
    """What a mount would show, and what reading would cost."""

    rechunked: tuple[ViewArray, ...]
    passed: tuple[PassedArray, ...]
    costs: tuple[ArrayCost, ...]
    json: _Json = field(repr=False, compare=False)


@dataclass(frozen=True)
class ViewError:
    """A read that failed, and how often."""

    message: str
    n: int
    last_unix_s: int


@dataclass(frozen=True)
class ViewStatus:
    """What a view has done since it was mounted."""

    reads: int
    hits: int
    failed: int
    errors: tuple[ViewError, ...]
    json: _Json = field(repr=False, compare=False)


@dataclass(frozen=True)
class MountStatus:
    """A mount. `state` is "serving", or what is wrong with it; `view` is there while it serves."""

    mountpoint: str
    source: str
    state: str
    pid: int | None
    log: str | None
    memory_bytes: int | None
    threads: int | None
    view: ViewStatus | None
    json: _Json = field(repr=False, compare=False)


@dataclass(frozen=True)
class Machine:
    """Whether this machine can mount, and if not, why not."""

    can_mount: bool
    why_not: str | None
    dev_fuse: bool
    fusermount3: str | None
    root: bool
    user_allow_other: bool


@dataclass(frozen=True)
class Status:
    """All mounts that can be seen from here, and the machine."""

    mounts: tuple[MountStatus, ...]
    machine: Machine
    json: _Json = field(repr=False, compare=False)


@dataclass(frozen=True)
class ArrayPlan:
    """How an array would be copied. With two passes, it goes through a temporary file."""

    path: str
    bytes: int
    passes: int
    tiles: int
    source_decodes: float
    read_bytes: int
    temp_bytes: int
    files: int


@dataclass(frozen=True)
class CheaperCodecs:
    """Codecs that take `time_share` of the time to encode, and `bytes_share` of the bytes."""

    codecs: str
    time_share: float
    bytes_share: float


@dataclass(frozen=True)
class Plan:
    """What a copy would take. What only a sample can tell is None where none was taken."""

    source: str
    target: str
    arrays: tuple[ArrayPlan, ...]
    bytes: int
    read_bytes: int
    written_bytes: int | None
    temp_bytes: int
    files: int
    free_bytes: int | None
    memory_bytes: int
    seconds_estimate: float | None
    cheaper: CheaperCodecs | None
    warnings: tuple[str, ...]
    json: _Json = field(repr=False, compare=False)


@dataclass(frozen=True)
class ArrayUpdate:
    """What has changed of an array, and what that touches. `state` is "new", "compared", "changed" or "same"; bytes are decoded ones."""

    path: str
    state: str
    source_chunks: int
    changed_source_chunks: int
    chunks: int
    touched_chunks: int
    bytes: int


@dataclass(frozen=True)
class UpdatePlan:
    """What an update would do. Where there is no copy yet it makes one, and `copy` says what that takes."""

    source: str
    target: str
    copy: Plan | None
    arrays: tuple[ArrayUpdate, ...]
    #: Decoded, of all that is made again.
    bytes: int
    #: Layouts that an epoch more would touch less of.
    appends: tuple[str, ...]
    memory_bytes: int
    json: _Json = field(repr=False, compare=False)


@dataclass(frozen=True)
class Copy:
    """What a copy did. `incomplete` is where it lies if something had to be left out (`failures`)."""

    source: str
    target: str
    seconds: float
    #: Decoded; what an earlier, stopped run had done of them.
    bytes: int
    resumed_bytes: int | None
    written_bytes: int
    files: int
    resumed: bool
    verified: bool
    #: Of an update: whether anything had to be done.
    changed: bool | None
    failures: tuple[str, ...]
    incomplete: str | None
    peak_rss_bytes: int | None
    json: _Json = field(repr=False, compare=False)


@dataclass(frozen=True)
class Difference:
    """Where two arrays differ, with both values as text."""

    at: tuple[int, ...]
    source: str
    target: str


@dataclass(frozen=True)
class ArrayComparison:
    """How an array compares: elements that differ, the first of them; or files, where its type is not known."""

    path: str
    elements: int
    bytes: int
    differences: int
    first: tuple[Difference, ...]
    files: tuple[str, ...]
    metadata: tuple[str, ...]
    error: str | None


@dataclass(frozen=True)
class GroupComparison:
    """What differs in the document of a group."""

    path: str
    metadata: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """How two stores compare. `seed` draws the same sample again."""

    arrays: tuple[ArrayComparison, ...]
    groups: tuple[GroupComparison, ...]
    differences: int
    elements: int
    bytes: int
    sampled: bool
    sampled_chunks: int | None
    seed: int | None
    seconds: float | None
    summary: str | None
    json: _Json = field(repr=False, compare=False)


@dataclass(frozen=True)
class Progress:
    """How far a copy or a comparison is. `share` goes from 0 to 1, `waits_for` is what most time goes to."""

    share: float
    done_bytes: int
    total_bytes: int
    written_bytes: int
    bytes_per_s: int
    seconds_left: int | None
    waits_for: str


def build(kind: type[T], answer: Mapping[str, Any]) -> T:
    """Makes a `kind` of an answer. What the answer does not say is None, nothing, or an error where neither will do."""
    hints = typing.get_type_hints(kind)
    values = {}
    for each in dataclasses.fields(kind):  # type: ignore[arg-type]
        values[each.name] = dict(answer) if each.name == "json" else _value(hints[each.name], answer.get(each.name), each.name)
    return kind(**values)


def _value(hint: Any, value: Any, name: str) -> Any:
    if isinstance(hint, types.UnionType):
        inner = [each for each in hint.__args__ if each is not type(None)]
        return None if value is None else _value(inner[0], value, name)
    if typing.get_origin(hint) is tuple:
        return tuple(_value(hint.__args__[0], each, name) for each in value or ())
    if value is None and hint is bool:
        return False
    if value is None:
        raise TypeError(f"the command's answer has no {name}: is it older than this package?")
    if dataclasses.is_dataclass(hint):
        return build(hint, value)  # type: ignore[arg-type]
    return value
