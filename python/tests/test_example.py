"""The example, as it is printed: light curves of a demo store, as a picture."""

import os
import subprocess
import sys
from pathlib import Path

import matplotlib.colors
import matplotlib.image
import numpy as np

REPO = Path(__file__).resolve().parents[2]


def test_the_example_draws_light_curves(tmp_path):
    store, png = tmp_path / "epochs.zarr", tmp_path / "lightcurves.png"
    make = [sys.executable, REPO / "scripts/make-demo-store", store, "--case", "seed", "--scale", "0.02", "--distinct", "200"]
    subprocess.run(make, check=True, timeout=100)
    environment = {**os.environ, "STORE": str(store), "PNG": str(png), "MPLBACKEND": "agg"}
    example = [sys.executable, "-W", "error::UserWarning:rechunkfs", REPO / "python/examples/lightcurves.py"]
    run = subprocess.run(example, env=environment, capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stderr
    assert "6 light curves from the view" in run.stdout and "draws on 1000 files" in run.stdout, run.stdout
    picture = matplotlib.image.imread(png)[..., :3]
    for colour in ("#2a9d5c", "#d1495b"):
        n_pixels = (np.abs(picture - matplotlib.colors.to_rgb(colour)).max(axis=-1) < 0.02).sum()
        assert n_pixels > 2_000, f"{n_pixels} pixels of points in {colour}"
