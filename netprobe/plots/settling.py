"""Energies and residual over the steps of a self-consistent layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from netprobe.plots.drawing import log_ticks, styled
from netprobe.plots.reading import measured
from netprobe.plots.steps import step_panels

PANELS = {
    "energy": "energy E",
    "lateral": "lateral energy",
    "reconstruction": "λ · reconstruction",
    "residual": "relative residual",
}


@styled
def plot_settling(
    results: xr.DataTree | xr.Dataset | Mapping[str, xr.Dataset],
    *,
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """How the energies fall and the residual with them, a panel each, from s_0 past T; clean and perturbed.

    E cannot rise while the step size is safe; its parts can. Energies are on logarithmic axes. Bands are 95 % intervals
    over images.

    Parameters
    ----------
    results : what `npb.settling` returns, of one model or of several by name
    models, ax : as for `plot_psr`

    Returns the Axes, whose `child_axes` are the panels.
    """
    every = measured(results, "settling", models)
    ax, made = step_panels(every, PANELS, "How activations settle", "Mean over images", ax)
    for name, panel in zip(PANELS, made, strict=True):
        values = np.concatenate([entry.data[name].values.ravel() for entry in every])
        positive = values[np.isfinite(values) & (values > 0)]
        if name == "residual" or not positive.size:
            panel.set_ylim(bottom=0)
            continue
        low, high = positive.min() / 1.5, positive.max() * 1.5
        panel.set(yscale="log", ylim=(low, high))
        log_ticks(panel.yaxis, low, high)
    return ax
