"""How often the channels of a layer fire."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from netprobe.plots.drawing import QUIET, finite, heading, look, plain, styled
from netprobe.plots.panels import chosen_layers, panel_canvas, panels, room_in
from netprobe.plots.reading import Measured, interval, measured, places, require_same_sites

DANGER = "#cf222e"


@styled
def plot_firing(
    results: xr.DataTree | xr.Dataset | Mapping[str, xr.Dataset],
    *,
    sites: Iterable[str] | None = None,
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Share of places and images at which each channel is among the strongest, channels in order, a panel a site.

    Relative index 0 is the channel that fires most often, 1 the one that fires least. A line that begins above the
    dashed 95 % has channels that say the same of every image, and their number is in the panel; channels that all fired
    equally often would lie at or below the dotted line. Bands are 95 % intervals over images.

    Parameters
    ----------
    results : what `npb.defenses.hah.firing` returns, of one model or of several by name
    sites : their names; None draws all, or as many, evenly spaced, as there is room for
    models, ax : as for `plot_psr`; the models must share their sites

    Returns the Axes, whose `child_axes` are the panels.

    References
    ----------
    Bakiskan (2022), dissertation, Fig. 5.3.
    """
    every = measured(results, "firing", models)
    require_same_sites(every, "panels")
    drawn = chosen_layers(every, sites, room_in(ax))
    ax = panel_canvas(ax, len(drawn), "Relative index of the channel", "Firing frequency")
    for name, panel in zip(drawn, panels(ax, drawn), strict=True):
        for entry in every:
            _line(panel, entry._replace(data=entry.data.sel(site=name)))
        panel.set(xlim=(0, 1), ylim=(0, 1.04), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        _told(panel, [entry.data.sel(site=name) for entry in every])
    handles = [Line2D([], [], label=plain(entry.model), **_look(entry)) for entry in every]
    limit = Line2D([], [], color=DANGER, linestyle="--", marker="", label="95 %: always on")
    even = Line2D([], [], color=QUIET, linestyle=":", marker="", label="equally often")
    few = "" if len(drawn) == len(places(every[0].data)) else f", {len(drawn)} of {len(places(every[0].data))} sites"
    heading(ax, f"How often channels are among the strongest of their place{few}", [*handles, limit, even])
    return ax


def _look(entry: Measured) -> dict[str, object]:
    return look(entry.index) | {"marker": ""}


def _line(panel: Axes, entry: Measured) -> None:
    frequency, bounds = entry.data["frequency"].values, interval(entry.data, "frequency")
    order = np.argsort(-frequency, kind="stable")[: np.isfinite(frequency).sum()]  # NaN comes last
    index = np.linspace(0, 1, len(order)) if len(order) > 1 else np.zeros(len(order))
    low, high = (finite(bound[order]) for bound in bounds)
    style = _look(entry)
    panel.fill_between(index, low, high, color=style["color"], alpha=0.2, linewidth=0)
    panel.plot(index, frequency[order], label=plain(entry.model), **style)


def _told(panel: Axes, every: list[xr.Dataset]) -> None:
    """The two lines to compare with, and how many channels are above the upper one."""
    panel.axhline(0.95, color=DANGER, linestyle="--", marker="", linewidth=0.8)
    panel.axhline(float(every[0]["even"]), color=QUIET, linestyle=":", marker="", linewidth=1)
    always = [float(data["always"]) for data in every]
    if any(always):
        text = ", ".join(f"{count:.0f}" for count in always) + " above"
        panel.text(0.97, 0.82, text, transform=panel.transAxes, ha="right", va="top", fontsize=8, color=DANGER)
