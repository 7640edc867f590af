"""The loss around images."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from netprobe.errors import unknown
from netprobe.plots.drawing import heading, styled
from netprobe.plots.panels import panel_canvas, panels
from netprobe.plots.reading import Measured, budget, label, measured

MAP = "magma"


@styled
def plot_loss_landscape(
    results: xr.DataTree | xr.Dataset,
    *,
    image: int | None = None,
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The cross-entropy on the plane of the sign of the gradient (upwards) and a random sign (to the right).

    A panel for each model, all on one scale of colours; the cross is the image itself. A loss that rises smoothly
    upwards is what gradients can be trusted on; one that is flat or rough there, and high elsewhere, is not.

    Parameters
    ----------
    results : models with a Dataset "landscape", or what `npb.loss_landscape` returns
    image : position in the data of an image with a landscape; None takes the mean over all of them
    models, ax : as for `plot_psr`

    Returns the Axes that holds the panels, its `child_axes`.
    """
    every = measured(results, "landscape", models)
    losses = [_losses(entry, image) for entry in every]
    low, high = np.nanmin(losses, initial=0), np.nanmax(losses, initial=1e-9)
    reach = budget(float(every[0].data["along"].values[-1]))
    ax = panel_canvas(ax, 2 * len(every), f"Along a random sign, −{reach} to {reach}", "Along the sign of the gradient")
    for panel, entry, loss in zip(panels(ax, [entry.model for entry in every]), every, losses, strict=True):
        _draw(panel, entry, loss, (low, high))
    scale = ScalarMappable(Normalize(low, high), MAP)
    bar = ax.figure.colorbar(scale, ax=ax, location="bottom", shrink=0.6, aspect=40, pad=0.02)
    bar.set_label(label(every[0].data["loss"]))
    bar.outline.set_visible(False)
    count = every[0].data.sizes["image"]
    of = f"image #{image}" if image is not None else f"mean over {count} image{'s' * (count > 1)}"
    heading(ax, f"Loss landscape, {of}")
    return ax


def _losses(entry: Measured, image: int | None) -> np.ndarray:
    loss = entry.data["loss"].transpose("image", "along", "across")
    if image is None:
        return loss.mean("image").values
    there = list(entry.data["image"].values)
    if image not in there:
        raise unknown("image", image, there, "Choose one that has a landscape.")
    return loss.values[there.index(image)]


def _draw(panel: Axes, entry: Measured, loss: np.ndarray, limits: tuple[float, float]) -> None:
    reach = float(entry.data["along"].values[-1])
    panel.imshow(
        loss,
        origin="lower",
        extent=(-reach, reach, -reach, reach),
        cmap=MAP,
        vmin=limits[0],
        vmax=limits[1],
        aspect="auto",
        interpolation="nearest",
    )
    panel.plot(0, 0, marker="+", color="white", markersize=7, linestyle="none")
    panel.set_xticks([0], ["0"])
    panel.set_yticks([0], ["0"])
    panel.grid(False)
