"""A grid of small panels inside one Axes, one for each layer, and histograms in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, PercentFormatter

from netprobe.plots.drawing import canvas, look, plain, shorten
from netprobe.plots.reading import Measured, spaced

MOST = 24  # panels of a figure, if nobody names the layers
PANEL = 1.15  # inches, the height of a panel with its name and ticks
WIDTH = 1.7  # inches, the least width of a panel
LEAST = 2.6  # inches, the height of a figure with a single row


def columns(inches: float) -> int:
    """How many panels fit beside each other."""
    return max(int(inches / WIDTH), 1)


def chosen_layers(every: Sequence[Measured], layers: Iterable[str] | None, room: int = MOST) -> list[str]:
    """The named layers, or of all of them at most `room`, evenly spaced, with the first and the last."""
    return spaced(every[0].data, layers, room)


def room_in(ax: Axes | None) -> int:
    """How many panels `ax` has room for; None is a figure that grows with them."""
    if ax is None:
        return MOST
    width, height = ax.figure.get_size_inches()
    return columns(width) * max(int((height - 0.6) / PANEL), 1)


def _across(ax: Axes, count: int) -> int:
    """Columns that so many panels fill most evenly: six are two rows of three, not one of four and one of two."""
    most = columns(ax.figure.get_size_inches()[0])
    return -(-count // -(-count // most))


def across_for(ax: Axes, names: Sequence[str]) -> int:
    """How many panels to set beside each other so that their names are not cut off; two of the longest names."""
    width, most = ax.figure.get_size_inches()[0] - 0.5, _across(ax, len(names))
    longest = max(map(len, names))
    return next((across for across in range(most, 2, -1) if _letters(width, across) >= longest), min(most, 2))


def _letters(width: float, across: int) -> int:
    """How long the name of a panel may be."""
    return int((width / across - 0.4) * 72 / (0.6 * 8))


def panel_canvas(ax: Axes | None, count: int, xlabel: str, ylabel: str, across: int | None = None) -> Axes:
    """`ax`, or one as high as so many panels need, `across` of them beside each other (None: as many as fit), with
    nothing of its own but the names of the axes.
    """
    ax = canvas(ax, height=max(0.8 + PANEL * -(-count // (across or columns(7.0))), LEAST))
    ax.spines[:].set_visible(False)
    ax.grid(False)
    ax.set(xticks=[], yticks=[], xlabel=xlabel, ylabel=ylabel)
    return ax


def panels(ax: Axes, names: Sequence[str], across: int | None = None) -> list[Axes]:
    """An Axes inside `ax` for each name, which is its title, row by row; `across` beside each other, or what fits."""
    width, height = ax.figure.get_size_inches() - (0.5, 0.8)
    across = across or _across(ax, len(names))
    down = -(-len(names) // across)
    gap, head, foot = 0.38 / width, 0.22 / height, 0.2 / height
    made = []
    for number, name in enumerate(names):
        row, column = divmod(number, across)
        corner = (column / across + gap, 1 - (row + 1) / down + foot)
        panel = ax.inset_axes((*corner, 1 / across - 1.15 * gap, 1 / down - head - foot))
        panel.set_title(plain(shorten(name, max(_letters(width, across), 6))), fontsize=8, fontweight="normal", pad=2)
        panel.tick_params(labelsize=8, length=2, pad=1.5)
        panel.xaxis.set_major_locator(MaxNLocator(2))
        panel.yaxis.set_major_locator(MaxNLocator(2))
        made.append(panel)
    return made


def histograms(panel: Axes, values: Sequence[np.ndarray], indices: Sequence[int], edges: np.ndarray) -> None:
    """Overlaid histograms over the same bins, as shares of each model's values, from zero."""
    for data, index in zip(values, indices, strict=True):
        if data.size:
            style = look(index)
            colours = {"facecolor": (style["color"], 0.3), "edgecolor": style["color"]}
            steps = _steps(np.histogram(data, edges)[0] / data.size, edges)
            panel.stairs(*steps, fill=True, linestyle=style["linestyle"], linewidth=0.9, **colours)
    panel.set(xlim=(edges[0], edges[-1]))
    panel.set_ylim(bottom=0)
    panel.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    if not any(data.size for data in values):
        panel.text(0.5, 0.5, "undefined", transform=panel.transAxes, ha="center", va="center", fontsize=8)
        panel.set(yticks=[])


def _steps(heights: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same steps with neighbours of one height joined, which makes files of many panels small."""
    first = np.flatnonzero(np.r_[True, np.diff(heights) != 0])
    return heights[first], edges[np.r_[first, len(edges) - 1]]


def shared_bins(values: Sequence[np.ndarray], bins: int) -> np.ndarray:
    """Edges of `bins` equal bins over all values together; a unit wide around a value that never varies."""
    known = np.concatenate([*values, np.empty(0)])
    low, high = (known.min(), known.max()) if known.size else (0.0, 1.0)
    half = 0.5 * max(1e-3 * abs(low), 1e-6) if low == high else 0.0
    return np.linspace(low - half, high + half, bins + 1)


def keys(every: Sequence[Measured]) -> list[Patch]:
    """A patch for each model, for the legend."""
    return [Patch(color=look(entry.index)["color"], alpha=0.6, label=plain(entry.model)) for entry in every]


def of_all(drawn: Sequence[str], every: Sequence[Measured]) -> str:
    """How many layers are drawn, if not all are."""
    count = every[0].data.sizes["layer"]
    return "" if len(drawn) == count else f", {len(drawn)} of {count} layers"
