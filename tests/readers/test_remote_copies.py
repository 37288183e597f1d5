"""Copies of, and comparisons with, stores behind URLs: against the same from the store's directory."""

import shutil

import numpy as np
import pytest
import zarr
from copies import RECORDS, copy, touched, tree, update, verify
from support import assert_same_store, rechunkfs
from test_remote import LAYOUT, bucket, served, url_of  # noqa: F401


@pytest.fixture
def store(bucket):  # noqa: F811
    """With what passes through: groups, an array of many small chunks, and one that nobody wrote."""
    store = bucket / "bucket/deep/s.zarr"
    group = zarr.open_group(store, mode="r+")
    nights = group.create_group("nights/late", attributes={"n": 2})
    nights.create_array("n", shape=(40, 6), chunks=(2, 3), dtype="i4", dimension_names=["x", "y"])[...] = np.arange(240).reshape(40, 6)
    nights.create_array("none", shape=(4,), chunks=(2,), dtype="i4", fill_value=7, dimension_names=["x"])
    zarr.consolidate_metadata(store)
    return store


def contents(folder):
    """All but what a copy remembers of its source, which has another name."""
    return {name: content for name, content in tree(folder).items() if name.rsplit("/", 1)[-1] not in RECORDS}


@pytest.mark.parametrize("scheme", ["s3", "http"])
def test_a_copy_from_a_url_is_the_copy_of_its_directory(bucket, store, tmp_path, scheme):  # noqa: F811
    copy(store, tmp_path / "local.zarr", *LAYOUT)
    with served(bucket) as server:
        url, options = url_of(server, scheme)
        copy(url, tmp_path / "copy.zarr", *LAYOUT, *options, "--verify")
        assert contents(tmp_path / "copy.zarr") == contents(tmp_path / "local.zarr")
        assert_same_store(tmp_path / "copy.zarr", store)
        verify(url, tmp_path / "copy.zarr", *options)
        # Either side may be behind a URL.
        shutil.copytree(tmp_path / "copy.zarr", bucket / "bucket/copy.zarr")
        there = url.replace("deep/s.zarr", "copy.zarr")
        verify(store, there, *options)
        chunk = next(path for path in sorted((bucket / "bucket/copy.zarr/nights/late/n/c").rglob("*")) if path.is_file())
        chunk.unlink()
        verify(store, there, *options, code=3)
        assert server.requests()["most_at_once"] > 4, "requests wait for each other"


def test_faults_cost_a_copy_time_and_nothing_else(bucket, store, tmp_path):  # noqa: F811
    copy(store, tmp_path / "local.zarr", *LAYOUT)
    with served(bucket, "--delay", "0.005", "--fault", "5") as server:
        url, options = url_of(server, "s3")
        copy(url, tmp_path / "copy.zarr", *LAYOUT, *options)
        assert server.requests()["faults"] > 5
    assert contents(tmp_path / "copy.zarr") == contents(tmp_path / "local.zarr")


def test_a_copy_asks_for_each_file_about_once(bucket, store, tmp_path):  # noqa: F811
    n_files = sum(path.is_file() for path in store.rglob("*"))
    with served(bucket) as server:
        url, options = url_of(server, "s3")
        copy(url, tmp_path / "copy.zarr", *LAYOUT, *options)
        counts = server.requests()
    assert counts["get"] <= 2.2 * n_files and counts["head"] <= n_files, (counts, n_files)


def test_an_update_from_a_url_brings_what_has_changed(bucket, store, tmp_path):  # noqa: F811
    with served(bucket) as server:
        url, options = url_of(server, "s3")
        copy(url, tmp_path / "copy.zarr", *LAYOUT, *options)
        assert touched(update(url, tmp_path / "copy.zarr", *options)) == {}
        group = zarr.open_group(store, mode="r+")
        group["mag"][:5] = group["mag"][:5] + 1
        group["nights/late/n"][:2] = 5
        next(path for path in (store / "nights/late/n/c/9").iterdir()).unlink()
        assert "mag" in touched(update(url, tmp_path / "copy.zarr", *options))
        assert_same_store(tmp_path / "copy.zarr", store)
        verify(url, tmp_path / "copy.zarr", *options)


def test_a_source_that_changes_during_the_copy_is_found_out(bucket, store, tmp_path):  # noqa: F811
    with served(bucket) as server:
        url, options = url_of(server, "s3")
        run = rechunkfs("materialize", url, tmp_path / "copy.zarr", *LAYOUT, *options, "--partition", "1/2")
        assert run.returncode == 0, run.stderr
        group = zarr.open_group(store, mode="r+")
        group["mag"][...] = group["mag"][...] + 1
        outcomes = [
            rechunkfs("materialize", url, tmp_path / "copy.zarr", *LAYOUT, *options, *how)
            for how in (["--partition", "2/2"], ["--finish"])
        ]
        assert outcomes[-1].returncode and "changed" in outcomes[-1].stderr, outcomes
        assert not (tmp_path / "copy.zarr").exists()


def test_what_is_denied_is_no_source_without_chunks(bucket, store, tmp_path):  # noqa: F811
    with served(bucket, "--denied") as server:
        url, options = url_of(server, "s3")
        run = rechunkfs("materialize", url, tmp_path / "copy.zarr", *LAYOUT, *options, "--json")
        assert run.returncode == 1 and "InvalidAccessKeyId" in run.stderr
        assert not (tmp_path / "copy.zarr").exists()
