"""The filters that a front end has learnt."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from netprobe.errors import NetprobeError, unknown
from netprobe.plots.drawing import canvas, heading, styled
from netprobe.plots.reading import measured
from netprobe.plots.tiles import tiled

GAP, ZOOM = 0.12, 8  # of a filter's side, between filters; pixels drawn for one of a filter


@styled
def plot_front_end_filters(
    results: xr.DataTree | xr.Dataset,
    *,
    stage: str | None = None,
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Every filter of a polarizing front end, its mean over channels divided by its largest weight; red above zero.

    The title says the mean of (||w||_1 / ||w||_2)^2: 1 for filters of one pixel, the number of weights for flat ones.

    Parameters
    ----------
    results : what `npb.polarization` returns
    stage : which; None is the last
    models : the one to draw, where results hold several
    ax : where to draw; None makes a figure

    References
    ----------
    Bakiskan (2022), dissertation, Fig. 4.6.
    """
    every = measured(results, "polarization", models)
    if len(every) > 1:
        raise NetprobeError(f"choose one of the models {', '.join(e.model for e in every)}: models=[...]")
    data = every[0].data
    if "weight" not in data:
        raise NetprobeError("these results have no filters: a front end of quantised pixels learns none")
    names = [str(name) for name in data["stage"].values]
    if stage is not None and stage not in names:
        raise unknown("stage", stage, names)
    chosen = data.sel(stage=stage or names[-1])
    numbers, weights = int(np.prod(chosen["weight"].shape[1:])), chosen["weight"].mean("channel").values
    ax = canvas(ax, 4.4, 4.2)
    largest = np.abs(weights).max((1, 2), keepdims=True)
    ax.imshow(_mosaic(weights / np.where(largest > 0, largest, 1)), cmap="RdBu_r", vmin=-1, vmax=1)
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    ax.spines[:].set_visible(False)
    flat = float(chosen["flatness"].mean())
    heading(ax, f"{len(weights)} filters, {stage or names[-1]}: mean (‖w‖₁/‖w‖₂)² = {flat:.1f} of {numbers}")
    return ax


def _mosaic(filters: np.ndarray) -> np.ma.MaskedArray:
    """Filters (n, height, width) in rows of a square, pixels magnified, so that gaps can be thinner than a pixel."""
    tiles = filters.repeat(ZOOM, 1).repeat(ZOOM, 2)
    return np.ma.masked_invalid(tiled(tiles, max(int(GAP * tiles.shape[2]), 1), np.nan))
