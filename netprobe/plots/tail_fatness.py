"""How fat the tail of the singular values is, layer by layer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import xarray as xr
from matplotlib.axes import Axes

from netprobe.plots.drawing import site_curves, styled
from netprobe.plots.reading import Measured, measured
from netprobe.weights.tail import paired_difference


@styled
def plot_tail_fatness(
    results: xr.DataTree | xr.Dataset, *, models: Iterable[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Median of the normalised singular values of each layer; with two models, their difference paired over layers.

    Larger: a fatter tail, half of all directions pass on at least so much of the largest gain. The heading gives the
    mean over the layers of the difference between the second and the first model with its 95 % interval, and Wilcoxon's
    p-value; layers of one network are no independent sample, so both say how consistent the layers are, no more.

    Parameters as for `plot_operator_norm`. Returns the Axes.
    """
    every = measured(results, "singular_values", models)
    ax = site_curves(every, "median_normalized", title(every), ax)
    ax.set_ylim(bottom=0)
    return ax


def title(every: Sequence[Measured]) -> str:
    """The paired comparison in words, if there are two models to compare."""
    if len(every) != 2:
        return "Tail of the singular values"
    first, second = every
    found = paired_difference(first.data["median_normalized"], second.data["median_normalized"])
    return f"Tail of the singular values, {second.model} − {first.model}: {found}"
