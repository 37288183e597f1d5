"""Copies of arrays of strings, and of bytes of any length: chunks that have no fixed size."""

import json
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from copies import assert_same_tree, copy, copying, files_written, go_on, halt, partial, report, stopped, tree, verify
from support import assert_same_store, bits, mounted, rechunkfs
from zarr.codecs import BloscCodec, GzipCodec, TransposeCodec, ZstdCodec

SHAPE, CHUNKS = (101, 23), (40, 4)
LAYOUT = ["--chunks", "object=15,epoch=full"]
pytestmark = pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")


def words(shape=SHAPE, seed=3):
    """Strings of every kind: none, short, long, of one to four bytes a letter; and the fill value of some stores."""
    r = np.random.default_rng(seed)
    letters = np.array(list("aZ09 üλ星𝄞\n\""))
    made = ["".join(r.choice(letters, r.integers(0, 9))) for _ in range(int(np.prod(shape)))]
    made[:5] = ["", "no", "ab\0c", "x" * 5000, "\0"]
    return np.array(made, dtype=object).reshape(shape)


def store(folder, values=None, missing=(), **create):
    """label (object, epoch) and a column of names, in a group."""
    values = words() if values is None else values
    zarr_format = create.pop("zarr_format", 3)
    group = zarr.create_group(folder, zarr_format=zarr_format)
    names = ("object", "epoch")
    dimensions = {"dimension_names": names} if zarr_format == 3 else {"attributes": {"_ARRAY_DIMENSIONS": list(names)}}
    options = {"shape": values.shape, "chunks": CHUNKS, "dtype": "string"} | dimensions | create
    label = group.create_array("label", **options)
    label[...] = values
    column = group.create_array("name", shape=(101,), chunks=(30,), dtype="string")
    column[...] = values[:, 1] if isinstance(values[0, 0], str) else "x"
    for key in missing:
        (Path(folder) / "label" / key).unlink()
    return folder


def label(folder):
    return zarr.open_array(folder, path="label", mode="r")


def codecs(folder):
    return json.loads((Path(folder) / "label/zarr.json").read_text())["codecs"]


def assert_copied(source, target, *flags):
    """The copy reads as the source does, is cut as was asked for, and `verify` agrees."""
    found = copy(source, target, *LAYOUT, "--verify", *flags)
    assert label(target).chunks == (15, 23)
    assert_same_store(target, source)
    verified = {array["path"]: array for array in verify(source, target)["arrays"]}["label"]
    assert (verified["elements"], verified["error"]) == (int(np.prod(SHAPE)), None)
    return found


CASES = {
    "plain": {"compressors": None},
    "zstd": {},
    "fill": {"fill_value": "no", "missing": ["c/0/0", "c/1/5", "c/2/2"]},
    "empty": {"missing": [f"c/{i}/{j}" for i in range(3) for j in range(6)]},
    "blosc": {"compressors": BloscCodec(cname="lz4", typesize=1), "missing": ["c/1/1"]},
    "gzip": {"compressors": GzipCodec(level=1)},
    "transposed": {"filters": TransposeCodec(order=(1, 0))},
    "sharded": {"shards": (80, 8), "missing": ["c/1/1"]},
    "sharded blosc": {"shards": (80, 8), "compressors": BloscCodec(cname="zstd", typesize=1)},
    "v2": {"zarr_format": 2, "missing": ["0.0", "2.5"]},
    "v2 fortran": {"zarr_format": 2, "order": "F"},
    "v2 zlib": {"zarr_format": 2, "compressors": {"id": "zlib", "level": 1}},
    "v2 blosc": {"zarr_format": 2, "compressors": {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1, "blocksize": 0}},
    "v2 none": {"zarr_format": 2, "compressors": None},
}


@pytest.mark.parametrize("flags", [[], ["--shards", "object=30"], ["--codecs", "blosc"], ["--codecs", "none"]], ids=str)
@pytest.mark.parametrize("case", CASES)
def test_any_store_of_strings_is_copied(tmp_path, case, flags):
    source = store(tmp_path / "s.zarr", **CASES[case])
    assert_copied(source, tmp_path / "t.zarr", *flags)
    assert (label(tmp_path / "t.zarr").shards is not None) == ("--shards" in flags)


def test_codecs_are_those_of_the_source_or_those_asked_for(tmp_path):
    source, serializer = store(tmp_path / "s.zarr", compressors=GzipCodec(level=2)), {"name": "vlen-utf8"}
    copy(source, tmp_path / "a.zarr", *LAYOUT)
    assert codecs(tmp_path / "a.zarr") == [serializer, {"name": "gzip", "configuration": {"level": 2}}]
    copy(source, tmp_path / "b.zarr", *LAYOUT, "--codecs", "blosc")
    [first, blosc] = codecs(tmp_path / "b.zarr")
    assert first == serializer and blosc["name"] == "blosc"
    assert (blosc["configuration"]["typesize"], blosc["configuration"]["shuffle"]) == (1, "noshuffle")
    copy(source, tmp_path / "c.zarr", *LAYOUT, "--codecs", "zstd", "--shards", "object=30")
    [shard] = codecs(tmp_path / "c.zarr")
    assert [c["name"] for c in shard["configuration"]["codecs"]] == ["vlen-utf8", "zstd"]
    assert [c["name"] for c in shard["configuration"]["index_codecs"]] == ["bytes", "crc32c"]


@pytest.mark.parametrize("flags", [[], ["--shards", "object=30,epoch=full"]], ids=str)
@pytest.mark.parametrize("options", [{}, {"shards": (80, 8)}, {"compressors": None, "fill_value": b"\xff\0"}], ids=str)
def test_bytes_of_any_length_are_copied(tmp_path, options, flags):
    values = np.array([bytes([i % 256]) * (i % 7) for i in range(int(np.prod(SHAPE)))], dtype=object).reshape(SHAPE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = store(tmp_path / "s.zarr", values, dtype="variable_length_bytes", **options)
        assert_copied(source, tmp_path / "t.zarr", *flags)
        assert np.array_equal(label(tmp_path / "t.zarr")[...], values)


def test_a_fill_value_that_v2_leaves_open_reads_as_nothing(tmp_path):
    source = store(tmp_path / "s.zarr", zarr_format=2, missing=["0.0"])
    document = json.loads((source / "label/.zarray").read_text())
    (source / "label/.zarray").write_text(json.dumps(document | {"fill_value": None}))
    copy(source, tmp_path / "t.zarr", *LAYOUT)
    got, want = label(tmp_path / "t.zarr")[...], label(source)[...]
    # zarr-python gives what it takes for the type's own.
    assert all((g == "") if w in (None, 0, "") else (g == w) for g, w in zip(got.ravel(), want.ravel(), strict=True))


def test_chunks_of_nothing_but_fill_value_are_not_written(tmp_path):
    values = words()
    values[30:60] = "no"
    source = store(tmp_path / "s.zarr", values, fill_value="no")
    assert_copied(source, tmp_path / "t.zarr")
    files = {p.name for p in (tmp_path / "t.zarr/label").rglob("0") if p.is_file()}
    assert files and {p.parent.name for p in (tmp_path / "t.zarr/label/c").rglob("*") if p.is_file()} == set("01456")


def test_xarray_and_the_whole_store_agree(tmp_path):
    r = np.random.default_rng(5)
    coordinates = {"object": [f"obj {i}" for i in range(50)]}
    data = xr.Dataset({"label": (("object", "epoch"), words((50, 12)).astype(object)), "mag": (("object", "epoch"), r.random((50, 12)))},
                      coords=coordinates)  # fmt: skip
    data["label"].values[0, 2] = "ab"  # no NUL: fixed-width types of numpy would lose it
    for zarr_format in (2, 3):
        source, target = tmp_path / f"s{zarr_format}.zarr", tmp_path / f"t{zarr_format}.zarr"
        data.chunk(object=20, epoch=3).to_zarr(source, zarr_format=zarr_format, consolidated=True)
        copy(source, target, "--chunks", "object=15,epoch=full", "--verify")
        xr.testing.assert_identical(xr.open_zarr(target).load(), xr.open_zarr(source).load())
        assert label(target).chunks == (15, 12) == zarr.open_array(target, path="mag", mode="r").chunks


def test_columns_are_copied_as_they_are_unless_named(tmp_path):
    source = store(tmp_path / "s.zarr")
    copy(source, tmp_path / "a.zarr", *LAYOUT)
    assert zarr.open_array(tmp_path / "a.zarr", path="name").chunks == (30,)
    copy(source, tmp_path / "b.zarr", "--chunks", "name:0=50")
    assert zarr.open_array(tmp_path / "b.zarr", path="name").chunks == (50,)
    assert_same_store(tmp_path / "b.zarr", source)


def test_auto_lengths_are_those_of_the_other_arrays(tmp_path):
    source = store(tmp_path / "s.zarr")
    flags = ["--along", "epoch", "--chunk-size", "4KiB"]
    copy(source, tmp_path / "a.zarr", *flags)
    assert label(tmp_path / "a.zarr").chunks == (11, 23)  # of 16 bytes each
    zarr.open_group(source).create_array("mag", shape=SHAPE, chunks=CHUNKS, dtype="f4", dimension_names=("object", "epoch"))
    copy(source, tmp_path / "b.zarr", *flags)
    assert label(tmp_path / "b.zarr").chunks == (44, 23) == zarr.open_array(tmp_path / "b.zarr", path="mag").chunks


def test_the_mount_still_shows_them_as_they_are(tmp_path):
    source = store(tmp_path / "s.zarr")
    zarr.open_group(source).create_array("mag", shape=SHAPE, chunks=CHUNKS, dtype="f4", dimension_names=("object", "epoch"))
    with mounted(source, *LAYOUT) as view:
        assert "label: shown as it is: it cannot be rechunked: data type string has elements of variable length" in view.messages
        assert_same_tree(tree(view / "label"), tree(source / "label"))


def test_codecs_that_cannot_be_had_leave_an_array_as_it_is(tmp_path):
    source = store(tmp_path / "s.zarr", compressors=None)
    zarr.open_group(source).create_array("mag", shape=SHAPE, chunks=CHUNKS, dtype="f4", dimension_names=("object", "epoch"))
    document = json.loads((source / "label/zarr.json").read_text())
    document["codecs"].append({"name": "mystery"})
    (source / "label/zarr.json").write_text(json.dumps(document))
    assert "label: copied as it is: it cannot be rechunked: codec mystery" in copy(source, tmp_path / "t.zarr", *LAYOUT).stderr
    assert_same_tree(tree(tmp_path / "t.zarr/label/c"), tree(source / "label/c"))


def test_the_plan_tells_what_is_stored(tmp_path):
    source = store(tmp_path / "s.zarr")
    planned = json.loads(rechunkfs("materialize", source, tmp_path / "t.zarr", *LAYOUT, "--dry-run", "--json").stdout)
    stored = sum(p.stat().st_size for p in (source / "label/c").rglob("*") if p.is_file())
    [array] = planned["arrays"]
    assert (array["path"], array["bytes"], array["passes"], array["files"]) == ("label", stored, 1, 7)
    done = report(source, tmp_path / "t.zarr", *LAYOUT)
    assert done["bytes"] == sum(len(word.encode()) for word in label(source)[...].ravel())


# -- damage ---------------------------------------------------------------------------------------------


def damaged(folder, change):
    source = store(folder, compressors=None)
    chunk = source / "label/c/1/2"
    chunk.write_bytes(change(chunk.read_bytes()))
    return source


DAMAGE = {
    "cut": (lambda raw: raw[:-3], "reaches beyond its end"),
    "longer": (lambda raw: raw + b"abc", "3 bytes follow its last element"),
    "empty": (lambda raw: b"", "shorter"),
    "count": (lambda raw: b"\xff\xff\xff\xff" + raw[4:], "4294967295 elements"),
    "length": (lambda raw: raw[:4] + b"\xff\xff\xff\x7f" + raw[8:], "element 0 reaches beyond its end"),
    "text": (lambda raw: raw.replace("λ".encode(), b"\xff\xfe"), "not UTF-8"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_chunks_are_errors_or_left_out(tmp_path, kind):
    change, says = DAMAGE[kind]
    source = damaged(tmp_path / "s.zarr", change)
    run = copy(source, tmp_path / "t.zarr", *LAYOUT, code=1)
    assert "'label', chunk file c/1/2" in run.stderr and says in run.stderr, run.stderr
    run = copy(source, tmp_path / "k.zarr", *LAYOUT, "--keep-going", code=1)
    assert says in run.stderr and not (tmp_path / "k.zarr").exists()
    files = {p.parent.name for p in (partial(tmp_path / "k.zarr") / "store/label/c").rglob("*") if p.is_file()}
    assert files == {"0", "1", "6"}  # objects 40 to 79 are in chunks 2 to 5


def test_what_does_not_fit_into_memory_is_said(tmp_path):
    values = np.full((4, 4), "x" * 6_000_000, dtype=object)
    values += words((4, 4), seed=9)
    for name, chunks, layout in [("whole chunk", (4, 4), "object=1,epoch=1"), ("target", (1, 1), "object=full,epoch=full")]:
        source = tmp_path / f"{name}.zarr"
        group = zarr.create_group(source)
        array = group.create_array("label", shape=(4, 4), chunks=chunks, dtype="string", dimension_names=("object", "epoch"))
        array[...] = values
        run = copy(source, tmp_path / "t.zarr", "--chunks", layout, "--memory", "100MiB", "-j", "2", "--overwrite", code=1)
        assert "--memory" in run.stderr and "label" in run.stderr, run.stderr
        copy(source, tmp_path / "t.zarr", "--chunks", layout, "--memory", "1GiB", "-j", "2", "--overwrite")
        assert bits(label(tmp_path / "t.zarr")[...]) == bits(values)


# -- verify ---------------------------------------------------------------------------------------------


def test_verify_tells_which_elements_differ(tmp_path):
    source, target = store(tmp_path / "s.zarr"), tmp_path / "t.zarr"
    copy(source, target, *LAYOUT, "--shards", "object=30")
    array = zarr.open_array(target, path="label", mode="r+")
    array[7, 9], array[100, 22] = "otherwise \"", "λ"
    found = verify(source, target, code=3)
    [array] = [array for array in found["arrays"] if array["path"] == "label"]
    was = label(source)[...]
    assert array["differences"] == 2 and array["elements"] == was.size
    assert [d["at"] for d in array["first"]] == [[7, 9], [100, 22]]
    assert array["first"][0]["target"] == r'"otherwise \""' and array["first"][1]["target"] == '"λ"'
    # Four shards of labels, four chunks of names.
    sampled = verify(source, target, "--sample", "8", code=3)
    assert (sampled["sampled_chunks"], sampled["elements"], sampled["differences"]) == (8, was.size + 101, 2)
    run = rechunkfs("verify", source, target, "--sample", "1", "--json")
    assert 0 < json.loads(run.stdout)["elements"] < was.size


def test_verify_compares_stores_of_the_same_chunks_element_by_element(tmp_path):
    """Bytes of chunk files need not be the same for elements to be."""
    source = store(tmp_path / "s.zarr", missing=["c/0/0"], fill_value="no")
    other = store(tmp_path / "o.zarr", fill_value="no", compressors=ZstdCodec(level=9))
    zarr.open_array(other, path="label", mode="r+")[...] = label(source)[...]
    assert tree(source / "label/c") != tree(other / "label/c")
    verify(source, other)
    chunk = other / "label/c/2/0"
    chunk.write_bytes(chunk.read_bytes()[:-1])
    run = rechunkfs("verify", source, other, "--json")
    assert run.returncode == 1
    [array] = [array for array in json.loads(run.stdout)["arrays"] if array["path"] == "label"]
    assert "target: chunk file c/2/0" in array["error"]


# -- going on -------------------------------------------------------------------------------------------


def test_a_killed_copy_goes_on_to_the_same_result(tmp_path):
    values = words((12_000, 60), seed=8)
    source, target = tmp_path / "s.zarr", tmp_path / "t.zarr"
    group = zarr.create_group(source)
    array = group.create_array("label", shape=values.shape, chunks=(12_000, 4), dtype="string", dimension_names=("object", "epoch"))
    array[...] = values
    flags = ["--chunks", "object=2,epoch=full", "--codecs", "zstd:15", "-j", "2"]
    copy(source, tmp_path / "whole.zarr", *flags)
    stopped(source, target, *flags, n_files=300)
    done = report(source, target, *flags, "--resume")
    assert done["resumed"] and done["resumed_bytes"] > 0
    assert_same_tree(target, tmp_path / "whole.zarr")
    assert bits(label(target)[...]) == bits(values)


def test_a_source_that_changes_meanwhile_is_noticed(tmp_path):
    values = words((12_000, 60), seed=8)
    source, target = tmp_path / "s.zarr", tmp_path / "t.zarr"
    group = zarr.create_group(source)
    array = group.create_array("label", shape=values.shape, chunks=(12_000, 4), dtype="string", dimension_names=("object", "epoch"))
    array[...] = values
    with copying(source, target, "--chunks", "object=2,epoch=full", "--codecs", "zstd:15", "-j", "2") as process:
        halt(process, lambda: files_written(target) >= 200)
        array[0, 0] = "changed"
        go_on(process)
        try:
            code = process.wait(120)
        except subprocess.TimeoutExpired:
            pytest.fail("it hangs")
    assert code == 1 and "changed while it was copied" in process.log.read_text()
    assert not target.exists()
