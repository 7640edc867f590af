"""Accuracy under every corruption at every severity, as a table of colours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from netprobe.errors import NetprobeError
from netprobe.plots.drawing import canvas, heading, name_ticks, plain, shorten, styled
from netprobe.plots.reading import Measured, label, measured

MAP = "viridis"
ROW = 0.24  # inches


@styled
def plot_corruption_table(
    results: xr.DataTree | xr.Dataset, *, models: Iterable[str] | None = None, ax: Axes | None = None
) -> Axes:
    """A row for each corruption, a column for each model and severity; the number is the accuracy in percent.

    Parameters as for `plot_psr`, of what `npb.evaluate` returns for `npb.evaluation.corruptions()`. Returns the Axes.
    """
    every = measured(results, "corruptions", models)
    names, severities = (_shared(every, dim) for dim in ("corruption", "severity"))
    values = np.concatenate([entry.data["accuracy"].values for entry in every], 1)
    ax = canvas(ax, height=1.4 + ROW * len(names))
    ax.imshow(values, cmap=MAP, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    _write(ax, values)
    name_ticks(ax.yaxis, names)
    columns = [f"{severity}" for _ in every for severity in severities]
    ax.set_xticks(range(len(columns)), columns)
    ax.set_xlabel(
        f"Severity, for each of {', '.join(plain(shorten(e.model)) for e in every)}" if len(every) > 1 else "Severity"
    )
    ax.set_ylabel("Corruption")
    for edge in range(1, len(every)):
        ax.axvline(edge * len(severities) - 0.5, color="white", linewidth=3)
    ax.grid(False)
    ax.tick_params(length=0)
    who = ", ".join(entry.model for entry in every if entry.model)
    heading(ax, f"{label(every[0].data['accuracy'], unit=False)} in percent{': ' if who else ''}{who}")
    return ax


def _shared(every: Sequence[Measured], dim: str) -> list:
    first = every[0].data[dim].values
    for entry in every[1:]:
        if not np.array_equal(entry.data[dim].values, first):
            raise NetprobeError(
                f"{entry.model!r} has other {dim} values than {every[0].model!r}: draw one with models="
            )
    return list(first)


def _write(ax: Axes, values: np.ndarray) -> None:
    """The numbers, where there is room for them."""
    width = ax.figure.get_size_inches()[0]
    if values.shape[1] > 3.5 * width:
        return
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            ax.text(
                column,
                row,
                f"{100 * value:.0f}",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if value < 0.6 else "black",
            )
