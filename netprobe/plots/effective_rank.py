"""How many directions each layer uses."""

from __future__ import annotations

from collections.abc import Iterable

import xarray as xr
from matplotlib.axes import Axes

from netprobe.plots.drawing import site_curves, styled
from netprobe.plots.reading import Measured, measured


@styled
def plot_effective_rank(
    results: xr.DataTree | xr.Dataset, *, models: Iterable[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Effective rank of each layer as a share of its number of singular values; 1 when all values are equal.

    exp of the entropy of the singular values divided by their sum (Roy and Vetterli 2007). Parameters as for
    `plot_operator_norm`. Returns the Axes.
    """
    every = [_share(entry) for entry in measured(results, "singular_values", models)]
    ax = site_curves(every, "share", "Effective rank", ax)
    ax.set_ylim(0, 1.04)
    return ax


def _share(entry: Measured) -> Measured:
    share = (entry.data["effective_rank"] / entry.data["count"]).assign_attrs(
        long_name="effective rank / number of singular values", units="1"
    )
    return entry._replace(data=entry.data.assign(share=share))
