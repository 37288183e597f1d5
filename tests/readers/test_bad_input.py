"""Bad input: one line on stderr that names the thing and the remedy, a non-zero exit, and nothing left mounted."""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
import zarr
from support import BINARY, is_mounted, mount_points, mounted, rechunkfs, unmount

LAYOUT = ["--chunks", "object=15,epoch=full"]


@pytest.fixture
def source(tmp_path):
    group = zarr.create_group(tmp_path / "s.zarr")
    group.create_array("mag", data=np.ones((60, 8), "f4"), chunks=(60, 1), dimension_names=("object", "epoch"))
    group.create_array("names", shape=(60, 8), chunks=(60, 1), dtype=str, dimension_names=("object", "epoch"))
    zarr.consolidate_metadata(tmp_path / "s.zarr")
    return tmp_path / "s.zarr"


def refuse(source, mountpoint, *flags, says=(), code=(1, 2), **kwargs):
    """Runs mount; `says` are texts that the message has to hold."""
    before = mount_points()
    run = rechunkfs("mount", source, mountpoint, *flags, **kwargs)
    try:
        assert run.returncode in code, f"exit {run.returncode}: {run.stdout}{run.stderr}"
        lines = run.stderr.strip().splitlines()
        assert len(lines) == 1, run.stderr
        for text in says:
            assert str(text).lower() in run.stderr.lower(), f"{text!r} is not in: {run.stderr}"
        # Below the test's own folder: other workers mount and unmount meanwhile.
        own = str(Path(mountpoint).absolute().parent)
        assert not [m for m in mount_points() - before if m.startswith(own)], "left something mounted"
    finally:
        if mountpoint not in before:
            unmount(mountpoint)
    return run


# -- the source -----------------------------------------------------------------------------------------


def test_source_missing(tmp_path):
    refuse(tmp_path / "nowhere.zarr", tmp_path / "view", *LAYOUT, says=["nowhere.zarr"])


def test_source_is_no_zarr_store(tmp_path):
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain/readme.txt").write_text("hello")
    refuse(tmp_path / "plain", tmp_path / "view", *LAYOUT, says=["plain", "zarr"])


def test_source_is_a_file(tmp_path):
    (tmp_path / "file.nc").write_bytes(b"CDF\x01")
    refuse(tmp_path / "file.nc", tmp_path / "view", *LAYOUT, says=["file.nc"])


@pytest.mark.parametrize("node", ["", "mag"])
def test_a_document_that_is_truncated(source, tmp_path, node):
    path = source / node / "zarr.json"
    path.write_bytes(path.read_bytes()[:-20])
    refuse(source, tmp_path / "view", *LAYOUT, says=["zarr.json", node])


@pytest.mark.parametrize(
    "key, value",
    [
        ("zarr_format", 7),
        ("shape", [60, -8]),
        ("shape", "60"),
        ("chunk_grid", {"name": "hexagonal"}),
        ("data_type", None),
        ("codecs", []),
    ],
    ids=lambda v: str(v),
)
def test_a_document_that_is_invalid(source, tmp_path, key, value):
    meta = json.loads((source / "mag/zarr.json").read_text())
    (source / "mag/zarr.json").write_text(json.dumps({**meta, key: value}))
    refuse(source, tmp_path / "view", *LAYOUT, "--array", "mag", says=["mag"])


def test_a_document_that_is_not_utf8(source, tmp_path):
    (source / "zarr.json").write_bytes(b"\xff\xfe{}")
    refuse(source, tmp_path / "view", *LAYOUT, says=["zarr.json"])


def test_a_document_that_cannot_be_read(source, tmp_path):
    (source / "mag/zarr.json").unlink()
    (source / "mag/zarr.json").mkdir()
    refuse(source, tmp_path / "view", *LAYOUT, says=["mag"])


def test_a_source_without_permission(source):
    """As somebody else where we are root, whom no permission stops."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        binary, store = Path(folder) / "rechunkfs", Path(folder) / "s.zarr"
        shutil.copy(BINARY, binary), shutil.copytree(source, store)
        store.chmod(0o000)
        other = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
        command = [binary, "mount", store, f"{folder}/view", *LAYOUT]
        run = subprocess.run(
            command, capture_output=True, text=True, timeout=30, cwd=folder, env={**os.environ, "HOME": folder}, **other
        )
        store.chmod(0o755)
        assert run.returncode == 1 and "permission" in run.stderr.lower() and "s.zarr" in run.stderr, run.stderr
        assert len(run.stderr.strip().splitlines()) == 1 and not is_mounted(f"{folder}/view")


# -- the layout -----------------------------------------------------------------------------------------


def test_no_layout_lists_the_dimensions_and_suggests_one(source, tmp_path):
    refuse(source, tmp_path / "view", says=["object", "epoch", "--along"])


def test_a_dimension_that_no_array_has(source, tmp_path):
    refuse(source, tmp_path / "view", "--chunks", "objekt=15,epoch=full", says=["objekt", "object", "epoch"])


def test_an_axis_that_no_array_has(source, tmp_path):
    refuse(source, tmp_path / "view", "--chunks", "2=15", says=["2"])


@pytest.mark.parametrize("length", ["0", "-2", str(2**63 + 1), str(2**70), "1.5", "many", ""])
def test_a_chunk_length_that_is_none(source, tmp_path, length):
    refuse(source, tmp_path / "view", "--chunks", f"object={length},epoch=full", says=["object"])


@pytest.mark.parametrize("spec", ["object", "object=15,object=3", "=15", ","])
def test_a_layout_that_cannot_be_parsed(source, tmp_path, spec):
    refuse(source, tmp_path / "view", "--chunks", spec, says=["chunks"])


def test_a_virtual_chunk_over_2_gib_does_the_sum_and_names_a_better_one(tmp_path):
    zarr.create_array(
        tmp_path / "big.zarr",
        shape=(96_432, 721, 1440),
        chunks=(1, 721, 1440),
        dtype="f4",
        dimension_names=("time", "lat", "lon"),
    )
    refuse(tmp_path / "big.zarr", tmp_path / "view", "--chunks", "time=full", says=["96432", "GiB", "2 GiB", "--along time"])


def test_shards_that_chunks_do_not_divide(source, tmp_path):
    refuse(source, tmp_path / "view", *LAYOUT, "--shards", "object=20,epoch=full", says=["object", "20", "15"])


def test_an_array_named_that_cannot_be_rechunked(source, tmp_path):
    refuse(source, tmp_path / "view", *LAYOUT, "--array", "names", says=["names", "string"])


def test_an_array_glob_that_matches_nothing(source, tmp_path):
    refuse(source, tmp_path / "view", *LAYOUT, "--array", "magnitude", says=["magnitude"])


def test_nothing_left_to_rechunk(source, tmp_path):
    refuse(source, tmp_path / "view", *LAYOUT, "--exclude", "mag", says=["names"])


def test_an_array_not_named_passes_through_with_a_warning(source):
    with mounted(source, *LAYOUT) as view:
        assert "names" in view.messages
        assert (view / "names/zarr.json").read_bytes() == (source / "names/zarr.json").read_bytes()


# -- the mount point ------------------------------------------------------------------------------------


def test_mount_point_is_a_file(source, tmp_path):
    (tmp_path / "file").write_text("")
    refuse(source, tmp_path / "file", *LAYOUT, says=["file", "directory"])


def test_mount_point_is_not_empty(source, tmp_path):
    (tmp_path / "full/of").mkdir(parents=True)
    refuse(source, tmp_path / "full", *LAYOUT, says=["full", "empty"])
    assert (tmp_path / "full/of").is_dir() and (tmp_path / "full").stat().st_mode & 0o777 == 0o755


def test_mount_point_without_a_parent(source, tmp_path):
    refuse(source, tmp_path / "no/such/place", *LAYOUT, says=["no/such"])


def test_already_mounted(source):
    with mounted(source, *LAYOUT) as view:
        run = rechunkfs("mount", source, view, *LAYOUT)
        assert run.returncode == 1 and "unmount" in run.stderr and str(view) in run.stderr, run.stderr
        assert (view / "mag/zarr.json").read_bytes()


def numbers_under(key, value):
    """Every integer under `key` at any depth of a JSON value."""
    if isinstance(value, dict):
        return [n for k, v in value.items() for n in ([v] if k == key and isinstance(v, int) else numbers_under(key, v))]
    return [n for v in value for n in numbers_under(key, v)] if isinstance(value, list) else []


def test_a_stale_mount_says_how_to_clear_it(source):
    with mounted(source, *LAYOUT) as view:
        (pid,) = set(numbers_under("pid", view.status()))
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode()
        assert "rechunkfs" in command and str(view) in command
        os.kill(pid, 9)
        while Path(f"/proc/{pid}/fd").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z":
            pass
        run = rechunkfs("mount", source, view, *LAYOUT)
        assert run.returncode == 1 and "unmount" in run.stderr and len(run.stderr.strip().splitlines()) == 1, run.stderr
        assert rechunkfs("mount", source, view, *LAYOUT, "--replace-stale").returncode == 0
        assert (view / "mag/c.0.0").stat().st_size == 15 * 8 * 4


def test_mount_point_inside_the_source(source):
    refuse(source, source / "view", *LAYOUT, says=["inside"])
    assert not (source / "view").exists()


def test_source_inside_the_mount_point(source):
    refuse(source, source.parent, *LAYOUT, says=[source.parent.name])


def test_mount_point_is_the_source(source):
    refuse(source, source, *LAYOUT, says=["s.zarr"])


# -- the machine ----------------------------------------------------------------------------------------


def test_too_little_memory_says_how_much_is_needed(source, tmp_path):
    refuse(source, tmp_path / "view", *LAYOUT, "--memory", "1", says=["memory", "iB"])


def test_without_dev_fuse_it_says_what_can_be_done_instead(source, tmp_path):
    hide = ["unshare", "-m" if os.geteuid() == 0 else "-rm", "sh", "-c", 'mount -t tmpfs none /dev && exec "$0" "$@"']
    if subprocess.run([*hide, "true"], capture_output=True).returncode:
        pytest.skip("needs a mount namespace of its own to hide /dev/fuse")
    command = [*hide, BINARY, "mount", source, tmp_path / "view", *LAYOUT]
    run = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert run.returncode == 1 and "/dev/fuse" in run.stderr and "materialize" in run.stderr, run.stderr
    assert len(run.stderr.strip().splitlines()) == 1


def test_unmounting_what_is_not_mounted(tmp_path):
    run = rechunkfs("unmount", tmp_path)
    assert run.returncode == 1 and str(tmp_path) in run.stderr and len(run.stderr.strip().splitlines()) == 1
