"""Stores in zip archives: held against the same store in a directory."""

import random
import shutil
import zipfile

import numpy as np
import pytest
import zarr
from copies import RECORDS, copy, tree, verify
from support import MountRefused, assert_same_store, mounted, rechunkfs

LAYOUT = ["--along", "epoch", "--chunks", "object=15"]


@pytest.fixture
def store(tmp_path, source):
    store = tmp_path / "s.zarr"
    nights = zarr.open_group(store, mode="r+").create_group("nights/late", attributes={"n": 2})
    nights.create_array("n", shape=(40, 6), chunks=(2, 3), dtype="i4", dimension_names=["x", "y"])[...] = np.arange(240).reshape(40, 6)
    zarr.consolidate_metadata(store)
    return store


def pack(store, archive, method=zipfile.ZIP_STORED, within=""):
    with zipfile.ZipFile(archive, "w", method) as out:
        for path in sorted(store.rglob("*")):
            out.write(path, f"{within}{path.relative_to(store)}")
    return archive


def contents(folder):
    """All but what a copy remembers of its source, which has another name."""
    return {name: content for name, content in tree(folder).items() if name.rsplit("/", 1)[-1] not in RECORDS}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("within", ["", "s.zarr/"])
def test_an_archive_shows_what_its_directory_holds(store, tmp_path, method, within):
    archive = pack(store, tmp_path / "s.zip", method, within)
    run = rechunkfs("inspect", archive, "--json")
    assert run.returncode == 0, run.stderr
    with mounted(archive, *LAYOUT) as view, mounted(store, *LAYOUT) as local:
        assert_same_store(view, store)
        names = [sorted(path.relative_to(root) for path in root.rglob("*")) for root in (view, local)]
        assert names[0] == names[1]


def test_what_zarr_python_writes_is_read(tmp_path):
    """With members that were written twice, as ZipStore does."""
    values = np.arange(60, dtype="f4").reshape(6, 10)
    with pytest.warns(UserWarning, match="Duplicate name"), zarr.storage.ZipStore(tmp_path / "z.zip", mode="w") as out:
        array = zarr.create_array(out, name="a", shape=(6, 10), chunks=(2, 10), dtype="f4", dimension_names=["t", "x"])
        array[...] = values + 1
        array[...] = values
    with mounted(tmp_path / "z.zip", "--along", "t", "--chunks", "x=5") as view:
        np.testing.assert_array_equal(zarr.open_group(view, mode="r")["a"][...], values)


def test_copies_and_comparisons(store, tmp_path):
    archive = pack(store, tmp_path / "s.zip")
    copy(archive, tmp_path / "copy.zarr", *LAYOUT, "--verify")
    copy(store, tmp_path / "local.zarr", *LAYOUT)
    assert contents(tmp_path / "copy.zarr") == contents(tmp_path / "local.zarr")
    verify(archive, tmp_path / "copy.zarr")
    verify(store, archive)
    refused = rechunkfs("materialize", store, archive, *LAYOUT)
    assert refused.returncode == 1 and zipfile.ZipFile(archive).testzip() is None


def test_an_archive_that_changes_is_an_error_and_never_another_value(store, tmp_path):
    archive = pack(store, tmp_path / "s.zip")
    other = pack(store, tmp_path / "other.zip", zipfile.ZIP_DEFLATED)
    with mounted(archive, *LAYOUT) as view:
        chunk = next(path for path in sorted((view / "mag").rglob("*")) if path.is_file() and path.name != "zarr.json")
        with open(archive, "r+b") as file:
            file.write(other.read_bytes())
        with pytest.raises(OSError) as failed:
            chunk.read_bytes()
        assert failed.value.errno != 2
    # One that takes its place by a rename is not seen: the mount shows what it was made of.
    archive = pack(store, tmp_path / "again.zip")
    with mounted(archive, *LAYOUT) as view:
        other.rename(archive)
        assert_same_store(view, store)


def test_damage_is_an_error_or_changes_nothing(store, tmp_path):
    """Of a chunk that is read whole the checksum is looked at, so nothing that is shown is another value."""
    small = tmp_path / "small.zarr"
    values = np.arange(12, dtype="i4").reshape(3, 4)
    zarr.create_array(small, shape=(3, 4), chunks=(1, 4), dtype="i4", compressors=None, dimension_names=["t", "x"])[...] = values
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        sound = pack(small, tmp_path / "sound.zip", method).read_bytes()
        directory = sound.index(b"PK\x01\x02")
        rng = random.Random(5)
        n_refused = 0
        for _ in range(25):
            damaged = bytearray(sound)
            damaged[rng.randrange(directory)] ^= 1 << rng.randrange(8)
            (tmp_path / "damaged.zip").write_bytes(damaged)
            run = rechunkfs("materialize", tmp_path / "damaged.zip", tmp_path / "copy.zarr", "--along", "t")
            if run.returncode:
                n_refused += 1
                assert run.returncode == 1 and "panic" not in run.stderr, run.stderr
            else:
                np.testing.assert_array_equal(zarr.open_array(tmp_path / "copy.zarr", mode="r")[...], values)
            for path in tmp_path.glob("copy.zarr*"):
                shutil.rmtree(path)
        assert n_refused > 3


def test_what_is_no_sound_archive_is_refused_by_name(store, tmp_path):
    archive = pack(store, tmp_path / "s.zip")
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MountRefused) as refused, mounted(archive, *LAYOUT):
        pass
    assert "s.zip" in refused.value.stderr and "zip archive" in refused.value.stderr
    with zipfile.ZipFile(tmp_path / "bz2.zip", "w", zipfile.ZIP_BZIP2) as out:
        for path in store.rglob("*"):
            out.write(path, str(path.relative_to(store)))
    run = rechunkfs("inspect", tmp_path / "bz2.zip")
    assert run.returncode and "without compression" in run.stderr
