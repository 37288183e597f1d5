"""Unchanged readers on the demo stores: what each reads from the view is what zarr-python reads from the source."""

import json
import shutil
import subprocess
import warnings

import numpy as np
import pytest
import tensorstore as ts
import xarray as xr
import zarr
from support import (
    MountRefused,
    assert_plain_chunks,
    assert_same_array,
    assert_same_bits,
    assert_same_store,
    document,
    mounted,
)

PLAIN = ["--chunks", "object=15,epoch=full"]
SHARDED = [*PLAIN, "--shards", "object=150,epoch=full"]
RECHUNKED = ["lightcurves", "calibration/flags"]


@pytest.fixture(scope="module", params=["idf", "idf-sharded", "seed", "seed-sharded"])
def shown(request):
    """(view, source): one mount for all tests of a case."""
    case, _, sharded = request.param.partition("-")
    source = request.getfixturevalue(case)
    with mounted(source, *(SHARDED if sharded else PLAIN)) as view:
        yield view, source


def few_objects(n_objects):
    """The first, some across chunk and shard borders, the last."""
    return [slice(0, 1), slice(13, 17), slice(149, 152), slice(n_objects - 3, n_objects)]


def strict_json(view, tmp_path):
    """tensorstore and zarrs refuse a bare NaN in attributes, which a view has to carry: the same chunks by links, and a
    document without attributes."""
    folder = tmp_path / "lightcurves"
    folder.mkdir()
    for entry in (view / "lightcurves").iterdir():
        if entry.name != "zarr.json":
            (folder / entry.name).symlink_to(entry)
    meta = json.loads((view / "lightcurves/zarr.json").read_text())
    (folder / "zarr.json").write_text(json.dumps({**meta, "attributes": {}}, allow_nan=False))
    return folder


# -- zarr-python and its other decoder ------------------------------------------------------------------


def test_zarr_python_reads_every_array_bit_for_bit(shown):
    assert_same_store(*shown)


def test_zarr_python_without_consolidated_metadata(shown):
    view, source = shown
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an entry that is no node would be warned of
        names = [{n for n, _ in zarr.open_group(p, mode="r", use_consolidated=False).members(None)} for p in shown]
    assert names[0] == names[1]
    assert zarr.open_array(view / "lightcurves", mode="r").attrs == zarr.open_array(source / "lightcurves", mode="r").attrs


def test_zarrs_pipeline_reads_lightcurves(shown, tmp_path):
    view, source = shown
    want = zarr.open_array(source / "lightcurves", mode="r")
    rows = few_objects(want.shape[0])
    expected = [want[r] for r in rows]
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline", "codec_pipeline.strict": True}):
        got = zarr.open_array(strict_json(view, tmp_path), mode="r")
        for r, e in zip(rows, expected, strict=True):
            assert_same_bits(got[r], e, f"rows {r}")
        first = got[:1024]  # strict refuses steps
    assert_same_bits(first, want[:1024], "the first 1024")


# -- xarray ---------------------------------------------------------------------------------------------


def assert_identical(got, want):
    """xarray's `identical`, which takes any NaN for any other, and the bits."""
    xr.testing.assert_identical(got, want)
    for name in want.variables:
        assert_same_bits(got[name].values, want[name].values, name)


def test_open_zarr_is_identical(shown):
    got, want = (xr.open_zarr(p) for p in shown)
    small = [n for n in want.variables if n != "lightcurves"]
    assert_identical(got[small].load(), want[small].load())
    assert got.lightcurves.dims == want.lightcurves.dims and got.sizes == want.sizes
    assert exact_attrs(got.lightcurves) == exact_attrs(want.lightcurves)


def exact_attrs(variable):
    return json.dumps(variable.attrs, sort_keys=True)


def test_open_datatree_is_identical(shown):
    got, want = (xr.open_datatree(p, engine="zarr", chunks={}) for p in shown)
    assert [n.path for n in got.subtree] == [n.path for n in want.subtree]
    assert_identical(got["calibration"].to_dataset().load(), want["calibration"].to_dataset().load())
    assert not (got["calibration/flags"] == 255).all()  # a grid left behind would read as fill


def test_isel_and_sel(shown):
    got, want = (xr.open_zarr(p, chunks=None) for p in shown)
    for rows in few_objects(want.sizes["object"]):
        assert_identical(got[["lightcurves"]].isel(object=rows).load(), want[["lightcurves"]].isel(object=rows).load())
    name = want["object"].values[want.sizes["object"] // 2]
    at = {"object": name, "measurement": want.measurement.values[-1]}
    assert_identical(got[["lightcurves"]].sel(at).load(), want[["lightcurves"]].sel(at).load())
    when = want.epoch.values[3]
    assert_same_bits(got.lightcurves.sel(epoch=when)[:200].values, want.lightcurves.sel(epoch=when)[:200].values)


def test_dask_computes_the_same(shown):
    got, want = (xr.open_zarr(p).lightcurves.isel(object=slice(100, 500)) for p in shown)
    assert got.chunksizes["object"][1] in (15, 150)
    assert_same_bits(got.compute().values, want.compute().values)
    mean = got.mean("epoch").compute()
    xr.testing.assert_allclose(mean, want.mean("epoch").compute())


# -- tensorstore ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("io_mode", [None, "memmap"])
def test_tensorstore_reads_lightcurves(shown, io_mode, tmp_path):
    view, source = shown
    want = zarr.open_array(source / "lightcurves", mode="r")
    store = {"driver": "file", "path": f"{strict_json(view, tmp_path)}/"}
    if io_mode:
        store["file_io_mode"] = {"mode": io_mode}
    got = ts.open({"driver": "zarr3", "kvstore": store}, read=True).result()
    for rows in few_objects(want.shape[0]):
        assert_same_bits(got[rows].read().result(), want[rows], f"rows {rows}")
    assert_same_bits(got[:1024].read().result(), want[:1024], "the first 1024")


# -- files ----------------------------------------------------------------------------------------------


def test_a_copy_by_cp_is_a_good_store(shown, tmp_path):
    view, source = shown
    subprocess.run(["cp", "-r", view, tmp_path / "copy.zarr"], check=True, timeout=120)
    assert_same_store(tmp_path / "copy.zarr", source)
    subprocess.run(["chmod", "-R", "u+w", tmp_path / "copy.zarr"], check=True)  # 0444 is copied too
    shutil.rmtree(tmp_path / "copy.zarr")


def test_what_passes_through_is_the_source_byte_for_byte(shown):
    view, source = shown
    group_documents = {"zarr.json", "calibration/zarr.json"}
    nodes = [str(p.parent.relative_to(source)) for p in source.rglob("zarr.json")]
    passing = [n for n in nodes if n not in RECHUNKED and f"{n}/zarr.json".removeprefix("./") not in group_documents]
    assert len(passing) > 20
    for node in passing:
        run = subprocess.run(["diff", "-r", source / node, view / node], capture_output=True, text=True, timeout=60)
        assert run.returncode == 0, run.stdout + run.stderr


def test_the_documents_change_only_where_the_grid_does(shown):
    view, source = shown
    changed = ("chunk_grid", "chunk_key_encoding", "codecs")
    for name in RECHUNKED:
        got, want = document(view / name / "zarr.json"), document(source / name / "zarr.json")
        assert list(got) == list(want)
        assert {k: v for k, v in got.items() if k not in changed} == {k: v for k, v in want.items() if k not in changed}
        assert got["chunk_key_encoding"]["configuration"]["separator"] == "."
        assert got["codecs"][0]["name"] in ("bytes", "sharding_indexed") and len(got["codecs"]) == 1


def test_every_consolidated_copy_agrees_with_the_nodes(shown):
    view, source = shown
    for group in ("", "calibration"):
        got, want = (document(p / group / "zarr.json")["consolidated_metadata"]["metadata"] for p in (view, source))
        assert list(got) == list(want)
        for name, entry in got.items():
            node = document(view / group / name / "zarr.json")
            if entry["node_type"] == "group":  # which carries an empty copy here, and a full one in its own document
                entry.pop("consolidated_metadata", None), node.pop("consolidated_metadata", None)
            assert entry == node, f"{group}: {name}"
        attributes = [document(p / group / "zarr.json")["attributes"] for p in (view, source)]
        assert attributes[0] == attributes[1]


# -- which arrays, and how ------------------------------------------------------------------------------


def chunk_shape(view, name):
    meta = json.loads((view / name / "zarr.json").read_text())
    inner = [c["configuration"]["chunk_shape"] for c in meta["codecs"] if c["name"] == "sharding_indexed"]
    return meta["chunk_grid"]["configuration"]["chunk_shape"], *inner


def test_shards_hold_the_chunks_asked_for(seed):
    with mounted(seed, *SHARDED) as view:
        assert chunk_shape(view, "lightcurves") == ([150, 1000, 2], [15, 1000, 2])
        assert chunk_shape(view, "calibration/flags") == ([150, 1000], [15, 1000])


def test_a_bare_array_is_a_store_too(seed):
    with mounted(seed / "lightcurves", *PLAIN) as view:
        got, want = zarr.open_array(view, mode="r"), zarr.open_array(seed / "lightcurves", mode="r")
        assert got.chunks == (15, 1000, 2)
        assert_same_array(got, want)
        assert_plain_chunks(view, want, present=lambda region: True)


def test_each_array_may_have_its_own_layout(seed):
    with mounted(seed, "--chunks", "object=15,epoch=full", "--chunks", "calibration/flags:object=100,epoch=7") as view:
        assert chunk_shape(view, "lightcurves") == ([15, 1000, 2],)
        assert chunk_shape(view, "calibration/flags") == ([100, 7],)
        assert_same_store(view, seed)


def test_exclude_leaves_an_array_as_it_is(seed):
    with mounted(seed, *PLAIN, "--exclude", "calibration/**") as view:
        assert chunk_shape(view, "lightcurves") == ([15, 1000, 2],)
        run = subprocess.run(
            ["diff", "-r", seed / "calibration/flags", view / "calibration/flags"], capture_output=True, text=True
        )
        assert run.returncode == 0, run.stdout


def test_columns_are_rechunked_when_named(seed):
    columns = ["ra", "iau_name", "is_variable", "first_detected", "object"]
    with mounted(seed, "--chunks", "object=64", *(f"--array={c}" for c in columns)) as view:
        for name in columns:
            assert chunk_shape(view, name) == ([64],)
            assert_plain_chunks(view / name, zarr.open_array(seed / name, mode="r"), present=lambda region: True)
        assert chunk_shape(view, "lightcurves") == chunk_shape(seed, "lightcurves")
        assert_identical(xr.open_zarr(view).drop_vars("lightcurves").load(), xr.open_zarr(seed).drop_vars("lightcurves").load())


def test_columns_are_left_alone_when_not_named(seed):
    with mounted(seed, *PLAIN) as view:
        assert chunk_shape(view, "ra") == chunk_shape(seed, "ra")
        assert "lightcurves" in view.messages


def test_a_string_column_named_by_array_is_refused_by_name(seed):
    with (
        pytest.raises(MountRefused, match="class_label") as refused,
        mounted(seed, "--chunks", "object=64", "--array", "class_label"),
    ):
        pass
    assert refused.value.returncode and len(refused.value.stderr.strip().splitlines()) == 1


def test_along_gives_whole_lightcurves(seed):
    with mounted(seed, "--along", "epoch") as view:
        assert chunk_shape(view, "lightcurves")[0][1] == 1000
        rows = np.s_[40:90]
        got, want = (zarr.open_array(p / "lightcurves", mode="r")[rows] for p in (view, seed))
        assert_same_bits(got, want)
