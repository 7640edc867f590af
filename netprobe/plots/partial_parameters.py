"""What adversarial training contributes, parameter for parameter."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from netprobe.plots.drawing import QUIET, canvas, heading, styled
from netprobe.plots.partial_drawing import any_failed, code_look, draw_points, failure_key, keys
from netprobe.plots.partial_layers import layer_axis, placed
from netprobe.plots.partial_reading import (
    ADVERSARIAL,
    QUANTITIES,
    Points,
    by_cutoff,
    check_choice,
    chosen_codes,
    layer_points,
    mixed,
    named,
    seeds_of,
    single,
    trained_as,
    whose,
)
from netprobe.plots.reading import measured

PER = 1000
"""Parameters."""


@styled
def plot_partial_parameters(
    results: xr.DataTree | xr.Dataset,
    *,
    quantity: str = "adversarial_accuracy",
    codes: Iterable[str] | None = None,
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """How much a quantity gains from training some layers adversarially, for every 1000 parameters that they have.

        gain = (q with the layers adversarial - q without) / (their parameters / 1000), seed by seed

    Codes in two parts: the layers between neighbouring cutoffs, at the place of the first of them, the others as the
    code has them. Single-layer codes: the layer. The axis is linear up to 0.1 points (accuracy) or nats (loss) and
    logarithmic beyond, since layers differ in size by orders of magnitude. Lines, bands and crosses as in
    `plot_partial_curves`.

    Parameters
    ----------
    results : what `npb.training.partial.sweep` returns, or a tree with it as "partial" of each model
    quantity : "adversarial_accuracy", "adversarial_loss", "clean_accuracy" or "clean_loss"
    codes : their names; None draws all but the controls
    models, ax : as for `plot_psr`; models with other layers are drawn over the relative depth

    Returns the Axes. Not in the dissertation as a figure of its own.
    """
    check_choice("quantity", quantity, QUANTITIES)
    every = measured(results, "partial", models)
    wanted = chosen_codes(every, codes, lambda data: mixed(data) + single(data), "codes of two ways, such as A1N2")
    ax, drawn = canvas(ax), []
    for entry in every:
        for code in (code for code in wanted if code in mixed(entry.data) + single(entry.data)):
            drawn.append(placed(gains(entry.data, code, quantity), entry, every))
            style = code_look(wanted.index(code), entry.index)
            draw_points(ax, drawn[-1], named(entry, code, every), style)
    ax.axhline(0, color=QUIET, linewidth=1, zorder=1)
    ax.set_yscale("symlog", linthresh=0.1)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−")))
    layer_axis(ax, every)
    accuracy = quantity.endswith("accuracy")
    name = every[0].data[quantity].attrs["long_name"]
    ax.set_ylabel(f"Gain of {name}\nper {PER} parameters ({'points' if accuracy else 'nat'})")
    title = f"Contribution of adversarially trained parameters{whose(every)} ({seeds_of(every)})"
    heading(ax, title, [*keys(wanted, every), *([failure_key()] if any_failed(drawn) else [])])
    return ax


def gains(data: xr.Dataset, code: str, quantity: str) -> Points:
    """Per 1000 parameters; accuracies in percentage points. What failed, or stands beside it, has no gain."""
    found = _of_layers(data, code, quantity) if code in single(data) else _of_steps(data, code, quantity)
    scale = 100 if quantity.endswith("accuracy") else 1
    return found._replace(values=scale * PER * found.values, failed=np.where(np.isnan(found.failed), np.nan, np.inf))


def _of_layers(data: xr.Dataset, code: str, quantity: str) -> Points:
    change = layer_points(data, code, quantity)
    sizes = data["layer_parameters"].values[change.x.astype(int)]
    sign = 1 if str(data.sel(code=code)["stage2"].values) == ADVERSARIAL else -1
    return change._replace(values=sign * change.values / sizes[:, None])


def _of_steps(data: xr.Dataset, code: str, quantity: str) -> Points:
    """From each cutoff to the next the layers between them change from natural to adversarial, or back."""
    rows, sizes = by_cutoff(data, code, quantity), data["layer_parameters"].values
    sign = 1 if trained_as(data, code, "early") == ADVERSARIAL else -1
    found = [
        (a, sign * (there - here) / sizes[a:b].sum(), failed)
        for (a, here, _), (b, there, failed) in itertools.pairwise(rows)
    ]
    x, values, lost = zip(*found, strict=True)
    return Points(np.array(x, float), np.array(values), np.array(lost))
