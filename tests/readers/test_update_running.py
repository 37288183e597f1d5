"""Copies that are read, killed and outrun while they are brought up to date."""

import json
import random
import signal
import subprocess
import threading
import time

import numpy as np
import pytest
import tensorstore as ts
import zarr
from copies import SLOW_SHAPE, committed, copying, halt, partial, touched, update
from sources import random_bits
from support import assert_same_store, rechunkfs
from updating import SLOW_TENS, assert_as_made_anew, chunks, mag_of, old_or_new, reprocess, rewritten, slow, slow_pair

pytestmark = [pytest.mark.no_mount, pytest.mark.filterwarnings("ignore")]


class Watching:
    """Reads chunks of a copy at random, through zarr-python and tensorstore, as long as it is told to."""

    def __init__(self, target, check):
        self.target, self.check, self.stop = target, check, threading.Event()
        self.errors, self.n_read = [], 0
        self.threads = [threading.Thread(target=self.run, args=(reader,)) for reader in (self.by_zarr, self.by_tensorstore)]

    def by_zarr(self):
        return zarr.open_group(self.target, mode="r")["mag"]

    def by_tensorstore(self):
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{self.target / 'mag'}/"}, "recheck_cached_data": True}
        array = ts.open(spec, read=True, context=ts.Context({"cache_pool": {"total_bytes_limit": 1 << 20}})).result()

        class Reader:
            chunks = array.chunk_layout.read_chunk.shape
            shape = array.shape
            __getitem__ = staticmethod(lambda region: array[region].read().result())

        return Reader()

    def run(self, open_array):
        r, array = random.Random(len(self.threads)), open_array()
        try:
            while not self.stop.is_set():
                chunk = [r.randrange(-(-n // c)) for n, c in zip(array.shape, array.chunks, strict=True)]
                region = tuple(slice(i * c, min((i + 1) * c, n)) for i, c, n in zip(chunk, array.chunks, array.shape, strict=True))
                self.check(region, np.asarray(array[region]))
                self.n_read += 1
        except Exception as error:  # noqa: BLE001  whatever a reader meets is a failure of the test
            self.errors.append(error)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive()
        assert not self.errors, self.errors
        assert self.n_read > 10


def test_readers_see_each_chunk_old_or_new_and_never_an_error(slow_pair):
    source, target = slow_pair
    old, new = reprocess(source, 0, 5)
    with Watching(target, old_or_new(old, new)) as watching:
        found = update(source, target, "-j", "1")
        assert found["changed"] and touched(found) == {"mag": 160}
    assert watching.n_read > 50
    assert (zarr.open_group(target)["mag"][...] == new).all()
    assert_as_made_anew(source, target, *SLOW_TENS)


def test_readers_are_not_disturbed_while_a_copy_grows(slow_pair):
    source, target = slow_pair
    old = mag_of(source)[...]
    mag_of(source).append(random_bits("u4", (SLOW_SHAPE[0], 60)) >> 14, axis=1)
    zarr.consolidate_metadata(source)
    new = mag_of(source)[...]
    with Watching(target, old_or_new(old, new)):  # of the old shape, which they opened
        update(source, target, "-j", "1")
    assert_as_made_anew(source, target, *SLOW_TENS)


def killed(source, target, seconds):
    """Starts an update and kills it."""
    with copying(source, target, "--update") as process:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        return process.wait(60)


def test_killed_at_any_moment_the_copy_is_a_valid_store_and_it_goes_on(slow_pair):
    source, target = slow_pair
    old, new = reprocess(source, 0, 5)
    check, moments, seconds, n_killed, n_resumed = old_or_new(old, new), random.Random(9), 0.5, 0, 0
    deadline, n = time.monotonic() + 90, 0
    # However fast this machine is, and whatever else it has to do.
    while n_killed <= 7 or n_resumed == 0:
        assert time.monotonic() < deadline, (n_killed, n_resumed, seconds)
        start = time.monotonic()
        is_killed = killed(source, target, moments.uniform(0, 0.7 * seconds)) == -signal.SIGKILL
        if not is_killed:
            seconds = time.monotonic() - start
        n_killed += is_killed
        array = zarr.open_group(target, mode="r")["mag"]
        assert array.shape == SLOW_SHAPE
        for _ in range(20):
            region = (slice(i := 400 * moments.randrange(40), i + 400), slice(e := 100 * moments.randrange(4), e + 100))
            check(region, array[region])
        n += 1
        if not is_killed or n % 5 == 0:
            n_resumed += update(source, target)["resumed"]
            assert_same_store(target, source)
            old, new = reprocess(source, 0, 5)
            check = old_or_new(old, new)
    update(source, target)
    assert_as_made_anew(source, target, *SLOW_TENS)


def test_killed_while_it_grows_or_shrinks(slow_pair):
    source, target = slow_pair
    moments = random.Random(3)
    for shape in ((16_000, 430), (15_100, 430), (15_100, 250), (16_000, 400)):
        mag_of(source).resize(shape)
        if shape[1] > 400:
            mag_of(source)[:, 400:] = 3
        zarr.consolidate_metadata(source)
        for _ in range(3):
            killed(source, target, moments.uniform(0, 0.25))
            assert zarr.open_group(target, mode="r")["mag"][:400].dtype == np.uint32  # it can be read
        update(source, target)
        assert_as_made_anew(source, target, *SLOW_TENS)


def test_what_was_done_is_not_done_again(slow_pair):
    source, target = slow_pair
    reprocess(source, 0, 5)
    with copying(source, target, "--update") as process:
        journal = partial(target) / "update"
        halt(process, lambda: committed(target, "update", n_before=2), standing=0.05)  # the header, the stamps, and a commit
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    commits = [json.loads(line.split(b" ", 1)[1]) for line in journal.read_bytes().splitlines()[1:]]
    n_committed = sum(n for commit in commits for array in commit["arrays"].values() for _, n in array["files"])
    before = chunks(target)
    found = update(source, target)
    assert n_committed > 0 and found["resumed"] is True
    assert len(rewritten(target, before)) <= 160 - n_committed
    assert_as_made_anew(source, target, *SLOW_TENS)


def test_a_source_chunk_that_changes_while_an_update_was_killed_is_done_again(slow_pair):
    source, target = slow_pair
    reprocess(source, 0, 5)
    killed(source, target, 0.5)
    reprocess(source, 0, 9)
    killed(source, target, 0.4)
    update(source, target)
    assert_as_made_anew(source, target, *SLOW_TENS)


def test_a_source_that_goes_on_while_it_is_copied_and_brought_up_to_date(slow_pair, tmp_path):
    """Epochs are written all the time: the copy is made all the same, and at rest it is what its source is."""
    source, _ = slow_pair
    target, stop, n_written = tmp_path / "u.zarr", threading.Event(), 0
    before = mag_of(source)[:, ::10]

    def write():
        nonlocal n_written
        array = mag_of(source)
        while not stop.is_set():
            array[:, 10 * (n_written % 40)] = n_written
            n_written += 1
            time.sleep(0.2)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        deadline = time.monotonic() + 100
        while n_written < 12 and time.monotonic() < deadline:
            run = rechunkfs("materialize", source, target, "--update", *SLOW_TENS, timeout=120)
            # Done, or to be gone on with.
            assert run.returncode in (0, 4), run.stderr
            if run.returncode == 0:  # of one state of each source chunk
                copied = zarr.open_group(target, mode="r")["mag"][:, ::10]
                assert all(np.array_equal(c, o) or (c == c[0]).all() for c, o in zip(copied.T, before.T, strict=True))
    finally:
        stop.set()
        writer.join()
    assert n_written >= 12 and target.exists()
    update(source, target, *SLOW_TENS)
    assert_as_made_anew(source, target, *SLOW_TENS)
