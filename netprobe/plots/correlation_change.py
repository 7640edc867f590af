"""How far a perturbation moves single correlations between units."""

from __future__ import annotations

from collections.abc import Iterable

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from netprobe.plots.drawing import canvas, finite, heading, look, plain, styled
from netprobe.plots.reading import describe, label, perturbed, select, variable


@styled
def plot_correlation_change(
    results: xr.DataTree | xr.Dataset,
    *,
    perturbation: str | None = None,
    site: str | None = None,
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Empirical distribution of |rho_0 - rho_eps| over the pairs of units that vary in both, a line a model.

    The further to the left and up, the less has moved: at a height of 90 % one reads off how far the correlations of
    all but a tenth of the pairs have moved at most.

    Parameters
    ----------
    results : what `npb.probe` returns with the metric "correlation", or one model's Dataset of it
    perturbation : by name; None takes the largest eps of the first family
    site : where; None takes each model's last site
    models, ax : as for `plot_psr`

    Returns the Axes.

    References
    ----------
    Shah and Raj, arXiv 2308.03956.
    """
    every = perturbed(results, "correlation", models, perturbation)
    every = [entry for each in every for entry in select([each], site=site or str(each.data["site"].values[-1]))]
    ax, handles = canvas(ax), []
    for entry in every:
        change = variable(entry.data, "change")
        style = look(entry.index) | {"marker": ""}
        handles += ax.plot(finite(change.values), change["share"].values, label=plain(entry.model), **style)
    ax.set(xlim=(0, None), ylim=(0, 1.01), xlabel=label(every[0].data["change"]), ylabel="Pairs of units")
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    sites = ", ".join(dict.fromkeys(str(entry.data["site"].item()) for entry in every))
    heading(ax, f"Changes of correlations, {describe(every[0].data)}, {sites}", handles)
    return ax
