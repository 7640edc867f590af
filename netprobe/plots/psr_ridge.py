"""Distribution over images of the perturbation-to-signal ratio, one ridge for each site."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from netprobe.errors import NetprobeError
from netprobe.plots.drawing import canvas, heading, look, name_ticks, norm_name, percent, plain, styled
from netprobe.plots.reading import (
    Measured,
    describe,
    label,
    perturbed,
    require_same_sites,
    variable,
)

BINS = 100
OVERLAP = 1.6  # height of a ridge in units of the distance between two


@styled
def plot_psr_ridge(
    results: xr.DataTree | xr.Dataset,
    *,
    perturbation: str | None = None,
    norm: str = "2",
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Joy plot of the per-image perturbation-to-signal ratio, depth downwards, the models overlaid.

    The axis runs from 0 to 1.1 times the largest 95th percentile of any site and model, in 100 bins; its
    label says which share of all values lies beyond. Every ridge is a density divided by its own maximum:
    shapes and places compare, heights do not. Sites where the ratio is undefined (NaN) stay empty.

    Parameters as for `plot_psr`; models must share their sites, choose with `models` where they do not.
    Returns the Axes.

    References
    ----------
    Bakiskan (2022), dissertation, Fig. 3.12. There, unlike here, perturbed images are cut to 8 bits first.
    """
    every = perturbed(results, "psr", models, perturbation, norm=norm)
    require_same_sites(every, "ridges")
    edges, beyond = _bins([_per_image(entry) for entry in every])

    sites = every[0].data["site"].values
    ax = canvas(ax, height=1.3 + max(0.26 * len(sites), 1.8))
    handles = [_ridges(ax, entry, edges) for entry in every]
    name_ticks(ax.yaxis, sites)
    ax.set(xlim=(0, edges[-1]), ylim=(len(sites) - 0.5, -OVERLAP - 0.1))
    ax.set_xlabel(f"{label(every[0].data['psr'])}\n{percent(beyond, 1)} of the values lie beyond the axis")
    heading(ax, f"{describe(every[0].data)}, {norm_name(norm)}", handles)
    return ax


def _per_image(entry: Measured) -> np.ndarray:
    return variable(entry.data, "psr").transpose("site", "image").values


def _bins(values: Sequence[np.ndarray]) -> tuple[np.ndarray, float]:
    """The edges of the bins, and the share of values beyond the last."""
    known = [site[np.isfinite(site)] for model in values for site in model]
    known = [site for site in known if site.size]
    if not known:
        raise NetprobeError("the perturbation-to-signal ratio is undefined at every site: there is nothing to draw")
    end = 1.1 * max(np.quantile(site, 0.95) for site in known) or 1.0
    return np.linspace(0, end, BINS + 1), float(np.mean(np.concatenate(known) > end))


def _ridges(ax: Axes, entry: Measured, edges: np.ndarray) -> Artist:
    """Draw the ridges of one model; returns a patch for the legend."""
    colour = look(entry.index)["color"]
    for place, values in enumerate(_per_image(entry)):
        x, height = _ridge(values[np.isfinite(values)], edges)
        top, front = place - OVERLAP * height, {"color": colour, "zorder": 2 + place}
        # Ridges further down lie in front, so that each keeps its foot.
        ax.fill_between(x, top, place, alpha=0.45, **front)
        ax.plot(x, top, linewidth=0.8, linestyle="-", marker="", **front)
    return Patch(color=colour, alpha=0.6, label=plain(entry.model))


def _ridge(values: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The outline of a histogram from its first to its last value, the largest bin 1."""
    counts = np.histogram(values, edges)[0]
    if not counts.any():
        return np.empty(0), np.empty(0)
    occupied = np.flatnonzero(counts)
    span = slice(max(occupied[0] - 1, 0), occupied[-1] + 2)
    return ((edges[1:] + edges[:-1]) / 2)[span], counts[span] / counts.max()
