"""`rechunkfs verify` finds every difference, and none between copies that say the same in another way."""

import json
import shutil

import numpy as np
import pytest
import zarr
from copies import LAYOUT, copy, verify
from numcodecs import Zlib
from sources import SHAPE, survey
from support import document, mounted, rechunkfs
from zarr.codecs import BloscCodec, GzipCodec

VALUES = np.arange(1, 1 + SHAPE[0] * SHAPE[1], dtype="f4").reshape(SHAPE)


@pytest.fixture
def pair(tmp_path):
    """A source, and a copy without codecs: whatever is changed in its files decodes."""
    mag = survey(tmp_path / "s.zarr", values=VALUES)
    mag.attrs.update({"units": "mag", "limit": float("nan")})
    zarr.consolidate_metadata(tmp_path / "s.zarr")
    copy(tmp_path / "s.zarr", tmp_path / "t.zarr", *LAYOUT, "--codecs", "none")
    verify(tmp_path / "s.zarr", tmp_path / "t.zarr")
    return tmp_path / "s.zarr", tmp_path / "t.zarr"


def of(found, path):
    return next(array for array in found["arrays"] if array["path"].strip("/") == path)


# -- values ---------------------------------------------------------------------------------------------


def test_one_byte_of_one_chunk_is_found_with_place_and_values(pair):
    source, target = pair
    at = (37, 11)  # row 7 of chunk 2
    chunk, offset = target / "mag/c/2/0", (7 * SHAPE[1] + 11) * 4 + 1
    data = bytearray(chunk.read_bytes())
    data[offset] ^= 0x10
    chunk.write_bytes(data)
    found = verify(source, target, code=3)
    mag = of(found, "mag")
    assert found["differences"] == mag["differences"] == 1
    assert mag["elements"] == VALUES.size
    first = mag["first"][0]
    assert tuple(first["at"]) == at
    damaged = np.frombuffer(data, "<f4")[7 * SHAPE[1] + 11]
    assert np.float32(first["source"]) == VALUES[at] and np.float32(first["target"]) == damaged
    assert of(found, "ra")["differences"] == 0
    run = rechunkfs("verify", source, target)
    assert run.returncode == 3
    assert all(word in run.stdout + run.stderr for word in ("mag", "37", "11")), run.stdout + run.stderr


def test_a_missing_chunk_is_a_difference_in_every_element(pair):
    source, target = pair
    (target / "mag/c/6/0").unlink()  # eleven rows of the array, four beyond its edge
    found = verify(source, target, code=3)
    assert found["differences"] == 11 * SHAPE[1]
    assert tuple(of(found, "mag")["first"][0]["at"]) == (90, 0)


@pytest.mark.parametrize("mine, other", [(0.0, -0.0), (np.uint32(0x7FC00000).view("f4"), np.uint32(0x7FC00001).view("f4"))])
def test_bits_count_and_not_equality(pair, mine, other):
    for folder, value in zip(pair, (mine, other), strict=True):
        zarr.open_array(folder / "mag", mode="r+")[3, 4] = value
    found = verify(*pair, code=3)
    assert found["differences"] == 1 and tuple(of(found, "mag")["first"][0]["at"]) == (3, 4)


def test_what_lies_beyond_the_edge_does_not_count(pair):
    source, target = pair
    chunk = target / "mag/c/6/0"
    chunk.write_bytes(chunk.read_bytes()[: 11 * SHAPE[1] * 4] + b"\x42" * (4 * SHAPE[1] * 4))
    verify(source, target)


def test_a_chunk_that_does_not_decode_is_never_equal(pair):
    source, target = pair
    chunk = target / "mag/c/1/0"
    chunk.write_bytes(chunk.read_bytes()[:-9])
    run = rechunkfs("verify", source, target)
    assert run.returncode in (1, 3) and "mag" in run.stdout + run.stderr


# -- documents ------------------------------------------------------------------------------------------


def edited(target, node, **changed):
    """A document changed, and the consolidated one with it."""
    path = target / node / "zarr.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
    zarr.consolidate_metadata(target)


def less_an_array(target):
    shutil.rmtree(target / "ra")
    zarr.consolidate_metadata(target)


def plus_an_array(target):
    zarr.open_group(target, mode="r+").create_array("more", data=np.arange(3))
    zarr.consolidate_metadata(target)


# Name of the change: (what to do to the target, what the report has to name).
DOCUMENTS = {
    "attribute": (lambda t: edited(t, "mag", attributes={"units": "mags", "limit": float("nan")}), "mag"),
    "attribute less": (lambda t: edited(t, "mag", attributes={"units": "mag"}), "mag"),
    "attribute of the root": (lambda t: edited(t, "", attributes={"title": "mine"}), ""),
    "fill value": (lambda t: edited(t, "mag", fill_value=0.0), "mag"),
    "dimension names": (lambda t: edited(t, "mag", dimension_names=["object", "night"]), "mag"),
    "data type": (lambda t: edited(t, "mag", data_type="int32", fill_value=0), "mag"),
    "shape": (lambda t: edited(t, "mag", shape=[100, 23]), "mag"),
    "an array less": (less_an_array, "ra"),
    "an array more": (plus_an_array, "more"),
}


@pytest.mark.parametrize("change", DOCUMENTS)
def test_what_documents_say_is_compared(pair, change):
    source, target = pair
    edit, name = DOCUMENTS[change]
    edit(target)
    found = verify(source, target, code=3)
    assert name in json.dumps(found)
    run = rechunkfs("verify", source, target)
    assert run.returncode == 3 and name in run.stdout + run.stderr


# -- copies by others -----------------------------------------------------------------------------------


def by_zarr_python(source, target, zarr_format, **create):
    """A copy made with zarr-python: other chunks, another codec."""
    want = zarr.open_group(source, mode="r")
    group = zarr.create_group(target, zarr_format=zarr_format, attributes=dict(want.attrs))
    for name, array in want.members():
        options = {"chunks": (30, 7)[: array.ndim], "fill_value": array.fill_value, **create}
        if zarr_format == 3:
            options["dimension_names"] = array.metadata.dimension_names
        if "shards" in options:
            options["shards"] = options["shards"][: array.ndim]
        copied = group.create_array(name, shape=array.shape, dtype=array.dtype, **options)
        copied.attrs.update(dict(array.attrs))
        if zarr_format == 2:
            copied.attrs["_ARRAY_DIMENSIONS"] = list(array.metadata.dimension_names)
        copied[...] = array[...]
    zarr.consolidate_metadata(target)


BY_OTHERS = {
    "gzip": (3, {"compressors": GzipCodec(level=1)}),
    "shards": (3, {"compressors": BloscCodec(cname="zstd"), "shards": (60, 14)}),
    "big-endian": (3, {"serializer": zarr.codecs.BytesCodec(endian="big")}),
    "v2": (2, {"compressors": Zlib()}),
}


@pytest.mark.parametrize("kind", BY_OTHERS)
def test_a_copy_by_zarr_python_is_equal_until_a_value_is_not(pair, tmp_path, kind):
    source, other = pair[0], tmp_path / "other.zarr"
    zarr_format, create = BY_OTHERS[kind]
    by_zarr_python(source, other, zarr_format, **create)
    verify(source, other)
    zarr.open_array(other / "mag", mode="r+")[100, 22] = 5
    found = verify(source, other, code=3)
    assert found["differences"] == 1 and tuple(of(found, "mag")["first"][0]["at"]) == (100, 22)


def test_a_mount_is_equal_to_its_source(pair):
    source, target = pair
    with mounted(source, "--chunks", "object=7,epoch=5") as view:
        verify(source, view)
        verify(target, view)


def test_a_store_is_equal_to_itself_and_to_a_copy_of_its_files(pair, tmp_path):
    source, _ = pair
    verify(source, source)
    shutil.copytree(source, tmp_path / "again.zarr")
    verify(source, tmp_path / "again.zarr")


# -- flags ----------------------------------------------------------------------------------------------


def test_a_sample_looks_at_some(pair):
    source, target = pair
    whole, some = (of(verify(source, target, *flags), "mag") for flags in ([], ["--sample", "2"]))
    assert 0 < some["elements"] <= whole["elements"] == VALUES.size
    for chunk in (target / "mag/c").rglob("0"):
        if chunk.is_file():
            chunk.write_bytes(bytes(chunk.stat().st_size))
    assert verify(source, target, "--sample", "2", code=3)["differences"] > 0


def test_materialize_verifies_what_it_wrote(pair, tmp_path):
    copy(pair[0], tmp_path / "again.zarr", *LAYOUT, "--verify")
    verify(pair[0], tmp_path / "again.zarr")


@pytest.mark.parametrize("missing", [0, 1])
def test_a_store_that_is_not_there_is_an_error_and_no_difference(pair, tmp_path, missing):
    stores = list(pair)
    stores[missing] = tmp_path / "nowhere.zarr"
    run = rechunkfs("verify", *stores)
    assert run.returncode == 1 and "nowhere.zarr" in run.stderr


def test_neither_store_is_written_to(pair):
    before = [{p: p.stat().st_mtime_ns for p in folder.rglob("*")} for folder in pair]
    verify(*pair)
    assert [{p: p.stat().st_mtime_ns for p in folder.rglob("*")} for folder in pair] == before
    assert document(pair[1] / "mag/zarr.json")["shape"]
