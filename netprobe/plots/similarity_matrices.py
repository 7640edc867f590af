"""How similar images are to each other, layer by layer, on one order of the images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from netprobe.errors import NetprobeError, unknown
from netprobe.plots.drawing import heading, styled
from netprobe.plots.panels import across_for, panel_canvas, panels
from netprobe.plots.reading import Measured, describe, label, measured, select, spaced

SIGNED, LENGTHS = "PuOr_r", "viridis"
"""Of similarities, white at 0, and of distances."""
ORDERS = ("clustered", "given")
MOST = 3
"""Sites of a model, if nobody names them: the first, the middle and the last."""


class _Panel(NamedTuple):
    name: str
    matrix: np.ndarray


@styled
def plot_similarity_matrices(
    results: xr.DataTree | xr.Dataset,
    *,
    sites: Iterable[str] | None = None,
    condition: str = "clean",
    order: str | Sequence[int] = "clustered",
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The similarity of every image with every other: of the pixels, and at sites of each model, a panel each.

    All panels have one order of the images, so that blocks that persist are groups that a layer keeps.

    Parameters
    ----------
    results : what `npb.similarity_matrices` returns, or the Dataset of one model
    sites : None takes the first, the middle and the last of each model
    condition : under which the networks saw the images
    order : "clustered": neighbours are alike in the first panel (average linkage); "given": that of the data; or the
        places of the images, for example sorted by class
    models, ax : as for `plot_psr`

    Returns the Axes that holds the panels, its `child_axes`.
    """
    every = select(measured(results, "similarity", models), condition=condition)
    shown = _shown(every, sites)
    places = _places(order, shown)
    signed = every[0].data.attrs.get("measure") != "euclidean"
    ax = panel_canvas(ax, 2 * len(shown), "Image", "Other image")
    names = [each.name for each in shown]
    for panel, each in zip(panels(ax, names, across_for(ax, names)), shown, strict=True):
        _draw(panel, each.matrix[np.ix_(places, places)], signed)
    if signed:
        _bar(ax, label(every[0].data["similarity"]))
    who = ", ".join(entry.model for entry in every if entry.model)
    title = f"{label(every[0].data['similarity'])}{': ' if who else ''}{who}"
    sorting = "" if order == "given" else ", images sorted by similarity" if order == "clustered" else ", images sorted"
    heading(ax, f"{title}, {describe(every[0].data, 'condition') or condition}{sorting}")
    return ax


def _shown(every: Sequence[Measured], sites: Iterable[str] | None) -> list[_Panel]:
    first = every[0].data
    found = [_Panel("pixels", first["pixel_similarity"].values)] if "pixel_similarity" in first else []
    for entry in every:
        for site in spaced(entry.data, sites, MOST):
            matrix = entry.data["similarity"].isel(site=list(entry.data["site"].values).index(site)).values
            if matrix.shape != first["similarity"].shape[1:]:
                raise NetprobeError(f"{entry.model!r} saw other images than {every[0].model!r}: draw one with models=")
            found.append(_Panel(f"{entry.model} {site}" if len(every) > 1 else site, matrix))
    return found


def _places(order: str | Sequence[int], shown: Sequence[_Panel]) -> np.ndarray:
    count = len(shown[0].matrix)
    if not isinstance(order, str):
        places = np.asarray(order)
        if not np.array_equal(np.sort(places), np.arange(count)):
            raise NetprobeError(f"order= is not an order of the {count} images: give each place from 0 once")
        return places
    if order not in ORDERS:
        raise unknown("order", order, ORDERS, "Or give the places of the images.")
    return np.arange(count) if order == "given" or count < 3 else clustered(shown[0].matrix)


def clustered(matrix: np.ndarray) -> np.ndarray:
    """An order of the images in which neighbours are alike; an undefined similarity counts as none."""
    known = np.nan_to_num(matrix)
    distance = known.max() - known if np.diag(known).any() else known
    return leaves_list(linkage(squareform((distance + distance.T) / 2, checks=False), "average"))


def _draw(panel: Axes, matrix: np.ndarray, signed: bool) -> None:
    options = {"cmap": SIGNED, "vmin": -1, "vmax": 1} if signed else {"cmap": LENGTHS}
    panel.imshow(matrix, aspect="equal", interpolation="nearest", **options)
    ends = sorted({0, len(matrix) - 1})
    panel.set_xticks(ends, [f"{end + 1}" for end in ends])
    panel.set_yticks(ends, [f"{end + 1}" for end in ends])
    panel.grid(False)


def _bar(ax: Axes, name: str) -> None:
    scale = ScalarMappable(Normalize(-1, 1), SIGNED)
    bar = ax.figure.colorbar(scale, ax=ax, location="bottom", shrink=0.6, aspect=40, pad=0.02)
    bar.set_label(name)
    bar.outline.set_visible(False)
