"""The lateral weights of a self-consistent layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from netprobe.plots.drawing import canvas, heading, styled
from netprobe.plots.panels import panel_canvas, panels
from netprobe.plots.reading import Measured, label, measured

MAP = "PuOr_r"
"""Diverging, and told apart by the colour-blind; white is 0."""
EXTREME = 0.999
"""The scale reaches to this quantile of |C|: single large weights would leave the rest white."""


@styled
def plot_lateral_map(
    results: xr.DataTree | xr.Dataset | Mapping[str, xr.Dataset],
    *,
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """C with its diagonal of zeros, a panel a model, on one scale of colours that is centred on 0.

    Row i holds the weights by which the other units predict unit i. The few weights beyond the scale have the colour of
    its end.

    Parameters
    ----------
    results : what `npb.lateral_map` returns, of one model or of several by name
    models, ax : as for `plot_psr`

    Returns the Axes that holds the panels, its `child_axes`.
    """
    every = measured(results, "lateral", models)
    sizes = np.concatenate([np.abs(entry.data["weight"].values).ravel() for entry in every])
    known = sizes[np.isfinite(sizes)]
    reach = (float(np.quantile(known, EXTREME)) if known.size else 0.0) or 1.0
    ax = panel_canvas(
        canvas(ax, height=5.2 if len(every) == 1 else 3.8), len(every), "Unit that predicts", "Unit predicted"
    )
    for entry, panel in zip(every, panels(ax, [entry.model for entry in every]), strict=True):
        _draw(panel, entry, reach)
    bar = ax.figure.colorbar(
        ScalarMappable(Normalize(-reach, reach), MAP), ax=ax, location="bottom", shrink=0.6, aspect=40, pad=0.02
    )
    bar.set_label(label(every[0].data["weight"]))
    bar.outline.set_visible(False)
    shown, there = every[0].data.sizes["unit"], int(every[0].data.attrs.get("units", every[0].data.sizes["unit"]))
    few = "" if shown == there else f", {shown} of {there} units"
    heading(ax, f"Lateral weights{few}")
    return ax


def _draw(panel: Axes, entry: Measured, reach: float) -> None:
    weights = entry.data["weight"].transpose("unit", "other").values
    panel.imshow(weights, cmap=MAP, vmin=-reach, vmax=reach, aspect="equal", interpolation="nearest")
    units = entry.data["unit"].values
    ends = [0, len(units) - 1] if len(units) > 1 else [0]
    panel.set_xticks(ends, [str(units[k]) for k in ends])
    panel.set_yticks(ends, [str(units[k]) for k in ends])
    panel.grid(False)
