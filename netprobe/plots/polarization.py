"""Outputs of a polarizing front end, stage by stage."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullLocator

from netprobe.plots.drawing import QUIET, heading, look, power_ticks, styled
from netprobe.plots.panels import panel_canvas, panels

DANGER = "#cf222e"
LEAST = 1e-4  # the density that the axis begins at: one output in ten thousand on a line of length 1


@styled
def plot_polarization(results: xr.Dataset, *, ax: Axes | None = None) -> Axes:
    """Histogram of filter outputs before the quantiser, a panel a stage, the danger zones shaded.

    On a logarithmic axis gaps look emptier than they are; so every panel says how much of the outputs lies within eps
    of a threshold, with its 95 % interval over images.

    Parameters
    ----------
    results : what `npb.polarization` returns
    ax : where to draw; None makes a figure

    Returns the Axes, whose `child_axes` are the panels.

    References
    ----------
    Bakiskan (2022), dissertation, Fig. 4.4.
    """
    stages = [str(stage) for stage in results["stage"].values]
    ax = panel_canvas(ax, len(stages), "Filter output z before the quantiser", "Density")
    shown = [f"{stage}: {_share(results.sel(stage=stage))}" for stage in stages]
    top = 3 * float(results["density"].max())
    for stage, panel in zip(stages, panels(ax, shown), strict=True):
        _histogram(panel, results.sel(stage=stage), float(results.attrs["eps"]))
        panel.set_ylim(LEAST, top)
    zones = Patch(color=DANGER, alpha=0.15, label=f"within ε = {results.attrs['eps']:.3g} of a threshold")
    lines = Line2D([], [], color=QUIET, linestyle="--", marker="", label="thresholds of the quantiser")
    heading(ax, "Polarization of the front end", [zones, lines])
    return ax


def _share(stage: xr.Dataset) -> str:
    low, high = 100 * stage["danger_interval"].values
    return f"{100 * float(stage['danger']):.1f} % in danger [{low:.1f}, {high:.1f}]"


def _histogram(panel: Axes, stage: xr.Dataset, eps: float) -> None:
    centres, threshold = stage["bin"].values, float(stage["threshold"])
    edges = np.linspace(-1, 1, len(centres) + 1)
    for side in (-1, 1):
        panel.axvspan(side * threshold - eps, side * threshold + eps, color=DANGER, alpha=0.15, linewidth=0)
        panel.axvline(side * threshold, color=QUIET, linestyle="--", marker="", linewidth=0.8)
    color = look(0)["color"]
    heights = np.maximum(stage["density"].values, LEAST)
    panel.stairs(heights, edges, baseline=LEAST, fill=True, facecolor=(color, 0.4), edgecolor=color, linewidth=0.8)
    panel.set(xlim=(-1, 1), yscale="log")
    panel.yaxis.set_major_locator(LogLocator(numticks=4))
    panel.yaxis.set_minor_locator(NullLocator())
    power_ticks(panel.yaxis)
