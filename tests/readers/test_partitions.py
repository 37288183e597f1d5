"""Copies in shares (`--partition K/N`, `--finish`): the tree of one run's copy; killed, refused, and of one state of the source."""

import json
import random
import signal

import numpy as np
import pytest
import zarr
from copies import assert_same_tree, copy, copying, files_written, halt, partial, tree, verify
from support import rechunkfs

LAYOUT = ["--chunks", "mag:object=15,epoch=full", "--codecs", "zstd:1", "-j", "1"]


def store(folder):
    """An array that is cut anew, one with large values beside it, one that passes through, groups, strings."""
    group = zarr.create_group(folder, attributes={"title": "shares"})
    noise = np.random.default_rng(3)
    mag = group.create_array("mag", shape=(600, 40), chunks=(600, 1), dtype="f4", dimension_names=("object", "epoch"))
    mag[...] = noise.normal(20, 1, (600, 40)).astype("f4")
    names = group.create_array("deep/names", shape=(600,), chunks=(50,), dtype="i8", dimension_names=("object",))
    names[...] = np.arange(600)
    group.create_group("empty")
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return store(tmp_path_factory.mktemp("shares") / "s.zarr")


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    target = tmp_path_factory.mktemp("whole") / "t.zarr"
    copy(source, target, *LAYOUT)
    return tree(target)


def share(source, target, number, of, *flags, code=0):
    run = rechunkfs("materialize", source, target, *LAYOUT, "--json", "--partition", f"{number}/{of}", *flags, timeout=60)
    assert run.returncode == code, f"{run.stdout}{run.stderr}"
    return json.loads(run.stdout) if code == 0 else run.stderr


@pytest.mark.parametrize("of", [1, 2, 7])
def test_shares_in_any_order_make_the_tree_of_one_copy(source, whole, tmp_path, of):
    target, numbers = tmp_path / "t.zarr", random.Random(of).sample(range(1, of + 1), of)
    found = [share(source, target, number, of) for number in numbers]
    at_the_end = {"zarr.json", "mag/zarr.json", "mag/.rechunkfs", "mag/.rechunkfs-passed"}
    assert sum(each["files"] for each in found) == len([name for name in whole if not name.endswith("/")]) - len(at_the_end & whole.keys())
    assert all(each["partition"] == {"number": number, "of": of} for each, number in zip(found, numbers, strict=True))
    assert share(source, target, numbers[0], of)["written_bytes"] == 0, "made already"
    assert not target.exists()
    copy(source, target, *LAYOUT, "--finish", "--verify")
    assert_same_tree(target, whole)


def test_what_a_dry_run_says_of_all_shares_is_the_whole(source, tmp_path):
    plans = [share(source, tmp_path / "t.zarr", number, 5, "--dry-run") for number in range(1, 6)]
    whole = json.loads(rechunkfs("materialize", source, tmp_path / "t.zarr", *LAYOUT, "--dry-run", "--json").stdout)
    assert sum(plan["files"] for plan in plans) == whole["files"]
    assert sum(plan["bytes"] for plan in plans) == pytest.approx(whole["bytes"], abs=5)
    assert not list(tmp_path.iterdir())


def test_finish_names_the_shares_that_are_missing(source, tmp_path):
    target = tmp_path / "t.zarr"
    run = rechunkfs("materialize", source, target, *LAYOUT, "--finish")
    assert run.returncode == 1 and "no unfinished copy in shares" in run.stderr
    share(source, target, 2, 3)
    run = rechunkfs("materialize", source, target, *LAYOUT, "--finish")
    assert run.returncode == 1 and "1/3, 3/3" in run.stderr and "2/3" not in run.stderr and not target.exists()


def test_a_share_that_is_killed_goes_on_and_another_works_meanwhile(source, whole, tmp_path):
    target = tmp_path / "t.zarr"
    with copying(source, target, *LAYOUT, "--partition", "1/2") as process:
        halt(process, lambda: files_written(target) >= 1)
        busy = share(source, target, 1, 2, code=1)
        assert "another run is making share 1/2" in busy
        run = rechunkfs("materialize", source, target, *LAYOUT, "--finish")
        assert run.returncode == 1 and "1/2, 2/2" in run.stderr
        alone = rechunkfs("materialize", source, target, *LAYOUT, "--overwrite")
        assert alone.returncode == 1 and "another run" in alone.stderr
        share(source, target, 2, 2)
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    assert "--resume" in share(source, target, 1, 2, code=1)
    share(source, target, 1, 2, "--resume")
    copy(source, target, *LAYOUT, "--finish")
    assert_same_tree(target, whole)


def test_shares_of_another_plan_are_refused(source, tmp_path):
    target = tmp_path / "t.zarr"
    share(source, target, 1, 2)
    assert "2 shares, not 3" in share(source, target, 1, 3, code=1)
    other = rechunkfs("materialize", source, target, "--chunks", "mag:object=16", "--partition", "2/2")
    assert other.returncode == 1 and "layout or codecs differ" in other.stderr
    for flags in (["--resume"], []):
        alone = rechunkfs("materialize", source, target, *LAYOUT, *flags)
        assert alone.returncode == 1 and "in shares" in alone.stderr
    copy(source, target, *LAYOUT, "--overwrite")  # starts afresh, and alone
    verify(source, target)


@pytest.mark.parametrize("flags", [["--update"], ["--verify"], ["--keep-going"], ["--finish"]])
def test_what_makes_no_sense_with_a_share_is_refused(source, tmp_path, flags):
    run = rechunkfs("materialize", source, tmp_path / "t.zarr", *LAYOUT, "--partition", "1/2", *flags)
    assert run.returncode == 2 and "cannot be used with" in run.stderr
    assert not partial(tmp_path / "t.zarr").exists()


@pytest.mark.parametrize("what", ["mag/c/0/7", "deep/names/c/3", "mag/zarr.json"])
def test_a_source_that_changes_between_shares_is_noticed(tmp_path, what):
    source, target = store(tmp_path / "s.zarr"), tmp_path / "t.zarr"
    share(source, target, 1, 2)
    changed = source / what
    changed.write_bytes(changed.read_bytes() + b" ")
    first = rechunkfs("materialize", source, target, *LAYOUT, "--partition", "2/2")
    last = rechunkfs("materialize", source, target, *LAYOUT, "--finish")
    assert last.returncode == 1 and not target.exists()
    assert "chang" in first.stderr + last.stderr or what in first.stderr + last.stderr


def test_a_copy_of_shares_replaces_a_store_and_is_brought_up_to_date(tmp_path):
    source, target = store(tmp_path / "s.zarr"), tmp_path / "t.zarr"
    store(target)
    assert "exists already" in share(source, target, 1, 2, code=1)
    for number in (1, 2):
        share(source, target, number, 2, "--overwrite")
    copy(source, target, *LAYOUT, "--finish", "--overwrite")
    verify(source, target)
    zarr.open_group(source)["mag"][:, 5] = 3
    run = rechunkfs("materialize", source, target, "--update", "--json")
    assert run.returncode == 0 and json.loads(run.stdout)["changed"], run.stderr
    verify(source, target)
