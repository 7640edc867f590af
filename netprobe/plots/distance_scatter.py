"""Accuracy against robustness, one point for each model."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from netprobe.plots.drawing import canvas, heading, look, plain, styled
from netprobe.plots.reading import interval, measured, pick


@styled
def plot_distance_scatter(
    results: xr.DataTree | xr.Dataset,
    *,
    walk: str | None = None,
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Clean accuracy against the median critical distance along one walk, with the 95 % intervals of both.

    Up and to the right is better. A median beyond the grid is an arrow at the right edge; None takes the last walk.

    Parameters: as for `plot_critical_distances`. Returns the Axes.
    """
    every = measured(results, "distances", models)
    name = walk or str(every[0].data["walk"].values[-1])
    chosen = [entry._replace(data=pick(entry.data, walk=name)) for entry in every]
    ax = canvas(ax)
    seen = np.array([[float(e.data["median"]), *map(float, interval(e.data, "median"))] for e in chosen])
    top = 1.2 * np.max(seen[np.isfinite(seen)], initial=1e-9)
    handles = []
    for entry, (median, low, high) in zip(chosen, seen, strict=True):
        style, accuracy = look(entry.index), float(entry.data["clean_accuracy"])
        bounds = [float(bound) for bound in interval(entry.data, "clean_accuracy")]
        x = top if np.isinf(median) else median
        ax.hlines(accuracy, low, min(high, top), color=style["color"], linewidth=1.2)
        ax.vlines(x, *bounds, color=style["color"], linewidth=1.2)
        point = {"marker": ">" if np.isinf(median) else style["marker"], "linestyle": "none", "color": style["color"]}
        handles += ax.plot(x, accuracy, label=plain(entry.model), markersize=7, **point)
    ax.set(xlabel=f"Median critical distance along {plain(name)}, L2 (input)", ylabel="Clean accuracy")
    ax.set_xlim(0, 1.05 * top)
    ax.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    heading(ax, "Accuracy and distance to errors", handles)
    return ax
