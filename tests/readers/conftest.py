"""What every reader test needs: a binary, a machine that can mount, and the demo stores."""

import os
import shutil

import hypothesis
import pytest
from sources import SHAPE, survey
from support import BINARY, make_demo_store

CI = bool(os.environ.get("CI"))
hypothesis.settings.register_profile(
    "rechunkfs", deadline=None, derandomize=CI, print_blob=True, database=None, suppress_health_check=list(hypothesis.HealthCheck)
)
hypothesis.settings.load_profile("rechunkfs")


@pytest.fixture(scope="session", autouse=True)
def machine_can_mount(request):
    """Fails rather than skips: a run that mounted nothing must not look like a run that passed."""
    if all(item.get_closest_marker("no_mount") for item in request.session.items):
        return
    if not os.path.exists("/dev/fuse"):
        pytest.fail("/dev/fuse is missing: load the module fuse, or give the container --device /dev/fuse", pytrace=False)
    if os.geteuid() and not shutil.which("fusermount3"):
        pytest.fail("fusermount3 is missing: run scripts/install-deps", pytrace=False)
    if not os.access(BINARY, os.X_OK):
        pytest.fail(f"{BINARY} is missing: run cargo build, or set RECHUNKFS_BIN", pytrace=False)


@pytest.fixture(scope="session")
def idf(tmp_path_factory):
    """20 epochs of 47,287 objects; the 17th was never written."""
    return make_demo_store(tmp_path_factory.mktemp("demo") / "idf.zarr", "idf", 0.2)


@pytest.fixture(scope="session")
def seed(tmp_path_factory):
    """1,100 objects: the second row of chunks is ragged."""
    return make_demo_store(tmp_path_factory.mktemp("demo") / "seed.zarr", "seed", 0.055)


@pytest.fixture
def source(tmp_path):
    """The survey with holes: nothing of epoch 5, and nothing of objects 40 to 79, was ever written."""
    mag = survey(tmp_path / "s.zarr")
    for i, j in [*((i, 5) for i in range(3)), *((1, j) for j in range(SHAPE[1]))]:
        (tmp_path / f"s.zarr/mag/c/{i}/{j}").unlink(missing_ok=True)
    return mag
