"""Copies on a cluster of dask.distributed: processes of this machine, one of which is lost midway."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import distributed
import numpy as np
import pytest
import zarr

import rechunkfs

LAYOUT = {"chunks": {"object": 15, "epoch": "full"}, "codecs": "blosc:zstd:9:shuffle"}


@pytest.fixture
def client(tmp_path):
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, local_directory=str(tmp_path / "dask")
    ) as cluster, distributed.Client(cluster) as client:
        yield client


def same_as_read(source, target):
    want = zarr.open_group(source, mode="r")["lightcurves"][...]
    got = zarr.open_group(target, mode="r")["lightcurves"]
    assert got.chunks == (15, want.shape[1])
    np.testing.assert_array_equal(got[...], want)


def test_a_worker_is_killed_midway_and_the_copy_is_that_of_one_run(large, tmp_path, client):
    target, pids = tmp_path / "t.zarr", set(client.run(os.getpid).values())
    assert len(pids) == 2
    shares = Path(f"{target}.rechunkfs-partial") / "shares"

    def kill_when_begun():
        end = time.monotonic() + 60
        while not list(shares.glob("*/journal")):
            assert time.monotonic() < end, "no share is begun"
            time.sleep(0.002)
        os.kill(next(iter(pids)), signal.SIGKILL)

    killer = threading.Thread(target=kill_when_begun)
    killer.start()
    copy = rechunkfs.dask.materialize(large, target, **LAYOUT, client=client, partitions=6, memory="512M", verify=True)
    killer.join(60)
    assert copy.verified and copy.bytes == 2000 * 2000 * 4 and copy.files >= 134
    assert set(client.run(os.getpid).values()) != pids, "no worker was lost"
    same_as_read(large, target)
    assert not shares.parent.exists()


def test_the_same_call_goes_on_with_shares_that_are_made(epochs, tmp_path, client):
    target, layout = tmp_path / "t.zarr", {"chunks": {"object": 15, "epoch": "full"}}
    command = [sys.executable, "-m", "rechunkfs", "materialize", str(epochs), str(target), "--chunks=object=15,epoch=full"]
    subprocess.run([*command, "--partition=1/3"], check=True, timeout=60)
    copy = rechunkfs.dask.materialize(epochs, target, **layout, client=client, partitions=3)
    assert copy.resumed
    same_as_read(epochs, target)


def test_a_task_that_finishes_the_copy_finds_it_finished(epochs, tmp_path):
    target = tmp_path / "t.zarr"
    words = ["materialize", str(epochs), str(target), "--chunks=object=15,epoch=full", "--json"]
    subprocess.run([sys.executable, "-m", "rechunkfs", *words, "--partition=1/1"], check=True, timeout=60)
    assert rechunkfs.dask._finish(words, False).files
    assert rechunkfs.dask._finish(words, True).verified
    same_as_read(epochs, target)


def test_what_the_command_refuses_is_raised_here(epochs, tmp_path, client):
    with pytest.raises(rechunkfs.RechunkError, match="no dimension|nothing") as refused:
        rechunkfs.dask.materialize(epochs, tmp_path / "t.zarr", chunks={"nothing": 15}, client=client, retries=0)
    assert refused.value.exit_code


def test_without_dask_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match=r"rechunkfs\[dask\]"):
        rechunkfs.dask.materialize("a.zarr", "b.zarr", client=None)
