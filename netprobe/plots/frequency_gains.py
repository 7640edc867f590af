"""Which corruptions a network withstands better than another, by the frequencies that they change."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from netprobe.plots.drawing import LETTER, QUIET, canvas, finite, heading, look, plain, styled, whiskers
from netprobe.plots.reading import Measured, label, measured


@styled
def plot_frequency_gains(
    results: xr.DataTree | xr.Dataset, *, models: Iterable[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Accuracy gained over the baseline under each corruption, by its centroid, with 95 % intervals over images.

    Horizontal lines are the means of the groups of low, medium and high frequency. Above 0: better than the baseline.

    Parameters
    ----------
    results : what `npb.frequency_gains` returns, or the Dataset of one model
    models, ax : as for `plot_psr`

    Returns the Axes.
    """
    every = measured(results, "frequency_gains", models)
    ax = canvas(ax)
    handles: list[Artist] = [_draw(ax, entry) for entry in every]
    handles.append(ax.axhline(0, color=QUIET, linewidth=1, zorder=1, label="as the baseline"))
    data = every[0].data
    for name, x, y in zip(data["corruption"].values, data["centroid"].values, finite(data["gain"].values), strict=True):
        if np.isfinite(y):
            ax.annotate(plain(str(name).replace("_", " ")), (x, y), (3, 3), textcoords="offset points",
                        fontsize=LETTER - 2, color=QUIET)  # fmt: skip
    ax.set(xlabel=label(data["centroid"]), ylabel=label(data["gain"]))
    heading(ax, f"Corruptions by frequency, accuracy against {data.attrs.get('baseline', 'the baseline')}", handles)
    return ax


def _draw(ax: Axes, entry: Measured) -> Artist:
    data, style = entry.data, look(entry.index)
    x = data["centroid"].values
    whiskers(ax, x, entry, "gain", color=style["color"], linewidth=1)
    for group, mean in zip(data["group"].values, finite(data["group_gain"].values), strict=True):
        inside = x[data["frequency_group"].values == group]
        if inside.size:
            ax.hlines(mean, inside.min(), inside.max(), color=style["color"], linewidth=2.5, alpha=0.4)
    (points,) = ax.plot(x, finite(data["gain"].values), **(style | {"linestyle": "none"}), label=plain(entry.model))
    return points
