"""How points of partial training are drawn: mean, spread over seeds, and crosses where training failed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from netprobe.plots.drawing import INK, QUIET, finite, look, plain, shorten
from netprobe.plots.partial_reading import Points
from netprobe.plots.reading import Measured, label

FAILED = "Failed to converge"
WHOLE = "Whole network trained one way"


def code_look(code: int, model: int) -> dict[str, object]:
    """Colour and marker of the code at one index, line of the model at the other."""
    return look(code) | {"linestyle": look(model)["linestyle"]}


def draw_points(ax: Axes, drawn: Points, name: str, style: dict[str, object]) -> None:
    """The mean over seeds as a line, from the smallest to the largest as a band, failures as crosses."""
    low, high = drawn.spread
    ax.fill_between(drawn.x, finite(low), finite(high), color=style["color"], alpha=0.15, linewidth=0)
    for at, failed in zip(drawn.x, drawn.failed, strict=True):
        _cross(ax, at, failed[np.isfinite(failed)], ax.transData, style)
        _cross(ax, at, np.full(int(np.isposinf(failed).sum()), 0.03), ax.get_xaxis_transform(), style)
    ax.plot(drawn.x, finite(drawn.mean), label=plain(name), **style)


def _cross(ax: Axes, at: float, heights: np.ndarray, transform, style: dict[str, object]) -> None:
    """Where there is no number, a cross at the bottom."""
    for height in heights:
        ax.plot(
            at, height, marker="x", markersize=7, color=style["color"], linestyle="none", transform=transform, zorder=4
        )


def draw_ends(ax: Axes, drawn: Points) -> None:
    """Squares around the end points of a curve."""
    ends = [0, -1]
    ax.plot(drawn.x[ends], finite(drawn.mean)[ends], **_square())


def keys(codes: Sequence[str], every: Sequence[Measured]) -> list[Line2D]:
    """For the legend: a colour for each code and, if there are several models, a line for each of them."""
    several = len(every) > 1
    colours = [
        Line2D([], [], label=code, **look(at) | {"linestyle": "none" if several else look(0)["linestyle"]})
        for at, code in enumerate(codes)
    ]
    lines = [
        Line2D([], [], color=INK, marker="", linestyle=look(e.index)["linestyle"], label=plain(shorten(e.model)))
        for e in every
    ]
    return colours + (lines if several else [])


def end_key() -> Line2D:
    """For the legend."""
    return Line2D([], [], label=WHOLE, **_square())


def _square() -> dict[str, object]:
    return {"marker": "s", "markersize": 9, "markerfacecolor": "none", "color": QUIET, "linestyle": "none"}


def failure_key() -> Line2D:
    """For the legend."""
    return Line2D([], [], color=INK, marker="x", markersize=7, linestyle="none", label=FAILED)


def any_failed(every: list[Points]) -> bool:
    """Whether some training failed."""
    return any(bool((~np.isnan(drawn.failed)).any()) for drawn in every)


def quantity_axis(ax: Axes, every: Sequence[Measured], quantity: str) -> None:
    """Accuracies in percent, from 0 to 100; losses from 0, with room for the squares of the largest."""
    ax.set_ylabel(label(every[0].data[quantity]))
    ax.set_ylim(0, 1.05 * ax.get_ylim()[1])
    if quantity.endswith("accuracy"):
        ax.set_ylim(0, 1.02)
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))


def difference_axis(ax: Axes, every: Sequence[Measured], quantity: str) -> None:
    """Differences of accuracies in percentage points, of losses in nats."""
    accuracy = quantity.endswith("accuracy")
    name = every[0].data[quantity].attrs["long_name"]
    ax.set_ylabel(f"Change of {name} ({'points' if accuracy else 'nat'})")
    if accuracy:
        ax.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
