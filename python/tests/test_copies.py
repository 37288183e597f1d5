"""Copies and comparisons: results, progress, and what stops them."""

import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import zarr
from conftest import commands_about, wait_until

import rechunkfs

#: A copy that takes seconds.
SLOW = {"along": "epoch", "codecs": "zstd:22", "threads": 1, "chunk_size": "256KiB"}


def test_a_copy_is_planned_made_and_compared(epochs, values, tmp_path):
    target = tmp_path / "copy.zarr"
    layout = {"chunks": {"object": 15, "epoch": "full"}, "codecs": {"lightcurves": "zstd:3"}}
    plan = rechunkfs.plan(epochs, target, **layout)
    assert not target.exists()
    assert (plan.arrays[0].path, plan.arrays[0].passes, plan.arrays[0].files) == ("lightcurves", 1, 27)
    assert plan.bytes == values.nbytes and plan.written_bytes > 0
    copy = rechunkfs.materialize(epochs, target, **layout, verify=True)
    assert (copy.target, copy.bytes, copy.verified, copy.resumed, copy.failures) == (str(target), values.nbytes, True, False, ())
    array = zarr.open_group(target, mode="r")["lightcurves"]
    assert array.chunks == (15, 60) and array[...].tobytes() == values.tobytes()
    comparison = rechunkfs.verify(epochs, target)
    assert (comparison.differences, comparison.elements >= values.size, comparison.sampled) == (0, True, False)
    sampled = rechunkfs.verify(epochs, target, sample=3, seed=11)
    assert (sampled.sampled, sampled.seed) == (True, 11)
    with pytest.raises(rechunkfs.RechunkError, match="exists already"):
        rechunkfs.materialize(epochs, target, **layout)
    assert rechunkfs.materialize(epochs, target, **layout, overwrite=True, shards=["object=150"]).files > 0


def test_a_copy_is_brought_up_to_date(epochs, tmp_path):
    source, target = tmp_path / "growing.zarr", tmp_path / "copy.zarr"
    shutil.copytree(epochs, source)
    layout = {"chunks": {"object": 50, "epoch": 20}}
    made = rechunkfs.plan_update(source, target, **layout)
    assert (made.copy and made.copy.files, made.arrays) == (24, ())
    assert rechunkfs.materialize(source, target, **layout, update=True).changed is True
    assert rechunkfs.materialize(source, target, **layout, update=True).changed is False
    zarr.open_group(source)["lightcurves"][:, 33] = -1
    plan = rechunkfs.plan_update(source, target, **layout)
    (array,) = [array for array in plan.arrays if array.path == "lightcurves"]
    assert (plan.copy, array.state, array.changed_source_chunks, array.touched_chunks) == (None, "changed", 1, 8)
    assert not (zarr.open_group(target, mode="r")["lightcurves"][:, 33] == -1).any(), "a plan writes nothing"
    copy = rechunkfs.materialize(source, target, **layout, update=True, verify=True)
    assert (copy.changed, copy.verified) == (True, True)
    assert (zarr.open_group(target, mode="r")["lightcurves"][:, 33] == -1).all()


def test_a_difference_is_an_exception_that_says_where(epochs, tmp_path):
    target = tmp_path / "copy.zarr"
    rechunkfs.materialize(epochs, target, along="epoch")
    zarr.open_group(target)["lightcurves"][3, 4] = -1
    with pytest.raises(rechunkfs.DifferencesFound, match="1 of 24,000 elements differ") as caught:
        rechunkfs.verify(epochs, target)
    (array,) = [array for array in caught.value.comparison.arrays if array.differences]
    assert (array.path, array.first[0].at, array.first[0].source, array.first[0].target) == ("lightcurves", (3, 4), "184.0", "-1.0")
    assert caught.value.exit_code == 3


def test_what_cannot_be_compared_is_an_error_and_not_a_difference(epochs, tmp_path):
    target = tmp_path / "copy.zarr"
    rechunkfs.materialize(epochs, target, along="epoch", codecs="zstd")
    chunk = next(path for path in sorted((target / "lightcurves" / "c").rglob("*")) if path.is_file())
    chunk.write_bytes(b"no zstd")
    with pytest.raises(rechunkfs.RechunkError) as caught:
        rechunkfs.verify(epochs, target)
    assert (type(caught.value), caught.value.exit_code, caught.value.comparison.differences) == (rechunkfs.RechunkError, 1, 0)
    assert "lightcurves" in str(caught.value)


def test_what_had_to_be_left_out_is_told(epochs, tmp_path):
    source = tmp_path / "epochs.zarr"
    subprocess.run(["cp", "-r", epochs, source], check=True)
    (source / "lightcurves/c/0/5").write_bytes(b"damaged")
    with pytest.raises(rechunkfs.RechunkError, match="left out") as caught:
        rechunkfs.materialize(source, tmp_path / "copy.zarr", along="epoch", keep_going=True)
    assert caught.value.exit_code == 1 and len(caught.value.copy.failures) > 0
    assert os.path.isdir(caught.value.copy.incomplete)


# -- progress ---------------------------------------------------------------------------------------------


def test_progress_goes_to_whoever_wants_it_and_may_stop_the_copy(large, tmp_path):
    seen = []

    def watch(progress):
        seen.append(progress)
        if progress.share > 0:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        rechunkfs.materialize(large, tmp_path / "copy.zarr", **SLOW, progress=watch)
    assert seen[0].total_bytes == 16_000_000 and 0 < seen[-1].share < 1 and seen[-1].waits_for
    assert not commands_about(tmp_path) and not (tmp_path / "copy.zarr").exists()


def test_a_bar_of_tqdm_or_none(large, tmp_path, capsys):
    rechunkfs.materialize(large, tmp_path / "silent.zarr", along="epoch", progress=False)
    assert capsys.readouterr() == ("", "")
    rechunkfs.materialize(large, tmp_path / "bar.zarr", along="epoch")
    out, err = capsys.readouterr()
    assert out == "" and "materialize: 100%" in err and "16.0M/16.0M" in err


def test_without_tqdm_there_are_lines_now_and_then(large, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    monkeypatch.setattr("rechunkfs._bar.LINE_SECONDS", 0)
    rechunkfs.materialize(large, tmp_path / "copy.zarr", along="epoch")
    out, err = capsys.readouterr()
    assert out == "" and re.search(r"^materialize: \d+% of 0.016 GB", err), err


# -- what stops a copy ------------------------------------------------------------------------------------


COPY = """
    import sys, rechunkfs
    {}
    rechunkfs.materialize(sys.argv[1], sys.argv[2], along="epoch", codecs="zstd:22", threads=1, chunk_size="256KiB",
        progress=lambda progress: print(progress.done_bytes, flush=True))
"""


def copying(large, target, before="", **options):
    """A script that is in the middle of a copy."""
    command = [sys.executable, "-c", textwrap.dedent(COPY.format(before)), str(large), str(target)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    while process.stdout.readline() in ("0\n",):
        pass
    assert process.poll() is None and commands_about(target)
    return process


def test_ctrl_c_stops_a_copy_and_says_how_to_go_on(large, tmp_path):
    target = tmp_path / "copy.zarr"
    process = copying(large, target, process_group=0)
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert time.monotonic() - began < 5
    assert re.search(r"^KeyboardInterrupt: stopped.*go on with: .*materialize .* --resume$", err, re.M), err
    assert "--until-eof" not in err.splitlines()[-1]
    assert not commands_about(tmp_path) and not target.exists() and (tmp_path / "copy.zarr.rechunkfs-partial").is_dir()
    copy = rechunkfs.materialize(large, target, **SLOW, resume=True)
    assert copy.resumed and copy.resumed_bytes > 0
    assert rechunkfs.verify(large, target).differences == 0


def test_a_copy_ends_with_the_interpreter_however_that_does(large, tmp_path):
    process = copying(large, tmp_path / "copy.zarr")
    process.kill()
    process.communicate(timeout=30)
    wait_until(lambda: not commands_about(tmp_path), "the command ends", seconds=5)
    assert not (tmp_path / "copy.zarr").exists()


def test_a_copy_stopped_by_others_is_incomplete_and_one_killed_an_error(large, tmp_path):
    for number, kind, code in [(signal.SIGTERM, rechunkfs.Incomplete, 4), (signal.SIGKILL, rechunkfs.RechunkError, 137)]:
        target = tmp_path / f"{number}.zarr"

        def stop(progress, number=number, target=target):
            for pid in commands_about(target):
                os.kill(pid, number)

        with pytest.raises(kind) as caught:
            rechunkfs.materialize(large, target, **SLOW, progress=stop)
        assert (type(caught.value), caught.value.exit_code) == (kind, code)
        assert "--resume" in str(caught.value) or "SIGKILL" in str(caught.value)


def test_ctrl_c_stops_a_comparison(large, tmp_path):
    """In the middle of one, or before: it ends, and leaves nothing running."""
    target = tmp_path / "copy.zarr"
    rechunkfs.materialize(large, target, along="epoch")
    text = """
        import signal, sys, threading, rechunkfs
        threading.Timer(0.05, lambda: signal.raise_signal(signal.SIGINT)).start()
        while True:
            rechunkfs.verify(sys.argv[1], sys.argv[2], threads=1)
        """
    command = [sys.executable, "-c", textwrap.dedent(text), str(large), str(target)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "KeyboardInterrupt" in run.stderr and "rechunkfs was killed" not in run.stderr
