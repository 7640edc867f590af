"""Numbers per layer as a Dataset: coordinates, and rows padded to one length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from netprobe.weights.layers import Layer


def layer_coords(layers: Sequence[Layer]) -> dict[str, Any]:
    """The coordinates of the dimension `layer`: name, kind, order in the run (-1: never called), depth in [0, 1]."""
    return {
        "layer": ("layer", [layer.name for layer in layers]),
        "kind": ("layer", [layer.kind for layer in layers]),
        "order": ("layer", [layer.order for layer in layers]),
        "depth": ("layer", [layer.depth for layer in layers]),
    }


def padded(rows: Sequence[np.ndarray], fill: float = np.nan) -> np.ndarray:
    """Rows of several lengths as one array (row, longest), at least one wide."""
    width = max((len(row) for row in rows), default=0)
    return np.stack([np.pad(row, (0, max(width, 1) - len(row)), constant_values=fill) for row in rows])
