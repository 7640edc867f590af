"""Which corruptions a network withstands better than another, by the frequencies that they change."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.transforms import offset_copy

from netprobe.plots.drawing import (
    LETTER,
    QUIET,
    canvas,
    finite,
    heading,
    letters_across,
    look,
    plain,
    shorten,
    styled,
    whiskers,
)
from netprobe.plots.reading import Measured, interval, label, measured

SMALL = LETTER - 2
"""Points, the size of the names of corruptions."""
BESIDE = 3.0
"""Points between the models at one corruption."""
APART = 2.0
"""Letters between neighbouring names, which stand upright."""
MOST = 0.5
"""Share of the height that names may take."""


@styled
def plot_frequency_gains(
    results: xr.DataTree | xr.Dataset, *, models: Iterable[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Accuracy gained over the baseline under each corruption, by its centroid, with 95 % intervals over images.

    Horizontal lines are the means of the groups of low, medium and high frequency. Above 0: better than the baseline.

    Parameters
    ----------
    results : what `npb.frequency_gains` returns, or the Dataset of one model
    models, ax : as for `plot_psr`

    Returns the Axes.
    """
    every = measured(results, "frequency_gains", models)
    ax = canvas(ax, height=4.8)
    beside = BESIDE * (np.arange(len(every)) - (len(every) - 1) / 2)
    handles: list[Artist] = [_draw(ax, entry, float(each)) for entry, each in zip(every, beside, strict=True)]
    handles.append(ax.axhline(0, color=QUIET, linewidth=1, zorder=1, label="as the baseline"))
    data = every[0].data
    _name(ax, data)
    ax.set(xlabel=label(data["centroid"]), ylabel=label(data["gain"]))
    heading(ax, f"Corruptions by frequency, accuracy against {data.attrs.get('baseline', 'the baseline')}", handles)
    return ax


def _draw(ax: Axes, entry: Measured, beside: float) -> Artist:
    """Points and whiskers so many points of the page to the right of the centroids, so that models hide none."""
    data, style = entry.data, look(entry.index)
    x = data["centroid"].values
    moved = offset_copy(ax.transData, ax.get_figure(root=True), beside, units="points")
    whiskers(ax, x, entry, "gain", color=style["color"], linewidth=1, transform=moved)
    seen = np.concatenate([data["gain"].values, *interval(data, "gain")])
    ax.update_datalim(np.column_stack([np.tile(x, 3), seen])[np.isfinite(seen)])  # what is moved does not tell it
    for group, mean in zip(data["group"].values, finite(data["group_gain"].values), strict=True):
        inside = x[data["frequency_group"].values == group]
        if inside.size:
            ax.hlines(mean, inside.min(), inside.max(), color=style["color"], linewidth=2.5, alpha=0.4)
    look_of = style | {"linestyle": "none", "transform": moved}
    (points,) = ax.plot(x, finite(data["gain"].values), **look_of, label=plain(entry.model))
    ax.autoscale_view()
    return points


def _name(ax: Axes, data: xr.Dataset) -> None:
    """The corruptions' names below the points, upright, by growing centroid, each with a line to its own."""
    known = np.isfinite(data["gain"].values) & np.isfinite(data["centroid"].values)
    order = np.flatnonzero(known)[np.argsort(data["centroid"].values[known], kind="stable")]
    if not order.size:
        return
    names = [shorten(str(name).replace("_", " ")) for name in data["corruption"].values[order]]
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    ticks = [tick for tick in ax.get_yticks() if low <= tick <= high]
    room = min(SMALL / LETTER * (max(map(len, names)) + 4) / letters_across(ax, "height"), MOST)
    foot = low - (high - low) * room / (1 - room)
    at = data["centroid"].values[order]
    places = left + (right - left) * spread((at - left) / (right - left), APART / letters_across(ax))
    for name, x, place in zip(names, at, places, strict=True):
        down = [low - 0.25 * (low - foot), low, high]
        ax.plot([place, x, x], down, color=QUIET, linewidth=0.5, linestyle="-", marker="", alpha=0.4, zorder=0.5)
        under = {"rotation": 90, "ha": "center", "va": "top", "fontsize": SMALL, "color": QUIET}
        ax.text(place, low - 0.3 * (low - foot), plain(name), **under)
    ax.set(xlim=(left, right), ylim=(foot, high), yticks=ticks)
    ax.grid(visible=False, axis="x")


def spread(places: np.ndarray, least: float) -> np.ndarray:
    """Sorted places in [0, 1], moved for neighbours to be `least` apart, and to stay inside if they fit."""
    steps = least * np.arange(len(places))
    right = np.maximum.accumulate(places - steps) + steps
    left = np.minimum.accumulate((places - steps)[::-1])[::-1] + steps
    moved = (left + right) / 2
    return np.clip(moved, steps + least / 2, 1 - least / 2 - steps[::-1])
