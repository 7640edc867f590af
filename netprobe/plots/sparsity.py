"""Sparsity of activations along the network."""

from __future__ import annotations

from collections.abc import Iterable

import xarray as xr
from matplotlib.axes import Axes

from netprobe.plots.drawing import site_curves, styled
from netprobe.plots.reading import describe, measured, select


@styled
def plot_sparsity(
    results: xr.DataTree | xr.Dataset,
    *,
    condition: str = "clean",
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Squared Hoyer ratio of the activations against the site, a line and a 95 % band for each model.

    H = ((||a||_1 / ||a||_2)^2 - 1) / (C - 1) across the C channels of a location, averaged over locations and
    images: 0 one active channel (sparse), 1 all alike (dense). Locations without any activity have no H.

    Parameters
    ----------
    results : what `npb.probe` returns with the metric "hoyer", or the Dataset of one model's "hoyer"
    condition : "clean" or a perturbation
    models, ax : as for `plot_psr`

    Returns the Axes.

    References
    ----------
    Hoyer (2004); Bakiskan (2022), dissertation, Fig. 5.4.
    """
    every = select(measured(results, "hoyer", models), condition=condition)
    ax = site_curves(every, "hoyer", describe(every[0].data, "condition"), ax)
    ax.set_ylim(bottom=0)
    return ax
