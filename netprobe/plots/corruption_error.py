"""Error under each corruption, plain or relative to a baseline."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from netprobe.plots.drawing import QUIET, canvas, heading, look, name_ticks, plain, styled, whiskers
from netprobe.plots.reading import Measured, label, measured


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
    Hendrycks and Dietterich (ICLR 2019), and the mean of that is the mCE; no interval is drawn then, since that of a
    ratio would need both models' images together. Below 100 % is better than the baseline.

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
    divisor = None if baseline is None else measured(results, "corruptions", [baseline])[0].data["error"]
    handles = [_points(ax, number, len(every), entry, divisor) for number, entry in enumerate(every)]
    name_ticks(ax.xaxis, names)
    ax.set(xlim=(-0.5, len(names) - 0.5), ylabel=label(every[0].data["error"]), xlabel="Corruption")
    ax.set_ylim(0, 1.05 * ax.get_ylim()[1])
    if divisor is not None:
        ax.axhline(1, color=QUIET, linewidth=1, zorder=1)
        ax.set_ylabel(plain(f"Error relative to {baseline}"))
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    heading(ax, "Corruption error" if baseline is None else f"Corruption error relative to {baseline}", handles)
    return ax


def _points(ax: Axes, number: int, count: int, entry: Measured, divisor: xr.DataArray | None):
    error = entry.data["error"] if divisor is None else entry.data["error"] / divisor
    x = np.arange(error.sizes["corruption"]) + 0.6 / count * (number - (count - 1) / 2)
    style = look(entry.index) | {"linestyle": "none", "markersize": 5}
    if divisor is None:
        whiskers(ax, x, entry, "error", color=style["color"], linewidth=2)
    mean = f"mean {float(error.mean()):.1%}".replace("%", " %")
    return ax.plot(x, error.values, label=plain(f"{entry.model}, {mean}".lstrip(", ")), **style)[0]
