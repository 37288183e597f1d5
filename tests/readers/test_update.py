"""Copies brought up to date: whatever zarr-python and xarray do to the source, a copy is then what one made anew would be."""

import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time

import numpy as np
import pytest
import tensorstore as ts
import xarray as xr
import zarr
from copies import (
    LAYOUT,
    RECORDS,
    SLOW,
    SLOW_CHUNKS,
    SLOW_SHAPE,
    assert_same_tree,
    committed,
    copy,
    copying,
    go_on,
    halt,
    partial,
    slow_source,
    stopped,
    touched,
    tree,
    update,
    verify,
)
from sources import SHAPE, random_bits, survey
from support import BINARY, assert_same_store, rechunkfs

TENS = ["--chunks", "object=15,epoch=10"]
pytestmark = [pytest.mark.no_mount, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def pair(tmp_path):
    """A survey and its copy in chunks of ten epochs."""
    survey(tmp_path / "s.zarr")
    copy(tmp_path / "s.zarr", tmp_path / "t.zarr", *TENS)
    return tmp_path / "s.zarr", tmp_path / "t.zarr"


def mag_of(source):
    return zarr.open_group(source, mode="r+")["mag"]


def assert_as_made_anew(source, target, *flags):
    """Every file, what is known of the source included."""
    fresh = source.parent / "fresh.zarr"
    copy(source, fresh, *(flags or TENS))
    assert_same_tree(target, fresh)
    shutil.rmtree(fresh)
    assert_same_store(target, source)


def chunks(target):
    """Inode and time of every chunk file."""
    found = ((p, p.stat()) for p in (target / "mag/c").rglob("*") if p.is_file())
    return {p.relative_to(target): (s.st_ino, s.st_mtime_ns) for p, s in found}


def rewritten(target, before):
    now = chunks(target)
    return sorted(p.as_posix() for p in now if before.get(p) != now[p])


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


def dataset(n_epochs, first=0):
    r = np.random.default_rng(first)
    return xr.Dataset(
        {
            "flux": (("object", "epoch"), r.normal(size=(60, n_epochs)).astype("f4"), {"unit": "mag"}),
            "flag": (("object", "epoch"), r.integers(0, 4, (60, n_epochs), dtype="u1")),
            "label": (("object", "epoch"), np.array([[f"{i}-{first + e}" for e in range(n_epochs)] for i in range(60)], dtype=object)),
        },
        coords={"epoch": np.arange(first, first + n_epochs), "ra": ("object", np.linspace(0, 1, 60))},
    )


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


# -- what is known of the source ------------------------------------------------------------------------


def test_no_reader_trips_over_what_is_known(pair, recwarn, tmp_path):
    source, target = pair
    assert {p.name for p in (target / "mag").iterdir()} == {"zarr.json", "c", *RECORDS}
    recwarn.clear()
    group = zarr.open_group(target, mode="r", use_consolidated=False)
    assert sorted(name for name, _ in group.members(max_depth=None)) == ["mag", "ra"]
    assert not [w for w in recwarn if "not recognized as a component" in str(w.message)]
    assert group["mag"].nchunks_initialized == 21
    want = mag_of(source)[...]
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{target / 'mag'}/"}}
    assert ts.open(spec, read=True).result().read().result().tobytes() == want.tobytes()
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        assert zarr.open_group(target, mode="r")["mag"][...].tobytes() == want.tobytes()
    assert xr.open_zarr(target).mag.values.tobytes() == want.tobytes()
    subprocess.run(["cp", "-r", target, tmp_path / "u.zarr"], check=True, timeout=60)
    assert_same_store(tmp_path / "u.zarr", source)
    assert update(source, tmp_path / "u.zarr")["changed"] is False, "a copy of the copy knows it, too"
    mag_of(source)[:, 3] = 1
    assert touched(update(source, tmp_path / "u.zarr")) == {"mag": 7}
    # A copy of a copy, of which it is the source.
    copy(target, tmp_path / "v.zarr", "--chunks", "object=20,epoch=5")
    assert verify(target, tmp_path / "v.zarr")["differences"] == 0


@pytest.mark.parametrize("how", ["missing", "damaged", "cut"])
def test_where_it_is_lost_contents_are_compared(pair, how):
    source, target = pair
    mag_of(source)[0:3, 13] = 7  # objects of the first chunk
    for record in RECORDS:
        path = target / "mag" / record
        data = path.read_bytes()
        path.write_bytes({"missing": b"", "damaged": data[:-9] + b"x" + data[-8:], "cut": data[:-1]}[how])
        if how == "missing":
            path.unlink()
    before = chunks(target)
    found = update(source, target, *TENS)
    words = "does not say of which state" if how == "missing" else "is damaged"
    assert words in found["said"] and "compared" in found["said"]
    assert found["arrays"][0]["state"] == "compared" and rewritten(target, before) == ["mag/c/0/1"]
    assert update(source, target)["changed"] is False, "it is known from here on"
    assert_as_made_anew(source, target)


def test_a_source_restored_elsewhere_or_in_place_is_compared(pair, tmp_path):
    source, target = pair
    before = chunks(target)
    shutil.copytree(source, tmp_path / "moved.zarr")
    found = update(tmp_path / "moved.zarr", target)
    assert "of another source" in found["said"] and found["changed"] is False and chunks(target) == before
    assert update(tmp_path / "moved.zarr", target)["said"] == ""
    shutil.rmtree(tmp_path / "moved.zarr")
    shutil.copytree(source, tmp_path / "moved.zarr")  # other inodes, the same in them
    found = update(tmp_path / "moved.zarr", target)
    assert "restored from a backup?" in found["said"] and found["changed"] is False and chunks(target) == before
    mag_of(tmp_path / "moved.zarr")[:, 3] = 1
    assert touched(update(tmp_path / "moved.zarr", target)) == {"mag": 7}


@pytest.mark.parametrize("by", ["zarr-python", "zarr-python sharded", "tensorstore"])
def test_a_copy_by_another_tool_is_compared_and_known_from_then_on(tmp_path, by):
    source, target = tmp_path / "s.zarr", tmp_path / "t.zarr"
    survey(source)
    group = zarr.create_group(target)
    shards = (30, 20) if "sharded" in by else None
    theirs = group.create_array("mag", shape=SHAPE, chunks=(15, 10), shards=shards, dtype="f4", fill_value=float("nan"),
                                dimension_names=("object", "epoch"), compressors=zarr.codecs.ZstdCodec(level=1))  # fmt: skip
    if by == "tensorstore":
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{target / 'mag'}/"}}
        ts.open(spec, write=True).result()[...] = mag_of(source)[...]
    else:
        theirs[...] = mag_of(source)[...]
    shutil.copytree(source / "ra", target / "ra")
    zarr.consolidate_metadata(target)
    before = chunks(target)
    mag_of(source)[0:3, 13] = 7
    found = update(source, target)
    assert found["arrays"][0]["state"] == "compared" and rewritten(target, before) == ["mag/c/0/0" if shards else "mag/c/0/1"]
    assert_same_store(target, source)
    mag_of(source)[:, 22] = 8
    assert touched(update(source, target)) == {"mag": 4 if shards else 7}
    assert_same_store(target, source)


def test_strings_without_a_record_are_compared_by_their_bytes(tmp_path):
    source, target = tmp_path / "s.zarr", tmp_path / "t.zarr"
    encoding = {"label": {"chunks": (60, 1)}}
    dataset(12)[["label"]].to_zarr(source, consolidated=True, encoding=encoding)
    copy(source, target, "--chunks", "object=20,epoch=5")
    before = {p: p.stat().st_ino for p in (target / "label/c").rglob("*") if p.is_file()}
    (target / "label/.rechunkfs").unlink()
    zarr.open_group(source, mode="r+")["label"][0, 7] = "another"
    found = update(source, target)
    changed = [p.relative_to(target).as_posix() for p, inode in before.items() if p.stat().st_ino != inode]
    assert found["changed"] and changed == ["label/c/0/1"]
    assert_same_store(target, source)


# -- while it runs --------------------------------------------------------------------------------------


class Watching:
    """Reads chunks of a copy at random, through zarr-python and tensorstore, as long as it is told to."""

    def __init__(self, target, check):
        self.target, self.check, self.stop = target, check, threading.Event()
        self.errors, self.n_read = [], 0
        self.threads = [threading.Thread(target=self.run, args=(reader,)) for reader in (self.by_zarr, self.by_tensorstore)]

    def by_zarr(self):
        return zarr.open_group(self.target, mode="r")["mag"]

    def by_tensorstore(self):
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{self.target / 'mag'}/"}, "recheck_cached_data": True}
        array = ts.open(spec, read=True, context=ts.Context({"cache_pool": {"total_bytes_limit": 1 << 20}})).result()

        class Reader:
            chunks = array.chunk_layout.read_chunk.shape
            shape = array.shape
            __getitem__ = staticmethod(lambda region: array[region].read().result())

        return Reader()

    def run(self, open_array):
        r, array = random.Random(len(self.threads)), open_array()
        try:
            while not self.stop.is_set():
                chunk = [r.randrange(-(-n // c)) for n, c in zip(array.shape, array.chunks, strict=True)]
                region = tuple(slice(i * c, min((i + 1) * c, n)) for i, c, n in zip(chunk, array.chunks, array.shape, strict=True))
                self.check(region, np.asarray(array[region]))
                self.n_read += 1
        except Exception as error:  # noqa: BLE001  whatever a reader meets is a failure of the test
            self.errors.append(error)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive()
        assert not self.errors, self.errors
        assert self.n_read > 10


SLOW_TENS = ["--chunks", "mag:object=400,epoch=100", "--codecs", "blosc:zstd:9:bitshuffle", "-j", "2"]


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    """A store and its copy, to be copied: 26 MB in 40 chunks, of which a copy makes 160 slowly."""
    folder = tmp_path_factory.mktemp("slow")
    slow_source(folder / "s.zarr")
    copy(folder / "s.zarr", folder / "t.zarr", *SLOW_TENS)
    return folder


@pytest.fixture
def slow_pair(slow, tmp_path):
    """Copies of them; links would share what is written to. Of the source's files the times must not be young."""
    for name in ("s.zarr", "t.zarr"):
        shutil.copytree(slow / name, tmp_path / name)
    source, target = tmp_path / "s.zarr", tmp_path / "t.zarr"
    update(source, target)  # it is of this source from now on
    return source, target


def reprocess(source, old, new):
    """Half of the epochs of every hundred with other values."""
    values = zarr.open_group(source)["mag"][...]
    epochs = [epoch for epoch in range(SLOW_SHAPE[1]) if epoch // SLOW_CHUNKS[1] % 2]
    changed = values.copy()
    changed[:, epochs] = (changed[:, epochs] + new - old) % (1 << 18)
    zarr.open_group(source, mode="r+")["mag"][...] = changed
    return values, changed


def old_or_new(old, new):
    def check(region, found):
        is_old, is_new = (np.array_equal(found, values[region]) for values in (old, new))
        assert is_old or is_new, f"{region}: neither the old chunk nor the new one"

    return check


def test_readers_see_each_chunk_old_or_new_and_never_an_error(slow_pair):
    source, target = slow_pair
    old, new = reprocess(source, 0, 5)
    with Watching(target, old_or_new(old, new)) as watching:
        found = update(source, target, "-j", "1")
        assert found["changed"] and touched(found) == {"mag": 160}
    assert watching.n_read > 50
    assert (zarr.open_group(target)["mag"][...] == new).all()
    assert_as_made_anew(source, target, *SLOW_TENS)


def test_readers_are_not_disturbed_while_a_copy_grows(slow_pair):
    source, target = slow_pair
    old = mag_of(source)[...]
    mag_of(source).append(random_bits("u4", (SLOW_SHAPE[0], 60)) >> 14, axis=1)
    zarr.consolidate_metadata(source)
    new = mag_of(source)[...]
    with Watching(target, old_or_new(old, new)):  # of the old shape, which they opened
        update(source, target, "-j", "1")
    assert_as_made_anew(source, target, *SLOW_TENS)


def killed(source, target, seconds):
    """Starts an update and kills it."""
    with copying(source, target, "--update") as process:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        return process.wait(60)


def test_killed_at_any_moment_the_copy_is_a_valid_store_and_it_goes_on(slow_pair):
    source, target = slow_pair
    old, new = reprocess(source, 0, 5)
    check, moments, seconds, n_killed, n_resumed = old_or_new(old, new), random.Random(9), 0.5, 0, 0
    deadline, n = time.monotonic() + 90, 0
    # However fast this machine is, and whatever else it has to do.
    while n_killed <= 7 or n_resumed == 0:
        assert time.monotonic() < deadline, (n_killed, n_resumed, seconds)
        start = time.monotonic()
        is_killed = killed(source, target, moments.uniform(0, 0.7 * seconds)) == -signal.SIGKILL
        if not is_killed:
            seconds = time.monotonic() - start
        n_killed += is_killed
        array = zarr.open_group(target, mode="r")["mag"]
        assert array.shape == SLOW_SHAPE
        for _ in range(20):
            region = (slice(i := 400 * moments.randrange(40), i + 400), slice(e := 100 * moments.randrange(4), e + 100))
            check(region, array[region])
        n += 1
        if not is_killed or n % 5 == 0:
            n_resumed += update(source, target)["resumed"]
            assert_same_store(target, source)
            old, new = reprocess(source, 0, 5)
            check = old_or_new(old, new)
    update(source, target)
    assert_as_made_anew(source, target, *SLOW_TENS)


def test_killed_while_it_grows_or_shrinks(slow_pair):
    source, target = slow_pair
    moments = random.Random(3)
    for shape in ((16_000, 430), (15_100, 430), (15_100, 250), (16_000, 400)):
        mag_of(source).resize(shape)
        if shape[1] > 400:
            mag_of(source)[:, 400:] = 3
        zarr.consolidate_metadata(source)
        for _ in range(3):
            killed(source, target, moments.uniform(0, 0.25))
            assert zarr.open_group(target, mode="r")["mag"][:400].dtype == np.uint32  # it can be read
        update(source, target)
        assert_as_made_anew(source, target, *SLOW_TENS)


def test_what_was_done_is_not_done_again(slow_pair):
    source, target = slow_pair
    reprocess(source, 0, 5)
    with copying(source, target, "--update") as process:
        journal = partial(target) / "update"
        halt(process, lambda: committed(target, "update", n_before=2), standing=0.05)  # the header, the stamps, and a commit
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    commits = [json.loads(line.split(b" ", 1)[1]) for line in journal.read_bytes().splitlines()[1:]]
    n_committed = sum(n for commit in commits for array in commit["arrays"].values() for _, n in array["files"])
    before = chunks(target)
    found = update(source, target)
    assert n_committed > 0 and found["resumed"] is True
    assert len(rewritten(target, before)) <= 160 - n_committed
    assert_as_made_anew(source, target, *SLOW_TENS)


def test_a_source_chunk_that_changes_while_an_update_was_killed_is_done_again(slow_pair):
    source, target = slow_pair
    reprocess(source, 0, 5)
    killed(source, target, 0.5)
    reprocess(source, 0, 9)
    killed(source, target, 0.4)
    update(source, target)
    assert_as_made_anew(source, target, *SLOW_TENS)


def test_a_source_that_goes_on_while_it_is_copied_and_brought_up_to_date(slow_pair, tmp_path):
    """Epochs are written all the time: the copy is made all the same, and at rest it is what its source is."""
    source, _ = slow_pair
    target, stop, n_written = tmp_path / "u.zarr", threading.Event(), 0
    before = mag_of(source)[:, ::10]

    def write():
        nonlocal n_written
        array = mag_of(source)
        while not stop.is_set():
            array[:, 10 * (n_written % 40)] = n_written
            n_written += 1
            time.sleep(0.2)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        deadline = time.monotonic() + 100
        while n_written < 12 and time.monotonic() < deadline:
            run = rechunkfs("materialize", source, target, "--update", *SLOW_TENS, timeout=120)
            # Done, or to be gone on with.
            assert run.returncode in (0, 4), run.stderr
            if run.returncode == 0:  # of one state of each source chunk
                copied = zarr.open_group(target, mode="r")["mag"][:, ::10]
                assert all(np.array_equal(c, o) or (c == c[0]).all() for c, o in zip(copied.T, before.T, strict=True))
    finally:
        stop.set()
        writer.join()
    assert n_written >= 12 and target.exists()
    update(source, target, *SLOW_TENS)
    assert_as_made_anew(source, target, *SLOW_TENS)


# -- what goes wrong ------------------------------------------------------------------------------------


def test_a_torn_source_chunk_is_named_and_everything_else_is_done(pair):
    source, target = pair
    before = chunks(target)
    mag_of(source)[:, 3] = 1
    mag_of(source)[:, 13] = 2
    chunk = source / "mag/c/1/13"
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[:-3])
    found = update(source, target, code=1)
    assert len(found["failures"]) == 1 and "c/1/13" in found["failures"][0] and "c/1/13" in found["said"]
    # Objects 40 to 79 of the second ten epochs are as they were.
    assert rewritten(target, before) == sorted(f"mag/c/{i}/{j}" for i in range(7) for j in (0, 1) if j == 0 or i not in (2, 3, 4, 5))
    assert not partial(target).exists()
    again = update(source, target, code=1)
    assert touched(again) == {"mag": 7}, "what draws on the source chunks of those, and not the first ten epochs"
    chunk.write_bytes(whole)
    assert touched(update(source, target)) == {"mag": 7}
    assert_as_made_anew(source, target)


def test_new_epochs_do_not_show_before_they_are_all_there(pair):
    source, target = pair
    mag_of(source).append(np.full((101, 9), 4, "f4"), axis=1)
    zarr.open_group(source, mode="r+")["ra"].attrs["unit"] = "deg"
    zarr.consolidate_metadata(source)
    chunk = source / "mag/c/1/28"
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[:-3])
    found = update(source, target, code=1)
    assert found["documents_held"] and "shows the old documents" in found["said"]
    assert zarr.open_group(target)["mag"].shape == SHAPE, "a chunk that is missing reads as fill value"
    chunk.write_bytes(whole)
    assert update(source, target)["changed"]
    assert_as_made_anew(source, target)


def test_a_file_that_cannot_be_copied_is_named_and_everything_else_is_done(pair):
    source, target = pair
    mag_of(source)[:, 3] = 1
    os.rename(source / "ra/c/0", source / "column")
    os.mkfifo(source / "ra/c/0")  # opened for reading, it waits for ever
    found = update(source, target, code=1)
    assert len(found["failures"]) == 1 and "ra/c/0" in found["failures"][0] and touched(found) == {"mag": 7}
    assert (zarr.open_group(target)["mag"][:, 3] == 1).all() and (zarr.open_group(target)["ra"][:] == np.arange(101)).all()
    os.replace(source / "column", source / "ra/c/0")
    update(source, target)
    assert_as_made_anew(source, target)


def test_memory_stays_below_its_bound(idf, tmp_path):
    """300 MB decoded; source chunks of 15 MB."""
    source, target = tmp_path / "s.zarr", tmp_path / "t.zarr"
    shutil.copytree(idf / "lightcurves", source, copy_function=os.link)  # zarr-python replaces files
    flags = ["--chunks", "object=150,epoch=10", "--codecs", "blosc:lz4"]
    copy(source, target, *flags)
    zarr.open_array(source)[..., 3] = 7
    for lost in (False, True):
        if lost:
            (target / ".rechunkfs").unlink()
        found = update(source, target, *flags, "--memory", "160MiB")
        assert found["changed"] is not lost and found["arrays"][0]["state"] == ("compared" if lost else "changed")
        assert found["peak_rss_bytes"] <= found["memory_bytes"] == 160 << 20
    assert verify(source, target)["differences"] == 0


def test_the_second_of_two_refuses(slow_pair):
    source, target = slow_pair
    reprocess(source, 0, 5)
    with copying(source, target, "--update", "-j", "1") as process:
        halt(process, (partial(target) / "update").exists)
        said = update(source, target, code=1)["said"]
        assert "another run" in said, said
        assert rechunkfs("materialize", source, target, "--overwrite", *SLOW_TENS).returncode == 1
        go_on(process)
        assert process.wait(120) == 0, process.log.read_text()
    assert_as_made_anew(source, target, *SLOW_TENS)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_a_signal_stops_it_with_the_command_that_goes_on(slow_pair, sent):
    source, target = slow_pair
    reprocess(source, 0, 5)
    with copying(source, target, "--update", "-j", "1") as process:
        halt(process, (partial(target) / "update").exists)
        process.send_signal(sent)
        go_on(process)
        assert process.wait(30) == 4, process.log.read_text()
    assert "--update" in process.log.read_text() and "--resume" not in process.log.read_text()
    update(source, target)
    assert_as_made_anew(source, target, *SLOW_TENS)


def test_a_full_disk_stops_it_and_with_more_room_it_goes_on(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    run = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], capture_output=True, text=True)
    if run.returncode:
        pytest.skip(f"cannot mount a small file system: {run.stderr.strip()}")
    try:
        source, target = tmp_path / "s.zarr", disk / "t.zarr"
        survey(source, values=np.zeros((1000, 800), "u4"), shape=(1000, 800), chunks=(1000, 10), dtype="u4", fill_value=0)
        copy(source, target, "--chunks", "object=50,epoch=100", "--codecs", "none")
        mag_of(source)[...] = random_bits("u4", (1000, 800))  # 3.2 MB
        found = update(source, target, code=4)
        assert "make room" in found["said"] and "--update" in found["said"]
        zarr.open_group(target)["mag"][...]  # it can be read
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True, timeout=30)
        update(source, target)
        assert_as_made_anew(source, target, "--chunks", "object=50,epoch=100", "--codecs", "none")
    finally:
        subprocess.run(["umount", "-l", disk], check=True, timeout=30)


def test_verify_finds_what_others_have_changed_and_the_next_update_mends_it(pair):
    source, target = pair
    zarr.open_group(target, mode="r+")["mag"][3, 4] = 99
    zarr.open_group(target, mode="r+")["ra"][3] = 99
    mag_of(source)[:, 20] = 1
    assert update(source, target)["changed"]  # what others do to the copy is not noticed
    found = update(source, target, "--verify", code=3)
    assert found["differences"] == 2 and "the next update mends it" in found["said"]
    assert "compared" in update(source, target, "--verify")["said"]
    assert_as_made_anew(source, target)


def test_an_unfinished_copy_is_gone_on_with_and_made_afresh_where_the_source_has_grown(slow_pair, tmp_path):
    source, target = slow_pair[0], tmp_path / "u.zarr"
    for grows in (False, True):
        stopped(source, target, *SLOW)
        if grows:
            mag_of(source).append(random_bits("u4", (SLOW_SHAPE[0], 1)), axis=1)
            zarr.consolidate_metadata(source)
        found = update(source, target, *SLOW)
        assert found["created"] and found["resumed"] is not grows
        assert_as_made_anew(source, target, *SLOW)
        shutil.rmtree(target)


def test_what_is_no_copy_is_refused(tmp_path):
    survey(tmp_path / "s.zarr")
    (tmp_path / "t").mkdir()
    (tmp_path / "t/thesis.tex").write_text("")
    assert "not a Zarr store" in update(tmp_path / "s.zarr", tmp_path / "t", *TENS, code=1)["said"]
    assert "lies within" in update(tmp_path / "s.zarr", tmp_path / "s.zarr/mag", *TENS, code=1)["said"]
    zarr.create_group(tmp_path / "v2.zarr", zarr_format=2).create_array("mag", data=np.zeros(SHAPE, "f4"))
    assert "Zarr v2" in update(tmp_path / "s.zarr", tmp_path / "v2.zarr", code=1)["said"]
    run = subprocess.run([BINARY, "materialize", "a", "b", "--update", "--overwrite"], capture_output=True, timeout=30)
    assert run.returncode == 2
