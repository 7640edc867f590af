"""Activations of a self-consistent layer in the plane, step by step."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from netprobe.plots.drawing import canvas, heading, look, plain, styled
from netprobe.plots.panels import columns, panel_canvas, panels
from netprobe.plots.reading import variable

MARKERS = "osD^v<>P*X"
"""Of classes: the style sheet has fewer colours than ten."""


@styled
def plot_activation_planes(results: xr.Dataset, *, ax: Axes | None = None) -> Axes:
    """Images as points in the plane of largest variance of all steps together, a panel for each condition and step.

    Classes have colours and, where those run out, other markers. All panels share their axes.

    Parameters
    ----------
    results : what `npb.activation_planes` returns
    ax : where to draw; None makes a figure

    Returns the Axes, whose `child_axes` are the panels.
    """
    points, label = variable(results, "coordinate"), variable(results, "label").values
    pairs = [(condition, step) for condition in points["condition"].values for step in points["step"].values]
    shares = [f"{100 * share:.0f} %" for share in results["explained"].values]
    ax = canvas(ax, height=0.9 + 1.7 * -(-len(pairs) // columns(7.0)))
    ax = panel_canvas(ax, len(pairs), f"First axis, {shares[0]} of the variance", f"Second axis, {shares[1]}")
    reach = 1.05 * np.abs(points.values).max(axis=(0, 1, 2)).clip(min=1e-12)
    names = [f"{condition}, t = {step}" for condition, step in pairs]
    for (condition, step), panel in zip(pairs, panels(ax, names), strict=True):
        here = points.sel(condition=condition, step=step).values
        for each in np.unique(label):
            panel.scatter(*here[label == each].T, s=7, **_look(int(each)), linewidths=0)
        panel.set(xlim=(-reach[0], reach[0]), ylim=(-reach[1], reach[1]))
    shown = {"linestyle": "none", "markeredgewidth": 0, "markersize": 6}
    keys = [Line2D([], [], label=plain(str(each)), **_look(int(each)), **shown) for each in np.unique(label)]
    heading(ax, "Activations after some of the steps, by class", keys)
    return ax


def _look(number: int) -> dict[str, object]:
    return {"marker": MARKERS[number % len(MARKERS)], "color": look(number)["color"], "alpha": 0.75}
