"""What the units of a locally learnt layer have learnt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from netprobe.plots.dictionary_atoms import mosaic
from netprobe.plots.drawing import canvas, heading, styled
from netprobe.plots.panels import panel_canvas, panels
from netprobe.plots.reading import measured

PICTURE = 3.2  # inches, the height of a panel


@styled
def plot_prototypes(
    results: xr.DataTree | xr.Dataset | Mapping[str, xr.Dataset],
    *,
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Weights of some units as pictures, each from its least to its largest: before pruning, and of those kept.

    Parameters
    ----------
    results : what `npb.prototypes` returns, of one model or of several by name
    models, ax : as for `plot_psr`

    Returns the Axes, whose `child_axes` are the panels, two a model.
    """
    every = measured(results, "prototypes", models)
    shown = [(entry, stage) for entry in every for stage in ("before", "after")]
    names = [f"{entry.model}, {stage}" if len(every) > 1 else f"{stage} pruning" for entry, stage in shown]
    ax = panel_canvas(canvas(ax, height=0.8 + PICTURE * len(every)), len(shown), "", "")
    for (entry, stage), panel in zip(shown, panels(ax, names), strict=True):
        weights = entry.data["weight"].sel(stage=stage).transpose("place", "row", "column", "channel").values
        there = weights[np.isfinite(weights).all((1, 2, 3))]
        if len(there):
            panel.imshow(mosaic(there), interpolation="nearest", cmap="gray", vmin=0, vmax=1)
        panel.set(xticks=[], yticks=[])
        panel.grid(False)
        panel.spines[:].set_visible(False)
    shares = ", ".join(f"{100 * float(entry.data.attrs['pruned']):.1f} %" for entry in every)
    heading(ax, f"Prototypes, {shares} of the units pruned")
    return ax
