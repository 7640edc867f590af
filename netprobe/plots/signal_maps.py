"""An image and what a perturbation changes, in the layers of a network."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from netprobe.plots.drawing import canvas, heading, plain, shorten, styled
from netprobe.plots.reading import spaced, variable
from netprobe.plots.tiles import GAP, pixels_of, tile

MAP, MOST = "magma", 6


@styled
def plot_signal_maps(results: xr.Dataset, *, sites: list[str] | None = None, ax: Axes | None = None) -> Axes:
    """A column a site: the norm over channels of the clean tensor, and below it that of its change, on one scale.

    The scale ends at the largest number of the column, so that the two tell how much of the signal is changed; above
    is the signal-to-noise ratio of the image. The first column is the image itself, clean and perturbed.

    Parameters
    ----------
    results : what `npb.signal_maps` returns
    sites : their names; None draws six, evenly spaced
    ax : where to draw; None makes a figure

    Returns the Axes that holds the grid: tile (row, column) covers the unit square at that place.

    References
    ----------
    Bakiskan (2022), dissertation, Fig. 5.5, a drawing there.
    """
    variable(results, "change")
    chosen = spaced(results, sites, MOST)
    ax = canvas(ax, height=3.2, width=1.5 + 0.95 * (1 + len(chosen)))
    for row, name in enumerate(("picture", "perturbed")):
        pixels = pixels_of(results[name].transpose("y", "x", "channel").values)
        tile(ax, row, 0, pixels, cmap="gray", vmin=0, vmax=1)
    box = {"facecolor": "white", "alpha": 0.8, "pad": 1, "linewidth": 0}
    ax.text(2 * GAP, 1 + 2 * GAP, "perturbed", va="top", fontsize="small", bbox=box)
    for column, site in enumerate(chosen, start=1):
        here = results.sel(site=site)
        most = max(float(here["signal"].max()), float(here["change"].max())) or 1.0
        for row, name in enumerate(("signal", "change")):
            tile(ax, row, column, here[name].values / most, cmap=MAP, vmin=0, vmax=1)
    _label(ax, ["image", *(f"{plain(shorten(site, 12))}\n{_decibels(results, site)}" for site in chosen)])
    heading(ax, "An image and its change in the layers: norms over channels")
    _colour_bar(ax)
    ax.get_figure(root=True).draw_without_rendering()  # tiles are square whatever the labels need
    return ax


def _decibels(results: xr.Dataset, site: str) -> str:
    found = float(results["snr_db"].sel(site=site))
    return f"{found:.1f} dB" if np.isfinite(found) else "no change"


def _label(ax: Axes, columns: list[str]) -> None:
    ax.set(xlim=(0, len(columns)), ylim=(2, 0), aspect="equal")
    ax.set_yticks((0.5, 1.5), ["clean", "change"])
    ax.set_xticks(np.arange(len(columns)) + 0.5, columns)
    ax.xaxis.tick_top()
    ax.tick_params(length=0, labelsize=8)
    ax.grid(False)
    ax.spines[:].set_visible(False)


def _colour_bar(ax: Axes) -> None:
    scale = ScalarMappable(Normalize(0, 1), MAP)
    bar = ax.figure.colorbar(scale, ax=ax, location="bottom", shrink=0.6, aspect=40, pad=0.04, ticks=[0, 0.5, 1])
    bar.set_label("of the largest in the column")
    bar.outline.set_visible(False)
