"""Zarr v2 sources are shown as v3: opened by xarray, the view is identical to the source."""

import json
import warnings

import numcodecs
import numpy as np
import pytest
import xarray as xr
import zarr
from sources import random_bits
from support import MountRefused, assert_same_bits, mounted

LAYOUT = ["--chunks", "object=3,epoch=full"]
N_OBJECTS, N_EPOCHS = 11, 7


def survey():
    """One variable of each kind that xarray encodes: masked, scaled, times, strings, booleans, characters."""
    r = np.random.default_rng(11)
    mag = r.normal(20, 1, (N_OBJECTS, N_EPOCHS)).astype("f4")
    mag[r.random(mag.shape) < 0.3] = np.nan
    seen = np.datetime64("2020-01-01", "ns") + r.integers(0, 10**6, (N_OBJECTS, N_EPOCHS)).astype("m8[s]")
    seen[2, 3] = np.datetime64("NaT")
    both = ("object", "epoch")
    return xr.Dataset(
        {
            "mag": (both, mag, {"units": "mag", "limit": float("nan"), "big": 2**70}),
            "flux": (both, np.where(np.isnan(mag), np.nan, 10 ** (-0.4 * mag.astype("f8")))),
            "n_frames": (both, r.integers(0, 9, mag.shape).astype("i4")),
            "good": (both, r.random(mag.shape) < 0.5),
            "seen": (both, seen),
            "elapsed": (both, r.integers(0, 10**5, mag.shape).astype("m8[s]").astype("m8[ns]")),
            "band": (both, r.choice(np.array(["g", "r", "ü"]), mag.shape)),
            "code": (both, r.choice(np.array([b"ab", b"c"]), mag.shape)),
            "name": ("object", np.array([f"IDF {i}" for i in range(N_OBJECTS)], dtype=object)),
            "mjd": ("epoch", 59000.0 + np.arange(N_EPOCHS)),
            "radius": ((), 1.1),
        },
        coords={"object": np.arange(100, 100 + N_OBJECTS), "epoch": np.datetime64("2020-01-01", "ns") + np.arange(N_EPOCHS).astype("m8[D]")},
        attrs={"title": "v2", "nested": {"a": [1, 2.0, None]}, "limit": float("nan")},
    )  # fmt: skip


ENCODING = {
    "mag": {"chunks": (N_OBJECTS, 1)},
    "flux": {"chunks": (4, 3), "dtype": "i4", "scale_factor": 1e-12, "add_offset": 2e-9, "_FillValue": -999},
    "n_frames": {"chunks": (4, 2), "_FillValue": 3, "filters": [numcodecs.Delta(dtype="i4")]},
    "good": {"chunks": (N_OBJECTS, 1)},
    "seen": {"chunks": (N_OBJECTS, 1), "units": "seconds since 2020-01-01", "dtype": "f8"},
    "elapsed": {"chunks": (5, 5)},
    "band": {"chunks": (N_OBJECTS, 1)},
    "code": {"chunks": (N_OBJECTS, 2)},
}


def assert_open_zarr_identical(view, source):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        got, want = (xr.open_zarr(p, chunks=None).load() for p in (view, source))
    xr.testing.assert_identical(got, want)
    for name, variable in want.variables.items():
        assert_same_bits(got[name].values, variable.values, name)


@pytest.mark.parametrize("consolidated", [True, False])
def test_xarray_finds_the_same_dataset(tmp_path, consolidated):
    survey().to_zarr(
        tmp_path / "v2.zarr",
        zarr_format=2,
        encoding={k: v for k, v in ENCODING.items() if k != "n_frames"},
        consolidated=consolidated,
    )
    with mounted(tmp_path / "v2.zarr", *LAYOUT) as view:
        assert_open_zarr_identical(view, tmp_path / "v2.zarr")
        assert zarr.open_group(view, mode="r").metadata.zarr_format == 3
        assert zarr.open_array(view / "mag", mode="r").chunks == (3, N_EPOCHS)
        assert json.loads((view / "zarr.json").read_text())["consolidated_metadata"]["metadata"]["mag"]["shape"] == [
            N_OBJECTS,
            N_EPOCHS,
        ]
        for name in (".zgroup", ".zattrs", ".zmetadata", "mag/.zarray", "mag/.zattrs"):
            assert not (view / name).exists()


def test_a_filter_that_v3_readers_know_by_another_name_is_refused_or_right(tmp_path):
    survey()[["n_frames", "mag"]].to_zarr(
        tmp_path / "v2.zarr", zarr_format=2, encoding={k: ENCODING[k] for k in ("n_frames", "mag")}
    )
    try:
        with mounted(tmp_path / "v2.zarr", *LAYOUT) as view:
            assert_open_zarr_identical(view, tmp_path / "v2.zarr")
    except MountRefused as refused:
        assert "n_frames" in refused.stderr and len(refused.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("fill", [0, 3, -999, None])
def test_masking_by_fill_value_is_kept(tmp_path, fill):
    """xarray masks by a v2 fill_value, and does not by one of v3."""
    group = zarr.create_group(tmp_path / "v2.zarr", zarr_format=2)
    for dtype in ("i4", "f4"):
        array = group.create_array(f"a_{dtype}", shape=(6, 5), chunks=(6, 1), dtype=dtype, fill_value=fill)
        array.attrs["_ARRAY_DIMENSIONS"] = ["object", "epoch"]
        array[:, 1:3] = np.arange(12).reshape(6, 2)
    zarr.consolidate_metadata(tmp_path / "v2.zarr")
    with mounted(tmp_path / "v2.zarr", *LAYOUT) as view:
        assert_open_zarr_identical(view, tmp_path / "v2.zarr")


def test_fill_value_wins_over_a_fill_attribute_as_it_does_in_xarray(tmp_path):
    array = zarr.create_array(tmp_path / "v2.zarr/a", shape=(6, 5), chunks=(6, 1), dtype="i4", fill_value=0, zarr_format=2,
                              attributes={"_ARRAY_DIMENSIONS": ["object", "epoch"], "_FillValue": 7})  # fmt: skip
    zarr.create_group(tmp_path / "v2.zarr", zarr_format=2)
    array[...] = np.arange(30).reshape(6, 5)
    zarr.consolidate_metadata(tmp_path / "v2.zarr")
    with mounted(tmp_path / "v2.zarr", *LAYOUT) as view:
        assert_open_zarr_identical(view, tmp_path / "v2.zarr")
        attributes = json.loads((view / "a/zarr.json").read_text())["attributes"]
        assert attributes["_FillValue"] == 0 and "_ARRAY_DIMENSIONS" not in attributes
        assert zarr.open_array(view / "a", mode="r").metadata.dimension_names == ("object", "epoch")


# -- arrays as zarr-python writes them ------------------------------------------------------------------

COMPRESSORS = {
    "none": None,
    "blosc": numcodecs.Blosc("zstd", 5, numcodecs.Blosc.SHUFFLE),
    "blosc-auto-shuffle": numcodecs.Blosc("lz4", 5, numcodecs.Blosc.AUTOSHUFFLE),
    "blosc-bit": numcodecs.Blosc("lz4", 5, numcodecs.Blosc.BITSHUFFLE),
    "zstd": numcodecs.Zstd(3),
    "gzip": numcodecs.GZip(3),
    "zlib": numcodecs.Zlib(3),
    "bz2": numcodecs.BZ2(3),
    "lz4": numcodecs.LZ4(),
}
DTYPES = "<f4 >f4 <f8 >i2 |i1 |u1 <u8 |b1 <c8 >c16 <f2 |S4 <U3 >U3 <M8[ns] >M8[s] <m8[us]".split()


def check_array(folder, data, missing=(), **create):
    """Writes a v2 array next to a column that passes through, and compares what a view shows."""
    group = zarr.create_group(folder, zarr_format=2)
    array = group.create_array("a", shape=data.shape, dtype=data.dtype, **{"chunks": (data.shape[0], 2), **create})
    array.attrs["_ARRAY_DIMENSIONS"] = ["object", "epoch"]
    array[...] = data
    for key in missing:
        (folder / "a" / key).unlink()
    want = zarr.open_array(folder / "a", mode="r")[...]
    with mounted(folder, *LAYOUT, "--array", "a") as view:
        got = zarr.open_array(view / "a", mode="r")
        assert got.metadata.zarr_format == 3 and got.chunks == (3, data.shape[1])
        assert_same_bits(got[...], want)
    with mounted(folder, "--chunks", "a:object=4,epoch=3", "--shards", "a:object=8,epoch=6") as view:
        assert_same_bits(zarr.open_array(view / "a", mode="r")[...], want)


@pytest.mark.parametrize("compressor", COMPRESSORS)
def test_compressors(tmp_path, compressor):
    check_array(tmp_path, random_bits("f4", (500, 7)), compressors=COMPRESSORS[compressor])


@pytest.mark.parametrize("dtype", DTYPES)
def test_types(tmp_path, dtype):
    check_array(tmp_path, random_bits(dtype, (11, 7)), missing=["0.1"])


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("separator", "./")
def test_order_and_separator(tmp_path, order, separator):
    check_array(tmp_path, random_bits("i4", (11, 7)), order=order, chunks=(4, 3), missing=[f"1{separator}1"],
                chunk_key_encoding={"name": "v2", "separator": separator}, compressors=numcodecs.Zlib())  # fmt: skip


@pytest.mark.parametrize(
    "filters", [[numcodecs.Shuffle(4)], [numcodecs.Shuffle(4), numcodecs.Fletcher32()]], ids=["shuffle", "fletcher32"]
)
def test_filters(tmp_path, filters):
    check_array(tmp_path, random_bits("f4", (11, 7)), filters=filters, compressors=numcodecs.Zlib())


@pytest.mark.parametrize("fill", [5, -1.5, float("nan"), float("inf"), None])
def test_fill_values(tmp_path, fill):
    check_array(tmp_path, random_bits("f8", (11, 7)), fill_value=fill, missing=["0.0", "0.2"])


def test_a_structured_column_is_never_shown_wrong(tmp_path):
    """v3 can spell it only as an extension: shown right, or refused by name."""
    data = random_bits([("flux", "<f4"), ("id", ">i8")], (11, 7))
    try:
        check_array(tmp_path, data)
    except MountRefused as refused:
        assert "a" in refused.stderr and len(refused.stderr.strip().splitlines()) == 1


def test_arrays_that_pass_through_keep_their_values(tmp_path):
    group = zarr.create_group(tmp_path, zarr_format=2)
    group.create_array("cube", data=random_bits("f4", (6, 5)), chunks=(6, 1)).attrs["_ARRAY_DIMENSIONS"] = ["object", "epoch"]
    wanted = {}
    for name, compressor in COMPRESSORS.items():
        for order in "CF":
            array = group.create_array(
                f"p-{name}-{order}", data=random_bits("f4", (40, 3)), chunks=(16, 2), order=order, compressors=compressor
            )
            array.attrs["_ARRAY_DIMENSIONS"] = ["other", "third"]
            wanted[array.basename] = array[...]
    for i, dtype in enumerate(DTYPES):
        column = group.create_array(f"t{i}", data=random_bits(dtype, (9,)), chunks=(4,))
        wanted[column.basename] = column[...]
    with mounted(tmp_path, *LAYOUT) as view:
        got = zarr.open_group(view, mode="r")
        for name, values in wanted.items():
            assert_same_bits(got[name][...], values, name)
