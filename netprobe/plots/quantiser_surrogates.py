"""A quantiser and what attacks take for it."""

from __future__ import annotations

import xarray as xr
from matplotlib.axes import Axes

from netprobe.plots.drawing import QUIET, canvas, heading, look, styled
from netprobe.plots.reading import variable


@styled
def plot_quantiser_surrogates(results: xr.Dataset, *, ax: Axes | None = None) -> Axes:
    """The quantiser of the sparse code and its smooth surrogates, a line for each sharpness k.

    Parameters
    ----------
    results : what `npb.surrogate_curves` returns
    ax : where to draw; None makes a figure

    References
    ----------
    Bakiskan (2022), dissertation, Fig. B.2.
    """
    curves, exact = variable(results, "smooth"), variable(results, "quantised").values
    ax, r = canvas(ax), curves["r"].values
    handles = ax.plot(r, exact, color=QUIET, linewidth=2, linestyle="-", marker="", label="quantiser f(r)")
    for number, k in enumerate(curves["sharpness"].values):
        style = look(number) | {"marker": ""}
        handles += ax.plot(r, curves.sel(sharpness=k).values, label=f"smooth, k = {k:g}", **style)
    ax.set(
        xlabel="Coefficient in units of its level, r = a / ‖d‖₁", ylabel="Value", xlim=(r[0], r[-1]), ylim=(-1.1, 1.1)
    )
    heading(ax, f"The quantiser and its backward passes, j = {results.attrs['threshold']:.3g}", handles)
    return ax
