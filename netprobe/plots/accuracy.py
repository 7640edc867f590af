"""Accuracy under each condition."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from netprobe.plots.drawing import canvas, heading, look, name_ticks, plain, styled, whiskers
from netprobe.plots.reading import label, measured, select, told


@styled
def plot_accuracy(
    results: xr.DataTree | xr.Dataset,
    *,
    metric: str = "accuracy",
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Share of images classified correctly, clean and under each perturbation, with Wilson 95 % intervals.

    The axis always runs from 0 to 100 %. `metric` is "accuracy" for what `npb.probe` returns, "evaluation" for what
    `npb.evaluate` does; of the latter, corruptions and minimum norms are left to their own plots, and of more than 16
    conditions the strongest of each sweep are shown. Other parameters as for `plot_psr`. Returns the Axes.
    """
    every = measured(results, metric, models)
    shown = told(every[0].data)
    ax = canvas(ax)
    handles = []
    apart = min(0.15, 0.8 / len(every))
    for number, entry in enumerate(select(every, condition=[each.name for each in shown])):
        x = np.arange(len(shown)) + apart * (number - (len(every) - 1) / 2)
        style = look(entry.index) | {
            "linestyle": "none",
            "markersize": 6,
            "clip_on": False,
            "label": plain(entry.model),
        }
        whiskers(ax, x, entry, "accuracy", color=style["color"], linewidth=2, clip_on=False)
        handles.append(ax.plot(x, entry.data["accuracy"].values, **style)[0])
    name_ticks(ax.xaxis, shown)
    ax.set(xlim=(-0.5, len(shown) - 0.5), ylim=(0, 1), ylabel=label(every[0].data["accuracy"]))
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    heading(ax, "", handles)
    return ax
