"""Eigenspectra of layers under images and noise, shaded by the number of units."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from netprobe.plots.drawing import INK, QUIET, heading, log_ticks, look, plain, styled
from netprobe.plots.panels import panel_canvas, panels
from netprobe.plots.reading import Measured, interval, measured, pick

LOWEST = 1e-7
"""Of the first eigenvalue, down to where is drawn."""

LINE = {"linewidth": 1, "linestyle": "-", "marker": ""}


@styled
def plot_unit_spectra(
    results: xr.DataTree | xr.Dataset,
    *,
    site: str | None = None,
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Eigenvalues over the first against their rank, of the first so many units: the darkest line is all of them.

    A panel for each model, under images and under white noise beside each other, and first those of what goes in. The
    dark dashes are the fit, over the ranks fitted alone; α is in the title: without finite-sample bias and with its
    interval if that was computed, else the regression's with a ~. What noise shows is the layer alone; what an
    untrained network shows of images is inherited from them.

    Parameters
    ----------
    results : what `npb.unit_spectra` returns, of one model or of several by name
    site : a layer; None takes the first one that is not the input
    models, ax : as for `plot_psr`

    Returns the Axes that holds the panels, its `child_axes`.
    """
    every = measured(results, "units", models)
    shown = [(None, pick(every[0].data, site="input"))] if site != "input" else []
    shown += [(entry, pick(entry.data, site=site or _first(entry))) for entry in every]
    kinds = list(map(str, every[0].data["inputs"].values))
    cells = [(entry, pick(data, inputs=kind), kind) for entry, data in shown for kind in kinds]
    names = [f"{entry.model if entry else 'input'} {kind}".strip() for entry, _, kind in cells]
    across = len(kinds) * (2 if len(shown) % 2 == 0 else 1)  # kinds of one model stay beside each other
    ax = panel_canvas(ax, 3 * len(cells) // 2, "Rank", "Eigenvalue / first", across)
    for panel, (entry, data, _) in zip(panels(ax, names, across), cells, strict=True):
        _draw(panel, data, look(entry.index)["color"] if entry else QUIET)
        panel.text(0.05, 0.06, _exponent(data), transform=panel.transAxes, fontsize=8)
    named = ", ".join(dict.fromkeys(str(data["site"].values) for entry, data in shown if entry))
    keys = [Line2D([], [], color=look(e.index)["color"], label=plain(e.model), marker="") for e in every if e.model]
    heading(ax, f"Spectra of {named}, darker with more units{_bound(every[0].data)}", keys)
    return ax


def _bound(data: xr.Dataset) -> str:
    """The exponent above which a code is smooth, if the dimension of the data is known."""
    if "alpha_bound" not in data:
        return ""
    estimator = str(data["estimator"].values[-1])
    return f"; smooth codes have α > 1 + 2/d = {float(data['alpha_bound'][-1]):.2f} (d by {estimator})"


def _first(entry: Measured) -> str:
    names = [str(name) for name in entry.data["site"].values if str(name) != "input"]
    return names[0] if names else "input"


def _draw(panel: Axes, data: xr.Dataset, color: str) -> None:
    counts = data.sizes["count"]
    for number in range(counts):
        here = data.isel(count=number)
        values = here["eigenvalues"].values
        if not values.size or not values[0] > 0:
            continue
        share = values / values[0]
        kept = np.flatnonzero(np.isfinite(share) & (share > LOWEST))
        panel.plot(kept + 1, share[kept], color=color, alpha=0.25 + 0.75 * (number + 1) / counts, **LINE)
        if number == counts - 1 and np.isfinite(here["alpha"]):
            ranks = np.geomspace(float(here["fit_first"]), float(here["fit_last"]), 20)
            fit = 10 ** float(here["log_prefactor"]) / values[0] * ranks ** -float(here["alpha"])
            panel.plot(ranks, fit, color=INK, linestyle="--", marker="", linewidth=1.2)
    panel.set(xscale="log", yscale="log")
    for which in "xy":
        log_ticks(getattr(panel, f"{which}axis"), *getattr(panel, f"get_{which}lim")())


def _exponent(data: xr.Dataset) -> str:
    """α in words."""
    whole = data.isel(count=-1)
    if np.isfinite(whole["alpha_corrected"]):
        low, high = map(float, interval(whole, "alpha_corrected"))
        return f"α = {float(whole['alpha_corrected']):.2f} [{low:.2f}, {high:.2f}]"
    return f"α ~ {float(whole['alpha']):.2f}" if np.isfinite(whole["alpha"]) else ""
