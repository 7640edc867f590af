"""Evaluations as figures need them, small enough to be committed."""

from __future__ import annotations

import xarray as xr

PER_IMAGE = ("correct", "prediction", "label", "broken_by")
"""Kept of every image; sizes of changes, margins and passes stay out."""
LEFT_OUT = ("worst_case", "timing", "preflight")
"""Groups that no figure is drawn from."""


def compact(results: xr.DataTree) -> xr.DataTree:
    """What `netprobe.evaluate` returned, without what only a look at single images needs; the provenance stays."""
    groups = {path: data for path, data in results.to_dict().items() if path.rpartition("/")[2] not in LEFT_OUT}
    found = xr.DataTree.from_dict({path: _compact(path, data) for path, data in groups.items()})
    found.attrs = dict(results.attrs)
    return found


def _compact(path: str, data: xr.Dataset) -> xr.Dataset:
    if not path.endswith("/evaluation"):
        return data
    return data[[name for name, values in data.data_vars.items() if "image" not in values.dims or name in PER_IMAGE]]
