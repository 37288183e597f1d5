"""Mounting a store with the binary under test, and comparing what is shown with zarr-python reading the source."""

import json
import os
import subprocess
import sys
import tempfile
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import zarr

REPO = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("RECHUNKFS_BIN", REPO / "target/debug/rechunkfs"))
MOUNT_SECONDS = 60


# -- running the binary ---------------------------------------------------------------------------------


def rechunkfs(*args, timeout=MOUNT_SECONDS, **kwargs):
    """Runs the binary to its end. Files and not pipes take its output: a daemon that held a pipe would hang us."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        command = [str(BINARY), *map(str, args)]
        code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, timeout=timeout, **kwargs).returncode
        out.seek(0), err.seek(0)
        return subprocess.CompletedProcess(command, code, out.read(), err.read())


class MountRefused(Exception):
    def __init__(self, run):
        super().__init__(f"{' '.join(run.args)}\nexit {run.returncode}\n{run.stderr}")
        self.returncode, self.stderr = run.returncode, run.stderr


class View(type(Path())):
    """The mounted store's path. `messages` is what `mount` printed."""

    messages = ""

    def status(self):
        run = rechunkfs("status", self, "--json")
        assert run.returncode == 0, run.stderr
        return json.loads(run.stdout)


def is_mounted(path):
    """Asks the kernel's table: stat on a dead mount would fail or hang."""
    return os.path.abspath(path) in mount_points()


def mount_points():
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        return {line.split()[4].replace("\\040", " ") for line in lines}


@contextmanager
def mounted(source, *layout, at=None):
    """`rechunkfs mount source`, as a path; always unmounted afterwards. Refusals raise MountRefused."""
    with tempfile.TemporaryDirectory(prefix="rechunkfs-test-", ignore_cleanup_errors=True) as folder:
        view = View(at or Path(folder).resolve() / "view.zarr")
        try:
            run = rechunkfs("mount", source, view, *layout)
            if run.returncode:
                assert not is_mounted(view), f"refused, and yet mounted: {run.stderr}"
                raise MountRefused(run)
            assert is_mounted(view), f"mount said nothing and mounted nothing: {run.stdout}{run.stderr}"
            view.messages = run.stdout + run.stderr
            yield view
        finally:
            unmount(view)
            if view.is_dir() and not is_mounted(view):
                view.chmod(0o755)  # it is left with mode 000, which only root can remove


def unmount(view):
    """`unmount`, then `--lazy`, then the system's own: a failing test must leave nothing mounted."""
    for command in (
        [BINARY, "unmount", view],
        [BINARY, "unmount", view, "--lazy"],
        ["fusermount3", "-u", "-z", view],
        ["umount", "-l", view],
    ):
        if not is_mounted(view):
            return
        try:
            run = subprocess.run(command, capture_output=True, text=True, timeout=30)
        except (OSError, subprocess.TimeoutExpired) as error:
            warnings.warn(f"{command[0]} {command[1]}: {error}", stacklevel=2)
            continue
        if run.returncode:
            warnings.warn(f"{command[0]} {command[1]}: {run.stderr.strip()}", stacklevel=2)
    assert not is_mounted(view), f"{view} stays mounted"


# -- comparing ------------------------------------------------------------------------------------------


def bits(array):
    """Bytes in native order, so that two NaNs compare by payload; variable-length strings as themselves."""
    array = np.asarray(array)
    if array.dtype.kind in "OT":
        return array.tolist()
    return np.ascontiguousarray(array.astype(native(array.dtype))).tobytes()


def native(dtype):
    return dtype if dtype.kind == "T" else dtype.newbyteorder("=")


def assert_same_bits(got, want, what=""):
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, f"{what}: shape {got.shape}, should be {want.shape}"
    assert native(got.dtype) == native(want.dtype), f"{what}: type {got.dtype}, should be {want.dtype}"
    if bits(got) == bits(want):
        return
    if got.dtype.kind in "OT" or not got.dtype.itemsize:
        raise AssertionError(f"{what}: {got!r}, should be {want!r}")
    rows = [np.frombuffer(bits(a), "u1").reshape(-1, a.dtype.itemsize) for a in (got, want)]
    wrong = np.flatnonzero((rows[0] != rows[1]).any(axis=1))
    at = np.unravel_index(wrong[0], want.shape)
    raise AssertionError(
        f"{what}: {len(wrong)} of {want.size} elements differ, first at {tuple(map(int, at))}: "
        f"{got[at]!r} ({rows[0][wrong[0]].tobytes().hex()}), should be {want[at]!r} ({rows[1][wrong[0]].tobytes().hex()})"
    )


def assert_same_array(got, want, what=""):
    """Two zarr arrays: shape, type, fill value and every element, in slabs so that big ones fit in memory."""
    assert got.shape == want.shape, f"{what}: shape {got.shape}, should be {want.shape}"
    if want.metadata.zarr_format == 3:
        assert_same_bits(np.asarray(got.fill_value), np.asarray(want.fill_value), f"{what} fill value")
        assert got.metadata.dimension_names == want.metadata.dimension_names, what
    if want.ndim == 0:
        return assert_same_bits(got[()], want[()], what)
    row_bytes = max(1, int(np.prod(want.shape[1:], dtype="i8")) * want.dtype.itemsize)
    step = max(1, (256 << 20) // row_bytes)
    for start in range(0, max(1, want.shape[0]), step):
        assert_same_bits(got[start : start + step], want[start : start + step], f"{what} from row {start}")


def assert_same_store(view, source, **open_args):
    """Every array of the hierarchy, and the attributes of every node."""
    got, want = (zarr.open(str(p), mode="r", **open_args) for p in (view, source))
    if isinstance(want, zarr.Array):
        return assert_same_array(got, want, "bare array")
    arrays = dict(want.members(max_depth=None))
    shown = dict(got.members(max_depth=None))
    assert shown.keys() == arrays.keys()
    assert exact_json(dict(got.attrs)) == exact_json(dict(want.attrs))
    for name, node in arrays.items():
        assert type(shown[name]) is type(node), name
        if isinstance(node, zarr.Array):
            assert_same_array(shown[name], node, name)
        moved = {"_FillValue", "_ARRAY_DIMENSIONS"} if node.metadata.zarr_format == 2 else ()
        attributes = [exact_json({k: v for k, v in n.attrs.items() if k not in moved}) for n in (shown[name], node)]
        assert attributes[0] == attributes[1], name


def exact_json(value):
    """Attributes as text: 1 and 1.0 differ, NaN equals NaN."""
    return json.dumps(value, sort_keys=True)


def document(path):
    """A JSON document with numbers as they are spelled: 1.0, 1e0 and 2**70 must be carried untouched."""
    spelled = {"parse_float": "float {}".format, "parse_int": "int {}".format, "parse_constant": "constant {}".format}
    return json.loads(Path(path).read_text("utf-8"), **spelled)


# -- what the files of a rechunked array must hold, from zarr-python reading the source ------------------


@dataclass
class Expected:
    """An array's values, to be cut in chunks by the plainest means."""

    values: np.ndarray
    fill: np.ndarray
    chunks: tuple

    @classmethod
    def of(cls, source_array, view_folder):
        grid = json.loads((Path(view_folder) / "zarr.json").read_text())["chunk_grid"]
        values = source_array[...] if source_array.ndim else source_array[()]
        fill = source_array.fill_value
        # Zarr v2 may leave the fill value open; zarr-python then fills in the type's own.
        fill = source_array.metadata.dtype.default_scalar() if fill is None else fill
        return cls(np.asarray(values), np.asarray(fill, dtype=source_array.dtype), tuple(grid["configuration"]["chunk_shape"]))

    def grid(self):
        return product(*(range(-(-n // c)) for n, c in zip(self.values.shape, self.chunks, strict=True)))

    def region(self, idx):
        return tuple(slice(i * c, (i + 1) * c) for i, c in zip(idx, self.chunks, strict=True))

    def chunk(self, idx):
        """Full size also at the edge, padded with the fill value."""
        padded = np.full(self.chunks, self.fill, self.values.dtype)
        inside = self.values[self.region(idx)]
        padded[tuple(slice(0, n) for n in inside.shape)] = inside
        return padded

    @staticmethod
    def key(idx):
        return ".".join(["c", *map(str, idx)])


def stored_endian(view_folder):
    codecs = json.loads((Path(view_folder) / "zarr.json").read_text())["codecs"]
    assert [c["name"] for c in codecs] == ["bytes"], codecs
    return ">" if codecs[0].get("configuration", {}).get("endian") == "big" else "<"


def assert_plain_chunks(view_folder, source_array, present=None):
    """Every chunk file of an unsharded rechunked array, byte for byte, and no other file.

    `present(region)` tells whether a source chunk exists there; without it only "absent means fill" is checked.
    """
    view_folder = Path(view_folder)
    want = Expected.of(source_array, view_folder)
    dtype = want.values.dtype if want.values.dtype.names else want.values.dtype.newbyteorder(stored_endian(view_folder))
    keys = {}
    for idx in want.grid():
        chunk = want.chunk(idx)
        if present is None:
            exists = (view_folder / want.key(idx)).exists()
            assert exists or bits(chunk) == bits(np.full_like(chunk, want.fill)), f"{want.key(idx)} is missing"
        else:
            exists = present(want.region(idx))
        if exists:
            keys[want.key(idx)] = chunk.astype(dtype).tobytes()
    assert set(os.listdir(view_folder)) == {*keys, "zarr.json"}
    for key, data in keys.items():
        assert (view_folder / key).stat().st_size == len(data), key
        assert (view_folder / key).read_bytes() == data, f"{key} differs"


def make_demo_store(dst, case, scale):
    script = REPO / "scripts/make-demo-store"
    subprocess.run([sys.executable, script, dst, "--case", case, "--scale", str(scale)], check=True, timeout=170)
    return dst
