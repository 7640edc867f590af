"""How far the nearest errors are."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from netprobe.plots.drawing import INK, canvas, heading, look, name_ticks, plain, power_ticks, styled, whiskers
from netprobe.plots.reading import Measured, conditions, measured, select

WIDTH = 0.8  # of the bars of one attack together


@styled
def plot_minimum_norm(
    results: xr.DataTree | xr.Dataset, *, models: Iterable[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Mean norm of the smallest perturbations found, a bar for each attack and model; the dash is the median.

    Over images that were right and that the attack broke: the share that it broke stands above the bar, and a mean
    over few of them says little. Norms have very different sizes (L1 hundreds of times Linf), so the axis is
    logarithmic. Whiskers are bootstrap 95 % intervals of the mean. Parameters as for `plot_psr`, of what
    `npb.evaluate` returns for attacks that look for the nearest error. Returns the Axes.
    """
    every = measured(results, "minimum_norm", models)
    names = [each.name for each in conditions(every[0].data, "condition")]
    ax = canvas(ax)
    width = WIDTH / len(every)
    for number, entry in enumerate(select(every, condition=names)):
        _bars(ax, np.arange(len(names)) + (number - (len(every) - 1) / 2) * width, width, entry)
    name_ticks(ax.xaxis, names)
    ax.set(xlim=(-0.5, len(names) - 0.5), yscale="log", xlabel="Attack", ylabel="Norm of the perturbation")
    ax.margins(y=0.15)
    power_ticks(ax.yaxis)
    median = Line2D([], [], color=INK, linewidth=2, label="median")
    keys = [Patch(color=look(entry.index)["color"], alpha=0.7, label=plain(entry.model)) for entry in every]
    heading(ax, "Minimum norms", [*keys, median])
    return ax


def _bars(ax: Axes, x: np.ndarray, width: float, entry: Measured) -> None:
    data, colour = entry.data, look(entry.index)["color"]
    means = np.where(data["mean"].values > 0, data["mean"].values, np.nan)
    ax.bar(x, means, 0.9 * width, color=colour, alpha=0.7)
    whiskers(ax, x, entry, "mean", color=INK, linewidth=1)
    ax.hlines(data["median"].values, x - 0.4 * width, x + 0.4 * width, color=INK, linewidth=2)
    for place, mean, share in zip(x, means, data["success"].values, strict=True):
        if np.isfinite(mean) and np.isfinite(share):
            ax.annotate(
                f"{share:.0%}", (place, mean), (0, 6), textcoords="offset points", ha="center", fontsize=8, clip_on=True
            )
