"""A copy that is stopped, by kill, by signal, by a full disk, goes on where it was; the result is that of one that was not."""

import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager

import pytest
from copies import (
    SIGNAL_SECONDS,
    SLOW,
    assert_same_tree,
    copy,
    copying,
    files_written,
    go_on,
    halt,
    partial,
    report,
    slow_source,
    stopped,
    tree,
    verify,
)
from support import BINARY

N_KILLS = int(os.environ.get("RECHUNKFS_KILLS", 20))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return slow_source(tmp_path_factory.mktemp("slow") / "s.zarr")


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    """(tree of a copy that nothing interrupted, seconds it took)."""
    target = tmp_path_factory.mktemp("whole") / "t.zarr"
    start = time.monotonic()
    copy(source, target, *SLOW)
    seconds = time.monotonic() - start
    verify(source, target)
    return tree(target), seconds


# -- kill -----------------------------------------------------------------------------------------------


def test_killed_at_any_moment_it_goes_on_to_the_same_result(source, whole, tmp_path):
    want, seconds = whole
    moments, target, n_kills = random.Random(20), tmp_path / "t.zarr", 0
    deadline = time.monotonic() + 120
    while n_kills < N_KILLS and time.monotonic() < deadline:
        with copying(source, target, *SLOW, "--resume") as process:
            try:
                process.wait(moments.uniform(0, 0.4 * seconds))
            except subprocess.TimeoutExpired:
                process.kill()
                n_kills += 1
            code = process.wait(30)
        if target.exists():  # from one instant to the next all of it, whether or not the kill came after
            assert_same_tree(target, want)
            shutil.rmtree(target)
        else:
            assert code == -signal.SIGKILL, process.log.read_text()
    assert n_kills == N_KILLS, f"{n_kills} kills"
    copy(source, target, *SLOW, "--resume")
    assert_same_tree(target, want)


def test_resume_does_not_begin_again(source, whole, tmp_path):
    """What the journal names when nearly all is done is still the same file afterwards."""
    want, _ = whole
    target = tmp_path / "t.zarr"
    stopped(source, target, *SLOW, n_files=700)
    commits = [json.loads(line.split(b" ", 1)[1]) for line in (partial(target) / "journal").read_bytes().splitlines()[1:]]
    committed = sum(n for commit in commits for array in commit["arrays"].values() for _, n in array["files"])
    before = {p.relative_to(partial(target) / "store"): p.stat() for p in (partial(target) / "store").rglob("0") if p.is_file()}
    assert report(source, target, *SLOW, "--resume")["resumed"] is True
    kept = [p for p, s in before.items() if ((now := (target / p).stat()).st_ino, now.st_mtime_ns) == (s.st_ino, s.st_mtime_ns)]
    assert len(kept) >= committed > 0, f"{len(kept)} of {len(before)} files were kept, {committed} were committed"
    assert_same_tree(target, want)


# -- signals --------------------------------------------------------------------------------------------


def command_in(text):
    """The command that goes on, as words, from what was said; whatever the path that the program was started by."""
    found = [match for line in text.splitlines() if (match := re.search(r"(\S*rechunkfs materialize .*--resume.*)", line))]
    assert found, f"no command that goes on: {text}"
    words = shlex.split(found[-1].group(1).strip().strip("`").rstrip("."))
    return [str(BINARY), *words[1:]]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1], ids=lambda s: s.name)
def test_a_signal_stops_it_soon_and_it_says_how_to_go_on(source, whole, tmp_path, sent):
    target = tmp_path / "a copy.zarr"  # the command has to be quoted
    with copying(source, target, *SLOW) as process:
        halt(process, lambda: files_written(target) >= 20)
        process.send_signal(sent)
        start = time.monotonic()
        go_on(process)
        code = process.wait(30)
        assert time.monotonic() - start < SIGNAL_SECONDS
    assert code == 4, process.log.read_text()
    assert not target.exists() and partial(target).is_dir()
    run = subprocess.run(command_in(process.log.read_text()), capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    assert_same_tree(target, whole[0])


# -- the journal ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unfinished(source, tmp_path_factory):
    """What a killed copy left, to be damaged in copies of it."""
    return stopped(source, tmp_path_factory.mktemp("unfinished") / "t.zarr", *SLOW, n_files=700)


def cut(data, at):
    return data[:at]


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :]


def zeroed(data, at):
    """A block that never reached the disk."""
    return data[:at] + bytes(min(512, len(data) - at)) + data[at + 512 :]


def doubled(data, at):
    return data + data[at:]


DAMAGE = [(cut, 0.0), (cut, 0.001), (cut, 0.3), (cut, 0.5), (cut, 0.9), (cut, 0.9999), (flipped, 0.0), (flipped, 0.01),
          (flipped, 0.1), (flipped, 0.4), (flipped, 0.6), (flipped, 0.95), (zeroed, 0.5), (doubled, 0.5)]  # fmt: skip


@pytest.mark.parametrize("damage, share", DAMAGE, ids=lambda v: getattr(v, "__name__", v))
def test_a_damaged_journal_is_used_as_far_as_it_is_sound_or_refused(source, whole, unfinished, tmp_path, damage, share):
    target = tmp_path / "t.zarr"
    # The journal may name its target, so the copy is made where the first was; links would share what is written to.
    shutil.copytree(unfinished, partial(target))
    journal = partial(target) / "journal"
    data = journal.read_bytes()
    journal.write_bytes(damage(data, min(int(share * len(data)), len(data) - 1)))
    with copying(source, target, *SLOW, "--resume") as process:
        code = process.wait(120)
    if code:
        assert code == 1 and not target.exists(), f"exit {code}: {process.log.read_text()}"
        assert "journal" in process.log.read_text() or "--overwrite" in process.log.read_text(), process.log.read_text()
        copy(source, target, *SLOW, "--overwrite")
    assert_same_tree(target, whole[0])


# -- a full disk ----------------------------------------------------------------------------------------


@contextmanager
def small_disk(folder, size):
    """A file system of its own. Where there is none to be had the test is skipped: it must not look as if it had passed."""
    folder.mkdir()
    run = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, text=True)
    if run.returncode:
        pytest.skip(f"cannot mount a small file system: {run.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True, timeout=30)


@pytest.mark.parametrize("size", ["1m", "4m"])
def test_a_full_disk_stops_it_and_with_more_room_it_goes_on(source, whole, tmp_path, size):
    with small_disk(tmp_path / "disk", size) as disk:
        target = disk / "t.zarr"
        run = copy(source, target, *SLOW, code=4)
        assert "--resume" in run.stderr and not target.exists(), run.stderr
        again = copy(source, target, *SLOW, "--resume", code=4)  # nothing has changed, and nothing breaks
        assert command_in(again.stderr)
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True, timeout=30)
        copy(source, target, *SLOW, "--resume")
        verify(source, target)
        assert_same_tree(target, whole[0])
