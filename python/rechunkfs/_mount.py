"""Views mounted by this process, for as long as it wants them and no longer than it lives.

A view of ours lies in a temporary folder:

    FOLDER/mounted/epochs.zarr     the mount point
    FOLDER/view -> mounted         its users go by FOLDER/view/epochs.zarr

At the end `view` becomes a link to itself, in one step and before anything is unmounted, and stays so until the interpreter
ends. A chunk that is not there reads as fill value: whoever goes on reading, a lazy dataset above all, must find an error (here
ELOOP), and no mode of a directory would be one to root.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import tempfile
import threading
import warnings
from contextlib import suppress
from multiprocessing.util import Finalize
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from ._arguments import Globs, Lengths, Size, Store, layout, options, store
from ._command import PATIENCE_SECONDS, Finished, Said, command_path, start
from ._errors import RechunkError, failure
from ._lifeline import Lifeline
from ._looks import status
from ._results import MountStatus, PassedArray, ViewArray, build

#: A view ends at once where nobody has files open.
_END_SECONDS = 1

_log = logging.getLogger("rechunkfs")


class Mount:
    """A view that is mounted; made by `mount`. As a context it gives its path, and is unmounted at its end."""

    #: Where to read: a Zarr store.
    path: Path
    source: str
    rechunked: tuple[ViewArray, ...]
    passed: tuple[PassedArray, ...]
    #: The process that serves it, and its log.
    pid: int
    log: str | None

    def __init__(self, place: _Place, server: _Server, answer: dict[str, Any]) -> None:
        self.path = place.path
        self.source = str(answer["source"])
        self.rechunked = tuple(build(ViewArray, array) for array in answer["rechunked"])
        self.passed = tuple(build(PassedArray, array) for array in answer["passed"])
        self.pid = int(answer["pid"])
        self.log = answer.get("log")
        self._place, self._server = place, server
        self._owner = os.getpid()
        self._ending = threading.Lock()
        self._is_over = False
        _mounts.add(self)
        threading.Thread(target=self._watch, name="rechunkfs", daemon=True).start()

    def status(self) -> MountStatus:
        """What it has done, with its last errors."""
        return status(self._place.point)

    @property
    def closed(self) -> bool:
        """Whether it was unmounted, by us or by others."""
        return self._is_over or self._server.ended.is_set()

    def unmount(self) -> None:
        """Unmounts it. Files that are still open stay readable until they are closed; what is opened from now on is an error.

        Does nothing where that is done already, and in a fork of the process that mounted.
        """
        if os.getpid() != self._owner:
            return
        with self._ending:
            if self._is_over:
                return
            self._place.close()
            _detach(self._place.point)
            # Else it would be tried again when the interpreter ends.
            self._is_over = True
            _mounts.discard(self)
            if self._server.ended.wait(_END_SECONDS):
                self._server.let_go()
                self._place.clear()
            else:
                text = f"{self.path}: files of the view are still open; they stay readable until they are closed"
                warnings.warn(text, ResourceWarning, stacklevel=2)

    def _watch(self) -> None:
        # Waiting for it also takes it out of the table of processes.
        self._server.process.wait()
        self._server.ended.set()
        with self._ending:
            if not self._is_over:
                self._place.close()
                _log.warning("%s was unmounted, or its server has died; see %s", self.path, self.log)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.unmount()

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        arrays = ", ".join(f"{array.path or '/'} in {array.virtual_chunks}" for array in self.rechunked)
        return f"<rechunkfs.Mount {self.path} of {self.source}: {arrays}{' (unmounted)' if self.closed else ''}>"


def mount(
    source: Store,
    *,
    along: str | None = None,
    chunks: Lengths | None = None,
    chunk_size: Size | None = None,
    shards: Lengths | None = None,
    array: Globs = (),
    exclude: Globs = (),
    memory: Size | None = None,
    threads: int | None = None,
    cache_dir: Store | None = None,
    cache_size: Size | None = None,
    refresh: float | str | None = None,
    mountpoint: Store | None = None,
    allow_other: bool = False,
    allow_root: bool = False,
    replace_stale: bool = False,
) -> Mount:
    """Mounts the view of `source`.

        with rechunkfs.mount("epochs.zarr", along="epoch") as path:
            xr.open_zarr(path)

    Without `with` it stays mounted until `unmount()`, or until the interpreter ends, however it does. It is there for all processes of
    this user. After it was unmounted, reading from its path is an error and never fill values: also for a dataset opened before.

    `mountpoint` is a directory, empty or not there, instead of a temporary one. It is left with mode 000, as the command leaves it: an
    error to late readers, but to root an empty directory.
    """
    words = layout(along, chunks, chunk_size, shards, array, exclude)
    words += options(
        memory=memory, threads=threads, cache_dir=None if cache_dir is None else store(cache_dir), cache_size=cache_size,
        refresh=refresh, allow_other=allow_other, allow_root=allow_root, replace_stale=replace_stale,
        json=True, until_eof=True,
    )  # fmt: skip
    address = store(source)
    place = _Place(address) if mountpoint is None else _Place.at(store(mountpoint))
    server = None
    try:
        server = _Server(["mount", address, place.point, *words], place.point)
        return Mount(place, server, server.answer)
    except BaseException:
        if server:
            server.let_go()
            _end(server.process, place.point)
        place.remove()
        raise


class _Place:
    """Where a view is mounted."""

    def __init__(self, address: str) -> None:
        name = os.path.basename(address.rstrip("/")) or "view.zarr"
        self._folder: str | None = os.path.realpath(tempfile.mkdtemp(prefix="rechunkfs-"))
        os.mkdir(os.path.join(self._folder, "mounted"), 0o700)
        os.symlink("mounted", os.path.join(self._folder, "view"))
        self.point = os.path.join(self._folder, "mounted", name)
        self.path = Path(self._folder, "view", name)

    @classmethod
    def at(cls, mountpoint: str) -> _Place:
        """At a place of the user's: nothing of it is ours to close or remove."""
        place = cls.__new__(cls)
        place._folder, place.point, place.path = None, mountpoint, Path(mountpoint)
        return place

    def close(self) -> None:
        """From now on its path is an error."""
        if self._folder:
            closed = os.path.join(self._folder, "closed")
            os.symlink("view", closed)
            os.replace(closed, os.path.join(self._folder, "view"))
            _closed.add(self)

    def clear(self) -> None:
        """Closes the mount point itself, for whoever had the link resolved."""
        if self._folder:
            with suppress(OSError):
                os.rmdir(self.point)
                os.symlink(os.path.basename(self.point), self.point)

    def remove(self) -> None:
        """All of it, now that nobody is to come any more. What is still mounted stays: nothing goes down into folders here."""
        _closed.discard(self)
        if self._folder:
            for remove in (os.unlink, os.rmdir):
                with suppress(OSError):
                    remove(self.point)
            with suppress(OSError):
                os.rmdir(os.path.join(self._folder, "mounted"))
                os.unlink(os.path.join(self._folder, "view"))
                os.rmdir(self._folder)


class _Server:
    """The process that serves a view, up to its last answer."""

    def __init__(self, arguments: list[str], point: str) -> None:
        self.ended = threading.Event()
        self._lifeline = Lifeline()
        process = None
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as stderr:
            try:
                process = start(arguments, self._lifeline, subprocess.PIPE, stderr)
                self.answer = self._first_answer(process, stderr)
            except BaseException:
                self._lifeline.close()
                if process:
                    _end(process, point)
                raise
        self.process = process

    @staticmethod
    def _first_answer(process: subprocess.Popen[str], stderr: IO[str]) -> dict[str, Any]:
        assert process.stdout
        with process.stdout as stdout:
            line = stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line.startswith("{") else {}
        said = Said()
        if answer.get("rechunkfs") != "mount":
            exit_code = process.wait()
            stderr.seek(0)
            for each in stderr:
                said.add(each)
            raise Finished(exit_code, answer, said).error()
        stderr.seek(0)
        for each in stderr:
            said.add(each)
        for words in said.words:
            _log.info("%s", words)
        said.warn()
        return answer

    def let_go(self) -> None:
        """It ends: at once where nobody has files open, else with our end of them."""
        self._lifeline.close()


def _end(process: subprocess.Popen[str], point: str) -> None:
    """A server that was not heard out: its input has ended, so it unmounts and ends."""
    try:
        process.wait(PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        # What it may have mounted is dead.
        with suppress(RechunkError):
            _detach(point)


def _detach(point: str) -> None:
    """Unmounts what is at `point`, if anything is; without a thread, which cannot be had when the interpreter ends."""
    command = [command_path(), "unmount", point, "--lazy"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, start_new_session=True, timeout=PATIENCE_SECONDS)
    words = done.stderr.strip().removeprefix("rechunkfs: ")
    if done.returncode and "is not mounted" not in words:
        raise failure(words, done.returncode)


#: What is mounted, and what was and is closed.
_mounts: set[Mount] = set()
_closed: set[_Place] = set()


def _end_all() -> None:
    for mounted in list(_mounts):
        mounted._is_over = True
        mounted._place.close()
        with suppress(Exception):
            _detach(mounted._place.point)
        mounted._server.let_go()
        mounted._server.ended.wait(_END_SECONDS)
    for place in list(_closed):
        place.remove()


def _forget_all() -> None:
    _mounts.clear()
    _closed.clear()


# After the children of `multiprocessing` have been waited for (hence below 0), who may still read.
Finalize(None, _end_all, exitpriority=-100)
# They are their maker's, not its fork's.
os.register_at_fork(after_in_child=_forget_all)
