"""How far errors are: boxes over the images, with what was never found kept as far away."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator

from netprobe.plots.drawing import INK, heading, look, power, styled
from netprobe.plots.panels import keys, panel_canvas, panels
from netprobe.plots.reading import Measured, interval, measured, select


@styled
def plot_critical_distances(
    results: xr.DataTree | xr.Dataset, *, models: Iterable[str] | None = None, ax: Axes | None = None
) -> Axes:
    """L2 distance of the images to the first error along each walk, a panel each: boxes from the lower to the upper
    quartile, a dash at the median with its 95 % interval.

    Images that were never fooled count as farther than any: the percentage above a box is their share, and a quartile
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
    for panel, name in zip(panels(ax, walks), walks, strict=True):
        _draw(panel, select(every, walk=name))
    heading(ax, "Distance to the first error", keys(every))
    return ax


def _draw(panel: Axes, every: Sequence[Measured]) -> None:
    seen = np.concatenate([entry.data["distance"].values for entry in every])
    seen = seen[np.isfinite(seen) & (seen > 0)]
    low, high = (seen.min() / 1.5, seen.max() * 1.5) if seen.size else (0.1, 1.0)
    for x, entry in enumerate(every):
        censored = entry.data["censored"].values
        lengths = np.where(censored == 1, np.inf, entry.data["distance"].values)[censored >= 0]
        lengths = lengths[~np.isnan(lengths)]
        if not lengths.size:
            continue
        first, third = np.minimum(np.quantile(lengths, [0.25, 0.75], method="lower"), high)
        panel.bar(x, third - first, 0.7, bottom=first, color=look(entry.index)["color"], alpha=0.6)
        bounds = np.clip(np.nan_to_num([float(b) for b in interval(entry.data, "median")], nan=low), low, high)
        panel.vlines(x, *bounds, color=INK, linewidth=1.2)
        panel.hlines(
            np.clip(np.nan_to_num(float(entry.data["median"]), nan=low), low, high), x - 0.35, x + 0.35, color=INK
        )
        never = np.isinf(lengths).mean()
        if never:
            panel.annotate(f"{never:.0%}", (x, third), (0, 2), textcoords="offset points", ha="center", fontsize=8)
    panel.set(yscale="log", ylim=(low, 1.4 * high), xlim=(-0.6, len(every) - 0.4), xticks=[])
    log_ticks(panel, "y", low, high)
    panel.grid(False, axis="x")


def log_ticks(panel: Axes, which: str, low: float, high: float) -> None:
    """Two labelled ticks or so on a logarithmic axis of a small panel: powers of ten if it reaches over any."""
    axis = getattr(panel, f"{which}axis")
    powers = 10.0 ** np.arange(np.ceil(np.log10(low)), np.floor(np.log10(high)) + 1)
    shown = powers[:: max(1, -(-len(powers) // 3))] if len(powers) else np.array([np.sqrt(low * high)])
    axis.set_major_locator(FixedLocator(shown))
    axis.set_major_formatter(FuncFormatter(power if len(powers) else lambda value, _: f"{value:.2g}"))
    axis.set_minor_locator(LogLocator(subs=()))
