"""How the units to prune were told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from netprobe.plots.drawing import QUIET, canvas, heading, log_ticks, look, styled
from netprobe.plots.panels import panel_canvas, panels
from netprobe.plots.reading import label, measured

BINS = 60
PRUNED = "#cf222e"


@styled
def plot_pruning(
    results: xr.DataTree | xr.Dataset | Mapping[str, xr.Dataset],
    *,
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Histogram of the variances of the units' weights, pruned units in red, with the cutoff; a panel a model.

    Parameters
    ----------
    results : what `npb.prototypes` returns, of one model or of several by name
    models, ax : as for `plot_psr`

    Returns the Axes, whose `child_axes` are the panels.
    """
    every = measured(results, "prototypes", models)
    variances = [entry.data["variance"].values for entry in every]
    edges = _edges(np.concatenate(variances))
    name = label(every[0].data["variance"])
    ax = panel_canvas(canvas(ax, height=3.6), len(every), name, "Units")
    for entry, values, panel in zip(every, variances, panels(ax, [entry.model for entry in every]), strict=True):
        kept = entry.data["kept"].values.astype(bool)
        colors = [look(entry.index)["color"], PRUNED]
        panel.hist([values[kept], values[~kept]], edges, stacked=True, color=colors, linewidth=0)
        if np.isfinite(cutoff := float(entry.data.attrs["cutoff"])) and edges[0] <= cutoff <= edges[-1]:
            panel.axvline(cutoff, color=QUIET, linestyle="--", marker="", linewidth=1)
        panel.set(xscale="log", xlim=edges[[0, -1]])
        log_ticks(panel.xaxis, *edges[[0, -1]])
    shares = ", ".join(f"{100 * float(entry.data.attrs['pruned']):.1f} %" for entry in every)
    line = Line2D([], [], color=QUIET, linestyle="--", marker="", label="cutoff")
    heading(ax, "Pruning by the variance of weights", [Patch(color=PRUNED, label=f"pruned: {shares}"), line])
    return ax


def _edges(values: np.ndarray) -> np.ndarray:
    """Of bins that are as wide on a logarithmic axis, and hold whatever there is."""
    known = values[np.isfinite(values)]
    high = known.max(initial=1e-30)
    return np.geomspace(max(known.min(initial=high), high * 1e-6) / 1.05, high * 1.05, BINS + 1)
