"""Mounting, unmounting, exec and status, as a user meets them."""

import ctypes
import json
import os
import signal
import stat
import subprocess
import time

import pytest
from sources import LAYOUT, root_of
from support import BINARY, is_mounted, mounted, rechunkfs


def test_mount_returns_to_a_caller_that_reads_its_pipes(source, tmp_path):
    view = tmp_path / "view"
    with mounted(root_of(source), *LAYOUT, at=tmp_path / "other"):
        run = subprocess.run([BINARY, "mount", root_of(source), view, *LAYOUT], capture_output=True, text=True, timeout=30)
        try:
            assert run.returncode == 0 and "mag" in run.stdout + run.stderr and "ra" in run.stdout + run.stderr
            assert (view / "mag/c.0.0").read_bytes()
        finally:
            assert rechunkfs("unmount", view).returncode == 0
        assert not is_mounted(view)


def test_the_mount_point_has_mode_000_afterwards(source, tmp_path):
    for existing in (False, True):
        view = tmp_path / f"view-{existing}"
        if existing:
            view.mkdir()
        assert rechunkfs("mount", root_of(source), view, *LAYOUT).returncode == 0
        assert rechunkfs("unmount", view).returncode == 0
        assert stat.S_IMODE(view.stat().st_mode) == 0 and not is_mounted(view)
        view.chmod(0o755)


def test_unmount_while_busy_names_who_and_offers_lazy(source):
    with mounted(root_of(source), *LAYOUT) as view, open(view / "mag/zarr.json", "rb"):
        run = rechunkfs("unmount", view)
        assert run.returncode == 1 and "--lazy" in run.stderr and str(os.getpid()) in run.stderr, run.stderr
        assert is_mounted(view)
        assert rechunkfs("unmount", view, "--lazy").returncode == 0
        assert not is_mounted(view)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda s: s.name)
def test_a_signal_unmounts_cleanly(source, tmp_path, sent):
    view = tmp_path / "view"
    with open(tmp_path / "log", "w+") as log:
        daemon = subprocess.Popen(
            [BINARY, "mount", root_of(source), view, *LAYOUT, "-f"],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            preexec_fn=default_signals,
        )
        try:
            deadline = time.monotonic() + 20
            while not is_mounted(view):
                assert daemon.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
                time.sleep(0.05)
            assert (view / "mag/c.0.0").read_bytes()
            daemon.send_signal(sent)
            daemon.wait(15)
            assert not is_mounted(view)
        finally:
            if daemon.poll() is None:
                daemon.kill()
            if is_mounted(view):
                subprocess.run(["umount", "-l", view], timeout=15)


def default_signals():
    """A run under nohup would have SIGHUP ignored; and the daemon dies with the test, whatever happens."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def test_exec_gives_the_view_and_the_exit_code(source):
    run = rechunkfs("exec", root_of(source), *LAYOUT, "--", "sh", "-c", "ls $0/mag && exit 7", "{}")
    assert run.returncode == 7 and "c.0.0" in run.stdout.split(), run.stderr


def test_status_lists_the_mount(source):
    with mounted(root_of(source), *LAYOUT) as view:
        assert str(view) in json.dumps(view.status())
        assert str(view) in rechunkfs("status").stdout
