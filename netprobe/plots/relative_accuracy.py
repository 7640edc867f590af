"""Accuracy against strength, along walks from the images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from netprobe.plots.drawing import finite, heading, log_ticks, look, percent, plain, styled
from netprobe.plots.panels import panel_canvas, panels
from netprobe.plots.reading import Measured, interval, measured, select, variable


@styled
def plot_relative_accuracy(
    results: xr.DataTree | xr.Dataset,
    *,
    relative: bool = True,
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Share of the images still classified as labelled, against ε, a panel for each walk, with Wilson 95 % intervals.

    Relative to the images that are right when clean, so that all curves start at 1; the legend has the clean accuracy,
    which this hides. With relative=False the accuracy itself.

    Parameters: as for `plot_critical_distances`. Returns the Axes that holds the panels, its `child_axes`.
    """
    every = measured(results, "distances", models)
    quantity = "relative_accuracy" if relative else "accuracy"
    for entry in every:
        variable(entry.data, quantity)
    walks = list(map(str, every[0].data["walk"].values))
    ax = panel_canvas(ax, 2 * len(walks), "ε (input units)", f"{'Relative a' if relative else 'A'}ccuracy")
    for panel, name in zip(panels(ax, walks), walks, strict=True):
        handles = _draw(panel, select(every, walk=name), quantity)
    heading(ax, "Accuracy along each walk, and clean", handles)
    return ax


def _draw(panel: Axes, every: Sequence[Measured], quantity: str) -> list:
    handles, grids = [], [entry.data["eps"].values for entry in every]
    known = np.concatenate([grid[np.isfinite(grid)] for grid in grids])
    for entry, grid in zip(every, grids, strict=True):
        low, high = map(finite, interval(entry.data, quantity))
        style = look(entry.index)
        panel.fill_between(grid, low, high, color=style["color"], alpha=0.2)
        name = ": ".join(filter(None, (entry.model, percent(float(entry.data["clean_accuracy"]), 1))))
        handles += panel.plot(grid, finite(entry.data[quantity].values), label=plain(name), **style | {"marker": ""})
    panel.set(xscale="log", ylim=(0, 1.03), yticks=[0, 0.5, 1])
    if known.size:
        log_ticks(panel.xaxis, known.min(), known.max())
    return handles
