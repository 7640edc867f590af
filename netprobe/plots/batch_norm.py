"""Batch-norm parameters and statistics of each layer."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from netprobe.errors import unknown
from netprobe.plots.drawing import heading, styled
from netprobe.plots.panels import chosen_layers, histograms, keys, of_all, panel_canvas, panels, room_in, shared_bins
from netprobe.plots.reading import DRAWN, label, measured, require_same_sites

BINS = 50


@styled
def plot_batch_norm(
    results: xr.DataTree | xr.Dataset,
    *,
    quantity: str = "running_mean",
    layers: Iterable[str] | None = None,
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Histogram over the channels of each batch-norm layer, one panel a layer, the models overlaid.

    In a panel all models share 50 bins, from the smallest to the largest of their values; other panels have other
    bins, so read the axis. A layer without the quantity (no affine parameters) says so.

    Parameters
    ----------
    results : what `npb.weights.analyse` or `npb.weights.batch_norm` returns
    quantity : "running_mean", "running_variance", "gamma" or "beta"
    layers : their names; None draws all, or as many, evenly spaced, as there is room for
    models, ax : as for `plot_psr`; the models must share their layers

    Returns the Axes, whose `child_axes` are the panels.

    References
    ----------
    Bakiskan (2022), dissertation, Figs. 3.14 to 3.17.
    """
    if quantity not in DRAWN["batch_norm"]:
        raise unknown("quantity", quantity, DRAWN["batch_norm"])
    every = measured(results, "batch_norm", models)
    require_same_sites(every, "panels")
    drawn = chosen_layers(every, layers, room_in(ax))
    ax = panel_canvas(ax, len(drawn), label(every[0].data[quantity]), "Share of the channels")
    for name, panel in zip(drawn, panels(ax, drawn), strict=True):
        channels = [entry.data[quantity].sel(layer=name).values for entry in every]
        known = [values[np.isfinite(values)] for values in channels]
        histograms(panel, known, [entry.index for entry in every], shared_bins(known, BINS))
    heading(ax, f"{label(every[0].data[quantity])} of batch norm{of_all(drawn, every)}", keys(every))
    return ax
