"""What each single layer contributes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from netprobe.plots.drawing import QUIET, canvas, heading, name_ticks, styled
from netprobe.plots.partial_drawing import any_failed, code_look, difference_axis, draw_points, failure_key, keys
from netprobe.plots.partial_reading import (
    QUANTITIES,
    Points,
    check_choice,
    chosen_codes,
    layer_names,
    layer_points,
    named,
    seeds_of,
    single,
    whose,
)
from netprobe.plots.reading import Measured, measured


@styled
def plot_partial_layers(
    results: xr.DataTree | xr.Dataset,
    *,
    quantity: str = "adversarial_accuracy",
    codes: Iterable[str] | None = None,
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """How much a quantity changes when a single layer is retrained the other way, layer by layer.

        change = (with layer l re-initialised and trained the other way) - (whole network of stage 1), seed by seed

    Lines, bands and crosses as in `plot_partial_curves`. N2A1_l takes one layer of an adversarially trained network
    away from it (a loss of accuracy), A2N1_l gives one to a naturally trained network.

    Parameters
    ----------
    results : what `npb.training.partial.sweep` returns, or a tree with it as "partial" of each model
    quantity : "adversarial_accuracy", "adversarial_loss", "clean_accuracy" or "clean_loss"
    codes : N2A1_l, A2N1_l; None draws those that there are
    models, ax : as for `plot_psr`; models with other layers are drawn over the relative depth

    Returns the Axes. Source: Bakiskan (2022), dissertation, Fig. 3.11 (accuracy itself).
    """
    check_choice("quantity", quantity, QUANTITIES)
    every = measured(results, "partial", models)
    wanted = chosen_codes(every, codes, single, "single-layer codes, N2A1_l and A2N1_l")
    ax, drawn = canvas(ax), []
    for entry in every:
        for code in (code for code in wanted if code in single(entry.data)):
            drawn.append(placed(layer_points(entry.data, code, quantity), entry, every))
            style = code_look(wanted.index(code), entry.index)
            draw_points(ax, drawn[-1], named(entry, code, every), style)
    ax.axhline(0, color=QUIET, linewidth=1, zorder=1)
    layer_axis(ax, every)
    difference_axis(ax, every, quantity)
    title = f"One layer retrained the other way{whose(every)} ({seeds_of(every)})"
    heading(ax, title, [*keys(wanted, every), *([failure_key()] if any_failed(drawn) else [])])
    return ax


def placed(drawn: Points, entry: Measured, every: Sequence[Measured]) -> Points:
    """Places of layers as they are if all models share the layers, else as relative depths."""
    last = max(entry.data.sizes["place"] - 1, 1)
    return drawn if layer_names(every) else drawn._replace(x=np.asarray(drawn.x) / last)


def layer_axis(ax: Axes, every: Sequence[Measured]) -> None:
    """Label the x axis with the layers, or with the relative depth of models whose layers differ."""
    names = layer_names(every)
    if names is None:
        ax.set_xlabel("Relative depth in the network, 0 to 1")
        return
    name_ticks(ax.xaxis, names)
    ax.set(xlabel="Layer, in order", xlim=(-0.5, len(names) - 0.5))
