"""How much each layer can stretch its input."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from netprobe.plots.drawing import INK, canvas, finite, heading, look, plain, site_axis, styled
from netprobe.plots.reading import Measured, label, measured
from netprobe.plots.singular_values import paddings


@styled
def plot_operator_norm(
    results: xr.DataTree | xr.Dataset, *, models: Iterable[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Largest singular value of each layer on a logarithmic axis, with the product of all layers in the legend.

    A whisker reaches up to the certified upper bound where the method leaves a gap. The dash is the usual stand-in,
    sqrt(kh kw) times the spectral norm of the kernel reshaped to a matrix: a bound, and not the norm. The product is
    the Lipschitz bound of the linear layers of a chain; it says nothing of batch norm or of sums with shortcuts.

    Parameters as for `plot_singular_values`; layers that differ between models are drawn by relative depth. Returns
    the Axes.
    """
    every = measured(results, "singular_values", models)
    ax = canvas(ax)
    places = site_axis(ax, every)
    handles = [_model(ax, x, entry) for x, entry in zip(places, every, strict=True)]
    ax.set(yscale="log", ylabel=label(every[0].data["operator_norm"]))
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.yaxis.set_minor_formatter(lambda value, _: "")
    dash = Line2D([], [], color=INK, linestyle="none", marker="_", markersize=9, label="bound of the reshaped kernel")
    bounded = any("kernel_bound" in entry.data for entry in every)
    heading(ax, f"Operator norm of each layer{paddings(every)}", handles + [dash] * bounded)
    return ax


def _model(ax: Axes, x: np.ndarray, entry: Measured) -> Artist:
    """Draw the norms of one model with their bounds; returns the line for the legend."""
    style, data = look(entry.index), entry.data
    norm = _positive(data["operator_norm"])
    if "operator_norm_upper" in data:
        ax.vlines(x, norm, _positive(data["operator_norm_upper"]), color=style["color"], linewidth=2.5, alpha=0.5)
    if "kernel_bound" in data:
        bound = _positive(data["kernel_bound"])
        ax.plot(x, bound, color=style["color"], linestyle="none", marker="_", markersize=9, alpha=0.8)
    return ax.plot(x, norm, label=plain(": ".join(filter(None, (entry.model, product(data))))), **style)[0]


def product(data: xr.Dataset) -> str:
    """The product over layers in words; nothing where it is unknown."""
    if "log10_norm_product" not in data or not np.isfinite(exponent := float(data["log10_norm_product"])):
        return ""
    return f"product {10**exponent:.3g}" if abs(exponent) < 4 else f"product 10^{exponent:.1f}"


def _positive(array: xr.DataArray) -> np.ndarray:
    """What a logarithmic axis can show; NaN for the rest."""
    return np.where(array.values > 0, finite(array.values), np.nan)
