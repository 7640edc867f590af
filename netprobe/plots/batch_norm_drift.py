"""How far the running statistics of batch norm are from those of data."""

from __future__ import annotations

from collections.abc import Iterable

import xarray as xr
from matplotlib.axes import Axes

from netprobe.errors import unknown
from netprobe.plots.drawing import site_curves, styled
from netprobe.plots.reading import DRAWN, describe, measured, select


@styled
def plot_batch_norm_drift(
    results: xr.DataTree | xr.Dataset,
    *,
    quantity: str = "mean_shift",
    condition: str = "clean",
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Drift of the statistics of the data from the running ones, at each batch-norm layer, with a 95 % band.

    0 means that the data look to the layer as what it was trained on did. Parameters as for `plot_batch_norm`, and

    Parameters
    ----------
    quantity : "mean_shift", in running standard deviations; "log_variance_ratio"; or "symmetric_kl", in nats
    condition : "clean" or a perturbation

    Returns the Axes.
    """
    if quantity not in DRAWN["batch_norm_drift"]:
        raise unknown("quantity", quantity, DRAWN["batch_norm_drift"])
    every = select(measured(results, "batch_norm_drift", models), condition=condition)
    ax = site_curves(every, quantity, f"Drift of batch norm, {describe(every[0].data, 'condition')}", ax)
    ax.set_ylim(bottom=0)
    return ax
