# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # Light curves out of a store that is cut by epoch
#
# Each chunk of the store holds many objects at one epoch; a light curve is one object at all epochs. rechunkfs shows the store cut by
# object, without a copy, and xarray reads that as it reads any store.
#
# A store to try it with: `scripts/make-demo-store epochs.zarr --case seed --scale 0.1`.

# %%
import os
import time

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import rechunkfs

STORE = os.environ.get("STORE", "epochs.zarr")
PNG = os.environ.get("PNG", "lightcurves.png")

# %% [markdown]
# ## How the store is cut, and what a view would cost

# %%
for array in rechunkfs.inspect(STORE, array="lightcurves").arrays:
    print(f"{array.path}: {dict(zip(array.dimensions, array.shape))} in chunks {array.chunks}")
for cost in rechunkfs.preview(STORE, along="epoch", array="lightcurves").costs:
    print(f"a first light curve draws on {cost.first_read_files} files")

# %% [markdown]
# ## The view
#
# It stays until `unmount()` in the last cell, or until the kernel ends.

# %%
view = rechunkfs.mount(STORE, along="epoch")
source, objects = (xr.open_zarr(store, chunks=None) for store in (STORE, view.path))
variable = np.flatnonzero(source.is_variable.values & (source.ref_mag.values < 17))[:6]

# %%
def read(dataset, name):
    began = time.perf_counter()
    lightcurves = [dataset.lightcurves.isel(object=object_idx).load() for object_idx in variable]
    print(f"{len(variable)} light curves from {name}: {time.perf_counter() - began:.2f} s")
    return lightcurves


stored, shown = read(source, "the source"), read(objects, "the view")
for one, other in zip(stored, shown):
    xr.testing.assert_identical(one, other)

# %% [markdown]
# ## Six of them, and their first 150 epochs

# %%
figure, panels = plt.subplots(3, 2, figsize=(10, 8), sharex=True, layout="constrained")
for panel, lightcurve, object_idx in zip(panels.flat, shown, variable):
    lightcurve = lightcurve.isel(epoch=slice(150))
    for band, colour in (("g", "#2a9d5c"), ("r", "#d1495b")):
        panel.plot(lightcurve.epoch, lightcurve.sel(measurement=band), ".", ms=5, color=colour, label=band)
    panel.invert_yaxis()  # Brighter is up.
    panel.set_title(str(source.iau_name.values[object_idx]), fontsize=9)
    panel.grid(alpha=0.25)
    panel.tick_params(axis="x", rotation=30)
figure.supylabel("magnitude (mag)")
figure.legend(*panels[0, 0].get_legend_handles_labels(), title="filter", loc="outside right upper")
figure.savefig(PNG, dpi=120)
print(f"plot: {PNG}")

# %%
status = view.status().view
print(f"reads: {status.reads}, of them from memory: {status.hits}" if status else "the view is gone")
view.unmount()
