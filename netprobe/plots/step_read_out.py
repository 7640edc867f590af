"""What a network would have said after each step of its self-consistent layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from netprobe.plots.drawing import styled
from netprobe.plots.reading import measured
from netprobe.plots.steps import step_panels

PANELS = {"accuracy": "accuracy", "probability": "probability of the true class"}


@styled
def plot_step_read_out(
    results: xr.DataTree | xr.Dataset | Mapping[str, xr.Dataset],
    *,
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Accuracy and probability of the true class where the rest of the network reads the activations of step t.

    It was trained to read those of step T, the dotted line. Perturbed images were made for T as well. Bands are 95 %
    intervals over images, of accuracies by Wilson.

    Parameters
    ----------
    results : what `npb.settling` returns, of one model or of several by name
    models, ax : as for `plot_psr`

    Returns the Axes, whose `child_axes` are the panels.
    """
    every = measured(results, "settling", models)
    ax, made = step_panels(every, PANELS, "Read out after each step", "Mean over images", ax)
    for panel in made:
        panel.set(ylim=(0, 1.02), yticks=(0, 0.5, 1))
        panel.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    return ax
