"""How far the nearest errors are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from netprobe.plots.drawing import INK, heading, look, percent, plain, styled
from netprobe.plots.panels import panel_canvas, panels
from netprobe.plots.reading import Measured, conditions, interval, measured, select

ROOM = 1.35  # of the axis over the tallest bar, for the shares


@styled
def plot_minimum_norm(
    results: xr.DataTree | xr.Dataset, *, models: Iterable[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Mean norm of the smallest perturbations found: a panel for each attack, a bar for each model, a dash its median.

    Over images that were right and that the attack broke: the share that it broke stands above the bar, and a mean
    over few of them says little. Panels have their own axes, since norms have very different sizes. Whiskers are
    bootstrap 95 % intervals of the mean. Parameters as for `plot_psr`, of what `npb.evaluate` returns for attacks that
    look for the nearest error. Returns the Axes that holds the panels, its `child_axes`.
    """
    every = measured(results, "minimum_norm", models)
    names = [each.name for each in conditions(every[0].data, "condition")]
    ax = panel_canvas(ax, 2 * len(names), "", "Norm of the perturbation")
    for panel, name in zip(panels(ax, names), names, strict=True):
        _draw(panel, select(every, condition=name))
    median = Line2D([], [], color=INK, linewidth=2, label="median")
    keys = [Patch(color=look(entry.index)["color"], alpha=0.7, label=plain(entry.model)) for entry in every]
    heading(ax, "Minimum norms, with the share of images broken", [*keys, median])
    return ax


def _draw(panel: Axes, every: Sequence[Measured]) -> None:
    """The bars of one attack."""
    for x, entry in enumerate(every):
        mean, median, share = (float(entry.data[name]) for name in ("mean", "median", "success"))
        panel.bar(x, mean, 0.8, color=look(entry.index)["color"], alpha=0.7)
        panel.vlines(x, *interval(entry.data, "mean"), color=INK, linewidth=1)
        panel.hlines(median, x - 0.3, x + 0.3, color=INK, linewidth=2)
        top = np.nanmax([0.0, mean, float(interval(entry.data, "mean")[1])])
        if np.isfinite(share):
            panel.annotate(percent(share), (x, top), (0, 2), textcoords="offset points", ha="center", fontsize=8)
    highest = np.nanmax([0.0, *(float(v) for e in every for v in (e.data["mean"], interval(e.data, "mean")[1]))])
    panel.set(xlim=(-0.6, len(every) - 0.4), ylim=(0, ROOM * highest or 1), xticks=[])
    panel.grid(False, axis="x")
