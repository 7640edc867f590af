"""Which layers are alike, within and between networks: a heat map of CKA."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from netprobe.errors import unknown
from netprobe.plots.drawing import canvas, heading, name_ticks, styled
from netprobe.plots.reading import Measured, label, measured, select

MAP = "viridis"


@styled
def plot_cka_matrix(
    results: xr.DataTree | xr.Dataset,
    *,
    condition: str = "clean",
    against: str | None = None,
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Linear CKA of every site (rows) with every other (columns), models one after the other, white lines between.

    A bright diagonal band says that neighbouring layers are alike; a bright block, that a run of layers does nearly the
    same; a bright diagonal between two networks, that they go through the same stages.

    Parameters
    ----------
    results : what `npb.cka_matrix` returns, or the Dataset of one model
    condition, against : of the rows and of the columns; None is that of the rows
    models, ax : as for `plot_psr`

    Returns the Axes.
    """
    every = select(measured(results, "cka_matrix", models), condition=condition)
    columns = _columns(every, condition if against is None else against)
    values = np.concatenate([entry.data["cka"].values[:, columns] for entry in every])
    ax = canvas(ax, height=5.6)
    low, shape = min(0.0, np.nanmin(values, initial=0)), "equal" if np.ptp(values.shape) == 0 else "auto"
    image = ax.imshow(values, cmap=MAP, vmin=low, vmax=1, interpolation="nearest", aspect=shape)
    name_ticks(ax.yaxis, [str(site) for entry in every for site in entry.data["site"].values])
    name_ticks(ax.xaxis, every[0].data["other_site"].values[columns].astype(str))
    _separate(ax.axhline, [entry.data.sizes["site"] for entry in every])
    names = every[0].data["other_model"].values[columns]
    _separate(ax.axvline, [int((names == name).sum()) for name in dict.fromkeys(names)])
    ax.set(xlabel="Site" + ("" if against in (None, condition) else f", {against}"), ylabel="Site")
    ax.grid(False)
    ax.tick_params(length=0)
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.7)
    bar.set_label(label(every[0].data["cka"]))
    bar.outline.set_visible(False)
    who = ", ".join(entry.model for entry in every if entry.model)
    heading(ax, f"Similarity of layers, {condition}" + (f": {who}" if who else ""))
    return ax


def _columns(every: Sequence[Measured], against: str) -> np.ndarray:
    """The representations under that condition, of the models that are drawn."""
    data = every[0].data
    there = data["other_condition"].values.astype(str)
    if against not in there:
        raise unknown("condition", against, dict.fromkeys(there), "Choose against= among those that were measured.")
    drawn = {entry.model for entry in every if entry.model} or set(data["other_model"].values)
    of_drawn = np.isin(data["other_model"].values.astype(str), list(drawn))
    return np.flatnonzero((there == against) & (of_drawn if of_drawn.any() else True))


def _separate(line: object, sizes: Sequence[int]) -> None:
    for edge in np.cumsum(sizes)[:-1]:
        line(edge - 0.5, color="white", linewidth=2)
