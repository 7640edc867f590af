"""Sparsity of the filters of each layer."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from netprobe.plots.drawing import QUIET, heading, styled
from netprobe.plots.panels import chosen_layers, histograms, keys, of_all, panel_canvas, panels, room_in
from netprobe.plots.reading import label, measured, require_same_sites

BINS = np.linspace(0, 1, 26)
GAUSSIAN = 2 / np.pi


@styled
def plot_filter_hoyer(
    results: xr.DataTree | xr.Dataset,
    *,
    layers: Iterable[str] | None = None,
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Histogram of the squared Hoyer ratio over the filters of each layer, one panel a layer, the models overlaid.

    h(w) = ((||w||_1 / ||w||_2)^2 - 1) / (d - 1): 0 one weight that is not zero, 1 all alike in size. Every panel has
    the same 25 bins from 0 to 1 and shares of the live filters of its model; the grey line is 2/π, where filters of
    independent Gaussian weights lie. Dead filters have no ratio.

    Parameters
    ----------
    results : what `npb.weights.analyse` or `npb.weights.filters` returns
    layers : their names; None draws all, or as many, evenly spaced, as there is room for
    models, ax : as for `plot_psr`; the models must share their layers

    Returns the Axes, whose `child_axes` are the panels.

    References
    ----------
    Hoyer (2004); Bakiskan (2022), dissertation, Figs. 3.18 and 3.19.
    """
    every = measured(results, "filters", models)
    require_same_sites(every, "panels")
    drawn = chosen_layers(every, layers, room_in(ax))
    values = label(every[0].data["hoyer_filter"])
    ax = panel_canvas(ax, len(drawn), values, "Share of the filters")
    for name, panel in zip(drawn, panels(ax, drawn), strict=True):
        filters = [entry.data["hoyer_filter"].sel(layer=name).values for entry in every]
        panel.axvline(GAUSSIAN, color=QUIET, linewidth=0.8, linestyle="-", marker="")
        histograms(panel, [h[np.isfinite(h)] for h in filters], [entry.index for entry in every], BINS)
    line = Line2D([], [], color=QUIET, linewidth=0.8, marker="", linestyle="-", label="2/π, Gaussian weights")
    heading(ax, f"Sparsity of the filters{of_all(drawn, every)}", [*keys(every), line])
    return ax
