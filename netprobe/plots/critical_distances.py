"""How far errors are: boxes over the images, with what was never found kept as far away."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from netprobe.plots.drawing import INK, heading, log_ticks, look, percent, styled
from netprobe.plots.panels import keys, panel_canvas, panels
from netprobe.plots.reading import Measured, interval, measured, select


@styled
def plot_critical_distances(
    results: xr.DataTree | xr.Dataset, *, models: Iterable[str] | None = None, ax: Axes | None = None
) -> Axes:
    """L2 distance of the images to the first error along each walk, a panel each: boxes from the lower to the upper
    quartile, a dash at the median with its 95 % interval.

    Images that were never fooled count as farther than any: the percentage at the top is their share, and a quartile
    or median among them is open, at the top. No whiskers: the nearest and the farthest image say little.

    Parameters
    ----------
    results : what `npb.critical_distances` returns, of one model or of several by name
    models, ax : as for `plot_psr`

    Returns the Axes that holds the panels, its `child_axes`.
    """
    every = measured(results, "distances", models)
    walks = list(map(str, every[0].data["walk"].values))
    ax = panel_canvas(
        ax, 2 * len(walks), "Along each walk, in the order of the legend", "Critical distance, L2 (input)"
    )
    never = [_draw(panel, select(every, walk=name)) for panel, name in zip(panels(ax, walks), walks, strict=True)]
    about = [Line2D([], [], linestyle="none", marker="", label="%: never in error")] if any(never) else []
    heading(ax, "Distance to the first error", [*keys(every), *about])
    return ax


def _draw(panel: Axes, every: Sequence[Measured]) -> bool:
    """Returns whether there are images that were never fooled."""
    boxes = [_box(entry) for entry in every]
    low, high = _reach(boxes)
    for x, (entry, box) in enumerate(zip(every, boxes, strict=True)):
        if box is None:
            continue
        first, third, median, *bounds = np.clip(np.nan_to_num(box.marks, nan=low, posinf=np.inf), low, high)
        panel.bar(x, third - first, 0.7, bottom=first, color=look(entry.index)["color"], alpha=0.6)
        panel.vlines(x, *bounds, color=INK, linewidth=1.2)
        panel.hlines(median, x - 0.35, x + 0.35, color=INK)
        if box.never:
            above = {"transform": panel.get_xaxis_transform(), "ha": "center", "va": "top", "fontsize": 8}
            panel.text(x, 0.99, percent(box.never), **above)
    never = any(box.never for box in boxes if box is not None)
    panel.set(yscale="log", ylim=(low, high * ((high / low) ** 0.2 if never else 1)), xticks=[])
    panel.set_xlim(-0.6, len(every) - 0.4)
    log_ticks(panel.yaxis, low, high)
    panel.grid(False, axis="x")
    return never


class _Box(NamedTuple):
    """Lower and upper quartile, median and its bounds, inf among the images never fooled; the share of those."""

    marks: np.ndarray
    never: float


def _box(entry: Measured) -> _Box | None:
    """None without images to tell of."""
    censored = entry.data["censored"].values
    lengths = np.where(censored == 1, np.inf, entry.data["distance"].values)[censored >= 0]
    lengths = lengths[~np.isnan(lengths)]
    if not lengths.size:
        return None
    quartiles = np.quantile(lengths, [0.25, 0.75], method="lower")
    middle = [float(entry.data["median"]), *map(float, interval(entry.data, "median"))]
    return _Box(np.array([*quartiles, *middle]), float(np.isinf(lengths).mean()))


def _reach(boxes: Sequence[_Box | None]) -> tuple[float, float]:
    """What the axis holds: every mark that is a number, within a factor of two."""
    marks = np.concatenate([box.marks for box in boxes if box is not None] or [np.empty(0)])
    known = marks[np.isfinite(marks) & (marks > 0)]
    return (known.min() / 2, known.max() * 2) if known.size else (0.1, 1.0)
