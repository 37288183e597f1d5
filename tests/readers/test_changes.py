"""A source that changes under a mount that does not follow it (`--refresh never`): old or an error, never a mixture."""

import errno
import os
import random
import shutil
import threading
import time

import numpy as np
import pytest
import zarr
from sources import LAYOUT, SHAPE, survey
from support import mounted


NEVER = [*LAYOUT, "--refresh", "never"]


def constant(value):
    return np.full(SHAPE, value, "f4")


def replace(folder, value, in_place):
    """All chunks of `mag` rewritten with one value: as zarr-python does it, by rename, or into the same inode."""
    fresh = folder.parent / "fresh.zarr"
    survey(fresh, values=constant(value))
    for chunk in sorted((fresh / "mag/c").rglob("*")):
        target = folder / chunk.relative_to(fresh)
        if chunk.is_file() and in_place:
            target.write_bytes(chunk.read_bytes())
        elif chunk.is_file():
            os.replace(chunk, target)
    shutil.rmtree(fresh)


def padded(value):
    return np.full((15, 23), value, "f4").tobytes()


@pytest.mark.parametrize("in_place", [False, True], ids=["renamed", "in-place"])
def test_a_rewritten_source_is_old_or_an_error_until_it_is_mounted_again(tmp_path, in_place):
    survey(tmp_path / "s.zarr", values=constant(1))
    with mounted(tmp_path / "s.zarr", *NEVER) as view:
        with open(view / "mag/c.0.0", "rb", buffering=0) as old:
            assert os.pread(old.fileno(), 512, 0) == padded(1)[:512]
            replace(tmp_path / "s.zarr", 2, in_place)
            try:
                assert os.pread(old.fileno(), 1 << 20, 512) == padded(1)[512:]
            except OSError as error:
                assert error.errno in (errno.EIO, errno.ESTALE)
        for chunk in range(6):
            assert read_or_none(view / f"mag/c.{chunk}.0") in (None, padded(1)), "neither old nor an error"
    with mounted(tmp_path / "s.zarr", *NEVER) as view:
        assert (view / "mag/c.1.0").read_bytes() == padded(2)


def read_or_none(path):
    try:
        return path.read_bytes()
    except OSError as error:
        assert error.errno in (errno.EIO, errno.ESTALE), error
        return None


@pytest.mark.parametrize("flags", [NEVER, LAYOUT, [*LAYOUT, "--refresh", "0"]], ids=["never", "by default", "at once"])
def test_no_read_is_torn_while_the_source_is_rewritten_all_the_time(tmp_path, flags):
    survey(tmp_path / "s.zarr", values=constant(0))
    stop = threading.Event()

    def rewrite():
        value = 0
        while not stop.is_set():
            value += 1
            replace(tmp_path / "s.zarr", value, in_place=value % 2 == 0)

    with mounted(tmp_path / "s.zarr", *flags) as view:
        writer = threading.Thread(target=rewrite)
        (view / "mag/c.0.0").read_bytes()  # without following, perhaps the only one that will ever be read
        writer.start()
        try:
            deadline, n_read = time.monotonic() + 6, 0
            while time.monotonic() < deadline:
                data = read_or_none(view / f"mag/c.{random.randrange(6)}.0")
                if data:
                    n_read += 1
                    # One source chunk is one value: columns may differ from each other, rows of one source chunk not.
                    rows = np.frombuffer(data, "f4").reshape(15, 23)
                    for column in rows.T:
                        borders = 1 + np.flatnonzero(np.diff(column))
                        assert len(borders) <= 1, column
            assert n_read
        finally:
            stop.set()
            writer.join()


def test_an_append_disturbs_no_reader_and_shows_up_when_mounted_again(tmp_path):
    mag = survey(tmp_path / "s.zarr", values=constant(1))
    with mounted(tmp_path / "s.zarr", *NEVER) as view:
        before = zarr.open_array(view / "mag", mode="r")
        assert before.shape == SHAPE
        assert before[3, 4] == 1
        with open(view / "mag/c.0.0", "rb", buffering=0) as old:
            mag.append(np.full((101, 2), 5, "f4"), axis=1)
            zarr.consolidate_metadata(tmp_path / "s.zarr")
            assert old.read() == padded(1)
        assert (before[...] == 1).all()  # who opened before reads on, right
        assert zarr.open_array(view / "mag", mode="r").shape == SHAPE
    with mounted(tmp_path / "s.zarr", *NEVER) as view:
        after = zarr.open_group(view, mode="r")["mag"]
        assert after.shape == (101, 25)
        assert (after[:, 23:] == 5).all() and (after[:, :23] == 1).all()
