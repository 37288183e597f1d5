"""Stores, and the check after every test that it has left nothing behind."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

N_OBJECTS, N_EPOCHS = 400, 60


@pytest.fixture(scope="session")
def epochs(tmp_path_factory):
    """Light curves cut by epoch, no value twice, none of them NaN; and a column."""
    path = tmp_path_factory.mktemp("stores") / "epochs.zarr"
    values = np.arange(N_OBJECTS * N_EPOCHS, dtype="f4").reshape(N_OBJECTS, N_EPOCHS)
    dataset = xr.Dataset(
        {"lightcurves": (("object", "epoch"), values), "mag": ("object", values[:, 0])},
        coords={"epoch": np.arange(N_EPOCHS), "object": np.arange(N_OBJECTS)},
    )
    dataset.lightcurves.encoding = {"chunks": (N_OBJECTS, 1), "_FillValue": float("nan")}
    dataset.to_zarr(path, zarr_format=3, consolidated=False)
    return path


@pytest.fixture(scope="session")
def values(epochs):
    """What zarr-python reads from the source."""
    return zarr.open_group(epochs, mode="r")["lightcurves"][...]


@pytest.fixture(scope="session")
def large(tmp_path_factory):
    """16 MB: enough for a copy in slow codecs to be stopped."""
    path = tmp_path_factory.mktemp("stores") / "large.zarr"
    noise = np.random.default_rng(7).normal(20, 1, (2000, 2000)).round(3).astype("f4")
    array = zarr.open_group(path, mode="w").create_array(
        "lightcurves", shape=noise.shape, chunks=(2000, 50), dtype="f4", dimension_names=("object", "epoch")
    )
    array[...] = noise
    return path


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path, monkeypatch):
    """No mount, no child, no zombie, no folder: whatever a test did, and in whatever way it ended."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    yield
    wait_until(lambda: not mounts_below(tmp_path), f"nothing is mounted below {tmp_path}")
    wait_until(lambda: not commands_about(tmp_path), f"no command is left that knows of {tmp_path}")
    wait_until(lambda: not children(), "no child is left")


def wait_until(holds, what, seconds=20):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(0.02)


def mounts_below(folder):
    """Of the kernel's table: no question to a mount that may be dead."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        points = [line.split()[4] for line in table]
    return [point for point in points if point.startswith(f"{Path(folder).resolve()}/")]


def _processes():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
            words = Path(f"/proc/{pid}/cmdline").read_text()
        except OSError:
            continue
        name, (state, parent, *_) = stat[stat.index("(") + 1 : stat.rindex(")")], stat[stat.rindex(")") + 2 :].split()
        yield int(pid), name, state, int(parent), words


def children():
    """Of this process, by the name of the command: zombies, too."""
    return [(pid, name, state) for pid, name, state, parent, _ in _processes() if parent == os.getpid() and "rechunkfs" in name]


def commands_about(folder):
    return [pid for pid, name, state, _, words in _processes() if "rechunkfs" in name and str(folder) in words and state != "Z"]
