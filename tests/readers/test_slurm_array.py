"""scripts/slurm-materialize.sbatch, with stand-ins for Slurm's commands that honour the variables of job arrays."""

import os
import subprocess
from pathlib import Path

import pytest
from copies import assert_same_tree, copy, partial
from support import BINARY
from test_partitions import LAYOUT, store

SCRIPT = Path(__file__).parents[2] / "scripts/slurm-materialize.sbatch"


def task(folder, number, n_tasks, *arguments, first=1, **more):
    """One task of an array, as Slurm starts it."""
    stand_ins = folder / "bin"
    stand_ins.mkdir(exist_ok=True)
    for name, says in (("scontrol", f"echo '   Command={SCRIPT} ...'"), ("sbatch", f'printf "%s\\n" "$RECHUNKFS_FINISH" "$@" >{folder}/submitted')):
        (stand_ins / name).write_text(f"#!/bin/sh\n{says}\n")
        (stand_ins / name).chmod(0o755)
    variables = {
        "SLURM_ARRAY_JOB_ID": 7, "SLURM_ARRAY_TASK_ID": number, "SLURM_ARRAY_TASK_COUNT": n_tasks,
        "SLURM_ARRAY_TASK_MIN": first, "SLURM_ARRAY_TASK_MAX": first + n_tasks - 1, "RECHUNKFS": BINARY, **more,
    }  # fmt: skip
    environment = {**os.environ, "PATH": f"{stand_ins}:{os.environ['PATH']}", **{name: str(value) for name, value in variables.items()}}
    return subprocess.run([SCRIPT, *map(str, arguments)], env=environment, capture_output=True, text=True, timeout=60)


def test_an_array_of_three_tasks_and_the_job_after_it_make_the_copy(tmp_path):
    source, target = store(tmp_path / "s.zarr"), tmp_path / "t.zarr"
    for number in (3, 1, 2, 1):  # one of them is run again
        run = task(tmp_path, number, 3, source, target, *LAYOUT)
        assert run.returncode == 0, run.stderr
    finish, *words = (tmp_path / "submitted").read_text().splitlines()
    assert finish == "1" and "--dependency=afterok:7" in words and words[-len(LAYOUT) - 3 :] == [str(SCRIPT), str(source), str(target), *LAYOUT]
    run = task(tmp_path, 1, 1, source, target, *LAYOUT, RECHUNKFS_FINISH=1)
    assert run.returncode == 0 and not partial(target).exists(), run.stderr
    copy(source, tmp_path / "whole.zarr", *LAYOUT)
    assert_same_tree(target, tmp_path / "whole.zarr")


@pytest.mark.parametrize(("number", "first"), [(0, 0), (2, 2)])
def test_an_array_that_does_not_begin_with_one_is_refused(tmp_path, number, first):
    run = task(tmp_path, number, 3, "a", "b", first=first)
    assert run.returncode == 2 and "--array=1-N" in run.stderr
