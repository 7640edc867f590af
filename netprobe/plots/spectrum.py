"""Eigenspectrum of a representation's covariance with its power law."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from netprobe.plots.drawing import INK, canvas, heading, look, plain, power_ticks, styled
from netprobe.plots.reading import Measured, describe, interval, label, measured, pick


@styled
def plot_spectrum(
    results: xr.DataTree | xr.Dataset,
    *,
    site: str | None = None,
    definition: str = "channel",
    condition: str = "clean",
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Eigenvalues of the covariance over images against their rank, both logarithmic, divided by the first.

    The dark line is the least-squares fit, over the fitted ranks only; the legend gives its exponent α
    (eigenvalue proportional to rank^-α) with the 95 % interval. The band spans the slopes found over other
    ranges of ranks, through the middle of the fit. Eigenvalues beyond the numerical rank are round-off and
    not drawn.

    Parameters
    ----------
    results : what `npb.probe` returns with the metric "spectrum", or the Dataset of one model's "spectrum"
    site : its name; None takes each model's site with the most ranks fitted
    definition : "channel", "pooled" or "unit": what counts as a variable
    condition : "clean" or a perturbation
    models, ax : as for `plot_psr`

    Returns the Axes.
    """
    every = [_at(entry, definition, condition, site) for entry in measured(results, "spectrum", models)]
    ax = canvas(ax, height=4.2)
    handles = [_eigenvalues(ax, entry) for entry in every]
    ax.set(
        xscale="log", yscale="log", xlabel="Rank", ylabel=f"{label(every[0].data['eigenvalues'], unit=False)} / first"
    )
    for axis in (ax.xaxis, ax.yaxis):
        power_ticks(axis)
    heading(ax, f"{_sites(every)}, {definition} spectrum, {describe(every[0].data, 'condition')}", handles)
    return ax


def widest_fit(data: xr.Dataset) -> str:
    """The site whose exponent rests on the most ranks, of several the last; the last of all if none is defined.

    A power law over the ten eigenvalues of ten logits says nothing, so the last layer is rarely the one to look at.
    """
    ranks = np.where(np.isfinite(data["alpha"]), data["fit_last"] - data["fit_first"], -1).reshape(-1)
    return str(data["site"].values[np.flatnonzero(ranks == ranks.max())[-1]])


def _at(entry: Measured, definition: str, condition: str, site: str | None) -> Measured:
    data = pick(entry.data, definition=definition, condition=condition)
    return entry._replace(data=pick(data, site=site or widest_fit(data)) if "site" in data.dims else data)


def _sites(every: Iterable[Measured]) -> str:
    return ", ".join(dict.fromkeys(str(entry.data["site"].item()) for entry in every))


def _eigenvalues(ax: Axes, entry: Measured) -> Artist:
    """Draw one model's eigenvalues, with the fit if there is one; returns the points for the legend."""
    ranks, values = _resolved(entry.data)
    first = values[0] if values.size else np.nan
    style = look(entry.index) | {"linestyle": "none", "markersize": 3, "alpha": 0.75}
    named = plain(": ".join(filter(None, (entry.model, exponent(entry.data)))))
    points = ax.plot(ranks, values / first, label=named, **style)[0]
    if np.isfinite(entry.data["alpha"]) and np.isfinite(first):
        _fit(ax, entry, first)
    return points


def _fit(ax: Axes, entry: Measured, first: float) -> None:
    """Draw the power law over the ranks fitted, and the band of its slopes."""
    data, style = entry.data, look(entry.index)
    alpha, start, stop = (float(data[name]) for name in ("alpha", "fit_first", "fit_last"))
    ranks = np.geomspace(start, stop, 50)
    fit = 10 ** float(data["log_prefactor"]) / first * ranks**-alpha
    ax.plot(ranks, fit, color=INK, linewidth=1.2, linestyle=style["linestyle"], marker="", zorder=3)
    if "alpha_band" in data:
        # The slopes turn about the geometric middle of the fit.
        turn = ranks / np.sqrt(start * stop)
        low, high = (fit * turn ** (alpha - bound) for bound in data["alpha_band"].values)
        ax.fill_between(ranks, low, high, color=style["color"], alpha=0.2)


def _resolved(data: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Ranks and eigenvalues down to the numerical rank, positive and finite."""
    ranks, values = data["rank"].values, data["eigenvalues"].values
    last = np.nan_to_num(data["rank_numeric"].item(), nan=np.inf) if "rank_numeric" in data else np.inf
    kept = np.isfinite(values) & (values > 0) & (ranks <= last)
    return ranks[kept], values[kept]


def exponent(data: xr.Dataset) -> str:
    """The exponent with its interval, in words for a legend."""
    alpha, (low, high) = float(data["alpha"]), map(float, interval(data, "alpha"))
    if not np.isfinite(alpha):
        return "no power-law fit"
    return f"α = {alpha:.2f}" + (f" [{low:.2f}, {high:.2f}]" if np.isfinite([low, high]).all() else "")
