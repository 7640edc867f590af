"""Accuracy against the number of steps T of a self-consistent layer."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator, PercentFormatter

from netprobe.plots.drawing import canvas, curve, heading, styled
from netprobe.plots.reading import Measured, label, variable

VARIED = {"training": "T, in training and test", "test": "T in the test; the network was trained with one"}


@styled
def plot_accuracy_by_steps(results: xr.Dataset, *, ax: Axes | None = None) -> Axes:
    """Accuracy over T, on an axis of powers of two, a line a condition with its Wilson 95 % interval.

    Parameters
    ----------
    results : what `npb.accuracy_by_steps` returns
    ax : where to draw; None makes a figure

    Returns the Axes.

    References
    ----------
    Shah and Raj, arXiv 2308.03956: their public code draws it for Fashion-MNIST.
    """
    accuracy, ax = variable(results, "accuracy"), canvas(ax)
    steps = variable(results, "steps").values
    handles = [
        curve(ax, steps, Measured(str(name), number, results.sel(condition=name)), "accuracy")
        for number, name in enumerate(accuracy["condition"].values)
    ]
    ax.set_xscale("symlog", base=2, linthresh=1)  # T = 0 has a place too
    ax.xaxis.set_major_locator(FixedLocator(np.unique(steps)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.set(ylim=(0, 1.02), xlabel=VARIED.get(str(results.attrs.get("varied")), "T"), ylabel=label(accuracy))
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    heading(ax, "Accuracy by the number of steps", handles)
    return ax
