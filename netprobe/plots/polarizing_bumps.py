"""The regularisers of the polarizing front end over its quantiser."""

from __future__ import annotations

import xarray as xr
from matplotlib.axes import Axes

from netprobe.plots.drawing import QUIET, canvas, heading, look, styled
from netprobe.plots.reading import variable

CURVES = (("first_bump", "B₁, stage 1"), ("second_bump", "B₂, stage 2"), ("smooth", "smooth backward pass"))


@styled
def plot_polarizing_bumps(results: xr.Dataset, *, ax: Axes | None = None) -> Axes:
    """What pushes filter outputs away in the two regularised stages, over the quantiser that comes after them.

    Parameters
    ----------
    results : what `npb.quantiser_curves` returns
    ax : where to draw; None makes a figure

    References
    ----------
    Bakiskan (2022), dissertation, Figs. 4.3 and 4.5.
    """
    ax = canvas(ax)
    z = variable(results, "z").values
    handles = ax.plot(
        z, variable(results, "quantised").values, color=QUIET, marker="", linestyle="-", label="quantiser q(z)"
    )
    for number, (name, label) in enumerate(CURVES):
        style = look(number) | {"marker": ""}
        handles += ax.plot(z, variable(results, name).values, label=label, **style)
    ax.set(xlabel="Filter output z", ylabel="Value", xlim=(z[0], z[-1]))
    heading(ax, f"Regularisers over the quantiser, c = {results.attrs['threshold']:.3g}", handles)
    return ax
