"""Grad-CAM maps beside the images they explain."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from netprobe.errors import NetprobeError
from netprobe.plots.drawing import canvas, heading, plain, shorten, styled
from netprobe.plots.reading import Condition, Measured, conditions, measured, pick, strongest
from netprobe.plots.tiles import GAP, pixels_of, tile

MAP = "RdBu_r"


@styled
def plot_gradcam(
    results: xr.DataTree | xr.Dataset,
    *,
    images: Sequence[int] | None = None,
    conditions: Sequence[str] | None = None,
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """A grid of images (first row) and signed Grad-CAM maps, one row for each model and condition.

    Red supports the explained class, blue speaks against it, white is zero. Every map is divided by its own
    largest magnitude: compare places, not strengths, between tiles. The number in a tile is the predicted
    class.

    Parameters
    ----------
    results : what `npb.probe` returns with the metric "gradcam", or the Dataset of one model's "gradcam"
    images : positions among the images with maps; None takes the first six
    conditions : names; None takes "clean" and the strongest perturbation
    models, ax : as for `plot_psr`

    Returns the one Axes that holds the grid: tile (row, column) covers the unit square at that place.
    """
    every = measured(results, "gradcam", models)
    pictures = _same_pictures(every)
    shown = _shown(images, len(pictures))
    names = every[0].data["index"].values if "index" in every[0].data.coords else np.arange(len(pictures))
    rows = [(entry, each) for entry in every for each in _conditions(entry.data, conditions)]

    ax = canvas(ax, height=1.3 + 1.02 * (1 + len(rows)), width=1.6 + 0.9 * len(shown))
    for column, index in enumerate(shown):
        tile(ax, 0, column, pictures[index], cmap="gray", vmin=0, vmax=1)
    for row, (entry, condition) in enumerate(rows, start=1):
        _maps(ax, row, pick(entry.data, condition=condition.name).isel(image=shown))
    _label(ax, ["image", *(f"{entry.model}\n{condition}".strip() for entry, condition in rows)], names[shown])
    sites = dict.fromkeys(str(entry.data.attrs["target_site"]) for entry in every if "target_site" in entry.data.attrs)
    heading(ax, f"Grad-CAM at {', '.join(sites)}" if sites else "Grad-CAM")
    _colour_bar(ax)
    # Tiles are square whatever the labels need: constrained layout settles that on its second pass.
    ax.get_figure(root=True).draw_without_rendering()
    return ax


def _shown(images: Sequence[int] | None, there: int) -> list[int]:
    shown = list(range(min(there, 6)) if images is None else images)
    absent = [index for index in shown if not 0 <= index < there]
    if absent or not shown:
        raise NetprobeError(f"there are maps of {there} images: choose images= from 0 to {there - 1}, not {shown}")
    return shown


def _conditions(data: xr.Dataset, names: Sequence[str] | None) -> list[Condition]:
    return conditions(pick(data, condition=list(names or filter(None, ["clean", strongest(data)]))), "condition")


def _maps(ax: Axes, row: int, data: xr.Dataset) -> None:
    """A row of maps, in each the class predicted."""
    for column, (values, predicted) in enumerate(zip(data["map"].values, data["predicted"].values, strict=True)):
        tile(ax, row, column, _signed(values), cmap=MAP, vmin=-1, vmax=1)
        _name_class(ax, row, column, predicted)


def _name_class(ax: Axes, row: int, column: int, predicted: int) -> None:
    box = {"facecolor": "white", "alpha": 0.8, "pad": 1}
    ax.text(column + 2 * GAP, row + 2 * GAP, f"{predicted:g}", va="top", fontsize="small", color="black", bbox=box)


def _same_pictures(every: Sequence[Measured]) -> np.ndarray:
    pictures = _pictures(every[0].data)
    for entry in every[1:]:
        if not np.array_equal(_pictures(entry.data), pictures):
            raise NetprobeError(f"{entry.model!r} explains other images than {every[0].model!r}: draw one with models=")
    return pictures


def _pictures(data: xr.Dataset) -> np.ndarray:
    """The images that are explained, channels last, or without channels if grey: as imshow wants them."""
    dims = ("image", "y", "x", "channel")
    for array in data.variables.values():
        if set(array.dims) == set(dims):
            return pixels_of(array.transpose(*dims).values)
    raise NetprobeError(f"these Grad-CAM results hold no images, a variable of dims {dims}: compute them again")


def _signed(values: np.ndarray) -> np.ndarray:
    """The map divided by its largest magnitude; a map of zeros stays zero."""
    largest = np.nanmax(np.abs(values), initial=0)
    return values / largest if largest > 0 else values


def _label(ax: Axes, rows: Sequence[str], columns: np.ndarray) -> None:
    ax.set(xlim=(0, len(columns)), ylim=(len(rows), 0), aspect="equal")
    lines = ["\n".join(plain(shorten(line)) for line in row.split("\n")) for row in rows]
    ax.set_yticks(np.arange(len(rows)) + 0.5, lines)
    ax.set_xticks(np.arange(len(columns)) + 0.5, [f"#{index}" for index in columns])
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.grid(False)
    ax.spines[:].set_visible(False)


def _colour_bar(ax: Axes) -> None:
    scale = ScalarMappable(Normalize(-1, 1), MAP)
    bar = ax.figure.colorbar(scale, ax=ax, location="bottom", shrink=0.6, aspect=40, pad=0.02, ticks=[-1, 0, 1])
    bar.set_label("← against\u2003\u2003for the class →")
    bar.outline.set_visible(False)
