"""Outputs of a polarizing front end, stage by stage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullLocator

from netprobe.plots.drawing import QUIET, heading, look, power_ticks, styled
from netprobe.plots.panels import keys, panel_canvas, panels
from netprobe.plots.reading import measured

DANGER = "#cf222e"
LEAST = 1e-4  # the density that the axis begins at: one output in ten thousand on a line of length 1


@styled
def plot_polarization(
    results: xr.DataTree | xr.Dataset | Mapping[str, xr.Dataset],
    *,
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Histogram of filter outputs before the quantiser, a panel for each model and stage, the danger zones shaded.

    On a logarithmic axis gaps look emptier than they are; so every panel says how much of the outputs lies within eps
    of a threshold, with its 95 % interval over images.

    Parameters
    ----------
    results : what `npb.polarization` returns, of one model or of several by name
    models, ax : as for `plot_psr`

    Returns the Axes, whose `child_axes` are the panels.

    References
    ----------
    Bakiskan (2022), dissertation, Fig. 4.4.
    """
    every = measured(results, "polarization", models)
    stages = [(entry, stage) for entry in every for stage in entry.data["stage"].values]
    named = [f"{entry.model}, {stage}" if len(every) > 1 else str(stage) for entry, stage in stages]
    ax = panel_canvas(ax, len(stages), "Filter output z before the quantiser", "Density")
    top = 50 * max(float(entry.data["density"].max()) for entry in every)  # room above for the share
    for (entry, stage), panel in zip(stages, panels(ax, named), strict=True):
        _histogram(panel, entry.data.sel(stage=stage), float(entry.data.attrs["eps"]), entry.index)
        panel.set_ylim(LEAST, top)
    budgets = ", ".join(f"{eps:.3g}" for eps in sorted({float(entry.data.attrs["eps"]) for entry in every}))
    zones = Patch(color=DANGER, alpha=0.15, label=f"within ε = {budgets} of a threshold: share in the panel")
    lines = Line2D([], [], color=QUIET, linestyle="--", marker="", label="thresholds")
    heading(ax, "Polarization of the front end", [*keys(every), zones, lines])
    return ax


def _share(stage: xr.Dataset) -> str:
    low, high = 100 * stage["danger_interval"].values
    return f"{100 * float(stage['danger']):.1f} % [{low:.1f}, {high:.1f}]"


def _histogram(panel: Axes, stage: xr.Dataset, eps: float, index: int) -> None:
    centres, threshold = stage["bin"].values, float(stage["threshold"])
    edges = np.linspace(-1, 1, len(centres) + 1)
    for side in (-1, 1):
        panel.axvspan(side * threshold - eps, side * threshold + eps, color=DANGER, alpha=0.15, linewidth=0)
        panel.axvline(side * threshold, color=QUIET, linestyle="--", marker="", linewidth=0.8)
    color = look(index)["color"]
    panel.text(0.97, 0.94, _share(stage), transform=panel.transAxes, ha="right", va="top", fontsize=8, color=DANGER)
    heights = np.maximum(stage["density"].values, LEAST)
    panel.stairs(heights, edges, baseline=LEAST, fill=True, facecolor=(color, 0.4), edgecolor=color, linewidth=0.8)
    panel.set(xlim=(-1, 1), yscale="log")
    panel.yaxis.set_major_locator(LogLocator(numticks=4))
    panel.yaxis.set_minor_locator(NullLocator())
    power_ticks(panel.yaxis)
