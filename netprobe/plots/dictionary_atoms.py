"""The atoms of a dictionary."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from netprobe.errors import unknown
from netprobe.plots.drawing import canvas, heading, styled
from netprobe.plots.reading import variable
from netprobe.plots.tiles import tiled

ORDERS = {"length": "by ‖d‖₁", "use": "by use", "brightness": "by brightness"}


@styled
def plot_dictionary_atoms(
    results: xr.Dataset, *, by: str | None = None, count: int = 400, ax: Axes | None = None
) -> Axes:
    """Atoms as patches of an image, each from its least to its largest weight, the first at the top left.

    Parameters
    ----------
    results : what `npb.dictionary_atoms` returns
    by : "use", the most used first, "length", the longest, or "brightness"; None is use where it was measured
    count : how many to draw at most, from the first on
    ax : where to draw; None makes a figure

    References
    ----------
    Bakiskan (2022), dissertation, Fig. 4.12.
    """
    by = by or ("use" if "use" in results else "length")
    if by not in ORDERS:
        raise unknown("order of atoms", by, ORDERS)
    order = np.argsort(-variable(results, by).values, kind="stable")[:count]
    atoms = variable(results, "weight").transpose("atom", "row", "column", "channel").values[order]
    ax = canvas(ax, 5.4, 5.2)
    ax.imshow(mosaic(atoms), interpolation="nearest", cmap="gray", vmin=0, vmax=1)
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    ax.spines[:].set_visible(False)
    shown, there = len(order), results.sizes["atom"]
    lengths = results["length"].values
    which = f"{there} atoms" if shown == there else f"{shown} of {there} atoms"
    bright = float((np.abs(results["brightness"].values) > 0.9).mean())
    text = f"{which}, {ORDERS[by]}: mean ‖d‖₁ {lengths.mean():.2f}, {100 * bright:.0f} % nearly uniform"
    heading(ax, text)
    return ax


def mosaic(atoms: np.ndarray) -> np.ndarray:
    """Atoms (n, height, width, C), scaled to [0, 1] one by one, in rows of a square, one white pixel between them."""
    low, high = atoms.min((1, 2, 3), keepdims=True), atoms.max((1, 2, 3), keepdims=True)
    scaled = (atoms - low) / np.where(high > low, high - low, 1)
    whole = tiled(scaled, 1, 1.0)
    return whole if scaled.shape[3] == 3 else whole.mean(2)
