"""How like the pixels, or another matrix, each layer makes images similar to each other."""

from __future__ import annotations

from collections.abc import Iterable

import xarray as xr
from matplotlib.axes import Axes

from netprobe.errors import unknown
from netprobe.plots.drawing import site_curves, styled
from netprobe.plots.reading import describe, measured, pick, select

METHODS = ("pearson", "spearman")


@styled
def plot_rsa(
    results: xr.DataTree | xr.Dataset,
    *,
    other: str | None = None,
    method: str = "spearman",
    condition: str = "clean",
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Correlation of each site's similarity matrix with that of `other`, with a 95 % band for each model.

    1: the same pairs of images are similar at the site and in `other`; 0: unrelated.

    Parameters
    ----------
    results : what `npb.rsa` returns, or the Dataset of one model
    other : "pixels", a reference, or a whole name such as "robust/clean/layer1"; None takes the first
    method : "pearson" or "spearman"
    condition : under which the networks saw the images
    models, ax : as for `plot_psr`

    Returns the Axes.
    """
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    every = select(measured(results, "rsa", models), condition=condition)
    name = str(every[0].data["other"].values[0]) if other is None else other
    chosen = [entry._replace(data=pick(entry.data, other=name)) for entry in every]
    shown = describe(every[0].data, "condition") or condition
    ax = site_curves(chosen, method, f"Similarity of images at each site and in {name}, {shown}", ax, at_zero="0")
    return ax
