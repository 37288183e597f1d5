"""A survey and its copy, small and slow, for the tests of updates."""

import shutil

import numpy as np
import pytest
import xarray as xr
import zarr
from copies import SLOW_CHUNKS, SLOW_SHAPE, assert_same_tree, copy, slow_source, update
from sources import survey
from support import assert_same_store

TENS = ["--chunks", "object=15,epoch=10"]


@pytest.fixture
def pair(tmp_path):
    """A survey and its copy in chunks of ten epochs."""
    survey(tmp_path / "s.zarr")
    copy(tmp_path / "s.zarr", tmp_path / "t.zarr", *TENS)
    return tmp_path / "s.zarr", tmp_path / "t.zarr"


def mag_of(source):
    return zarr.open_group(source, mode="r+")["mag"]


def assert_as_made_anew(source, target, *flags):
    """Every file, what is known of the source included."""
    fresh = source.parent / "fresh.zarr"
    copy(source, fresh, *(flags or TENS))
    assert_same_tree(target, fresh)
    shutil.rmtree(fresh)
    assert_same_store(target, source)


def chunks(target):
    """Inode and time of every chunk file."""
    found = ((p, p.stat()) for p in (target / "mag/c").rglob("*") if p.is_file())
    return {p.relative_to(target): (s.st_ino, s.st_mtime_ns) for p, s in found}


def rewritten(target, before):
    now = chunks(target)
    return sorted(p.as_posix() for p in now if before.get(p) != now[p])


def dataset(n_epochs, first=0):
    r = np.random.default_rng(first)
    return xr.Dataset(
        {
            "flux": (("object", "epoch"), r.normal(size=(60, n_epochs)).astype("f4"), {"unit": "mag"}),
            "flag": (("object", "epoch"), r.integers(0, 4, (60, n_epochs), dtype="u1")),
            "label": (("object", "epoch"), np.array([[f"{i}-{first + e}" for e in range(n_epochs)] for i in range(60)], dtype=object)),
        },
        coords={"epoch": np.arange(first, first + n_epochs), "ra": ("object", np.linspace(0, 1, 60))},
    )


SLOW_TENS = ["--chunks", "mag:object=400,epoch=100", "--codecs", "blosc:zstd:9:bitshuffle", "-j", "2"]


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    """A store and its copy, to be copied: 26 MB in 40 chunks, of which a copy makes 160 slowly."""
    folder = tmp_path_factory.mktemp("slow")
    slow_source(folder / "s.zarr")
    copy(folder / "s.zarr", folder / "t.zarr", *SLOW_TENS)
    return folder


@pytest.fixture
def slow_pair(slow, tmp_path):
    """Copies of them; links would share what is written to. Of the source's files the times must not be young."""
    for name in ("s.zarr", "t.zarr"):
        shutil.copytree(slow / name, tmp_path / name)
    source, target = tmp_path / "s.zarr", tmp_path / "t.zarr"
    update(source, target)  # it is of this source from now on
    return source, target


def reprocess(source, old, new):
    """Half of the epochs of every hundred with other values."""
    values = zarr.open_group(source)["mag"][...]
    epochs = [epoch for epoch in range(SLOW_SHAPE[1]) if epoch // SLOW_CHUNKS[1] % 2]
    changed = values.copy()
    changed[:, epochs] = (changed[:, epochs] + new - old) % (1 << 18)
    zarr.open_group(source, mode="r+")["mag"][...] = changed
    return values, changed


def old_or_new(old, new):
    def check(region, found):
        is_old, is_new = (np.array_equal(found, values[region]) for values in (old, new))
        assert is_old or is_new, f"{region}: neither the old chunk nor the new one"

    return check
