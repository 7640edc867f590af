"""Accuracy under each corruption at one severity."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from netprobe.plots.drawing import canvas, finite, heading, look, name_ticks, plain, styled, whiskers
from netprobe.plots.reading import Measured, measured, pick

USUAL = 4


@styled
def plot_corruption_accuracy(
    results: xr.DataTree | xr.Dataset,
    *,
    severity: int | None = None,
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Accuracy under each corruption at one severity, with Wilson 95 % intervals.

    Parameters
    ----------
    results : what `npb.evaluate` returns for `npb.evaluation.corruptions()`, or one model's Dataset "corruptions"
    severity : 1 to 5; None is 4, or the largest that was evaluated if 4 was not
    models, ax : as for `plot_psr`

    Returns the Axes.
    """
    every = measured(results, "corruptions", models)
    known = every[0].data["severity"].values.tolist()
    chosen = severity or (USUAL if USUAL in known else max(known))
    names = [str(name) for name in every[0].data["corruption"].values]
    ax = canvas(ax)
    at = [entry._replace(data=pick(entry.data, severity=str(chosen))) for entry in every]
    handles = [_points(ax, number, len(every), entry) for number, entry in enumerate(at)]
    name_ticks(ax.xaxis, names)
    ax.set(xlim=(-0.5, len(names) - 0.5), ylim=(0, 1.02), xlabel="Corruption", ylabel="Accuracy")
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    heading(ax, f"Accuracy at severity {chosen}", handles)
    return ax


def _points(ax: Axes, number: int, count: int, entry: Measured) -> Artist:
    accuracy = finite(entry.data["accuracy"].values)
    x = np.arange(len(accuracy)) + 0.6 / count * (number - (count - 1) / 2)
    style = look(entry.index) | {"linestyle": "none", "markersize": 5}
    whiskers(ax, x, entry, "accuracy", color=style["color"], linewidth=2)
    return ax.plot(x, accuracy, label=plain(entry.model), **style)[0]
