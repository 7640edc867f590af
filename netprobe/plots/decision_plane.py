"""Decisions and Jacobians on a plane."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap

from netprobe.plots.drawing import heading, styled
from netprobe.plots.panels import panel_canvas, panels
from netprobe.plots.reading import measured

CLASSES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7f7f7f", "#f0e442", "#332288", "#882255")
LINES = 20
FEW, MANY = 4, 8
"""Models whose two rows come by themselves, and those that still fit beside each other."""


@styled
def plot_decision_plane(
    results: xr.DataTree | xr.Dataset, *, models: Iterable[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Two maps of the plane s e_1 + t e_2 through an image for each model: the norm of the Jacobian (bright is large,
    its range below, each model its own), and the predicted class as colour, pale where the largest softmax is
    small, with contour lines of the latter. The cross is the image.

    Parameters: `results` of `npb.decision_plane`, of one model or of several by name; the rest as for `plot_psr`.
    Returns the Axes that holds the panels, its `child_axes`.
    """
    every = measured(results, "plane", models)
    normed = [entry for entry in every if np.isfinite(entry.data["frobenius"]).any()]
    across = len(every) if FEW < len(every) <= MANY else None  # a row of norms above one of decisions
    names = [f"{entry.model} ‖J‖".strip() for entry in normed]
    names += [entry.model if across else f"{entry.model} decisions".strip() for entry in every]
    ax = panel_canvas(ax, 3 * len(names) // 2, "s, along e₁", "t, along e₂", across)
    made = panels(ax, names, across)
    for panel, entry in zip(made, normed, strict=False):
        values = entry.data["frobenius"].transpose("t", "s").values
        _show(panel, entry.data, values, cmap="magma")
        reach = f"{np.nanmin(values):.2g} to {np.nanmax(values):.2g}"
        box = {"facecolor": "black", "alpha": 0.5, "pad": 1, "linewidth": 0}
        panel.text(0.04, 0.04, reach, transform=panel.transAxes, fontsize=8, color="white", bbox=box)
    for panel, entry in zip(made[len(normed) :], every, strict=True):
        _decisions(panel, entry.data)
    data = every[0].data
    heading(ax, f"Jacobian and decisions on a plane through image #{data.attrs.get('image', '?')}")
    return ax


def _decisions(panel: Axes, data: xr.Dataset) -> None:
    colours = ListedColormap(CLASSES)
    image = colours(np.nan_to_num(data["prediction"].transpose("t", "s").values).astype(int) % len(CLASSES))
    confidence = data["confidence"].transpose("t", "s").values
    image[..., 3] = np.nan_to_num(confidence)
    _show(panel, data, image)
    if np.ptp(confidence[np.isfinite(confidence)]) > 0:
        panel.contour(data["s"], data["t"], confidence, levels=LINES, colors="black", linewidths=0.25)


def _show(panel: Axes, data: xr.Dataset, values: np.ndarray, **options: object) -> None:
    s, t = data["s"].values, data["t"].values
    extent = (s[0], s[-1], t[0], t[-1])
    panel.imshow(values, origin="lower", extent=extent, aspect="auto", interpolation="nearest", **options)
    panel.plot(0, 0, marker="+", color="white", markersize=7, linestyle="none")
    panel.set_xticks([s[0], 0, s[-1]], [f"{s[0]:.3g}", "0", f"{s[-1]:.3g}"])
    panel.set_yticks([0], ["0"])
    panel.grid(False)
