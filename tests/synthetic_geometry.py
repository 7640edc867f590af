"""What `netprobe.geometry.analyse` gives, of a tiny network: no stand-in knows the schema better."""

from __future__ import annotations

import functools

import torch
import xarray as xr

from netprobe import data
from netprobe.geometry import analyse
from netprobe.models import mlp

SETTINGS = {"walks": "random,fgsm", "points": 6, "plane_points": 5, "correction": 4, "reach": 1.0, "progress": False}


@functools.cache
def _analysed() -> xr.DataTree:
    torch.manual_seed(0)
    return analyse({"model": mlp(hidden=12)}, data.load("digits", limit=60), **SETTINGS)


def geometry() -> dict[str, xr.Dataset]:
    """The groups of one model."""
    return {name: node.to_dataset().copy(deep=True) for name, node in _analysed()["model"].children.items()}
