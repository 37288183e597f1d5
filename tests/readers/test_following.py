"""A source that goes on while it is mounted and read: by the readers that people use, with the caches that they have."""

import os
import time

import dask
import numpy as np
import pytest
import tensorstore
import xarray as xr
import zarr
from night_shift import night
from support import assert_same_store, mounted, rechunkfs

REFRESH = ["--refresh", "0.2"]
PATIENCE = 20


def until(what, holds):
    """Waits for a change to show, and not for ever."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.05)


def dataset(n_epochs, first=0):
    times = np.arange(first, first + n_epochs, dtype="f8")
    values = np.arange(30.0)[:, None] * 1000 + times
    return xr.Dataset({"mag": (("object", "epoch"), values.astype("f4"))}, {"epoch": times, "object": np.arange(30)})


def write(folder, n_epochs):
    dataset(n_epochs).to_zarr(folder, zarr_format=3, consolidated=True, encoding={"mag": {"chunks": (30, 1)}})


@pytest.mark.parametrize("chunks", ["object=7,epoch=full", "object=7,epoch=16"])
def test_xarray_appends_and_whoever_opens_then_sees_it(tmp_path, chunks):
    source = tmp_path / "s.zarr"
    write(source, 10)
    with mounted(source, "--chunks", chunks, *REFRESH) as view:
        before = xr.open_zarr(view, chunks=None)
        assert before.sizes["epoch"] == 10
        first = before.mag[3].values.copy()
        for n in range(10, 13):
            dataset(1, first=n).to_zarr(source, append_dim="epoch", consolidated=True)
            until("the epoch shows", lambda n=n: xr.open_zarr(view, chunks=None).sizes["epoch"] == n + 1)
            until("its values do", lambda: xr.open_zarr(view, chunks=None).identical(xr.open_zarr(source, chunks=None)))
        assert (before.mag[3].values == first).all() and (before.mag[29].values == np.arange(10) + 29000).all()
        assert_same_store(view, source)


def test_zarr_python_resizes_both_ways(tmp_path):
    source = tmp_path / "s.zarr"
    group = zarr.open_group(source, mode="w")
    options = {"dtype": "f4", "fill_value": -1, "dimension_names": ("object", "epoch")}
    array = group.create_array("mag", shape=(20, 10), chunks=(8, 3), **options)
    array[...] = np.arange(200).reshape(20, 10)
    with mounted(source, "--chunks", "object=5,epoch=4", *REFRESH) as view:
        shown = lambda: zarr.open_group(view, mode="r")["mag"]  # noqa: E731
        assert (shown()[...] == array[...]).all()
        for shape in ((20, 25), (31, 25), (31, 4), (6, 4), (40, 40)):
            array.resize(shape)
            array[-3:, -2:] = shape[0]
            until(f"{shape} shows", lambda shape=shape: shown().shape == shape)
            until("its values do", lambda: (shown()[...] == array[...]).all())
        array.append(np.full((40, 3), 7, "f4"), axis=1)
        until("the append shows", lambda: shown().shape == (40, 43) and (shown()[...] == array[...]).all())


@pytest.fixture
def survey_of_two(tmp_path):
    """Epochs allocated in full, of which the last is not there yet."""
    source = tmp_path / "s.zarr"
    group = zarr.open_group(source, mode="w")
    options = {"dtype": "f4", "fill_value": float("nan"), "dimension_names": ("object", "epoch")}
    array = group.create_array("mag", shape=(30, 4), chunks=(30, 1), **options)
    array[:, :3] = np.arange(90).reshape(30, 3)
    zarr.consolidate_metadata(source)
    with mounted(source, "--chunks", "object=7,epoch=full", *REFRESH) as view:
        yield array, view


def test_tensorstore_with_a_cache_sees_old_before_and_new_after(survey_of_two):
    array, view = survey_of_two
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": f"{view}/mag/"},
        "context": {"cache_pool": {"total_bytes_limit": 10_000_000}},
        "recheck_cached_data": True,
    }
    shown = tensorstore.open(spec, read=True).result()
    same = lambda: np.array_equal(shown[...].read().result(), array[...], equal_nan=True)  # noqa: E731
    assert same()
    array[:, 3] = 5
    until("the new epoch shows", same)
    array[:, 1] = -array[:, 1]
    until("the reprocessed epoch shows", same)


def test_tokens_of_dask_move_with_the_content(survey_of_two):
    array, view = survey_of_two
    token = lambda: dask.base.tokenize(xr.open_zarr(view).mag.data)  # noqa: E731
    first = token()
    assert token() == first
    assert np.isnan(xr.open_zarr(view).mag.data[:, 3].compute()).all()
    assert token() == first, "reading changes nothing"
    array[:, 3] = 5
    until("the token moves", lambda: token() != first)
    assert (xr.open_zarr(view).mag.data[:, 3].compute() == 5).all()
    second = token()
    time.sleep(1)
    assert token() == second
    array[:, 0] = 6
    until("the token moves", lambda: token() != second)
    assert (xr.open_zarr(view).mag.data[:, 0].compute() == 6).all()


def test_the_kernels_cache_shows_old_to_who_has_it_open_and_new_to_who_opens_it(survey_of_two):
    array, view = survey_of_two
    path = view / "mag/c.1.0"
    with open(path, "rb", buffering=0) as old:
        before, stat = old.read(), os.fstat(old.fileno())
        array[:, 3] = 5
        until("the new epoch shows", lambda: path.read_bytes() != before)
        assert os.pread(old.fileno(), len(before), 0) == before
        assert (os.fstat(old.fileno()).st_ino, os.fstat(old.fileno()).st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns)
        assert (path.stat().st_ino, path.stat().st_mtime_ns) != (stat.st_ino, stat.st_mtime_ns)


def test_an_array_that_fills_up_is_listed_as_it_does(tmp_path):
    source = tmp_path / "s.zarr"
    group = zarr.open_group(source, mode="w")
    array = group.create_array("mag", shape=(30, 6), chunks=(30, 1), dtype="f4", fill_value=0)
    with mounted(source, "--array", "mag", "--chunks", "0=10,1=2", *REFRESH) as view:
        assert os.listdir(view / "mag") == ["zarr.json"]
        for epoch in range(6):
            array[:, epoch] = epoch + 1
            chunks = [f"c.{row}.{column}" for row in range(3) for column in range(epoch // 2 + 1)]
            until("its chunks are listed", lambda chunks=chunks: sorted(os.listdir(view / "mag")) == [*chunks, "zarr.json"])
        until("its values show", lambda: (zarr.open_group(view, mode="r")["mag"][...] == array[...]).all())


def test_status_tells_how_the_source_is_followed(survey_of_two):
    array, view = survey_of_two
    (view / "mag/c.0.0").read_bytes()
    array[:, 3] = 5
    until("the change is counted", lambda: (view / "mag/c.0.0").exists() and view.status()["view"]["refresh"]["changed_files"] == 1)
    refresh = view.status()["view"]["refresh"]
    assert refresh["seconds"] == 0.2 and refresh["footprints"]["interval_s"] >= 0.2, refresh
    assert "changed files: 1" in rechunkfs("status", view).stdout


def test_a_night_shift_and_its_reprocessing(tmp_path):
    """A small one; night_shift.py by itself is the whole two minutes of it."""
    night(tmp_path, n_objects=3_000, n_epochs=60, seconds=9, n_readers=4, flags=("--refresh", "0.3"))
