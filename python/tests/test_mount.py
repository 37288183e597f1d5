"""A view for as long as it is wanted: in a block, in an interpreter, in threads and in processes."""

import errno
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from conftest import N_EPOCHS, children, commands_about, mounts_below, wait_until

import rechunkfs

BY_OBJECT = {"object": 15, "epoch": "full"}


def read(path, object_idx):
    return zarr.open_group(path, mode="r")["lightcurves"][object_idx]


# -- a block ----------------------------------------------------------------------------------------------


def test_a_block_has_the_view_and_then_it_is_gone(epochs, values, tmp_path):
    with rechunkfs.mount(epochs, chunks=BY_OBJECT) as path:
        array = zarr.open_group(path, mode="r")["lightcurves"]
        assert array.chunks == (15, N_EPOCHS)
        assert array[...].tobytes() == values.tobytes()
        assert xr.open_zarr(path).identical(xr.open_zarr(epochs, consolidated=False))
        assert mounts_below(tmp_path)
    assert not mounts_below(tmp_path) and not children()


def test_a_view_follows_its_source(epochs, tmp_path):
    source = tmp_path / "growing.zarr"
    shutil.copytree(epochs, source)
    with rechunkfs.mount(source, chunks=BY_OBJECT, refresh=0) as path, rechunkfs.mount(source, chunks=BY_OBJECT, refresh="never") as still:
        before = read(path, 3)
        assert read(still, 3).tobytes() == before.tobytes()
        zarr.open_group(source)["lightcurves"][:, 33] = -1
        assert read(path, 3)[33] == -1
        assert read(still, 3).tobytes() == before.tobytes()


def test_a_mount_says_what_it_shows(epochs):
    with (view := rechunkfs.mount(str(epochs), along="epoch", chunk_size="64KiB", array="light*", memory="512MiB", threads=1)) as path:
        assert [(array.path, array.source_chunks) for array in view.rechunked] == [("lightcurves", (400, 1))]
        assert {array.path for array in view.passed} == {"mag", "object", "epoch"}
        read(path, 0)
        status = view.status()
        assert (status.state, status.threads, status.memory_bytes) == ("serving", 1, 512 << 20)
        assert status.view and status.view.reads > 0 and status.view.errors == ()
        assert rechunkfs.status(path) == rechunkfs.status(view)
        assert status.mountpoint in [mounted.mountpoint for mounted in rechunkfs.status().mounts]
        assert str(path) in repr(view) and "lightcurves" in repr(view)
    assert view.closed and "unmounted" in repr(view)
    view.unmount()  # Once more does nothing.


def test_shards_and_a_layout_of_its_own(epochs, values):
    layout = {"object": 10, "lightcurves": {"object": 20, "epoch": "full"}}
    with rechunkfs.mount(epochs, chunks=layout, shards={"object": 100, "epoch": "full"}, array=("lightcurves", "mag")) as path:
        group = zarr.open_group(path, mode="r")
        assert (group["lightcurves"].chunks, group["lightcurves"].shards) == ((20, 60), (100, 60))
        assert group["lightcurves"][...].tobytes() == values.tobytes()
        assert group["mag"].chunks == (10,)


def test_a_cache_on_disk_and_a_mount_point_of_ones_own(epochs, tmp_path):
    point = tmp_path / "objects.zarr"
    for _ in range(2):
        with rechunkfs.mount(epochs, chunks=BY_OBJECT, mountpoint=point, cache_dir=tmp_path / "kept", cache_size="1GiB") as path:
            assert path == point
            read(path, 0)
    assert point.stat().st_mode & 0o777 == 0
    assert any((tmp_path / "kept").iterdir())


def test_what_is_read_after_the_block_is_an_error_and_never_a_fill_value(epochs):
    """The mistake that lazy datasets invite. As root too, whom no mode of a directory keeps out."""
    with rechunkfs.mount(epochs, chunks=BY_OBJECT) as path:
        array = zarr.open_group(path, mode="r")["lightcurves"]
        lazy = xr.open_zarr(path).lightcurves
        array[0]
        resolved = zarr.open_group(path.resolve(), mode="r")["lightcurves"]
    for late in (lambda: array[0], lambda: array[399], lambda: lazy[7].load(), lambda: resolved[100]):
        with pytest.raises(OSError) as caught:
            late()
        assert caught.value.errno == errno.ELOOP
    with pytest.raises(OSError):
        read(path, 0)


def test_a_block_that_raises_unmounts(epochs, tmp_path):
    with pytest.raises(ZeroDivisionError):
        with rechunkfs.mount(epochs, along="epoch"):
            1 / 0  # noqa: B018
    assert not mounts_below(tmp_path)


def test_files_that_are_open_at_the_end_stay_readable(epochs, tmp_path):
    """A map of a file whose server was gone would be a SIGBUS."""
    with pytest.warns(ResourceWarning, match="still open"):
        with rechunkfs.mount(epochs, chunks=BY_OBJECT) as path:
            chunk = path / "lightcurves" / "c.3.0"
            expected = chunk.read_bytes()
            opened = chunk.open("rb")
            mapped = np.memmap(path / "lightcurves" / "c.4.0", mode="r")
            (server,) = commands_about(tmp_path)
    assert not mounts_below(tmp_path)
    assert opened.read() == expected
    assert bytes(mapped) == read(epochs, slice(60, 75)).tobytes()
    with pytest.raises(OSError, match="symbolic links"):
        chunk.open("rb")
    opened.close()
    del mapped
    wait_until(lambda: server not in commands_about(tmp_path), "the server ends with the last file")


# -- others that end it -----------------------------------------------------------------------------------


def test_an_unmount_by_others_leaves_no_zombie_and_no_fill_values(epochs, tmp_path):
    view = rechunkfs.mount(epochs, along="epoch")
    array = zarr.open_group(view.path, mode="r")["lightcurves"]
    subprocess.run([sys.executable, "-m", "rechunkfs", "unmount", view.path], check=True)
    wait_until(lambda: view.closed and not children(), "it is noticed")
    wait_until(lambda: view.path.parent.is_symlink() and not view.path.exists(), "its path is closed")
    with pytest.raises(OSError):
        array[0]
    view.unmount()


def test_a_server_that_dies_leaves_errors_and_then_nothing(epochs, tmp_path):
    with rechunkfs.mount(epochs, along="epoch") as path:
        array = zarr.open_group(path, mode="r")["lightcurves"]
        os.kill(*commands_about(tmp_path), signal.SIGKILL)
        wait_until(lambda: not children(), "it is collected")
        with pytest.raises(OSError):
            array[0]
    assert not mounts_below(tmp_path)


# -- the interpreter's end --------------------------------------------------------------------------------


def script(text, *arguments, **options):
    command = [sys.executable, "-c", textwrap.dedent(text), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


MOUNTED = """
    import os, sys, time, rechunkfs
    view = rechunkfs.mount(sys.argv[1], along="epoch")
    print(view.path, flush=True)
"""


@pytest.mark.parametrize("end", ["", "\n    held = open(view.path / 'zarr.json')", "\n    raise SystemExit(3)"])
def test_the_interpreters_end_unmounts_and_removes_the_folder(epochs, tmp_path, end):
    process = script(MOUNTED + end, epochs)
    out, err = process.communicate(timeout=30)
    assert process.returncode == (3 if "Exit" in end else 0), err
    assert out.strip().endswith("epochs.zarr")
    wait_until(lambda: not mounts_below(tmp_path), "nothing is mounted")
    assert not os.listdir(tmp_path / "temporary")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_so_does_a_kill(epochs, tmp_path, number):
    process = script(MOUNTED + "\n    time.sleep(600)", epochs)
    assert process.stdout.readline()
    assert mounts_below(tmp_path)
    process.send_signal(number)
    process.communicate(timeout=30)
    wait_until(lambda: not mounts_below(tmp_path), "nothing is mounted")


def test_a_fork_that_lives_longer_keeps_nothing(epochs, tmp_path):
    """Neither by its copy of the pipe, nor by ending itself: the mount is its maker's."""
    text = MOUNTED + """
    if os.fork() == 0:
        view.unmount()
        with view: pass
        assert (view.path / "zarr.json").exists()
        os.close(1), os.close(2)
        time.sleep(2)
        sys.exit()
    time.sleep(0.5)
    assert (view.path / "zarr.json").exists()
    """
    process = script(text, epochs)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    wait_until(lambda: not mounts_below(tmp_path), "nothing is mounted", seconds=1)


def test_ctrl_c_is_the_interpreters_and_not_the_mounts(epochs, tmp_path):
    """As a terminal, or Jupyter, sends it: to the whole group."""
    text = MOUNTED + """
    try:
        print("ready", flush=True)
        time.sleep(600)
    except KeyboardInterrupt:
        print((view.path / "zarr.json").exists(), flush=True)
    """
    process = script(text, epochs, process_group=0)
    assert process.stdout.readline() and process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "True\n"), err


# -- threads and processes --------------------------------------------------------------------------------


def test_threads_mount_and_read_each_on_its_own(epochs, values):
    def one(object_idx):
        with rechunkfs.mount(epochs, along="epoch", memory="256MiB") as path:
            return read(path, object_idx)

    with ThreadPoolExecutor(4) as pool:
        for object_idx, lightcurve in enumerate(pool.map(one, range(8))):
            assert lightcurve.tobytes() == values[object_idx].tobytes()


def test_a_thread_that_ends_takes_no_mount_with_it(epochs, values):
    made = []
    thread = threading.Thread(target=lambda: made.append(rechunkfs.mount(epochs, along="epoch")))
    thread.start()
    thread.join()
    with made[0] as path:
        assert read(path, 9).tobytes() == values[9].tobytes()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_of_a_pool_read_it_and_mount_on_their_own(epochs, values, method):
    context = multiprocessing.get_context(method)
    with rechunkfs.mount(epochs, chunks=BY_OBJECT) as path, context.Pool(2) as pool:
        assert b"".join(pool.map(read_bytes, [(path, object_idx) for object_idx in range(6)])) == values[:6].tobytes()
        assert pool.apply(mount_and_read, (epochs, 7)) == values[7].tobytes()
        assert read(path, 8).tobytes() == values[8].tobytes(), "the end of a worker's mount is not ours"


def read_bytes(what):
    return read(*what).tobytes()


def mount_and_read(store, object_idx):
    with rechunkfs.mount(store, along="epoch") as path:
        return read(path, object_idx).tobytes()


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_dask_computes_from_it(epochs, values, scheduler):
    with rechunkfs.mount(epochs, chunks=BY_OBJECT) as path, dask.config.set(scheduler=scheduler):
        means = xr.open_zarr(path).lightcurves.mean("epoch").compute()
        stacked = da.from_zarr(str(path), component="lightcurves").sum().compute()
    np.testing.assert_array_equal(means, xr.open_zarr(epochs, consolidated=False).lightcurves.mean("epoch").compute())
    assert stacked == da.from_array(values, chunks=(15, N_EPOCHS)).sum().compute()


def test_workers_that_outlast_the_script_find_no_fill_values(epochs):
    """They end with the interpreter, after its last line: as long as they read, there is a view or an error."""
    text = """
        import multiprocessing, os, sys, time
        import rechunkfs, zarr

        def work(path):
            array = zarr.open_group(path, mode="r")["lightcurves"]
            os.write(1, b"reading\\n")
            end = time.monotonic() + 3
            while time.monotonic() < end:
                if (array[5] != array[5]).any():
                    os.write(2, b"FILL VALUES\\n")

        worker = multiprocessing.get_context("fork").Process(target=work, args=(rechunkfs.mount(sys.argv[1], along="epoch").path,))
        worker.start()
        time.sleep(1)
        """
    process = script(text, epochs)
    out, err = process.communicate(timeout=60)
    assert "reading" in out and "FILL VALUES" not in err, err
