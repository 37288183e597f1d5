"""Copies brought up to date: whatever zarr-python and xarray do to the source, a copy is then what one made anew would be."""

import json
import os
import shutil

import numpy as np
import pytest
import xarray as xr
import zarr
from copies import LAYOUT, copy, partial, touched, tree, update, verify
from sources import SHAPE, random_bits, survey
from support import assert_same_store, rechunkfs
from updating import TENS, assert_as_made_anew, chunks, dataset, mag_of, pair, rewritten

pytestmark = [pytest.mark.no_mount, pytest.mark.filterwarnings("ignore")]


# -- what is done ---------------------------------------------------------------------------------------


def test_nothing_changed(pair):
    source, target = pair
    before, time_before = {**tree(target)}, os.stat(target).st_mtime_ns
    found = update(source, target)
    assert found["changed"] is False and found["created"] is False and touched(found) == {}
    assert found["said"] == "" and tree(target) == before and os.stat(target).st_mtime_ns == time_before
    quiet = rechunkfs("materialize", source, target, "--update", *TENS, "-q")  # the line of a nightly job
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")


def test_a_reprocessed_epoch_touches_its_chunks_alone(pair):
    source, target = pair
    before, time_before = chunks(target), os.stat(target).st_mtime_ns
    mag_of(source)[:, 13] = 7
    found = update(source, target)
    assert found["changed"] is True and touched(found) == {"mag": 7}
    assert found["arrays"][0]["changed_source_chunks"] == 3 and found["arrays"][0]["source_chunks"] == 69
    assert rewritten(target, before) == [f"mag/c/{i}/1" for i in range(7)]
    assert os.stat(target).st_mtime_ns > time_before, "dask takes the time of the root for a sign of change"
    assert_as_made_anew(source, target)


def test_part_of_an_epoch_touches_the_objects_alone(pair):
    source, target = pair
    before = chunks(target)
    mag_of(source)[45:50, 13] = 7  # of the source chunk of objects 40 to 79
    update(source, target)
    assert rewritten(target, before) == [f"mag/c/{i}/1" for i in range(2, 6)]
    assert_as_made_anew(source, target)


def test_an_epoch_is_appended_by_zarr_python(pair):
    source, target = pair
    before = chunks(target)
    for n in range(3):
        mag_of(source).append(np.full((101, 1), n, "f4"), axis=1)
        zarr.consolidate_metadata(source)
        found = update(source, target, *TENS)
        assert touched(found) == {"mag": 7}
    assert rewritten(target, before) == [f"mag/c/{i}/2" for i in range(7)], "the last column"
    assert zarr.open_group(target)["mag"].shape == (101, 26)
    assert_as_made_anew(source, target)


@pytest.mark.parametrize("zarr_format", [3, 2])
def test_xarray_appends_along_a_dimension(tmp_path, zarr_format):
    source, target = tmp_path / "s.zarr", tmp_path / "t.zarr"
    encoding = {name: {"chunks": (60, 1)} for name in ("flux", "flag", "label")} | {"epoch": {"chunks": (100,)}}
    dataset(12).to_zarr(source, zarr_format=zarr_format, consolidated=True, encoding=encoding)
    found = update(source, target, "--chunks", "object=20,epoch=5")
    assert found["created"] and found["changed"] and not partial(target).exists()
    for first, n in ((12, 1), (13, 4), (17, 1)):
        dataset(n, first).to_zarr(source, append_dim="epoch", zarr_format=zarr_format, consolidated=True)
        found = update(source, target)
        assert found["changed"] and set(touched(found)) == {"flux", "flag", "label"}
        got, want = (xr.open_zarr(p, chunks=None).load() for p in (target, source))
        xr.testing.assert_identical(got, want)
        assert verify(source, target)["differences"] == 0
    assert update(source, target)["changed"] is False


def test_an_array_that_is_filled_epoch_by_epoch(tmp_path):
    """Allocated in full, as most surveys do it: no document ever changes."""
    source, target = tmp_path / "s.zarr", tmp_path / "t.zarr"
    survey(source, values=np.full(SHAPE, np.nan, "f4"))
    update(source, target, *TENS)
    assert not list((target / "mag/c").rglob("[0-9]"))
    for epoch in (0, 1, 9, 10, 22):
        mag_of(source)[:, epoch] = epoch
        assert touched(update(source, target)) == {"mag": 7}
    assert_as_made_anew(source, target)


def test_growing_and_shrinking_along_each_axis(pair):
    source, target = pair
    for shape in ((101, 25), (90, 12), (200, 12), (90, 31), (5, 3), (101, 0), (64, 40)):
        mag_of(source).resize(shape)
        zarr.consolidate_metadata(source)
        update(source, target)
        assert zarr.open_group(target)["mag"].shape == shape
        assert_as_made_anew(source, target)
        if shape[1] > 2:
            mag_of(source)[:, -2:] = sum(shape)
            update(source, target)
            assert_as_made_anew(source, target)


def test_what_was_left_lying_beyond_a_shrunk_array_shows_again_as_it_does_in_the_source(pair):
    source, target = pair
    text = (source / "mag/zarr.json").read_text()
    for shape in ("[101,15]", "[101,23]", "[70,21]", "[101,23]"):  # the document alone: no chunk goes
        meta = json.loads(text)
        meta["shape"] = json.loads(shape)
        (source / "mag/zarr.json").write_text(json.dumps(meta, indent=2))
        zarr.consolidate_metadata(source)
        update(source, target)
        assert_as_made_anew(source, target)


def test_deleted_source_chunks_become_fill_value(pair):
    source, target = pair
    for i in range(3):
        for epoch in range(10, 20):
            (source / f"mag/c/{i}/{epoch}").unlink()
    before = chunks(target)
    found = update(source, target)
    assert touched(found) == {"mag": 7} and rewritten(target, before) == []
    assert not list(target.glob("mag/c/*/1")), "chunks of nothing but fill value are not there"
    assert_as_made_anew(source, target)


def test_columns_attributes_files_and_groups(pair):
    source, target = pair
    root = zarr.open_group(source, mode="r+")
    root["ra"][:] = np.arange(101.0)[::-1]
    root.attrs["pipeline"] = {"version": 2}
    root["mag"].attrs["unit"] = "mag"
    calibration = root.create_group("calibration")
    calibration.create_array("gain", data=np.arange(4.0))
    calibration.create_array("error", data=random_bits("f4", SHAPE), chunks=(101, 1), dimension_names=("object", "epoch"))
    calibration.create_array("image", data=random_bits("f4", (8, 9)), chunks=(8, 9), dimension_names=("y", "x"))
    (source / "notes").mkdir()
    (source / "notes/readme.txt").write_text("seen on La Palma")
    zarr.consolidate_metadata(source)
    found = update(source, target)
    assert sorted(found["new"]) == ["calibration/error", "calibration/gain", "calibration/image"]
    assert "calibration/image" in found["said"] and "calibration/error" not in found["said"]
    assert zarr.open_group(target)["calibration/error"].chunks == (15, 10), "as its sister is"
    assert_as_made_anew(source, target)
    (source / "notes/readme.txt").unlink()
    root["ra"].resize((90,))
    zarr.consolidate_metadata(source)
    found = update(source, target)
    assert not (target / "notes/readme.txt").exists()
    assert_same_store(target, source)
    shutil.rmtree(source / "calibration")
    zarr.consolidate_metadata(source)
    found = update(source, target)
    assert sorted(found["removed"]) == ["calibration", "calibration/error", "calibration/gain", "calibration/image"]
    assert not (target / "calibration").exists() and "calibration/gain: it is no longer in the source, and goes" in found["said"]
    assert_same_store(target, source)
    assert update(source, target)["changed"] is False


def test_what_others_have_put_into_the_copy_stays(pair):
    source, target = pair
    mine = zarr.open_group(target, mode="r+").create_group("mine")
    mine.create_array("period", data=np.arange(3.0))
    (target / "todo.txt").write_text("think")
    mag_of(source)[:, 3] = 1
    found = update(source, target)
    assert found["removed"] == [] and "mine/period: it is not in the source, and was not copied from it: it stays" in found["said"]
    assert (target / "todo.txt").exists()
    for options in ({}, {"use_consolidated": False}):
        assert (zarr.open_group(target, **options)["mine/period"][:] == np.arange(3.0)).all()
    assert update(source, target, "--verify")["verified"] is True
    assert update(source, target)["changed"] is False


def test_an_array_of_another_type_is_made_anew(pair):
    source, target = pair
    group = zarr.open_group(source, mode="r+")
    group.create_array("mag", data=random_bits("i2", (50, 30)), chunks=(50, 1), dimension_names=("object", "epoch"), overwrite=True)
    group.create_array("ra", data=np.arange(50), chunks=(10,), overwrite=True)
    zarr.consolidate_metadata(source)
    found = update(source, target)
    assert sorted(found["new"]) == ["mag", "ra"] and "mag: its data type is another" in found["said"]
    assert zarr.open_group(target)["mag"].chunks == (15, 10)
    assert_same_store(target, source)
    assert update(source, target)["changed"] is False


@pytest.mark.parametrize("flags", [["--shards", "object=45,epoch=20"], ["--codecs", "none"], ["--codecs", "blosc:lz4"]], ids=str)
def test_shards_and_codecs_stay_those_of_the_copy(tmp_path, flags):
    source, target = tmp_path / "s.zarr", tmp_path / "t.zarr"
    survey(source)
    copy(source, target, *TENS, *flags)
    mag_of(source)[:, 3] = 1
    mag_of(source).append(np.full((101, 2), 4, "f4"), axis=1)
    zarr.consolidate_metadata(source)
    found = update(source, target)
    assert touched(found) == {"mag": 6 if "--shards" in flags else 14}
    assert_as_made_anew(source, target, *TENS, *flags)


def test_a_bare_array(tmp_path):
    source, target = tmp_path / "s.zarr", tmp_path / "t.zarr"
    array = zarr.create_array(source, data=random_bits("f4", (40, 12)), chunks=(40, 1), dimension_names=("object", "epoch"))
    update(source, target, "--chunks", "object=10,epoch=4")
    array.append(random_bits("f4", (40, 1)), axis=1)
    assert update(source, target)["changed"]
    assert_as_made_anew(source, target, "--chunks", "object=10,epoch=4")


# -- layouts --------------------------------------------------------------------------------------------


def test_a_layout_must_be_that_of_the_copy(pair):
    source, target = pair
    before = tree(target)
    mag_of(source)[:, 3] = 1
    for flags, words in ((["--chunks", "object=15,epoch=20"], "chunks [15, 10]"), (["--along", "epoch"], "chunks [15, 10]"),
                         ([*TENS, "--shards", "epoch=20"], "shards"), ([*TENS, "--codecs", "gzip"], "--codecs")):  # fmt: skip
        said = update(source, target, *flags, code=1)["said"]
        assert "mag: " in said and words in said and "--overwrite" in said, said
        assert len(said.splitlines()) == 1 and tree(target) == before
    assert update(source, target, "--chunks", "epoch=10,object=15")["changed"]


def test_a_layout_with_full_lengths_is_still_that_of_the_copy_when_the_source_has_grown(tmp_path):
    source, target = tmp_path / "s.zarr", tmp_path / "t.zarr"
    survey(source)
    for n in range(3):
        found = update(source, target, *LAYOUT)
        assert (found["created"], found["changed"]) == (n == 0, True)
        mag_of(source).append(np.full((101, 1), n, "f4"), axis=1)
        zarr.consolidate_metadata(source)
    assert zarr.open_group(target)["mag"].chunks == (15, 23)


def test_a_layout_is_needed_where_there_is_no_copy(tmp_path):
    survey(tmp_path / "s.zarr")
    said = update(tmp_path / "s.zarr", tmp_path / "t.zarr", code=1)["said"]
    assert "no layout given" in said and not (tmp_path / "t.zarr").exists() and not partial(tmp_path / "t.zarr").exists()


def test_a_layout_under_which_an_append_touches_everything_is_named(tmp_path):
    source, target = tmp_path / "s.zarr", tmp_path / "t.zarr"
    survey(source, values=random_bits("f4", (30, 200)), shape=(30, 200), chunks=(30, 1))
    plan = update(source, target, "--chunks", "object=1,epoch=full", "--dry-run")
    assert "--chunks object=1,epoch=20 it would touch one in 10" in plan["said"] and len(plan["appends"]) == 1
    assert "epoch=20" in update(source, target, "--chunks", "object=1,epoch=full")["said"]
    mag_of(source)[:, 150] = 1
    plan = update(source, target, "--dry-run")
    assert plan["arrays"][0]["touched_chunks"] == plan["arrays"][0]["chunks"] == 30 and "epoch=20" in plan["appends"][0]
    assert "epoch=20" in update(source, target)["said"]
    copy(source, tmp_path / "u.zarr", "--chunks", "object=1,epoch=20")
    assert update(source, tmp_path / "u.zarr", "--dry-run")["appends"] == []


def test_a_dry_run_says_what_there_is_to_do_and_writes_nothing(pair):
    source, target = pair
    before = tree(target.parent)
    plan = update(source, target, "--dry-run")
    assert plan["dry_run"] and plan["arrays"][0]["state"] == "same" and plan["bytes"] == 0
    mag_of(source).append(np.full((101, 1), 9, "f4"), axis=1)
    zarr.open_group(source, mode="r+")["ra"][0] = 5
    zarr.consolidate_metadata(source)
    before = tree(target.parent)
    plan = update(source, target, "--dry-run")
    assert touched(plan) == {"mag": 7} and plan["bytes"] == 101 * 4 * 4 and plan["documents"] == 2 and plan["passed_files"] == 1
    run = rechunkfs("materialize", source, target, "--update", "--dry-run")
    assert "mag: 3 of 72 source chunks changed; 7 of 21 chunks are made again, 1.6 KiB" in run.stdout, run.stdout
    assert "nothing was written" in run.stdout and tree(target.parent) == before
