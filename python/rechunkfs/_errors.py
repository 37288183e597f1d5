"""What the command refuses, with its words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._results import Comparison, Copy


class RechunkError(Exception):
    """The command failed; `exit_code` is its own."""

    exit_code = 1
    #: Of a copy with `keep_going` that had to leave something out: what it did.
    copy: Copy | None = None
    #: Of `verify`, and of a copy with `verify`: what was compared.
    comparison: Comparison | None = None

    def __init__(self, message: str, exit_code: int | None = None) -> None:
        super().__init__(message)
        if exit_code is not None:
            self.exit_code = exit_code


class UsageError(RechunkError, ValueError):
    """The arguments make no sense."""

    exit_code = 2


class DifferencesFound(RechunkError):
    """Two stores are not equal: `comparison` says where."""

    exit_code = 3


class Incomplete(RechunkError):
    """A copy was stopped, by a signal or a full disk. The same call with `resume=True` goes on with it."""

    exit_code = 4


class RechunkWarning(UserWarning):
    """What the command warns of."""


def failure(message: str, exit_code: int) -> RechunkError:
    """The exception for an exit code."""
    for kind in (UsageError, DifferencesFound, Incomplete):
        if exit_code == kind.exit_code:
            return kind(message)
    return RechunkError(message, exit_code)
