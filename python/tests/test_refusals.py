"""What cannot be done is an exception with the command's words; what the command warns of is a warning."""

import os
import pickle
import subprocess
import warnings

import pytest
import zarr
from conftest import mounts_below

import rechunkfs
from rechunkfs._arguments import codecs, layout, lengths, options


def words_of(*arguments):
    """What the command says itself."""
    from rechunkfs._command import command_path

    run = subprocess.run([command_path(), *map(str, arguments)], capture_output=True, text=True, timeout=60)
    return run.returncode, run.stderr.removeprefix("rechunkfs: ").strip()


def test_each_kind_of_failure_has_the_commands_words_and_code(epochs, tmp_path):
    place = tmp_path / "view.zarr"
    cases = [
        (dict(), (), rechunkfs.RechunkError),
        (dict(along="no"), ("--along", "no"), rechunkfs.RechunkError),
        (dict(along="epoch", threads=0), ("--along", "epoch", "--threads", "0"), rechunkfs.UsageError),
        (dict(along="epoch", memory="1MiB"), ("--along", "epoch", "--memory", "1MiB"), rechunkfs.RechunkError),
    ]
    for given, flags, kind in cases:
        code, words = words_of("mount", epochs, place, *flags)
        with pytest.raises(kind) as caught:
            rechunkfs.mount(epochs, mountpoint=place, **given)
        assert (caught.value.exit_code, str(caught.value)) == (code, words)
        assert type(caught.value) is kind and not place.exists()
    assert isinstance(caught.value, Exception) and issubclass(rechunkfs.UsageError, ValueError)
    assert not os.listdir(tmp_path / "temporary"), "a folder was left by a mount that was refused"


def test_a_mount_that_is_there_already_is_left_alone(epochs, tmp_path):
    with rechunkfs.mount(epochs, along="epoch", mountpoint=tmp_path / "view.zarr") as path:
        with pytest.raises(rechunkfs.RechunkError, match="mounted already"):
            rechunkfs.mount(epochs, along="epoch", mountpoint=path)
        assert (path / "zarr.json").exists() and len(mounts_below(tmp_path)) == 1


def test_errors_travel_between_processes():
    error = rechunkfs.DifferencesFound("two arrays differ")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.exit_code) == (rechunkfs.DifferencesFound, "two arrays differ", 3)
    assert pickle.loads(pickle.dumps(rechunkfs.RechunkError("killed", 137))).exit_code == 137


@pytest.fixture
def named(tmp_path):
    """With an array of strings of any length, which a mount cannot rechunk, and says so."""
    group = zarr.create_group(tmp_path / "named.zarr")
    for name, kind in (("lightcurves", "f4"), ("names", "string")):
        group.create_array(name, shape=(2, 3), chunks=(2, 1), dtype=kind, dimension_names=("object", "epoch"))
    return tmp_path / "named.zarr"


def test_warnings_are_the_callers(named):
    with pytest.warns(rechunkfs.RechunkWarning, match="names") as caught:
        rechunkfs.mount(named, along="epoch").unmount()
    assert {warning.filename for warning in caught} == {__file__}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(rechunkfs.RechunkWarning):
            rechunkfs.preview(named, along="epoch")


def test_a_mount_whose_warnings_are_errors_is_no_mount(named, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(rechunkfs.RechunkWarning):
            rechunkfs.mount(named, along="epoch")
    assert not mounts_below(tmp_path)


def test_arguments_are_what_the_command_takes():
    assert lengths({"object": 15, "epoch": "full", 2: -1}) == ["object=15,epoch=full,2=-1"]
    assert lengths({"a/b": {"x": 1}, "y": 2, "c": {0: "auto"}}) == ["y=2", "a/b:x=1", "c:0=auto"]
    assert lengths("x=1") == ["x=1"] and lengths(["x=1", "a:y=2"]) == ["x=1", "a:y=2"] and lengths(None) == []
    assert options(memory="2GiB", dry_run=True, verify=False, temp=None, array=["a", "-b"], refresh=2.5) == [
        "--memory=2GiB", "--dry-run", "--array=a", "--array=-b", "--refresh=2.5",
    ]  # fmt: skip
    assert layout("t", None, 4096, {"x": 2}, "a*", ()) == ["--along=t", "--chunk-size=4096", "--shards=x=2", "--array=a*"]
    assert codecs("zstd:3") == ["zstd:3"] and codecs({"a": "none", "b": [{"name": "bytes"}]}) == ["a=none", 'b=[{"name": "bytes"}]']
    with pytest.raises(TypeError, match="path of text"):
        rechunkfs.inspect(b"epochs.zarr")


def test_an_inspection_suggests_what_can_be_mounted(epochs):
    found = rechunkfs.inspect(epochs)
    by_path = {array.path: array for array in found.arrays}
    assert (by_path["lightcurves"].shape, by_path["lightcurves"].chunks) == ((400, 60), (400, 1))
    assert (by_path["lightcurves"].chunk_files_present, by_path["lightcurves"].dimensions) == (60, ("object", "epoch"))
    assert found.json["rechunkfs"] == "inspect" and found.layout_to_try
    with rechunkfs.mount(epochs, **found.layout_to_try.layout) as path:
        assert (path / "lightcurves").is_dir()
    assert [array.path for array in rechunkfs.inspect(epochs, array="m*").arrays] == ["mag"]


def test_a_preview_mounts_nothing_and_tells_the_cost(epochs, tmp_path):
    seen = rechunkfs.preview(epochs, chunks={"object": 15, "epoch": "full"})
    assert (seen.rechunked[0].virtual_chunks, seen.costs[0].first_read_files) == ((15, 60), 60)
    assert not mounts_below(tmp_path)


def test_the_machines_state_is_told():
    assert rechunkfs.status().machine.can_mount
