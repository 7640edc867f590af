"""The code of one patch, step by step."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from netprobe.plots.drawing import QUIET, heading, look, styled
from netprobe.plots.panels import panel_canvas, panels
from netprobe.plots.reading import variable


@styled
def plot_code_steps(results: xr.Dataset, *, ax: Axes | None = None) -> Axes:
    """The coefficients of a patch over the atoms, a panel a step: projections, top-T, dropout, quantised.

    Coefficients of zero are not drawn; every panel says how many are left. Panels share their axes, but for the last,
    whose values are levels, several times as large.

    Parameters
    ----------
    results : what `npb.code_steps` returns
    ax : where to draw; None makes a figure

    Returns the Axes, whose `child_axes` are the panels.

    References
    ----------
    Bakiskan (2022), dissertation, Fig. 4.11.
    """
    values = variable(results, "value")
    steps = [str(step) for step in values["step"].values]
    counts = [int(np.count_nonzero(values.sel(step=step))) for step in steps]
    ax = panel_canvas(ax, len(steps), "Atom", "Coefficient")
    names = [f"{step}: {count}" for step, count in zip(steps, counts, strict=True)]
    for step, panel in zip(steps, panels(ax, names), strict=True):
        _stems(panel, values.sel(step=step).values)
        alike = values.sel(step=step) if step == steps[-1] else values.sel(step=steps[:-1])
        reach = 1.1 * float(np.abs(alike).max()) or 1.0
        panel.set(xlim=(-1, values.sizes["atom"]), ylim=(-reach, reach))
    place = f"row {results.attrs['row']}, column {results.attrs['column']}"
    heading(ax, f"The code of the patch in {place}, and how many coefficients are not zero")
    return ax


def _stems(panel: Axes, values: np.ndarray) -> None:
    there = np.flatnonzero(values)
    panel.axhline(0, color=QUIET, linewidth=0.6, linestyle="-", marker="")
    panel.vlines(there, 0, values[there], color=look(0)["color"], linewidth=0.8)
