"""One store per row of a table: every codec, type, grid and spelling that a source may have, rechunked and compared."""

import json
import os
from dataclasses import dataclass, field

import numpy as np
import pytest
import zarr
from sources import presence, random_bits
from support import MountRefused, assert_plain_chunks, assert_same_array, mounted
from zarr.codecs import (
    BloscCodec,
    BytesCodec,
    Crc32cCodec,
    GzipCodec,
    ShardingCodec,
    TransposeCodec,
    ZstdCodec,
)
from zarr.codecs import numcodecs as nc


@dataclass
class Case:
    """How zarr-python creates the source, and the layout to show it in."""

    name: str
    create: dict = field(default_factory=dict)
    dtype: object = "f4"
    shape: tuple = (11, 7)
    chunks: tuple = (11, 1)
    layout: str = "0=3,1=full"
    may_refuse: bool = False  # beyond what is promised: may be refused, or shown as it is, but never wrong
    written: object = ...  # the selection that is written; the rest of the chunks are missing

    def build(self, folder):
        options = {"dtype": self.dtype, "shape": self.shape, "chunks": self.chunks, **self.create}
        array = zarr.create_array(folder, config={"write_empty_chunks": True}, **options)
        if self.written is not None:
            array[self.written] = random_bits(array.dtype, self.shape)[self.written]
        return zarr.open_array(folder, mode="r")


def compress(*codecs, **more):
    return {"compressors": codecs, **more}


BLOSC = [
    Case(f"blosc-{cname}-{shuffle}", compress(BloscCodec(typesize=4, cname=cname, clevel=clevel, shuffle=shuffle)), shape=(4000, 5), chunks=(4000, 1), layout="0=37,1=full")
    for cname in ("blosclz", "lz4", "lz4hc", "zlib", "zstd") for shuffle in ("noshuffle", "shuffle", "bitshuffle") for clevel in (5,)
] + [
    Case("blosc-clevel0", compress(BloscCodec(typesize=4, clevel=0))),
    Case("blosc-small-blocks", compress(BloscCodec(typesize=4, cname="zstd", clevel=9, blocksize=256)), shape=(4000, 5), chunks=(4000, 1)),
    Case("blosc-typesize-not-the-type's", compress(BloscCodec(typesize=8, shuffle="shuffle")), shape=(999, 5), chunks=(999, 1)),
    Case("blosc-many-blocks", compress(BloscCodec(typesize=4, cname="lz4")), shape=(300_000, 3), chunks=(300_000, 1), layout="0=1009,1=full"),
    Case("blosc-twice", compress(BloscCodec(typesize=4), BloscCodec(typesize=1, cname="lz4"))),
]  # fmt: skip

CODECS = [
    Case("none", {"compressors": None}),
    Case("zstd", compress(ZstdCodec(level=3))),
    Case("zstd-checksum", compress(ZstdCodec(level=3, checksum=True))),
    Case("gzip", compress(GzipCodec(level=6))),
    Case("crc32c", compress(Crc32cCodec())),
    Case("zstd-crc32c", compress(ZstdCodec(), Crc32cCodec())),
    Case("crc32c-then-gzip", compress(Crc32cCodec(), GzipCodec())),
    Case("transpose", {"filters": [TransposeCodec(order=(1, 0))]}),
    Case("transpose-3d-blosc", {"filters": [TransposeCodec(order=(2, 0, 1))], **compress(BloscCodec(typesize=4))}, shape=(6, 5, 4), chunks=(4, 3, 1), layout="0=2,2=full"),
    Case("transpose-twice", {"filters": [TransposeCodec(order=(2, 0, 1)), TransposeCodec(order=(1, 0, 2))]}, shape=(6, 5, 4), chunks=(4, 3, 2)),
    Case("big-endian", {"serializer": BytesCodec(endian="big")}),
    Case("big-endian-blosc", {"serializer": BytesCodec(endian="big"), **compress(BloscCodec(typesize=4))}),
    Case("big-endian-complex", {"serializer": BytesCodec(endian="big")}, dtype="c16"),
    Case("big-endian-unicode", {"serializer": BytesCodec(endian="big")}, dtype="U3"),
    Case("big-endian-time", {"serializer": BytesCodec(endian="big")}, dtype="M8[ns]"),
    Case("numcodecs.zlib", compress(nc.Zlib(level=4))),
    Case("numcodecs.zlib-no-level", compress(nc.Zlib())),
    Case("numcodecs.bz2", compress(nc.BZ2(level=5))),
    Case("numcodecs.bz2-no-level", compress(nc.BZ2())),
    Case("numcodecs.lz4", compress(nc.LZ4(acceleration=1))),
    Case("numcodecs.lz4-bare", compress(nc.LZ4())),
    Case("numcodecs.zstd", compress(nc.Zstd(level=3))),
    Case("numcodecs.zstd-bare", compress(nc.Zstd())),
    Case("numcodecs.gzip", compress(nc.GZip(level=3))),
    Case("numcodecs.gzip-bare", compress(nc.GZip())),
    Case("numcodecs.blosc", compress(nc.Blosc(cname="zstd", clevel=5, shuffle=1)), shape=(999, 5), chunks=(999, 1)),
    Case("numcodecs.blosc-bitshuffle", compress(nc.Blosc(cname="lz4", clevel=5, shuffle=2)), shape=(999, 5), chunks=(999, 1)),
    Case("numcodecs.blosc-bare", compress(nc.Blosc()), shape=(999, 5), chunks=(999, 1)),
    Case("numcodecs.shuffle-zlib", compress(nc.Shuffle(elementsize=4), nc.Zlib(level=1))),
    Case("numcodecs.fletcher32", compress(nc.Fletcher32())),
    Case("numcodecs.adler32", compress(nc.Adler32())),
    Case("numcodecs.pcodec", {"serializer": nc.PCodec(level=8), "compressors": None}),
    Case("numcodecs.pcodec-bare-i8", {"serializer": nc.PCodec(), "compressors": None}, dtype="i8"),
    Case("numcodecs.bitround", {"filters": [nc.BitRound(keepbits=9)], **compress(ZstdCodec())}),
    Case("numcodecs.crc32", compress(nc.CRC32()), may_refuse=True),
    Case("numcodecs.crc32c", compress(nc.CRC32C()), may_refuse=True),
    Case("numcodecs.lzma", compress(nc.LZMA()), may_refuse=True),
    Case("numcodecs.jenkins", compress(nc.JenkinsLookup3()), may_refuse=True),
    Case("numcodecs.delta", {"filters": [nc.Delta(dtype="<i4")]}, dtype="i4", may_refuse=True),
    Case("numcodecs.astype", {"filters": [nc.AsType(encode_dtype="<i8", decode_dtype="<i4")]}, dtype="i4", may_refuse=True),
    Case("numcodecs.packbits", {"filters": [nc.PackBits()]}, dtype="?", may_refuse=True),
    Case("numcodecs.fixedscaleoffset", {"filters": [nc.FixedScaleOffset(offset=0, scale=1, dtype="<i4", astype="<i4")]}, dtype="i4", may_refuse=True),
]  # fmt: skip


def shard(inner, **options):
    return ShardingCodec(chunk_shape=inner, **options)


SHARDS = [
    Case("sharded", {"shards": (6, 4)}, chunks=(3, 2)),
    Case("sharded-blosc", {"shards": (6, 4), **compress(BloscCodec(typesize=4))}, chunks=(3, 2)),
    Case("sharded-longer-than-array", {"shards": (12, 8)}, chunks=(3, 2)),
    Case("sharded-some-inner-missing", {"shards": (12, 4)}, chunks=(3, 1), written=np.s_[3:6, 1:3]),
    Case("sharded-index-at-start", {"serializer": shard((3, 2), index_location="start"), "compressors": None}, chunks=(6, 4)),
    Case("sharded-index-no-crc", {"serializer": shard((3, 2), index_codecs=[BytesCodec()]), "compressors": None}, chunks=(6, 4)),
    Case("sharded-nested", {"serializer": shard((6, 4), codecs=[shard((3, 2), codecs=[BytesCodec(), ZstdCodec()])]), "compressors": None}, chunks=(12, 8)),
    Case("sharded-then-compressed", {"serializer": shard((3, 2)), **compress(GzipCodec())}, chunks=(6, 4)),
    Case("sharded-inner-transposed", {"serializer": shard((3, 2), codecs=[TransposeCodec(order=(1, 0)), BytesCodec()]), "compressors": None}, chunks=(6, 4)),
    Case("sharded-inner-big-endian", {"serializer": shard((3, 2), codecs=[BytesCodec(endian="big")]), "compressors": None}, chunks=(6, 4)),
    Case("sharded-outer-transposed", {"filters": [TransposeCodec(order=(1, 0))], "serializer": shard((2, 2)), "compressors": None}, chunks=(6, 4)),
]  # fmt: skip

GRIDS = [
    Case("v2-keys", {"chunk_key_encoding": {"name": "v2", "separator": "."}}),
    Case("v2-keys-slash", {"chunk_key_encoding": {"name": "v2", "separator": "/"}}),
    Case("default-keys-dot", {"chunk_key_encoding": {"name": "default", "separator": "."}}),
    Case("ragged-in-every-axis", shape=(11, 7, 5), chunks=(4, 3, 2), layout="0=3,1=2,2=4"),
    Case("coarser", shape=(12, 8), chunks=(3, 2), layout="0=6,1=8"),
    Case("finer", shape=(12, 8), chunks=(6, 8), layout="0=1,1=2"),
    Case("co-prime", shape=(35, 22), chunks=(7, 5), layout="0=11,1=3"),
    Case("mixed", shape=(12, 8), chunks=(3, 8), layout="0=full,1=3"),
    Case("the-same", shape=(12, 8), chunks=(3, 2), layout="0=3,1=2"),
    Case("source-length", shape=(12, 8), chunks=(3, 2), layout="0=source,1=full"),
    Case("minus-one-is-full", shape=(12, 8), chunks=(3, 2), layout="0=1,1=-1"),
    Case("chunk-longer-than-array", shape=(5, 3), chunks=(8, 9), layout="0=2,1=2"),
    Case("virtual-chunk-longer-than-array", shape=(5, 3), chunks=(2, 1), layout="0=100,1=7"),
    Case("1d", shape=(37,), chunks=(5,), layout="0=8"),
    Case("4d", shape=(5, 4, 3, 6), chunks=(5, 4, 3, 1), layout="0=2,3=full"),
    Case("5d", shape=(3, 4, 2, 3, 5), chunks=(3, 2, 2, 2, 1), layout="0=1,4=full"),
    Case("6d", shape=(3, 2, 4, 2, 3, 5), chunks=(2, 2, 3, 1, 2, 2), layout="0=2,2=3,4=full,5=4"),
    Case("zero-length", shape=(0, 4), chunks=(1, 2), layout="0=3,1=full"),
    Case("zero-length-last", shape=(4, 0), chunks=(2, 1), layout="0=3,1=full"),
    Case("nothing-written", written=None),
    Case("some-chunks-missing", chunks=(4, 2), layout="0=3,1=3", written=np.s_[4:8, 2:4]),
    Case("a-whole-virtual-row-missing", chunks=(3, 1), layout="0=3,1=full", written=np.s_[3:6]),
]  # fmt: skip

STRUCT = np.dtype([("flux", "<f4"), ("id", "<i8"), ("good", "?"), ("band", "S3")])
DTYPES = [
    *(Case(f"dtype-{t}", dtype=t) for t in "? i1 u1 i2 u2 i4 u4 i8 u8 f2 f4 f8 c8 c16".split()),
    *(Case(f"dtype-{t}", dtype=t) for t in ("S1", "S5", "U1", "U4", "V3", "V16")),
    *(Case(f"dtype-{k}8[{u}]", dtype=f"{k}8[{u}]") for k in "Mm" for u in ("ns", "us", "s", "D", "10us")),
    Case("dtype-struct", dtype=STRUCT),
    *(Case(f"dtype-{t}-blosc", compress(BloscCodec(typesize=4)), dtype=t) for t in ("S5", "U4", "M8[ns]", "c16", "?")),
    *(Case(f"dtype-{t}-missing", dtype=t, written=np.s_[:, 1:3]) for t in ("S5", "U4", "V3", "M8[ns]", "m8[s]", "c8", "f2", "?")),
]


def filled(name, dtype, fill, **more):
    return Case(
        f"fill-{name}", {"fill_value": fill}, dtype=dtype, chunks=(4, 2), layout="0=3,1=5", written=np.s_[4:8, 2:4], **more
    )


FILLS = [
    *(filled(f"{t}-{v}", t, float(v)) for t in ("f2", "f4", "f8") for v in ("nan", "inf", "-inf", "-0.0", "0.1", "1e-7")),
    filled("f8-subnormal", "f8", 5e-324),
    filled("i8-min", "i8", -(2**63)),
    filled("u8-max", "u8", 2**64 - 1),
    filled("i1", "i1", -128),
    filled("bool", "?", True),
    filled("c8", "c8", complex(float("nan"), float("-inf"))),
    filled("c16", "c16", complex(1.5, -0.0)),
    filled("NaT", "M8[ns]", np.datetime64("NaT", "ns")),
    filled("time", "M8[s]", np.datetime64("2020-02-29T12:00:00", "s")),
    filled("m8-NaT", "m8[us]", np.timedelta64("NaT", "us")),
    filled("S", "S4", b"ab"),
    filled("U", "U4", "ü星"),
    filled("V", "V3", np.void(b"\x01\x02\xff")),
    filled("struct", STRUCT, np.array((1.5, -7, True, b"r"), STRUCT)[()]),
]

CASES = BLOSC + CODECS + SHARDS + GRIDS + DTYPES + FILLS


@pytest.mark.parametrize("case", CASES, ids=[c.name for c in CASES])
def test_rechunked(case, tmp_path):
    source = case.build(tmp_path / "source")
    check(source, tmp_path / "source", case.layout, case.may_refuse)


def check(source, folder, layout, may_refuse=False):
    try:
        with mounted(folder, "--chunks", layout, "--array", "**") as view:
            compare(view, source, folder)
    except MountRefused as refused:
        assert may_refuse, refused
        assert len(refused.stderr.strip().splitlines()) == 1 and "codec" in refused.stderr, refused.stderr


def compare(view, source, folder):
    got = zarr.open_array(view, mode="r")
    assert_same_array(got, source)
    assert json.loads((view / "zarr.json").read_text())["chunk_key_encoding"]["configuration"]["separator"] == "."
    assert_plain_chunks(view, source, presence(folder, source.shape))


@pytest.mark.parametrize(
    "case",
    [c for c in CASES if c.name in ("ragged-in-every-axis", "sharded", "some-chunks-missing", "zero-length", "6d")],
    ids=lambda c: c.name,
)
def test_rechunked_in_shards(case, tmp_path):
    source = case.build(tmp_path / "source")
    axes = range(len(case.shape))
    chunks, shards = (",".join(f"{a}={n}" for a in axes) for n in (2, 6))
    with mounted(tmp_path / "source", "--chunks", chunks, "--shards", shards, "--array", "**") as view:
        assert zarr.open_array(view, mode="r").shards == (6,) * len(case.shape)
        assert_same_array(zarr.open_array(view, mode="r"), source)


# -- what zarr-python does not write by itself -------------------------------------------------------------


def edit(folder, change):
    meta = json.loads((folder / "zarr.json").read_text())
    change(meta)
    (folder / "zarr.json").write_text(json.dumps(meta))
    return zarr.open_array(folder, mode="r")


def test_zstd_without_checksum_in_its_configuration(tmp_path):
    Case("zstd", compress(ZstdCodec(level=3))).build(tmp_path / "source")
    source = edit(tmp_path / "source", lambda m: m["codecs"][1]["configuration"].pop("checksum"))
    check(source, tmp_path / "source", "0=3,1=full")


@pytest.mark.parametrize(
    "dtype, fill", [("f4", "0x7fc00001"), ("f4", "0xffa12345"), ("f8", "0x7ff8000000000001"), ("f2", "0x7e01")]
)
def test_a_fill_value_with_a_nan_payload(tmp_path, dtype, fill):
    """zarr-python may lose the payload of a signalling one; the files themselves are held to the exact bits."""
    filled("payload", dtype, 0.0).build(tmp_path / "source")
    source = edit(tmp_path / "source", lambda m: m.update(fill_value=fill))
    want = np.frombuffer(int(fill, 16).to_bytes(np.dtype(dtype).itemsize, "little"), dtype)[0]
    with mounted(tmp_path / "source", "--chunks", "0=3,1=5", "--array", "**") as view:
        assert json.loads((view / "zarr.json").read_text())["fill_value"] == fill
        chunk = np.frombuffer((view / "c.1.0").read_bytes(), dtype).reshape(3, 5)
        missing = np.full((3, 2), want, dtype)
        assert chunk[:, :2].tobytes() == missing.tobytes()
        assert chunk[1:, 2:4].tobytes() == source[4:6, 2:4].tobytes()


def test_stale_data_in_the_padding_of_edge_chunks_never_shows(tmp_path):
    Case("shrunk", {"fill_value": -1.0}, shape=(12, 9), chunks=(5, 4)).build(tmp_path / "source")
    zarr.open_array(tmp_path / "source", mode="r+").resize((8, 6))
    source = zarr.open_array(tmp_path / "source", mode="r")
    check(source, tmp_path / "source", "0=3,1=full")
    with mounted(tmp_path / "source", "--chunks", "0=7,1=7") as view:
        edge = np.frombuffer((view / "c.1.0").read_bytes(), "f4").reshape(7, 7)
        assert (edge[1:] == -1).all() and (edge[:, 6:] == -1).all()


def test_chunks_left_outside_a_shrunk_array_are_not_counted(tmp_path):
    Case("shrunk", shape=(12, 9), chunks=(5, 4)).build(tmp_path / "source")
    edit(tmp_path / "source", lambda m: m.update(shape=[4, 4]))
    (tmp_path / "source/c/0/0").unlink()
    with mounted(tmp_path / "source", "--chunks", "0=3,1=full") as view:
        assert os.listdir(view) == ["zarr.json"]
