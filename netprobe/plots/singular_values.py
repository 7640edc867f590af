"""Singular values of the convolutions as the operators they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from netprobe.plots.drawing import finite, heading, look, plain, styled
from netprobe.plots.panels import chosen_layers, of_all, panel_canvas, panels
from netprobe.plots.reading import Measured, measured, places, require_same_sites


@styled
def plot_singular_values(
    results: xr.DataTree | xr.Dataset,
    *,
    layers: Iterable[str] | None = None,
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Singular values divided by the largest against their relative index, one panel a layer, the models overlaid.

    Relative index 0 is the largest value and 1 the smallest, so that layers of any size share an axis. A line that
    stays high is a fat tail: the layer passes on many directions nearly alike. All panels have the same axes.

    Parameters
    ----------
    results : what `npb.weights.analyse` or `npb.weights.conv_spectrum` returns
    layers : their names; None draws the first two, the middle two and the last two convolutions
    models, ax : as for `plot_psr`; the models must share their layers

    Returns the Axes, whose `child_axes` are the panels.

    References
    ----------
    Bakiskan (2022), dissertation, Figs. 3.20 and 3.21; Sedghi, Gupta and Long, ICLR 2019.
    """
    every = measured(results, "singular_values", models)
    require_same_sites(every, "panels")
    drawn = chosen_layers(every, six_layers(every) if layers is None else layers)
    ax = panel_canvas(ax, len(drawn), "Relative index", "Singular value / largest")
    for name, panel in zip(drawn, panels(ax, drawn), strict=True):
        for entry in every:
            _line(panel, entry, name)
        panel.set(xlim=(0, 1), ylim=(0, 1.04), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    handles = [Line2D([], [], label=plain(entry.model), **_look(entry)) for entry in every]
    heading(ax, f"Normalised singular values{paddings(every)}{of_all(drawn, every)}", handles)
    return ax


def six_layers(every: Sequence[Measured]) -> list[str]:
    """The first two, the middle two and the last two convolutions with a spectrum; linear layers if there are none."""
    data = every[0].data
    known = np.isfinite(data["normalized"]).any("level").values
    is_conv = np.array(["Conv" in str(kind) for kind in data["kind"].values]) if "kind" in data.coords else known
    names = places(data)[known & is_conv] if (known & is_conv).any() else places(data)
    n = len(names)
    six = {0, 1, max(n // 2 - 1, 0), n // 2, n - 2, n - 1} if n > 6 else set(range(n))
    return [str(names[k]) for k in sorted(six)]


def paddings(every: Sequence[Measured]) -> str:
    """What the operators were taken to do at the borders: ", zero padding"; nothing if the results do not tell."""
    known = [str(name) for entry in every if "padding" in entry.data for name in entry.data["padding"].values]
    names = [name for name in dict.fromkeys(known) if name]
    return f", {' and '.join(names)} padding" if names else ""


def _look(entry: Measured) -> dict[str, object]:
    return look(entry.index) | {"marker": ""}


def _line(panel: Axes, entry: Measured, name: str) -> None:
    data = entry.data.sel(layer=name)
    panel.plot(data["level"].values, finite(data["normalized"].values), label=plain(entry.model), **_look(entry))
