"""Signal-to-noise ratio along the network, as bars."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from netprobe.plots.drawing import (
    INK,
    QUIET,
    canvas,
    finite,
    heading,
    look,
    plain,
    site_axis,
    styled,
    whiskers,
)
from netprobe.plots.reading import Measured, describe, label, perturbed


@styled
def plot_snr(
    results: xr.DataTree | xr.Dataset,
    *,
    perturbation: str | None = None,
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Signal-to-noise ratio in dB at each site: bars from 0 dB, a 95 % interval, and the median as a dash.

    SNR = 10 log10 of the mean over images of ||f(x)||^2 / ||f(x') - f(x)||^2; higher means less disturbed.
    The mean of ratios is ruled by the few images that hardly change, so the median is drawn with it. An
    infinite ratio (nothing changed) has no bar.

    Parameters as for `plot_psr`, of the metric "snr". Returns the Axes.

    References
    ----------
    Bakiskan (2022), dissertation, eq. 5.6 and Fig. 5.6.
    """
    every = perturbed(results, "snr", models, perturbation)
    ax = canvas(ax)
    places = site_axis(ax, every)
    spacing = _spacing(places)
    width = 0.8 * spacing / len(every)
    handles = []
    for number, (entry, place) in enumerate(zip(every, places, strict=True)):
        handles += _bars(ax, entry, place + (number - (len(every) - 1) / 2) * width, width)
    ax.axhline(0, color=QUIET, linewidth=0.8)
    ax.set_xlim(min(map(np.min, places)) - 0.8 * spacing, max(map(np.max, places)) + 0.8 * spacing)
    ax.set_ylabel(label(every[0].data["snr_db"]))
    heading(ax, describe(every[0].data), [*handles, Line2D([], [], color=INK, linewidth=1.8, label="median")])
    return ax


def _bars(ax: Axes, entry: Measured, x: np.ndarray, width: float) -> list[Artist]:
    """One model's bars of `width` with interval and median; returns those with a name for the legend."""
    height, median = (finite(entry.data[name].values) for name in ("snr_db", "snr_median_db"))
    named = plain(entry.model)
    bars = ax.bar(x, height, 0.92 * width, color=look(entry.index)["color"], label=named)
    whiskers(ax, x, entry, "snr_db", color=INK, linewidth=0.9)
    ax.hlines(median, x - width / 2, x + width / 2, color=INK, linewidth=1.8)
    return [bars] if named else []


def _spacing(places: list[np.ndarray]) -> float:
    """The smallest distance between two sites of a model."""
    return min((np.diff(place).min() for place in places if len(place) > 1), default=1.0)
