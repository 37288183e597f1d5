"""What the mounted tree promises as a file system: sizes, presence, errors, and a source that changes."""

import ctypes
import errno
import json
import os
import random
import shutil
import signal
import stat
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr
from support import BINARY, Expected, assert_plain_chunks, assert_same_array, is_mounted, mounted, rechunkfs
from test_codecs import presence, random_bits
from zarr.codecs import BloscCodec, ZstdCodec

LAYOUT = ["--chunks", "object=15,epoch=full"]
SHAPE, CHUNKS = (101, 23), (40, 1)


def survey(folder, values=None, **create):
    """mag (object, epoch), cut by epoch, in a group with a column; the whole of epoch 5, and of object chunk 1, missing."""
    group = zarr.create_group(folder)
    options = {"shape": SHAPE, "chunks": CHUNKS, "dtype": "f4", "fill_value": float("nan"), "compressors": BloscCodec(typesize=4)}
    mag = group.create_array("mag", **{**options, **create}, dimension_names=("object", "epoch"))
    mag[...] = random_bits("f4", SHAPE) if values is None else values
    group.create_array("ra", data=np.arange(101.0), dimension_names=("object",))
    zarr.consolidate_metadata(folder)
    return mag


@pytest.fixture
def source(tmp_path):
    mag = survey(tmp_path / "s.zarr")
    for i, j in [*((i, 5) for i in range(3)), *((1, j) for j in range(SHAPE[1]))]:
        (tmp_path / f"s.zarr/mag/c/{i}/{j}").unlink(missing_ok=True)
    return mag


def root_of(array):
    return array.store.root


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
    mag = survey(tmp_path / "s.zarr", shape=(40_000, 40), chunks=(40_000, 1), values=random_bits("f4", (40_000, 40)))
    with mounted(tmp_path / "s.zarr", *LAYOUT) as view:
        want = mag[:15].tobytes()
        start = threading.Barrier(16)

        def read(_):
            start.wait(30)
            return (view / "mag/c.0.0").read_bytes()

        with ThreadPoolExecutor(16) as pool:
            assert set(pool.map(read, range(16))) == {want}
            order = random.Random(1).sample(range(2667), 300)
            for idx, data in zip(order, pool.map(lambda i: (view / f"mag/c.{i}.0").read_bytes(), order), strict=True):
                rows = np.full((15, 40), np.nan, "f4")
                rows[: len(mag[15 * idx : 15 * idx + 15])] = mag[15 * idx : 15 * idx + 15]
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
    return compressor == "zstd" and damage not in ("longer",) or damage in ("cut", "empty") or (compressor, damage) in [("blosc", "garbage"), ("blosc", "header"), ("none", "longer")]


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


# -- a source that changes ------------------------------------------------------------------------------


def constant(value):
    return np.full(SHAPE, value, "f4")


def replace(folder, value, in_place):
    """All chunks of `mag` rewritten with one value: as zarr-python does it, by rename, or into the same inode."""
    fresh = folder.parent / "fresh.zarr"
    survey(fresh, values=constant(value))
    for chunk in sorted((fresh / "mag/c").rglob("*")):
        target = folder / chunk.relative_to(fresh)
        if chunk.is_file() and in_place:
            target.write_bytes(chunk.read_bytes())
        elif chunk.is_file():
            os.replace(chunk, target)
    shutil.rmtree(fresh)


def padded(value):
    return np.full((15, 23), value, "f4").tobytes()


@pytest.mark.parametrize("in_place", [False, True], ids=["renamed", "in-place"])
def test_a_rewritten_source_is_old_or_new_or_an_error_never_a_mixture(tmp_path, in_place):
    survey(tmp_path / "s.zarr", values=constant(1))
    with mounted(tmp_path / "s.zarr", *LAYOUT, "--refresh", "1") as view:
        with open(view / "mag/c.0.0", "rb", buffering=0) as old:
            begun = os.pread(old.fileno(), 512, 0)
            assert begun == padded(1)[:512]
            replace(tmp_path / "s.zarr", 2, in_place)
            try:
                assert os.pread(old.fileno(), 1 << 20, 512) == padded(1)[512:]
            except OSError as error:
                assert error.errno in (errno.EIO, errno.ESTALE)
        first_mtime, deadline = (view / "mag").stat().st_mtime_ns, time.monotonic() + 15
        while (data := read_or_none(view / "mag/c.1.0")) != padded(2):
            assert data in (None, padded(1)), "neither old nor new"
            assert time.monotonic() < deadline, "the change never showed"
            time.sleep(0.1)
        assert (view / "mag").stat().st_mtime_ns >= first_mtime


def read_or_none(path):
    try:
        return path.read_bytes()
    except OSError as error:
        assert error.errno in (errno.EIO, errno.ESTALE), error
        return None


def test_no_read_is_torn_while_the_source_is_rewritten_all_the_time(tmp_path):
    survey(tmp_path / "s.zarr", values=constant(0))
    stop = threading.Event()

    def rewrite():
        value = 0
        while not stop.is_set():
            value += 1
            replace(tmp_path / "s.zarr", value, in_place=value % 2 == 0)

    with mounted(tmp_path / "s.zarr", *LAYOUT, "--refresh", "1") as view:
        writer = threading.Thread(target=rewrite)
        writer.start()
        try:
            deadline, n_read = time.monotonic() + 8, 0
            while time.monotonic() < deadline:
                data = read_or_none(view / f"mag/c.{random.randrange(6)}.0")
                if data:
                    n_read += 1
                    # One source chunk is one value: columns may differ from each other, rows of one source chunk not.
                    rows = np.frombuffer(data, "f4").reshape(15, 23)
                    for column in rows.T:
                        borders = 1 + np.flatnonzero(np.diff(column))
                        assert len(borders) <= 1, column
            assert n_read
        finally:
            stop.set()
            writer.join()


def test_an_append_shows_up_and_disturbs_no_reader(tmp_path):
    mag = survey(tmp_path / "s.zarr", values=constant(1))
    with mounted(tmp_path / "s.zarr", *LAYOUT, "--refresh", "1") as view:
        before = zarr.open_array(view / "mag", mode="r")
        assert before.shape == SHAPE
        assert before[3, 4] == 1
        with open(view / "mag/c.0.0", "rb", buffering=0) as old:
            mag.append(np.full((101, 2), 5, "f4"), axis=1)
            zarr.consolidate_metadata(tmp_path / "s.zarr")
            assert old.read() == padded(1)
        deadline = time.monotonic() + 15
        while zarr.open_array(view / "mag", mode="r").shape != (101, 25):
            assert time.monotonic() < deadline, "the new epochs never showed"
            time.sleep(0.2)
        after = zarr.open_array(view / "mag", mode="r")
        assert after.chunks == (15, 23)  # `full` became a number when mounting
        assert (after[:, 23:] == 5).all() and (after[:, :23] == 1).all()
        assert (before[...] == 1).all()  # who opened before reads on, right
        assert zarr.open_group(view, mode="r")["mag"].shape == (101, 25)


# -- mounting and unmounting ----------------------------------------------------------------------------


def test_mount_returns_to_a_caller_that_reads_its_pipes(source, tmp_path):
    view = tmp_path / "view"
    with mounted(root_of(source), *LAYOUT, at=tmp_path / "other"):
        run = subprocess.run([BINARY, "mount", root_of(source), view, *LAYOUT], capture_output=True, text=True, timeout=30)
        try:
            assert run.returncode == 0 and "mag" in run.stdout + run.stderr and "ra" in run.stdout + run.stderr
            assert (view / "mag/c.0.0").read_bytes()
        finally:
            assert rechunkfs("unmount", view).returncode == 0
        assert not is_mounted(view)


def test_the_mount_point_has_mode_000_afterwards(source, tmp_path):
    for existing in (False, True):
        view = tmp_path / f"view-{existing}"
        if existing:
            view.mkdir()
        assert rechunkfs("mount", root_of(source), view, *LAYOUT).returncode == 0
        assert rechunkfs("unmount", view).returncode == 0
        assert stat.S_IMODE(view.stat().st_mode) == 0 and not is_mounted(view)
        view.chmod(0o755)


def test_unmount_while_busy_names_who_and_offers_lazy(source):
    with mounted(root_of(source), *LAYOUT) as view:
        with open(view / "mag/zarr.json", "rb"):
            run = rechunkfs("unmount", view)
            assert run.returncode == 1 and "--lazy" in run.stderr and str(os.getpid()) in run.stderr, run.stderr
            assert is_mounted(view)
            assert rechunkfs("unmount", view, "--lazy").returncode == 0
            assert not is_mounted(view)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda s: s.name)
def test_a_signal_unmounts_cleanly(source, tmp_path, sent):
    view = tmp_path / "view"
    with open(tmp_path / "log", "w+") as log:
        daemon = subprocess.Popen(
            [BINARY, "mount", root_of(source), view, *LAYOUT, "-f"], stdout=log, stderr=log, stdin=subprocess.DEVNULL, preexec_fn=default_signals
        )
        try:
            deadline = time.monotonic() + 20
            while not is_mounted(view):
                assert daemon.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
                time.sleep(0.05)
            assert (view / "mag/c.0.0").read_bytes()
            daemon.send_signal(sent)
            daemon.wait(15)
            assert not is_mounted(view)
        finally:
            if daemon.poll() is None:
                daemon.kill()
            if is_mounted(view):
                subprocess.run(["umount", "-l", view], timeout=15)


def default_signals():
    """A run under nohup would have SIGHUP ignored; and the daemon dies with the test, whatever happens."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def test_exec_gives_the_view_and_the_exit_code(source):
    run = rechunkfs("exec", root_of(source), *LAYOUT, "--", "sh", "-c", "ls $0/mag && exit 7", "{}")
    assert run.returncode == 7 and "c.0.0" in run.stdout.split(), run.stderr


def test_status_lists_the_mount(source):
    with mounted(root_of(source), *LAYOUT) as view:
        assert str(view) in json.dumps(view.status())
        assert str(view) in rechunkfs("status").stdout
