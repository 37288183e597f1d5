"""The judge is judged first: the comparisons must see every kind of difference, or the other tests prove nothing."""

import json
import shutil

import numpy as np
import pytest
import zarr
from support import Expected, assert_plain_chunks, assert_same_bits, assert_same_store, bits, document

pytestmark = pytest.mark.no_mount


def test_nan_payloads_and_signed_zeros_are_told_apart():
    quiet, other = np.array([0x7FC00000, 0x7FC00001], "u4").view("f4")
    assert_same_bits(np.array([quiet]), np.array([quiet]))
    for a, b in [(quiet, other), (0.0, -0.0)]:
        with pytest.raises(AssertionError, match=r"1 of 1 elements differ, first at \(0,\)"):
            assert_same_bits(np.array([a], "f4"), np.array([b], "f4"))


def test_byte_order_is_no_difference_but_type_and_shape_are():
    a = np.arange(6, dtype=">f8")
    assert_same_bits(a, a.astype("<f8"))
    with pytest.raises(AssertionError, match="type"):
        assert_same_bits(a, a.astype("f4"))
    with pytest.raises(AssertionError, match="shape"):
        assert_same_bits(a, a.reshape(2, 3))


def test_strings_of_both_kinds_compare_by_value():
    for array in (np.array(["a", "ü"]), np.array(["a", "ü"], dtype="T"), np.array(["a", "ü"], dtype=object)):
        assert_same_bits(array, array.copy())
        with pytest.raises(AssertionError):
            assert_same_bits(array, array[::-1])


def small_store(folder):
    root = zarr.create_group(folder, attributes={"limit": float("nan"), "big": 2**70})
    data = np.arange(35, dtype="f4").reshape(5, 7)
    array = root.create_array("sub/a", data=data, chunks=(2, 3), fill_value=9, dimension_names=("y", "x"))
    zarr.consolidate_metadata(folder)
    return array


def test_a_copy_is_the_same_store_and_each_change_is_seen(tmp_path):
    small_store(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    assert_same_store(tmp_path / "two", tmp_path / "one")
    changes = [
        lambda g: g["sub/a"].__setitem__((4, 6), -1),
        lambda g: g["sub/a"].attrs.update(unit="mag"),
        lambda g: g.attrs.update(limit=0.0),
        lambda g: g.create_array("extra", shape=(1,), dtype="i4"),
    ]
    for change in changes:
        shutil.rmtree(tmp_path / "two")
        shutil.copytree(tmp_path / "one", tmp_path / "two")
        change(zarr.open_group(tmp_path / "two", mode="r+", use_consolidated=False))
        with pytest.raises(AssertionError):
            assert_same_store(tmp_path / "two", tmp_path / "one", use_consolidated=False)


def test_documents_keep_the_spelling_of_numbers(tmp_path):
    (tmp_path / "a").write_text('{"x": 1.0, "y": 1e0, "n": NaN, "big": 1180591620717411303424}')
    assert document(tmp_path / "a") == {"x": "float 1.0", "y": "float 1e0", "n": "constant NaN", "big": f"int {2**70}"}


def test_expected_chunks_match_what_zarr_python_writes(tmp_path):
    """A store written without compression and with `.` keys is what a view of it has to look like."""
    source = small_store(tmp_path / "source")
    shown = zarr.create_array(
        tmp_path / "shown", shape=source.shape, chunks=(3, 4), dtype="f4", fill_value=9, compressors=None,
        chunk_key_encoding={"name": "default", "separator": "."},
    )  # fmt: skip
    shown[...] = source[...]
    assert_plain_chunks(tmp_path / "shown", source, present=lambda region: True)
    assert len(list(Expected.of(source, tmp_path / "shown").grid())) == 4

    chunk = tmp_path / "shown/c.1.1"
    data = chunk.read_bytes()
    for wrong in (data[:-1] + b"\x01", data[:-4], data + b"\0"):
        chunk.write_bytes(wrong)
        with pytest.raises(AssertionError):
            assert_plain_chunks(tmp_path / "shown", source, present=lambda region: True)
    chunk.unlink()
    with pytest.raises(AssertionError, match="missing"):
        assert_plain_chunks(tmp_path / "shown", source)


def test_padding_is_the_fill_value(tmp_path):
    source = small_store(tmp_path / "source")
    want = Expected.of(source, tmp_path / "source/sub/a")
    assert bits(want.chunk((2, 2))) == bits(np.array([[34, 9, 9], [9, 9, 9]], "f4"))


def test_make_demo_store_writes_what_it_promises(seed, idf):
    for store, n_dims in ((seed, 3), (idf, 4)):
        text = (store / "zarr.json").read_text()
        assert '"saturation": NaN' in text and str(2**70) in text
        assert "consolidated_metadata" in (store / "calibration/zarr.json").read_text()
        kinds = {
            json.dumps(m["data_type"]) for m in json.loads(text)["consolidated_metadata"]["metadata"].values() if "data_type" in m
        }
        assert kinds >= {'"float64"', '"int64"', '"bool"', '"string"'} and "fixed_length_utf32" in str(kinds)
        group = zarr.open_group(store, mode="r")
        assert sum(a.ndim == 1 for _, a in group.arrays()) >= 20 and group["field_radius"].ndim == 0
        assert group["lightcurves"].ndim == n_dims
    assert {p.name for p in (idf / "lightcurves/c/0/0/0").iterdir()} == {str(e) for e in range(20) if e != 16}
