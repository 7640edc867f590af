"""How far the decision boundary is, by attacks that were repeated."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from netprobe.plots.drawing import canvas, finite, heading, look, name_ticks, plain, power_ticks, styled, whiskers
from netprobe.plots.reading import Measured, label, measured


@styled
def plot_boundary_distance(
    results: xr.DataTree | xr.Dataset, *, models: Iterable[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Median over images of ||x' - x||^2 / d under each attack, mean over its repeats, with 95 % intervals.

    Small points beside it are single repeats. Nothing is drawn where half of the images withstand the attack.
    Parameters as for `plot_psr`, of what `npb.evaluate` returns for attacks in L2 that look for the nearest error.
    Returns the Axes.
    """
    every = measured(results, "boundary_distance", models)
    names = [str(name) for name in every[0].data["attack"].values]
    ax = canvas(ax)
    handles = [_points(ax, number, len(every), entry) for number, entry in enumerate(every)]
    name_ticks(ax.xaxis, names)
    ax.set(xlim=(-0.5, len(names) - 0.5), xlabel="Attack", ylabel=label(every[0].data["median"]))
    _scale(ax, np.concatenate([finite(entry.data["median"].values) for entry in every]))
    heading(ax, "Distance to the decision boundary, squared, per coordinate", handles)
    return ax


def _scale(ax: Axes, values: np.ndarray) -> None:
    """From 0; logarithmic where the largest is more than ten times the smallest."""
    known = values[np.isfinite(values)]
    if known.size and known.max() > 10 * known.min() > 0:
        ax.set_yscale("log")
        power_ticks(ax.yaxis)
    else:
        ax.set_ylim(bottom=0)


def _points(ax: Axes, number: int, count: int, entry: Measured) -> Artist:
    data, style = entry.data, look(entry.index) | {"linestyle": "none"}
    shift = 0.5 / count * (number - (count - 1) / 2)
    x = np.arange(data.sizes["attack"]) + shift
    whiskers(ax, x, entry, "median", color=style["color"], linewidth=2)
    if "repeat_median" in data:  # groups of trainings have none
        order = [str(name) for name in data["attack"].values]
        places = np.array([order.index(str(name)) for name in data["repeat_of"].values]) + shift
        repeats = finite(data["repeat_median"].values)
        ax.plot(places + 0.12 / count, repeats, ".", color=style["color"], markersize=3)
    return ax.plot(x, finite(data["median"].values), label=plain(entry.model), **style | {"markersize": 6})[0]
