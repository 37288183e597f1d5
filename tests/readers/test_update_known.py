"""What a copy knows of the source that it is of, and what an update does where that is lost."""

import shutil
import subprocess

import pytest
import tensorstore as ts
import xarray as xr
import zarr
from copies import RECORDS, copy, touched, update, verify
from sources import SHAPE, survey
from support import assert_same_store
from updating import TENS, assert_as_made_anew, chunks, dataset, mag_of, pair, rewritten

pytestmark = [pytest.mark.no_mount, pytest.mark.filterwarnings("ignore")]


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
