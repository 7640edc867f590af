"""Correlations of a patch with atoms and with the filters of a network."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from netprobe.plots.drawing import canvas, heading, look, plain, styled
from netprobe.plots.reading import variable


@styled
def plot_patch_correlations(results: xr.Dataset, *, ax: Axes | None = None) -> Axes:
    """Density of the correlations of one patch with unit-norm filters, a line of steps for each source.

    Values that gather at 0 mean filters that the patch has little to do with. For the dictionary much of what is far
    from 0 is brightness: its curve without the patch's mean shows what is left.

    Parameters
    ----------
    results : what `npb.patch_correlations` returns
    ax : where to draw; None makes a figure

    References
    ----------
    Bakiskan (2022), dissertation, section 4.2.
    """
    density, peaked = variable(results, "density"), variable(results, "peakedness")
    centres = density["bin"].values
    half = (centres[1] - centres[0]) / 2
    edges = np.r_[centres - half, centres[-1] + half]
    ax, handles = canvas(ax), []
    for number, source in enumerate(density["source"].values):
        style = look(number)
        label = f"{source}: mean / largest {float(peaked.sel(source=source)):.2f}"
        options = {"color": style["color"], "linestyle": style["linestyle"], "linewidth": 1.3, "label": plain(label)}
        handles.append(ax.stairs(density.sel(source=source).values, edges, **options))
    ax.set(xlim=(edges[0], edges[-1]), xlabel="Correlation with a filter of unit norm", ylabel="Density")
    ax.set_ylim(bottom=0)
    heading(ax, f"Correlations of the patch in row {results.attrs['row']}, column {results.attrs['column']}", handles)
    return ax
