"""Error under each corruption, plain or relative to a baseline."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from netprobe.plots.drawing import QUIET, canvas, heading, look, name_ticks, plain, styled, whiskers
from netprobe.plots.reading import Measured, interval, label, measured
from netprobe.uncertainty import LEVEL, resampled_means

LEVELS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)


@styled
def plot_corruption_error(
    results: xr.DataTree | xr.Dataset,
    *,
    baseline: str | None = None,
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Error under each corruption, mean over its severities, with 95 % intervals; the legend has the mean over all.

    With `baseline`, every error is divided by that model's for the same corruption, as in the corruption error (CE) of
    Hendrycks and Dietterich (ICLR 2019), and the mean of that is the mCE. Intervals are then those of the ratio, from
    a bootstrap over the images that both models saw. Below 100 % is better than the baseline.

    Parameters
    ----------
    results : what `npb.evaluate` returns for `npb.evaluation.corruptions()`, or one model's Dataset "corruptions"
    baseline : name of a model in `results`
    models, ax : as for `plot_psr`

    Returns the Axes.
    """
    every = measured(results, "corruptions", models)
    names = [str(name) for name in every[0].data["corruption"].values]
    ax = canvas(ax)
    if baseline is not None:
        reference = measured(results, "corruptions", [baseline])[0].data
        every = [entry._replace(data=relative(entry.data, reference)) for entry in every]
    handles = [_points(ax, number, len(every), entry) for number, entry in enumerate(every)]
    name_ticks(ax.xaxis, names)
    ax.set(xlim=(-0.5, len(names) - 0.5), ylabel=label(every[0].data["error"]), xlabel="Corruption")
    ax.set_ylim(0, 1.05 * ax.get_ylim()[1])
    if baseline is not None:
        ax.axhline(1, color=QUIET, linewidth=1, zorder=1)
        ax.set_ylabel(plain(f"Error relative to {baseline}"))
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    heading(ax, "Corruption error" if baseline is None else f"Corruption error relative to {baseline}", handles)
    return ax


def relative(data: xr.Dataset, reference: xr.Dataset) -> xr.Dataset:
    """Errors divided by those of `reference`, corruption by corruption, and their mean, with paired intervals.

    The same resamples of images are taken of both models; NaN where the results do not hold every image's error.
    """
    ratio = data["error"] / reference["error"]
    bounds, mean_bounds = np.full((ratio.size, 2), np.nan), np.full(2, np.nan)
    if "error_image" in data and "error_image" in reference:
        ours, theirs = (resampled_means(part["error_image"].values) for part in (data, reference))
        with np.errstate(invalid="ignore", divide="ignore"):
            draws = ours / theirs
        bounds = np.quantile(draws, LEVELS, axis=-1).T
        mean_bounds = np.quantile(draws.mean(0), LEVELS)
    found = {
        "error": ratio,
        "error_interval": (("corruption", "bound"), bounds),
        "mean_error": ratio.mean(),
        "mean_error_interval": ("bound", mean_bounds),
    }
    return xr.Dataset(found, {"bound": ["low", "high"]})


def _points(ax: Axes, number: int, count: int, entry: Measured):
    error = entry.data["error"]
    x = np.arange(error.sizes["corruption"]) + 0.6 / count * (number - (count - 1) / 2)
    style = look(entry.index) | {"linestyle": "none", "markersize": 5}
    whiskers(ax, x, entry, "error", color=style["color"], linewidth=2)
    name = plain(f"{entry.model}, {_mean(entry.data)}".lstrip(", "))
    return ax.plot(x, error.values, label=name, **style)[0]


def _mean(data: xr.Dataset) -> str:
    """Such as "mean 12.3 % [11.0, 13.5]"."""
    low, high = (100 * float(bound) for bound in interval(data, "mean_error"))
    bounds = f" [{low:.1f}, {high:.1f}]" if np.isfinite([low, high]).all() else ""
    return f"mean {100 * float(data['error'].mean()):.1f} %{bounds}"
