"""Loss, accuracy and the terms of regularisers over the epochs of training."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from netprobe.errors import unknown
from netprobe.plots.drawing import heading, log_ticks, styled
from netprobe.plots.learning_curves import epoch_curves
from netprobe.plots.panels import panel_canvas, panels
from netprobe.plots.reading import Measured, label, measured

ALWAYS = ("loss", "unregularised_loss", "accuracy", "validation_accuracy")
WIDE, LONG = 2, 26
"""Panels beside each other where a name has more letters than that, which would be cut off above narrower ones."""
ACROSS_DECADES = 30
"""Largest over smallest value from which on a panel is logarithmic."""


@styled
def plot_training_terms(
    results: xr.Dataset | Mapping[str, xr.Dataset] | xr.DataTree,
    *,
    terms: Iterable[str] | None = None,
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """What was minimised, how accurate the network was, and each regulariser's term, over epochs, a panel each.

    Terms are without their couplings, means over each epoch; a network that was trained without a term has it all the
    same where it was recorded with coupling=0. The axis is logarithmic where values span more than a decade and a half.

    Parameters
    ----------
    results : the history of `npb.fit(...)`, several by name, or a tree with a group "history" for each model
    terms : which variables of the history; by default losses, accuracies and every regulariser of any model
    models, ax : as for `plot_psr`

    Returns the Axes, whose `child_axes` are the panels.
    """
    every = measured(results, "history", models)
    names = _terms(every, terms)
    about = {name: next(entry.data[name] for entry in every if name in entry.data) for name in names}
    titles = [label(about[name], unit=False) for name in names]
    across = WIDE if max(map(len, titles)) > LONG else None
    ax = panel_canvas(ax, len(names), "Epoch", "Mean over the epoch", across)
    keys = []
    for name, panel in zip(names, panels(ax, titles, across), strict=True):
        keys = epoch_curves(panel, every, {name: "-"})[: len(every)]
        panel.set_xlabel("")
        panel.xaxis.set_major_locator(MaxNLocator(2, integer=True, min_n_ticks=1))
        scaled(panel, np.concatenate([entry.data[name].values for entry in every if name in entry.data]), name)
    heading(ax, "Terms of the loss during training", keys)
    return ax


def regularising(history: xr.Dataset) -> list[str]:
    """The names that the terms of regularisers have in a history."""
    return json.loads(history.attrs.get("regularisers", "[]"))


def _terms(every: Sequence[Measured], wanted: Iterable[str] | None) -> list[str]:
    there = [str(name) for entry in every for name in entry.data.data_vars if entry.data[name].dims == ("epoch",)]
    if wanted is None:
        own = [name for entry in every for name in regularising(entry.data)]
        return [name for name in dict.fromkeys((*ALWAYS, *own)) if name in there]
    asked = [wanted] if isinstance(wanted, str) else list(wanted)
    for name in asked:
        if name not in there:
            raise unknown("term", name, dict.fromkeys(there), "Name variables of these histories.")
    return asked


def scaled(panel: Axes, values: np.ndarray, name: str) -> None:
    """Accuracies on a whole axis; other values that span many decades on a logarithmic one."""
    known = values[np.isfinite(values)]
    if name.endswith("accuracy"):
        panel.set(ylim=(0, 1.02), yticks=(0, 0.5, 1))
        panel.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    elif known.size and known.min() > 0 and known.max() > ACROSS_DECADES * known.min():
        low, high = known.min() / 1.5, known.max() * 1.5
        panel.set(yscale="log", ylim=(low, high))
        log_ticks(panel.yaxis, low, high)
