"""Pipes that tell commands that this process lives.

A command that was started with `--until-eof` ends when its standard input does. The other end is held here and nowhere else:
so however this process ends, by a kill, too, its commands end, and nothing stays mounted.
"""

from __future__ import annotations

import os
import threading

_lock = threading.RLock()
_ends: set[int] = set()


class Lifeline:
    """The end of such a pipe. `command_end` is for the command's standard input, and to be closed here then."""

    def __init__(self) -> None:
        # Not between the pipe and the note of it may another thread fork.
        with _lock:
            self.command_end, self._own_end = os.pipe()
            _ends.add(self._own_end)
        self._pid = os.getpid()

    def close(self) -> None:
        """Lets go: the command ends."""
        with _lock:
            if self._pid == os.getpid() and self._own_end in _ends:
                _ends.remove(self._own_end)
                os.close(self._own_end)


def _let_go_in_child() -> None:
    # Programs that are executed get none of them (descriptors are not inheritable), but a fork has a copy of each.
    for end in _ends:
        os.close(end)
    _ends.clear()
    _lock.release()


os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_let_go_in_child)
