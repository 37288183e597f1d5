"""What a copy refuses, and what is then left as it was: targets in the way, corrupt chunks, a second run, a changed source."""

import fcntl
import json
import os
import shutil

import numpy as np
import pytest
import zarr
from copies import (
    LAYOUT,
    SLOW,
    assert_same_tree,
    copy,
    copying,
    files_written,
    go_on,
    halt,
    partial,
    report,
    slow_source,
    stopped,
    tree,
    verify,
)
from sources import random_bits, root_of, survey
from support import rechunkfs


def refuse(source, target, *flags, says=(), code=(1, 2)):
    """A message that names the thing; what lay there, and the source, are as they were."""
    before = [tree(p) if p.exists() else None for p in (source, target)]
    run = rechunkfs("materialize", source, target, *flags)
    assert run.returncode in code, f"exit {run.returncode}: {run.stdout}{run.stderr}"
    for text in says:
        assert str(text).lower() in run.stderr.lower(), f"{text!r} is not in: {run.stderr}"
    assert [tree(p) if p.exists() else None for p in (source, target)] == before
    return run


def test_an_existing_target_is_refused_and_overwrite_replaces_it(source, tmp_path):
    target = tmp_path / "t.zarr"
    target.mkdir()
    copy(root_of(source), target, *LAYOUT)  # an empty directory is in nobody's way
    refuse(root_of(source), target, "--chunks", "object=20,epoch=full", says=["t.zarr", "--overwrite"])
    assert not partial(target).exists()
    refuse(root_of(source), target, *LAYOUT, "--resume", says=["t.zarr"])
    copy(root_of(source), target, "--chunks", "object=20,epoch=full", "--overwrite")
    assert zarr.open_array(target / "mag", mode="r").chunks == (20, 23)
    verify(root_of(source), target)


def test_a_directory_or_file_of_something_else_is_refused(source, tmp_path):
    (tmp_path / "t").mkdir()
    (tmp_path / "t/thesis.tex").write_text("the only copy")
    refuse(root_of(source), tmp_path / "t", *LAYOUT, says=["--overwrite"])
    (tmp_path / "f").write_text("the only copy")
    rechunkfs("materialize", root_of(source), tmp_path / "f", *LAYOUT)
    assert (tmp_path / "f").read_text() == "the only copy"


def test_a_failing_overwrite_leaves_the_old_copy(source, tmp_path):
    target = tmp_path / "t.zarr"
    copy(root_of(source), target, *LAYOUT)
    before = tree(target)
    (root_of(source) / "mag/c/0/3").write_bytes(b"no blosc at all, and long enough for a header")
    copy(root_of(source), target, *LAYOUT, "--overwrite", code=1)
    assert_same_tree(target, before)


def test_an_unfinished_copy_is_refused_without_resume_or_overwrite(tmp_path):
    source, target = slow_source(tmp_path / "s.zarr"), tmp_path / "t.zarr"
    stopped(source, target, *SLOW)
    before = tree(partial(target))
    refuse(source, target, *SLOW, says=["--resume", "--overwrite"])
    assert_same_tree(partial(target), before)
    copy(source, target, "--chunks", "object=4000,epoch=full", "--overwrite")
    verify(source, target)


def test_resume_with_nothing_to_resume_starts_afresh(source, tmp_path):
    assert report(root_of(source), tmp_path / "t.zarr", *LAYOUT, "--resume")["resumed"] is False
    verify(root_of(source), tmp_path / "t.zarr")


@pytest.mark.parametrize("inner", ["copy.zarr", "mag/copy.zarr", "."])
def test_target_and_source_within_one_another_are_refused(source, tmp_path, inner):
    root = root_of(source)
    refuse(root, root / inner, *LAYOUT, "--overwrite", says=["s.zarr"])
    assert not list(root.rglob("*rechunkfs-partial"))


def test_a_source_within_the_target_is_refused_also_through_a_link(source, tmp_path):
    root = root_of(source)
    (tmp_path / "holder").mkdir()
    shutil.move(root, tmp_path / "holder/s.zarr")
    refuse(tmp_path / "holder/s.zarr", tmp_path / "holder", *LAYOUT, "--overwrite", says=["holder"])
    (tmp_path / "link").symlink_to(tmp_path / "holder")
    refuse(tmp_path / "holder/s.zarr", tmp_path / "link/s.zarr/copy.zarr", *LAYOUT, says=["s.zarr"])


@pytest.mark.parametrize("flags, word", [
    ([*LAYOUT, "--codecs", "lzma"], "lzma"),
    ([*LAYOUT, "--codecs", "blosc:snappier"], "snappier"),
    ([*LAYOUT, "--codecs", "zstd:fast"], "fast"),
    ([*LAYOUT, "--codecs", "[{"], "codecs"),
    (["--chunks", "nothing=3"], "nothing"),
    ([*LAYOUT, "--memory", "much"], "much"),
], ids=lambda v: v if isinstance(v, str) else "")  # fmt: skip
def test_flags_that_make_no_sense(source, tmp_path, flags, word):
    refuse(root_of(source), tmp_path / "t.zarr", *flags, says=[word])
    assert not (tmp_path / "t.zarr").exists() and not partial(tmp_path / "t.zarr").exists()


def test_a_source_that_is_no_store_is_refused(tmp_path):
    (tmp_path / "plain").mkdir()
    for name in ("plain", "nowhere"):
        run = rechunkfs("materialize", tmp_path / name, tmp_path / "t.zarr", *LAYOUT)
        assert run.returncode == 1 and name in run.stderr and not (tmp_path / "t.zarr").exists()


# -- a chunk that cannot be decoded ---------------------------------------------------------------------


def test_a_corrupt_source_chunk_stops_the_copy_by_name(source, tmp_path):
    (root_of(source) / "mag/c/0/7").write_bytes(b"no blosc at all, and long enough for a header")
    run = copy(root_of(source), tmp_path / "t.zarr", *LAYOUT, code=1)
    assert "array 'mag', chunk file c/0/7" in run.stderr and not (tmp_path / "t.zarr").exists()


def test_keep_going_leaves_out_what_draws_on_the_corrupt_chunk_and_says_so(tmp_path):
    target = tmp_path / "t.zarr"
    values = np.arange(101 * 23, dtype="f4").reshape(101, 23)
    survey(tmp_path / "s.zarr", values=values)
    bad = tmp_path / "s.zarr/mag/c/0/7"  # objects 0 to 39 of one epoch: chunks 0, 1 and 2 of eight epochs each
    good = bad.read_bytes()
    bad.write_bytes(b"no blosc at all, and long enough for a header")
    flags = ["--chunks", "object=15,epoch=8", "--codecs", "none"]
    found = report(tmp_path / "s.zarr", target, *flags, "--keep-going", code=1)
    assert len(found["failures"]) >= 1 and all("array 'mag', chunk file c/0/7" in failure for failure in found["failures"]), found
    folder = target if target.exists() else partial(target) / "store"
    files = {p.relative_to(folder / "mag/c").as_posix() for p in (folder / "mag/c").rglob("*") if p.is_file()}
    assert files == {f"{i}/{j}" for i in range(7) for j in range(3)} - {"0/0", "1/0", "2/0"}
    if not target.exists():  # with the chunk mended the copy goes on, or says that its source has changed
        bad.write_bytes(good)
        again = rechunkfs("materialize", tmp_path / "s.zarr", target, *flags, "--resume")
        assert again.returncode in (0, 1), again.stderr
        if again.returncode == 0:
            verify(tmp_path / "s.zarr", target)


# -- two at once ----------------------------------------------------------------------------------------


def test_the_second_of_two_refuses_and_the_first_goes_on(tmp_path):
    source, target = slow_source(tmp_path / "s.zarr"), tmp_path / "t.zarr"
    with copying(source, target, *SLOW) as first:
        halt(first, lambda: files_written(target) >= 5)
        for flags in ([], ["--resume"], ["--overwrite"]):
            run = rechunkfs("materialize", source, target, *SLOW, *flags)
            assert run.returncode == 1 and "t.zarr" in run.stderr, run.stderr
        go_on(first)
        assert first.wait(120) == 0, first.log.read_text()
    verify(source, target)


def test_a_lock_file_that_a_kill_left_is_no_lock(tmp_path):
    source, target = slow_source(tmp_path / "s.zarr"), tmp_path / "t.zarr"
    stopped(source, target, *SLOW)
    lock = os.open(partial(target) / "lock", os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # free, after the kill
    finally:
        os.close(lock)
    copy(source, target, *SLOW, "--resume")
    verify(source, target)


# -- a source that changes ------------------------------------------------------------------------------


def rewritten(source):
    """One chunk with other values, by rename, as zarr-python writes it."""
    zarr.open_array(source / "mag", mode="r+")[:, :10] = random_bits("u4", (16_000, 10), seed=8)


def grown(source):
    array = zarr.open_array(source / "mag", mode="r+")
    array.append(random_bits("u4", (16_000, 10), seed=8), axis=1)


def with_a_chunk_less(source):
    (source / "mag/c/0/39").unlink()


def with_another_attribute(source):
    zarr.open_group(source, mode="r+").attrs["title"] = "another"


CHANGES = [rewritten, grown, with_a_chunk_less, with_another_attribute]


@pytest.fixture(scope="module")
def half_done(tmp_path_factory):
    """A source, and what a killed copy of it left; refusals change neither."""
    folder = tmp_path_factory.mktemp("half")
    slow_source(folder / "s.zarr")
    stopped(folder / "s.zarr", folder / "t.zarr", *SLOW)
    return folder / "s.zarr", folder / "t.zarr"


@pytest.mark.parametrize("flags", [
    ["--chunks", "mag:object=20,epoch=full", *SLOW[2:]],
    [*SLOW, "--shards", "mag:object=160"],
    [*SLOW[:2], "--codecs", "zstd"],
    [*SLOW, "--chunks", "ra:object=16"],
], ids=["chunks", "shards", "codecs", "arrays"])  # fmt: skip
def test_resume_with_other_flags_is_refused(half_done, flags):
    source, target = half_done
    before = tree(partial(target))
    run = copy(source, target, *flags, "--resume", code=1)
    assert run.stderr.strip() and not target.exists()
    assert_same_tree(partial(target), before)


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: c.__name__)
def test_resume_is_refused_where_the_source_has_changed(tmp_path, change):
    source, target = slow_source(tmp_path / "s.zarr"), tmp_path / "t.zarr"
    stopped(source, target, *SLOW)
    change(source)
    run = copy(source, target, *SLOW, "--resume", code=1)
    assert "chang" in run.stderr and not target.exists(), run.stderr
    copy(source, target, *SLOW[:2], "--codecs", "none", "--overwrite")
    verify(source, target)


def test_a_source_rewritten_during_the_copy_gives_one_state_or_an_error(tmp_path):
    source, target = slow_source(tmp_path / "s.zarr"), tmp_path / "t.zarr"
    shutil.copytree(source, tmp_path / "old.zarr")
    with copying(source, target, *SLOW) as process:
        halt(process, lambda: files_written(target) >= 5)
        zarr.open_array(source / "mag", mode="r+")[...] = random_bits("u4", (16_000, 400), seed=9)
        go_on(process)
        code = process.wait(120)
    if code == 0:  # nothing of it had been looked at yet, or all that it needed had been read: one state, never both
        states = [rechunkfs("verify", state, target).returncode for state in (tmp_path / "old.zarr", source)]
        assert sorted(states) == [0, 3], states
    else:
        assert code == 1 and "mag" in process.log.read_text() and not target.exists(), process.log.read_text()
