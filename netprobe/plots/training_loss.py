"""Loss over the epochs of training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import xarray as xr
from matplotlib.axes import Axes

from netprobe.plots.drawing import canvas, heading, styled
from netprobe.plots.learning_curves import epoch_curves
from netprobe.plots.reading import measured

LINES = {"loss": "-", "validation_loss": "--"}


@styled
def plot_training_loss(
    results: xr.Dataset | Mapping[str, xr.Dataset] | xr.DataTree,
    *,
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """What was minimised, mean over each epoch, and the cross-entropy of held-out images, clean.

    The two are the same quantity for natural training alone: an attack, a regulariser or augmentation raise the first.
    Parameters as for `plot_learning_curves`. Returns the Axes.
    """
    every = measured(results, "history", models)
    ax = canvas(ax)
    handles = epoch_curves(ax, every, LINES)
    ax.set_ylabel("Loss (nat)")
    ax.set_ylim(bottom=0)
    heading(ax, "Loss during training", handles)
    return ax
