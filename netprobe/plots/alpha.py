"""Power-law exponent of the eigenspectrum along the network."""

from __future__ import annotations

from collections.abc import Iterable

import xarray as xr
from matplotlib.axes import Axes

from netprobe.plots.drawing import site_curves, styled
from netprobe.plots.reading import describe, measured, select


@styled
def plot_alpha(
    results: xr.DataTree | xr.Dataset,
    *,
    definition: str = "channel",
    condition: str = "clean",
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Exponent α of the eigenspectrum against the site, with the 95 % interval of its least-squares fit.

    Larger α: variance falls off faster with rank, the representation uses fewer dimensions. Sites without a
    fit leave a gap. Parameters as for `plot_spectrum`. Returns the Axes.
    """
    every = select(measured(results, "spectrum", models), definition=definition, condition=condition)
    return site_curves(every, "alpha", f"{definition} spectrum, {describe(every[0].data, 'condition')}", ax)
