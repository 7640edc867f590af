"""Accuracy against the severity of common corruptions, mean over them."""

from __future__ import annotations

from collections.abc import Iterable

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, PercentFormatter

from netprobe.plots.drawing import canvas, curve, heading, styled
from netprobe.plots.reading import measured, variable


@styled
def plot_severity_curve(
    results: xr.DataTree | xr.Dataset, *, models: Iterable[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Accuracy against severity, mean over the corruptions that were evaluated, with 95 % intervals as bands.

    Corruptions differ: the mean of one model may be above another's while single corruptions are far below.
    Parameters as for `plot_psr`, of what `npb.evaluate` returns for `npb.evaluation.corruptions()`. Returns the Axes.
    """
    every = measured(results, "corruptions", models)
    for entry in every:
        variable(entry.data, "mean_accuracy")
    ax = canvas(ax)
    handles = [curve(ax, entry.data["severity"].values, entry, "mean_accuracy") for entry in every]
    ax.set(ylim=(0, 1.02), xlabel="Severity", ylabel="Accuracy, mean over corruptions")
    ax.xaxis.set_major_locator(FixedLocator(every[0].data["severity"].values))
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    heading(ax, f"Accuracy under {every[0].data.sizes['corruption']} common corruptions", handles)
    return ax
