"""Running the command: its result from stdout, its warnings, its progress and its words from stderr."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from ._errors import RechunkError, RechunkWarning, failure
from ._lifeline import Lifeline

#: How long a command that was told to stop may take; it promises two seconds.
PATIENCE_SECONDS = 10


@functools.cache
def command_path() -> str:
    """The command that was installed with this package, wherever that is; else one on the PATH."""
    try:
        installed = importlib.metadata.files("rechunkfs") or []
    except importlib.metadata.PackageNotFoundError:
        installed = []
    ours = [str(file.locate()) for file in installed if file.name == "rechunkfs" and file.suffix == ""]
    path = next((path for path in ours if os.access(path, os.X_OK)), None) or shutil.which("rechunkfs")
    if path is None:
        raise RechunkError("the command rechunkfs is missing: install this package from its wheel (pip install rechunkfs)", 127)
    return os.path.abspath(path)


@dataclass
class Said:
    """What a command says on stderr, line by line."""

    words: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, line: str) -> dict[str, Any] | None:
        """Takes a line; returns it where it is one of progress."""
        line = line.rstrip("\n")
        if line.startswith("{"):
            try:
                progress: dict[str, Any] = json.loads(line)
                return progress
            except ValueError:
                pass
        if line.startswith("rechunkfs: warning: "):
            self.warnings.append(line.removeprefix("rechunkfs: warning: "))
        elif line.strip():
            self.words.append(line.removeprefix("rechunkfs: "))
        return None

    def warn(self) -> None:
        """Passes its warnings on, as those of the line that called this package."""
        frame, level = sys._getframe(1), 2
        while frame.f_back and os.path.dirname(frame.f_code.co_filename) == os.path.dirname(__file__):
            frame, level = frame.f_back, level + 1
        for text in self.warnings:
            warnings.warn(text, RechunkWarning, stacklevel=level)
        self.warnings.clear()


@dataclass
class Finished:
    """A command that has ended."""

    exit_code: int
    #: The JSON document that it printed; empty where it printed none.
    result: dict[str, Any]
    said: Said

    def error(self) -> RechunkError:
        """Why it failed, in its words."""
        words = "\n".join(self.said.words) or self.result.get("error") or self.result.get("summary")
        if self.exit_code < 0:
            words = f"rechunkfs was killed ({signal.Signals(-self.exit_code).name})" + (f": {words}" if words else "")
            return failure(words, 128 - self.exit_code)
        return failure(words or f"rechunkfs ended with exit code {self.exit_code}", self.exit_code)

    def checked(self) -> dict[str, Any]:
        """Its result, if it did not fail."""
        if self.exit_code:
            raise self.error()
        return self.result


def start(arguments: Sequence[str], lifeline: Lifeline | None, stdout: int | IO[Any], stderr: int | IO[Any]) -> subprocess.Popen[str]:
    """Starts the command, in a session of its own: a Ctrl-C is ours, and what it means to the command is said by us."""
    stdin = lifeline.command_end if lifeline else subprocess.DEVNULL
    try:
        return subprocess.Popen(
            [command_path(), *arguments], stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True, encoding="utf-8", errors="replace"
        )  # fmt: skip
    finally:
        if lifeline:
            os.close(lifeline.command_end)


def run(arguments: Sequence[str], on_progress: Callable[[dict[str, Any]], object] | None = None) -> Finished:
    """Runs the command to its end. Whatever ends the waiting, a Ctrl-C above all, stops the command first.

    With `on_progress` it is one that takes long, with `--until-eof` among its arguments.
    """
    said = Said()
    lifeline = Lifeline() if on_progress else None
    process, lines = None, _Lines()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as stdout:
        try:
            process = start(arguments, lifeline, stdout, subprocess.PIPE)
            lines.read(process)
            while (line := lines.queue.get()) is not None:
                progress = said.add(line)
                if progress is not None and on_progress:
                    on_progress(progress)
            exit_code = process.wait()
        except BaseException as cause:
            if process:
                _stop(process, lines, said)
            if isinstance(cause, KeyboardInterrupt) and said.words:
                raise KeyboardInterrupt("\n".join(said.words)) from None
            raise
        finally:
            if lifeline:
                lifeline.close()
        stdout.seek(0)
        finished = Finished(exit_code, _document(stdout), said)
    said.warn()
    return finished


class _Lines:
    """The lines of a command's stderr, and None at their end: waiting for a queue can be interrupted."""

    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def read(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr
        self._thread = threading.Thread(target=self._read, args=(process.stderr,), name="rechunkfs", daemon=True)
        self._thread.start()

    def _read(self, stderr: IO[str]) -> None:
        with stderr:
            for line in stderr:
                self.queue.put(line)
        self.queue.put(None)

    def rest(self) -> Iterator[str]:
        """Those of a command that has ended."""
        if self._thread:
            self._thread.join(PATIENCE_SECONDS)
        while not self.queue.empty():
            if (line := self.queue.get()) is not None:
                yield line


def _stop(process: subprocess.Popen[str], lines: _Lines, said: Said) -> None:
    """As Ctrl-C on a terminal would, with the words that it has for that; and not for ever."""
    try:
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:
        process.kill()
        process.wait()
    for line in lines.rest():
        said.add(line)


def _document(lines: Iterable[str]) -> dict[str, Any]:
    for line in lines:
        if line.startswith("{"):
            document: dict[str, Any] = json.loads(line)
            return document
    return {}
