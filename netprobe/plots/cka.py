"""Similarity of clean and perturbed representations along the network."""

from __future__ import annotations

from collections.abc import Iterable

import xarray as xr
from matplotlib.axes import Axes

from netprobe.plots.drawing import site_curves, styled
from netprobe.plots.reading import describe, perturbed


@styled
def plot_cka(
    results: xr.DataTree | xr.Dataset,
    *,
    perturbation: str | None = None,
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Linear CKA of clean and perturbed activations against the site, with a 95 % band for each model.

    1: the perturbed representation is the clean one up to rotation and scale; 0: they share no linear
    structure. Parameters as for `plot_psr`, of the metric "cka". Returns the Axes.
    """
    every = perturbed(results, "cka", models, perturbation)
    ax = site_curves(every, "cka", describe(every[0].data), ax)
    ax.set_ylim(0, 1.05)
    return ax
