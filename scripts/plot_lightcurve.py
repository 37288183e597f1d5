"""Reads one lightcurve from a store and from its view, says how long each took, and plots it: SOURCE VIEW PNG."""

import sys
import time

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

COLOURS = {"g": "#2a9d5c", "r": "#d1495b", "i": "#b8860b", "z": "#5b4b8a"}
APERTURE = 5  # pixels


def read(store, object_idx):
    """One lightcurve and the seconds it took, the opening left out: that is the same for both."""
    dataset = xr.open_zarr(store, chunks=None)
    started = time.perf_counter()
    lightcurve = dataset.lightcurves.isel(object=object_idx).load()
    return lightcurve, time.perf_counter() - started


def main(source, view, png):
    columns = xr.open_zarr(source, chunks=None)
    bright = np.flatnonzero(columns.is_variable.values & (columns.ref_mag.values < 18))
    object_idx = int(bright[len(bright) // 2])

    shown, view_seconds = read(view, object_idx)
    stored, source_seconds = read(source, object_idx)
    xr.testing.assert_identical(shown, stored)
    print(f"one lightcurve of {shown.sizes['epoch']} epochs through xarray, each for the first time:")
    print(f"  from the source, a chunk per epoch  {1e3 * source_seconds:6.0f} ms")
    print(f"  from the view, one chunk            {1e3 * view_seconds:6.0f} ms   (the same values)")

    figure, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
    for band, colour in COLOURS.items():
        points = shown.sel(measurement=f"{band}_ap{APERTURE:02d}", value="raw")
        axes.plot(shown.epoch, points, "o", ms=5, color=colour, label=band)
    axes.invert_yaxis()  # brighter is up
    axes.set(xlabel="date", ylabel=f"magnitude in an aperture of {APERTURE} px (mag)")
    axes.set_title(f"{columns.iau_name.values[object_idx]}    ra {columns.ra.values[object_idx]:.4f}°, dec {columns.dec.values[object_idx]:.4f}°")
    axes.legend(title="filter", loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    axes.grid(alpha=0.25)
    figure.savefig(png, dpi=150, bbox_inches="tight")
    print(f"plot: {png}")


if __name__ == "__main__":
    main(*sys.argv[1:])
