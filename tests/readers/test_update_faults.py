"""Updates that meet what cannot be read, too little memory or room, signals, and each other."""

import os
import shutil
import signal
import subprocess

import numpy as np
import pytest
import zarr
from copies import SLOW, SLOW_SHAPE, copy, copying, go_on, halt, partial, stopped, touched, update, verify
from sources import SHAPE, random_bits, survey
from support import BINARY, rechunkfs
from updating import SLOW_TENS, TENS, assert_as_made_anew, chunks, mag_of, pair, reprocess, rewritten, slow, slow_pair

pytestmark = [pytest.mark.no_mount, pytest.mark.filterwarnings("ignore")]


def test_a_torn_source_chunk_is_named_and_everything_else_is_done(pair):
    source, target = pair
    before = chunks(target)
    mag_of(source)[:, 3] = 1
    mag_of(source)[:, 13] = 2
    chunk = source / "mag/c/1/13"
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[:-3])
    found = update(source, target, code=1)
    assert len(found["failures"]) == 1 and "c/1/13" in found["failures"][0] and "c/1/13" in found["said"]
    # Objects 40 to 79 of the second ten epochs are as they were.
    assert rewritten(target, before) == sorted(f"mag/c/{i}/{j}" for i in range(7) for j in (0, 1) if j == 0 or i not in (2, 3, 4, 5))
    assert not partial(target).exists()
    again = update(source, target, code=1)
    assert touched(again) == {"mag": 7}, "what draws on the source chunks of those, and not the first ten epochs"
    chunk.write_bytes(whole)
    assert touched(update(source, target)) == {"mag": 7}
    assert_as_made_anew(source, target)


def test_new_epochs_do_not_show_before_they_are_all_there(pair):
    source, target = pair
    mag_of(source).append(np.full((101, 9), 4, "f4"), axis=1)
    zarr.open_group(source, mode="r+")["ra"].attrs["unit"] = "deg"
    zarr.consolidate_metadata(source)
    chunk = source / "mag/c/1/28"
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[:-3])
    found = update(source, target, code=1)
    assert found["documents_held"] and "shows the old documents" in found["said"]
    assert zarr.open_group(target)["mag"].shape == SHAPE, "a chunk that is missing reads as fill value"
    chunk.write_bytes(whole)
    assert update(source, target)["changed"]
    assert_as_made_anew(source, target)


def test_a_file_that_cannot_be_copied_is_named_and_everything_else_is_done(pair):
    source, target = pair
    mag_of(source)[:, 3] = 1
    os.rename(source / "ra/c/0", source / "column")
    os.mkfifo(source / "ra/c/0")  # opened for reading, it waits for ever
    found = update(source, target, code=1)
    assert len(found["failures"]) == 1 and "ra/c/0" in found["failures"][0] and touched(found) == {"mag": 7}
    assert (zarr.open_group(target)["mag"][:, 3] == 1).all() and (zarr.open_group(target)["ra"][:] == np.arange(101)).all()
    os.replace(source / "column", source / "ra/c/0")
    update(source, target)
    assert_as_made_anew(source, target)


def test_memory_stays_below_its_bound(idf, tmp_path):
    """300 MB decoded; source chunks of 15 MB."""
    source, target = tmp_path / "s.zarr", tmp_path / "t.zarr"
    shutil.copytree(idf / "lightcurves", source, copy_function=os.link)  # zarr-python replaces files
    flags = ["--chunks", "object=150,epoch=10", "--codecs", "blosc:lz4"]
    copy(source, target, *flags)
    zarr.open_array(source)[..., 3] = 7
    for lost in (False, True):
        if lost:
            (target / ".rechunkfs").unlink()
        found = update(source, target, *flags, "--memory", "160MiB")
        assert found["changed"] is not lost and found["arrays"][0]["state"] == ("compared" if lost else "changed")
        assert found["peak_rss_bytes"] <= found["memory_bytes"] == 160 << 20
    assert verify(source, target)["differences"] == 0


def test_the_second_of_two_refuses(slow_pair):
    source, target = slow_pair
    reprocess(source, 0, 5)
    with copying(source, target, "--update", "-j", "1") as process:
        halt(process, (partial(target) / "update").exists)
        said = update(source, target, code=1)["said"]
        assert "another run" in said, said
        assert rechunkfs("materialize", source, target, "--overwrite", *SLOW_TENS).returncode == 1
        go_on(process)
        assert process.wait(120) == 0, process.log.read_text()
    assert_as_made_anew(source, target, *SLOW_TENS)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_a_signal_stops_it_with_the_command_that_goes_on(slow_pair, sent):
    source, target = slow_pair
    reprocess(source, 0, 5)
    with copying(source, target, "--update", "-j", "1") as process:
        halt(process, (partial(target) / "update").exists)
        process.send_signal(sent)
        go_on(process)
        assert process.wait(30) == 4, process.log.read_text()
    assert "--update" in process.log.read_text() and "--resume" not in process.log.read_text()
    update(source, target)
    assert_as_made_anew(source, target, *SLOW_TENS)


def test_a_full_disk_stops_it_and_with_more_room_it_goes_on(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    run = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], capture_output=True, text=True)
    if run.returncode:
        pytest.skip(f"cannot mount a small file system: {run.stderr.strip()}")
    try:
        source, target = tmp_path / "s.zarr", disk / "t.zarr"
        survey(source, values=np.zeros((1000, 800), "u4"), shape=(1000, 800), chunks=(1000, 10), dtype="u4", fill_value=0)
        copy(source, target, "--chunks", "object=50,epoch=100", "--codecs", "none")
        mag_of(source)[...] = random_bits("u4", (1000, 800))  # 3.2 MB
        found = update(source, target, code=4)
        assert "make room" in found["said"] and "--update" in found["said"]
        zarr.open_group(target)["mag"][...]  # it can be read
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True, timeout=30)
        update(source, target)
        assert_as_made_anew(source, target, "--chunks", "object=50,epoch=100", "--codecs", "none")
    finally:
        subprocess.run(["umount", "-l", disk], check=True, timeout=30)


def test_verify_finds_what_others_have_changed_and_the_next_update_mends_it(pair):
    source, target = pair
    zarr.open_group(target, mode="r+")["mag"][3, 4] = 99
    zarr.open_group(target, mode="r+")["ra"][3] = 99
    mag_of(source)[:, 20] = 1
    assert update(source, target)["changed"]  # what others do to the copy is not noticed
    found = update(source, target, "--verify", code=3)
    assert found["differences"] == 2 and "the next update mends it" in found["said"]
    assert "compared" in update(source, target, "--verify")["said"]
    assert_as_made_anew(source, target)


def test_an_unfinished_copy_is_gone_on_with_and_made_afresh_where_the_source_has_grown(slow_pair, tmp_path):
    source, target = slow_pair[0], tmp_path / "u.zarr"
    for grows in (False, True):
        stopped(source, target, *SLOW)
        if grows:
            mag_of(source).append(random_bits("u4", (SLOW_SHAPE[0], 1)), axis=1)
            zarr.consolidate_metadata(source)
        found = update(source, target, *SLOW)
        assert found["created"] and found["resumed"] is not grows
        assert_as_made_anew(source, target, *SLOW)
        shutil.rmtree(target)


def test_what_is_no_copy_is_refused(tmp_path):
    survey(tmp_path / "s.zarr")
    (tmp_path / "t").mkdir()
    (tmp_path / "t/thesis.tex").write_text("")
    assert "not a Zarr store" in update(tmp_path / "s.zarr", tmp_path / "t", *TENS, code=1)["said"]
    assert "lies within" in update(tmp_path / "s.zarr", tmp_path / "s.zarr/mag", *TENS, code=1)["said"]
    zarr.create_group(tmp_path / "v2.zarr", zarr_format=2).create_array("mag", data=np.zeros(SHAPE, "f4"))
    assert "Zarr v2" in update(tmp_path / "s.zarr", tmp_path / "v2.zarr", code=1)["said"]
    run = subprocess.run([BINARY, "materialize", "a", "b", "--update", "--overwrite"], capture_output=True, timeout=30)
    assert run.returncode == 2
