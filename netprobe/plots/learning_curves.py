"""Accuracy over the epochs of training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from netprobe.plots.drawing import INK, canvas, finite, heading, look, plain, styled
from netprobe.plots.reading import Measured, interval, label, measured

LINES = {"accuracy": ":", "validation_accuracy": "--", "validation_robust_accuracy": "-"}


@styled
def plot_learning_curves(
    results: xr.Dataset | Mapping[str, xr.Dataset] | xr.DataTree,
    *,
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Accuracy over epochs: on what was trained on, and on held-out images, clean and under the validation attack.

    Bands are Wilson 95 % intervals, over held-out images. The marker is the best epoch by its criterion, whose weights
    training returns. Robust accuracy that falls after it while training accuracy rises is robust overfitting; one that
    falls to 0 within an epoch or two is catastrophic overfitting.

    Parameters
    ----------
    results : the history of `npb.fit(...)`, several by name, or a tree with a group "history" for each model
    models, ax : as for `plot_psr`

    Returns the Axes.
    """
    every = measured(results, "history", models)
    ax = canvas(ax)
    handles = epoch_curves(ax, every, LINES)
    marks = [_best(ax, entry) for entry in every]
    if any(marks):
        handles.append(Line2D([], [], color=INK, marker="o", markersize=7, linestyle="none", label="Best epoch"))
    ax.set(ylim=(0, 1.02), ylabel="Accuracy")
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    heading(ax, "Accuracy during training", handles)
    return ax


def epoch_curves(ax: Axes, every: Sequence[Measured], lines: Mapping[str, str]) -> list[Artist]:
    """Over epochs, for every model the variables of `lines` that it has, in these line styles, with their intervals.

    Returns the entries of a legend: a colour for each model and a line for each variable.
    """
    drawn: dict[str, xr.DataArray] = {}
    for entry in every:
        for name in (name for name in lines if _measured(entry.data, name)):
            _curve(ax, entry, name, lines[name])
            drawn[name] = entry.data[name]
    ax.set_xlabel("Epoch")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    colors = [Line2D([], [], color=look(entry.index)["color"], label=plain(entry.model)) for entry in every]
    return colors + [
        Line2D([], [], color=INK, linestyle=line, label=label(drawn[name], unit=False))
        for name, line in lines.items()
        if name in drawn
    ]


def _curve(ax: Axes, entry: Measured, name: str, line: str) -> None:
    x, color = entry.data["epoch"].values, look(entry.index)["color"]
    low, high = interval(entry.data, name)
    ax.fill_between(x, finite(low), finite(high), color=color, alpha=0.15)
    ax.plot(x, finite(entry.data[name].values), color=color, linestyle=line, marker=".", markersize=3)


def _measured(data: xr.Dataset, name: str) -> bool:
    return name in data and bool(np.isfinite(data[name]).any())


def _best(ax: Axes, entry: Measured) -> bool:
    """Mark the best epoch on the curve that it is the best of, by a loss on that of held-out images; False if nothing
    was held out to tell.
    """
    criterion, epoch = str(entry.data.attrs.get("criterion")), entry.data.attrs.get("best_epoch")
    curve = "validation_accuracy" if criterion == "validation_loss" else criterion
    if not _measured(entry.data, curve) or epoch not in entry.data["epoch"]:
        return False
    height = float(entry.data[curve].sel(epoch=epoch))
    ax.plot(epoch, height, color=look(entry.index)["color"], marker="o", markersize=7, linestyle="none", zorder=3)
    return bool(np.isfinite(height))
