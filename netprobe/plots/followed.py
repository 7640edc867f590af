"""Loss, accuracy and Jacobians of images that a network was not trained on, over the epochs of its training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from netprobe.plots.drawing import curve, heading, styled
from netprobe.plots.panels import panel_canvas, panels
from netprobe.plots.reading import Measured, interval, measured, require_same_sites, select, spaced
from netprobe.plots.training_terms import scaled

ACROSS = 2
TITLES = {"mean_loss": "Loss (nat)", "accuracy": "Accuracy"}
NORM = "mean_frobenius"
MOST = 4
"""Sites that are drawn if nobody names them."""


@styled
def plot_followed(
    results: xr.Dataset | Mapping[str, xr.Dataset] | xr.DataTree,
    *,
    sites: Iterable[str] | None = None,
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Loss and accuracy of images that were not trained on, and the mean Frobenius norm of the Jacobian at each site,
    over epochs, a panel each; epoch 0 is before the first step.

    Bands are the 95 % intervals of the results: over images, or of `netprobe.over_seeds` over trainings. Losses and
    norms are on a logarithmic axis where they span more than a decade and a half, else on one from 0.

    Parameters
    ----------
    results : what `npb.follow` returns, several by name, or a tree with a group "followed" for each model
    sites : which sites' Jacobians to draw; by default at most four, evenly spaced
    models, ax : as for `plot_psr`

    Returns the Axes, whose `child_axes` are the panels.
    """
    every = measured(results, "followed", models)
    require_same_sites(every, "panels of sites")
    chosen = spaced(every[0].data, sites, MOST)
    shown = [(name, title, every) for name, title in TITLES.items()]
    shown += [(NORM, f"‖J‖ of {site}", select(every, site=site)) for site in chosen]
    ax = panel_canvas(ax, len(shown), "Epoch", "Mean over images", ACROSS)
    keys: list[Artist] = []
    for (name, _, entries), panel in zip(shown, panels(ax, [title for _, title, _ in shown], ACROSS), strict=True):
        keys = _panel(panel, entries, name)
    heading(ax, "Images that were not trained on, during training", keys)
    return ax


def _panel(panel: Axes, every: Sequence[Measured], name: str) -> list[Artist]:
    """A line for each model with its interval. Returns the models' entries of a legend."""
    keys = [curve(panel, entry.data["epoch"].values, entry, name) for entry in every]
    plt.setp(keys, markersize=4)
    panel.xaxis.set_major_locator(MaxNLocator(2, integer=True, min_n_ticks=1))
    scaled(panel, np.concatenate([each.ravel() for entry in every for each in _drawn(entry, name)]), name)
    if panel.get_yscale() == "linear":
        panel.set_ylim(bottom=0)
    return keys


def _drawn(entry: Measured, name: str) -> tuple[np.ndarray, ...]:
    return entry.data[name].values, *interval(entry.data, name)
