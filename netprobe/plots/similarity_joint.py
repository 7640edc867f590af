"""The similarity of pairs of images at a layer against that of a reference, such as their pixels."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from netprobe.plots.drawing import heading, styled
from netprobe.plots.panels import panel_canvas, panels
from netprobe.plots.reading import Measured, describe, label, measured, pick, select, spaced, variable

MAP = "magma_r"
MOST = 3
"""Sites of a model, if nobody names them."""


@styled
def plot_similarity_joint(
    results: xr.DataTree | xr.Dataset,
    *,
    reference: str | None = None,
    sites: Iterable[str] | None = None,
    condition: str = "clean",
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """How many pairs of images have which similarity at a site (upwards) and in the reference (to the right).

    A panel for each site, dark where there are many pairs, on a logarithmic scale; r is Pearson's correlation.

    Parameters
    ----------
    results : what `npb.rsa` returns, or the Dataset of one model
    reference : None takes the first, the pixels' if there are any
    sites : None takes the first, the middle and the last of each model
    condition : under which the networks saw the images
    models, ax : as for `plot_psr`

    Returns the Axes that holds the panels, its `child_axes`.
    """
    every = select(measured(results, "rsa", models), condition=condition)
    variable(every[0].data, "joint")  # absent where nothing but representations was compared
    name = str(every[0].data["reference"].values[0]) if reference is None else reference
    shown = [(entry, site) for entry in every for site in spaced(entry.data, sites, MOST)]
    ax = panel_canvas(ax, 2 * len(shown), f"Similarity in {name}", label(every[0].data["level_value"]))
    titles = [f"{entry.model} {site}" if len(every) > 1 else site for entry, site in shown]
    for panel, (entry, site) in zip(panels(ax, titles), shown, strict=True):
        _draw(panel, entry, site, name)
    who = ", ".join(entry.model for entry in every if entry.model)
    text = f"Pairs of images, {describe(every[0].data, 'condition') or condition}" + (f": {who}" if who else "")
    heading(ax, text)
    return ax


def _draw(panel: Axes, entry: Measured, site: str, reference: str) -> None:
    data = pick(entry.data, site=site, reference=reference, other=reference)
    x, y = data["reference_level_value"].values, data["level_value"].values
    counts = data["joint"].transpose("level", "reference_level").values.astype(float)
    r = float(data["pearson"])
    panel.text(0.04, 0.93, f"r = {r:.2f}" if np.isfinite(r) else "r undefined", transform=panel.transAxes, fontsize=8,
               va="top")  # fmt: skip
    if not np.isfinite([*x, *y]).all() or not np.nansum(counts):
        return
    counts = np.where(counts > 0, counts, np.nan)
    scale = LogNorm(1, max(np.nanmax(counts), 2))
    panel.imshow(counts, origin="lower", extent=(x[0], x[-1], y[0], y[-1]), cmap=MAP, norm=scale, aspect="auto",
                 interpolation="nearest")  # fmt: skip
    panel.grid(False)
