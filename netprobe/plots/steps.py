"""What plots over the steps of a self-consistent layer share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from netprobe.plots.drawing import QUIET, canvas, finite, heading, look, plain
from netprobe.plots.panels import panel_canvas, panels
from netprobe.plots.reading import Measured, conditions, interval

DASHES = ("-", "--", ":", "-.", (0, (5, 1)), (0, (1, 1)), (0, (3, 1, 1, 1)))
"""Of conditions; colours are of models."""
ROW = 0.2
"""Inches that an entry of the legend may need."""


def step_panels(
    every: Sequence[Measured], names: Mapping[str, str], title: str, ylabel: str, ax: Axes | None
) -> tuple[Axes, list[Axes]]:
    """A panel for each of the quantities, by name and what the panel is called, with its curves over the steps."""
    keys = _keys(every)
    ax = panel_canvas(canvas(ax, height=2.4 + ROW * len(keys)), len(names), "Step t", ylabel)
    made = panels(ax, list(names.values()))
    for name, panel in zip(names, made, strict=True):
        for entry in every:
            for number, condition in enumerate(entry.data["condition"].values):
                _curve(panel, entry._replace(data=entry.data.sel(condition=condition)), name, number)
            panel.axvline(float(entry.data.attrs["steps"]), color=QUIET, linestyle=":", marker="", linewidth=0.8)
        panel.set_xlim(0, max(int(entry.data["step"].values[-1]) for entry in every) or 1)
    heading(ax, title, keys)
    return ax, made


def _curve(panel: Axes, entry: Measured, name: str, number: int) -> None:
    style = look(entry.index) | {"marker": "", "linestyle": DASHES[number % len(DASHES)]}
    steps, (low, high) = entry.data["step"].values, map(finite, interval(entry.data, name))
    panel.fill_between(steps, low, high, color=style["color"], alpha=0.2, linewidth=0)
    panel.plot(steps, finite(entry.data[name].values), **style)


def _keys(every: Sequence[Measured]) -> list[Artist]:
    """Models by colour, if they have names, conditions by dashes, and what the vertical line is."""
    plainly = {"marker": ""}
    named = [entry for entry in every if entry.model]
    models = [Line2D([], [], color=look(e.index)["color"], label=plain(e.model), **plainly) for e in named]
    seen = dict.fromkeys(str(each) for entry in every for each in conditions(entry.data, "condition"))
    dashed = [
        Line2D([], [], color=QUIET, linestyle=DASHES[number % len(DASHES)], label=plain(name), **plainly)
        for number, name in enumerate(seen)
    ]
    end = Line2D([], [], color=QUIET, linestyle=":", linewidth=0.8, label="T, where the network stops", **plainly)
    return [*models, *dashed, end]
