"""Accuracy against a number that networks differ in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, PercentFormatter

from netprobe.errors import NetprobeError
from netprobe.plots.drawing import canvas, curve, heading, styled
from netprobe.plots.reading import Measured, label, measured, pick, select, told


@styled
def plot_accuracy_by_setting(
    results: xr.DataTree, setting: str, *, called: str | None = None, metric: str = "evaluation", ax: Axes | None = None
) -> Axes:
    """Accuracy over the value of `setting`, a line a condition with its Wilson 95 % interval.

    Parameters
    ----------
    results : what `npb.evaluate` returns of models called "SETTING=NUMBER", such as "blocks=3"; others are left out
    setting : that name
    called : what the axis is called; None: the setting
    metric : "evaluation", or "accuracy" for what `npb.probe` returns
    ax : where to draw; None makes a figure

    Returns the Axes.
    """
    every = _by_number(measured(results, metric, None), setting)
    shown = told(every[0][1].data)
    names = [each.name for each in shown]
    numbers, entries = [number for number, _ in every], select([entry for _, entry in every], condition=names)
    ax = canvas(ax)
    handles = []
    for index, condition in enumerate(shown):
        along = _along([pick(entry.data, condition=condition.name) for entry in entries])
        handles.append(curve(ax, np.array(numbers), Measured(str(condition), index, along), "accuracy"))
    ax.xaxis.set_major_locator(FixedLocator(numbers))
    name = called or setting
    ax.set(ylim=(0, 1.02), xlabel=name[:1].upper() + name[1:], ylabel=label(entries[0].data["accuracy"]))
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    heading(ax, f"Accuracy by {name}", handles)
    return ax


def _along(each: Sequence[xr.Dataset]) -> xr.Dataset:
    """Accuracies and their intervals of one condition, in order."""
    wanted = ["accuracy", "accuracy_interval"]
    return xr.concat([data[wanted].drop_vars("condition") for data in each], "number", combine_attrs="override")


def _by_number(every: Sequence[Measured], setting: str) -> list[tuple[float, Measured]]:
    """The models of that setting with its values, which grow."""
    found = [(_number(entry.model, setting), entry) for entry in every]
    known = sorted(((number, entry) for number, entry in found if number is not None), key=lambda pair: pair[0])
    if not known:
        names = ", ".join(entry.model for entry in every)
        raise NetprobeError(f"no model is called {setting}=NUMBER, there are {names}: evaluate them under such names")
    return known


def _number(model: str, setting: str) -> float | None:
    name, _, value = model.partition("=")
    try:
        return float(value) if name == setting else None
    except ValueError:
        return None
