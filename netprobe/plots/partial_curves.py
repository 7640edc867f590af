"""Accuracy or loss against the number of adversarially trained layers."""

from __future__ import annotations

from collections.abc import Iterable

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from netprobe.plots.drawing import canvas, heading, styled
from netprobe.plots.partial_drawing import (
    any_failed,
    code_look,
    draw_ends,
    draw_points,
    end_key,
    failure_key,
    keys,
    quantity_axis,
)
from netprobe.plots.partial_reading import (
    ALONG,
    QUANTITIES,
    check_choice,
    chosen_codes,
    mixed,
    named,
    parted,
    points,
    seeds_of,
    whose,
)
from netprobe.plots.reading import measured

XLABEL = {
    "adversarial_layers": "Adversarially trained layers",
    "adversarial_parameters": "Adversarially trained parameters",
    "cutoff": "Early layers (before the cutoff)",
}


@styled
def plot_partial_curves(
    results: xr.DataTree | xr.Dataset,
    *,
    quantity: str = "adversarial_accuracy",
    along: str = "adversarial_layers",
    codes: Iterable[str] | None = None,
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """A quantity of partially adversarial networks, one line a code, from one whole network to the other.

    Lines are means over the seeds that converged, bands reach from the smallest to the largest of them. Squares mark
    the networks of stage 1, trained one way as a whole; crosses mark what failed to converge (at the bottom if there
    is no number), which no line counts: the loss of a network that guesses looks good.

    Parameters
    ----------
    results : what `npb.training.partial.sweep` returns, or a tree with it as "partial" of each model
    quantity : "adversarial_accuracy", "adversarial_loss", "clean_accuracy" or "clean_loss"
    along : "adversarial_layers", "adversarial_parameters", or "cutoff", the number of early layers, which shows the
        controls too
    codes : their names; None draws all that there are in two parts
    models, ax : as for `plot_psr`

    Returns the Axes. Source: Bakiskan (2022), dissertation, Figs. 3.6 to 3.10.
    """
    check_choice("quantity", quantity, QUANTITIES)
    check_choice("along", along, ALONG)
    every = measured(results, "partial", models)
    among = parted if along == "cutoff" else mixed
    wanted = chosen_codes(every, codes, among, "codes in two parts, such as A1N2")
    ax, drawn = canvas(ax), []
    for entry in every:
        for code in (code for code in wanted if code in among(entry.data)):
            drawn.append(points(entry.data, code, quantity, along))
            style = code_look(wanted.index(code), entry.index)
            draw_points(ax, drawn[-1], named(entry, code, every), style)
            draw_ends(ax, drawn[-1])
    ax.set_xlabel(XLABEL[along])
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    quantity_axis(ax, every, quantity)
    title = f"{every[0].data[quantity].attrs['long_name'].capitalize()}{whose(every)} ({seeds_of(every)})"
    heading(ax, title, [*keys(wanted, every), end_key(), *([failure_key()] if any_failed(drawn) else [])])
    return ax
