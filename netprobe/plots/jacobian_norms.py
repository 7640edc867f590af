"""Norms of Jacobians along a network."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from netprobe.errors import unknown
from netprobe.plots.drawing import site_curves, styled
from netprobe.plots.reading import measured

QUANTITIES = ("frobenius", "operator")


@styled
def plot_jacobian_norms(
    results: xr.DataTree | xr.Dataset,
    *,
    quantity: str = "frobenius",
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """How far activations move with the input: mean norm of the Jacobian at each site, a line for each model.

    Bands are bootstrap 95 % intervals over images. The axis is logarithmic where that is possible.

    Parameters
    ----------
    results : what `npb.jacobian_norms` returns, of one model or of several by name
    quantity : "frobenius" or "operator"
    models, ax : as for `plot_psr`

    Returns the Axes.
    """
    if quantity not in QUANTITIES:
        raise unknown("quantity", quantity, QUANTITIES)
    every = measured(results, "jacobian", models)
    ax = site_curves(every, f"mean_{quantity}", f"Norm of the Jacobian, {quantity}", ax)
    values = np.concatenate([entry.data[f"mean_{quantity}"].values for entry in every])
    if (values[np.isfinite(values)] > 0).all() and np.isfinite(values).any():
        ax.set_yscale("log")
    ax.set_ylabel(
        f"Mean {'Frobenius' if quantity == 'frobenius' else 'operator'} norm ({every[0].data[quantity].attrs['units']})"
    )
    return ax
