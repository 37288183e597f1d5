"""The wheel: the command, the types, and nothing else that has to be there."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

import rechunkfs
from rechunkfs._command import command_path

TYPED = """
from pathlib import Path
import rechunkfs

layout = {"object": 15, "epoch": 100}
with rechunkfs.mount("a.zarr", chunks={"object": 15, "epoch": "full"}, memory="2GiB", refresh="never") as path:
    place: Path = path
with rechunkfs.mount(Path("a.zarr"), chunks=layout, shards={"lightcurves": {"object": 100}, "epoch": -1}):
    pass
copy = rechunkfs.materialize("a.zarr", "b.zarr", chunks={0: 1}, codecs=[{"name": "bytes"}], progress=lambda p: print(p.share))
seconds: float = copy.seconds
shape: tuple[int, ...] = rechunkfs.inspect("a.zarr").arrays[0].shape
reads: list[int] = [m.view.reads for m in rechunkfs.status().mounts if m.view]
state: str = rechunkfs.status("view").state
try:
    rechunkfs.verify("a.zarr", "b.zarr", sample=10)
except rechunkfs.DifferencesFound as error:
    n: int | None = error.comparison.differences if error.comparison else None
"""

WRONG = [
    'rechunkfs.mount("a.zarr", chunks=15)',
    'rechunkfs.mount("a.zarr", threads="two")',
    'rechunkfs.materialize("a.zarr")',
    'rechunkfs.plan("a.zarr", "b.zarr").seconds + 1',
]


def mypy(*arguments, folder):
    return subprocess.run([sys.executable, "-m", "mypy", "--strict", *arguments], capture_output=True, text=True, timeout=110, cwd=folder)


def test_the_package_and_its_users_pass_strict_type_checks(tmp_path):
    (tmp_path / "use.py").write_text(TYPED)
    for what in (["-p", "rechunkfs"], ["use.py"]):
        checked = mypy(*what, folder=tmp_path)
        assert checked.returncode == 0, checked.stdout
    (tmp_path / "wrong.py").write_text("import rechunkfs\n" + "\n".join(WRONG) + "\n")
    checked = mypy("wrong.py", folder=tmp_path)
    assert [f"wrong.py:{at + 2}: error" in checked.stdout for at in range(len(WRONG))] == [True] * len(WRONG), checked.stdout


def test_this_is_the_installed_package_and_its_own_command():
    root = Path(sys.prefix).resolve()
    assert Path(rechunkfs.__file__).resolve().is_relative_to(root) and Path(command_path()).resolve().is_relative_to(root)
    said = subprocess.run([sys.executable, "-m", "rechunkfs", "--version"], capture_output=True, text=True, check=True)
    assert said.stdout.startswith("rechunkfs ")


def test_the_wheel_alone_is_enough(epochs, tmp_path):
    """A fresh environment with nothing in it, not even pip; the PATH knows nothing of it."""
    wheel = os.environ.get("RECHUNKFS_WHEEL")
    if not wheel:
        pytest.fail("RECHUNKFS_WHEEL does not name the wheel: run scripts/test-python")
    venv.create(tmp_path / "venv")
    python = tmp_path / "venv/bin/python"
    subprocess.run([sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", wheel], check=True)
    text = f"""if True:
        import sys, rechunkfs
        with rechunkfs.mount({str(epochs)!r}, along="epoch") as path:
            assert (path / "lightcurves" / "zarr.json").exists()
        rechunkfs.materialize({str(epochs)!r}, {str(tmp_path / "copy.zarr")!r}, along="epoch")
        from rechunkfs._command import command_path
        print(command_path())
        """
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TMPDIR": os.environ["TMPDIR"]}
    said = subprocess.run([python, "-I", "-c", text], capture_output=True, text=True, env=environment, timeout=60)
    assert said.returncode == 0, said.stderr
    assert said.stdout.strip() == str(tmp_path / "venv/bin/rechunkfs")
