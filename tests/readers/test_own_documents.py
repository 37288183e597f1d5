"""Other readers on the view's own documents. The demo stores carry a bare NaN, which tensorstore and zarrs refuse in any
store; these sources do not, so that nothing stands between these readers and the `zarr.json` that the view writes."""

import json

import numpy as np
import pytest
import tensorstore as ts
import zarr
from sources import LAYOUT, random_bits
from support import assert_same_bits, mounted
from zarr.codecs import BloscCodec, BytesCodec, TransposeCodec, ZstdCodec

SHAPE = (101, 23)
ARRAYS = {
    "blosc_f4": {"dtype": "f4", "chunks": (101, 1), "fill_value": float("nan"), "compressors": BloscCodec(typesize=4)},
    "big_endian_i2": {"dtype": "i2", "chunks": (40, 3), "serializer": BytesCodec(endian="big"), "compressors": ZstdCodec()},
    "sharded_u8": {"dtype": "u8", "chunks": (10, 1), "shards": (40, 4), "compressors": ZstdCodec()},
    "transposed_f8": {"dtype": "f8", "chunks": (33, 5), "filters": TransposeCodec(order=(1, 0)), "fill_value": -1.5},
    "bool": {"dtype": "bool", "chunks": (50, 1), "compressors": None},
    "complex64": {"dtype": "c8", "chunks": (101, 2), "fill_value": 1 + 2j},
}


@pytest.fixture(scope="module", params=["plain", "sharded"])
def shown(request, tmp_path_factory):
    source = tmp_path_factory.mktemp("own") / "s.zarr"
    group = zarr.create_group(source)
    for name, options in ARRAYS.items():
        array = group.create_array(name, shape=SHAPE, dimension_names=("object", "epoch"), **options)
        array[:, :17] = random_bits(array.dtype, SHAPE)[:, :17]  # the last chunks are missing
    zarr.consolidate_metadata(source)
    shards = ["--shards", "object=45,epoch=full"] if request.param == "sharded" else []
    with mounted(source, *LAYOUT, *shards) as view:
        yield view, source


@pytest.mark.parametrize("name", ARRAYS)
def test_tensorstore_reads_the_view_by_its_own_document(shown, name):
    view, source = shown
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{view / name}/"}}
    array = ts.open(spec, read=True, open=True).result()
    want = zarr.open_group(source, mode="r")[name]
    assert array.chunk_layout.read_chunk.shape == (15, 23)
    assert_same_bits(array.read().result().astype(want.dtype), want[...])
    assert_same_bits(array[13:17, 2:20].read().result().astype(want.dtype), want[13:17, 2:20])


@pytest.mark.parametrize("name", ARRAYS)
def test_zarrs_reads_the_view_by_its_own_document(shown, name):
    view, source = shown
    want = zarr.open_group(source, mode="r")[name]
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline", "codec_pipeline.strict": True}):
        array = zarr.open_group(view, mode="r")[name]
        assert_same_bits(np.asarray(array[...]), want[...])
        assert_same_bits(np.asarray(array[13:17, 2:20]), want[13:17, 2:20])


def test_the_documents_hold_the_grid_asked_for(shown):
    view, _ = shown
    for name in ARRAYS:
        document = json.loads((view / name / "zarr.json").read_text())
        outer = document["chunk_grid"]["configuration"]["chunk_shape"]
        sharded = document["codecs"][0]["name"] == "sharding_indexed"
        inner = document["codecs"][0]["configuration"]["chunk_shape"] if sharded else outer
        assert inner == [15, 23] and outer == ([45, 23] if sharded else [15, 23])
