"""Zarr stores in another chunking: as a mount without a copy, or as the copy.

    with rechunkfs.mount("epochs.zarr", chunks={"object": 15, "epoch": "full"}) as path:
        lightcurve = xr.open_zarr(path).lightcurves[1234].load()

    rechunkfs.materialize("epochs.zarr", "objects.zarr", chunks={"object": 15, "epoch": "full"})

The package runs the command `rechunkfs`, which comes with it. What the command refuses is an exception with its words.
"""

from . import dask
from ._copies import materialize, plan, plan_update, verify
from ._errors import DifferencesFound, Incomplete, RechunkError, RechunkWarning, UsageError
from ._looks import inspect, preview, status
from ._mount import Mount, mount
from ._results import (
    ArrayComparison,
    ArrayCost,
    ArrayPlan,
    ArrayUpdate,
    CheaperCodecs,
    Comparison,
    Copy,
    Difference,
    GroupComparison,
    Inspection,
    Machine,
    MountStatus,
    PassedArray,
    Plan,
    Preview,
    Progress,
    SourceArray,
    Status,
    Suggestion,
    UpdatePlan,
    ViewArray,
    ViewError,
    ViewStatus,
)

__all__ = [
    "ArrayComparison",
    "ArrayCost",
    "ArrayPlan",
    "ArrayUpdate",
    "CheaperCodecs",
    "Comparison",
    "Copy",
    "Difference",
    "DifferencesFound",
    "GroupComparison",
    "Incomplete",
    "Inspection",
    "Machine",
    "Mount",
    "MountStatus",
    "PassedArray",
    "Plan",
    "Preview",
    "Progress",
    "RechunkError",
    "RechunkWarning",
    "SourceArray",
    "Status",
    "Suggestion",
    "UpdatePlan",
    "UsageError",
    "ViewArray",
    "ViewError",
    "ViewStatus",
    "dask",
    "inspect",
    "materialize",
    "mount",
    "plan",
    "plan_update",
    "preview",
    "status",
    "verify",
]
