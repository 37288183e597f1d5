"""What the mounted tree promises as a file system: sizes, presence, read-only, errors."""

import errno
import json
import os
import random
import shutil
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr
from sources import LAYOUT, SHAPE, presence, random_bits, root_of, survey
from support import Expected, assert_plain_chunks, assert_same_array, mounted
from zarr.codecs import BloscCodec, ZstdCodec


def error_of(action):
    with pytest.raises(OSError) as error:
        action()
    return error.value.errno


# -- what is there --------------------------------------------------------------------------------------


def test_a_virtual_chunk_is_missing_only_when_all_its_source_chunks_are(source):
    with mounted(root_of(source), *LAYOUT) as view:
        listed = {e.name for e in os.scandir(view / "mag")}
        # Objects 40 to 79 were never written: virtual chunks 3 (45-59) and 4 (60-74) have nothing, 2 and 5 a part.
        assert listed == {"zarr.json", "c.0.0", "c.1.0", "c.2.0", "c.5.0", "c.6.0"}
        assert_plain_chunks(view / "mag", source, presence(root_of(source) / "mag", SHAPE))
        for key in ("c.3.0", "c.4.0"):
            assert error_of((view / "mag" / key).stat) == errno.ENOENT
            assert error_of((view / "mag" / key).read_bytes) == errno.ENOENT
        assert_same_array(zarr.open_array(view / "mag", mode="r"), source)


def test_sizes_are_exact_before_anything_is_read(source):
    with mounted(root_of(source), *LAYOUT) as view:
        for entry in os.scandir(view / "mag"):
            assert entry.is_file(follow_symlinks=False)
            if entry.name != "zarr.json":
                assert entry.stat().st_size == 15 * 23 * 4
        sizes = {p: p.stat().st_size for p in view.rglob("*") if p.is_file()}
        assert all(len(p.read_bytes()) == size for p, size in sizes.items())
        assert all(p.stat().st_size == size for p, size in sizes.items())


def test_modes_are_read_only_and_inodes_stay(source):
    with mounted(root_of(source), *LAYOUT) as view:
        chunk = view / "mag/c.0.0"
        before = chunk.stat()
        assert stat.S_IMODE(before.st_mode) == 0o444 and stat.S_IMODE((view / "mag").stat().st_mode) == 0o555
        chunk.read_bytes()
        time.sleep(2.5)  # past the refresh
        after = chunk.stat()
        assert (before.st_ino, before.st_mtime_ns, before.st_size) == (after.st_ino, after.st_mtime_ns, after.st_size)
    with mounted(root_of(source), *LAYOUT) as view:
        assert (view / "mag/c.0.0").stat().st_mtime_ns == before.st_mtime_ns  # the same after a remount


NOT_THERE = [".zarray", ".zgroup", ".zattrs", ".zmetadata", "mag/.zarray", "mag/.zattrs", "mag/c/0", "mag/c/0/0", "mag/c.0", "mag/c.0.1",
             "mag/c.7.0", "mag/c.00.0", "mag/c.-1.0", "mag/c.0.0.0", "mag/c.18446744073709551616.0", "mag/c", "mag/0.0", "nothing", "ra/c.0", ".partial"]  # fmt: skip


@pytest.mark.parametrize("key", NOT_THERE)
def test_what_is_not_there_is_enoent(source, key):
    with mounted(root_of(source), *LAYOUT) as view:
        assert error_of((view / key).stat) == errno.ENOENT
        assert error_of(lambda: open(view / key, "rb")) == errno.ENOENT


def test_nothing_can_be_written(source):
    with mounted(root_of(source), *LAYOUT) as view:
        chunk = view / "mag/c.0.0"
        attempts = [
            lambda: open(chunk, "r+b"),
            lambda: open(chunk, "wb"),
            lambda: open(view / "new", "wb"),
            lambda: os.truncate(chunk, 0),
            lambda: (view / "folder").mkdir(),
            chunk.unlink,
            (view / "mag").rmdir,
            lambda: chunk.rename(view / "mag/c.0.1"),
            lambda: chunk.chmod(0o644),
            lambda: os.utime(chunk),
            lambda: os.symlink("x", view / "link"),
        ]
        assert {error_of(attempt) for attempt in attempts} == {errno.EROFS}


def test_random_byte_ranges_match_the_naive_bytes(source):
    r = random.Random(3)
    with mounted(root_of(source), *LAYOUT) as view:
        want = Expected.of(source, view / "mag")
        for idx in [(0, 0), (2, 0), (6, 0)]:
            naive = want.chunk(idx).tobytes()
            with open(view / "mag" / want.key(idx), "rb", buffering=0) as chunk:
                for _ in range(100):
                    offset, length = r.randrange(len(naive) + 9), r.randrange(len(naive) + 9)
                    assert os.pread(chunk.fileno(), length, offset) == naive[offset : offset + length]


def test_many_threads_on_one_cold_chunk_all_get_it(tmp_path):
    values = random_bits("f4", (40_000, 40))
    survey(tmp_path / "s.zarr", shape=values.shape, chunks=(40_000, 1), values=values)
    with mounted(tmp_path / "s.zarr", *LAYOUT) as view:
        want = values[:15].tobytes()
        start = threading.Barrier(16)

        def read(_):
            start.wait(30)
            return (view / "mag/c.0.0").read_bytes()

        with ThreadPoolExecutor(16) as pool:
            assert set(pool.map(read, range(16))) == {want}
            order = random.Random(1).sample(range(2667), 300)
            for idx, data in zip(order, pool.map(lambda i: (view / f"mag/c.{i}.0").read_bytes(), order), strict=True):
                rows = np.full((15, 40), np.nan, "f4")
                rows[: len(values) - 15 * idx] = values[15 * idx : 15 * idx + 15]
                assert data == rows.tobytes(), idx


# -- what cannot be read --------------------------------------------------------------------------------

DAMAGE = {
    "cut": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "garbage": lambda data: b"\xa5" * len(data),
    "one-bit": lambda data: data[:40] + bytes([data[40] ^ 4]) + data[41:],
    "header": lambda data: data[:4] + b"\xff\xff\xff\x7f" + data[8:],
    "longer": lambda data: data + b"tail",
}
COMPRESSORS = {"blosc": BloscCodec(typesize=4), "zstd": ZstdCodec(checksum=True), "none": None}


def meaningful(damage, compressor):
    """What the codec can notice at all: blosc and raw bytes have no checksum, and a zstd frame no length in our bytes."""
    return (
        compressor == "zstd"
        and damage not in ("longer",)
        or damage in ("cut", "empty")
        or (compressor, damage) in [("blosc", "garbage"), ("blosc", "header"), ("none", "longer")]
    )


@pytest.mark.parametrize("damage, compressor", [(d, c) for d in DAMAGE for c in COMPRESSORS if meaningful(d, c)])
def test_a_damaged_source_chunk_fails_the_reads_that_need_it_alone(tmp_path, damage, compressor):
    mag = survey(tmp_path / "s.zarr", compressors=COMPRESSORS[compressor])
    bad = tmp_path / "s.zarr/mag/c/0/7"  # objects 0 to 39: virtual chunks 0, 1 and 2
    bad.write_bytes(DAMAGE[damage](bad.read_bytes()))
    good = tmp_path / "good.zarr"
    shutil.copytree(tmp_path / "s.zarr", good)
    (good / "mag/c/0/7").unlink()
    with mounted(tmp_path / "s.zarr", *LAYOUT) as view:
        want = Expected.of(zarr.open_array(good / "mag", mode="r"), view / "mag")
        for idx in want.grid():
            chunk = view / "mag" / want.key(idx)
            assert chunk.stat().st_size == 15 * 23 * 4
            if idx[0] <= 2:
                assert error_of(chunk.read_bytes) == errno.EIO, idx
                with pytest.raises(OSError):
                    zarr.open_array(view / "mag", mode="r")[idx[0] * 15]
            else:
                assert chunk.read_bytes() == want.chunk(idx).tobytes()
        assert (view / "ra/zarr.json").read_bytes() == (tmp_path / "s.zarr/ra/zarr.json").read_bytes()
        report = json.dumps(view.status())
        assert "c/0/7" in report and "mag" in report
    assert mag.shape == SHAPE
