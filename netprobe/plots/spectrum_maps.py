"""Mean spectra of perturbations as pictures, and how two networks' differ."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from netprobe.plots.drawing import heading, styled
from netprobe.plots.panels import panel_canvas, panels
from netprobe.plots.reading import Measured, describe, perturbed, variable

MAP, DIVERGING = "magma", "PuOr_r"


@styled
def plot_spectrum_maps(
    results: xr.DataTree | xr.Dataset,
    *,
    perturbation: str | None = None,
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """log10 of the mean spectrum of x' - x of each model on one scale, and each but the first minus the first.

    The middle of a panel is the mean of the image, its edges the finest stripes. In differences, orange is where a
    model's perturbations have more than the first one's.

    Parameters
    ----------
    results : what `npb.perturbation_spectra` returns, or the Dataset of one model
    perturbation : its name; None takes the strongest of the first family
    models, ax : as for `plot_psr`

    Returns the Axes that holds the panels, its `child_axes`.
    """
    every = perturbed(results, "perturbation_spectrum", models, perturbation)
    maps = [np.where(np.isfinite(found), found, np.nan) for found in map(_picture, every)]
    differences = [each - maps[0] for each in maps[1:] if each.shape == maps[0].shape]
    names = [entry.model or "spectrum" for entry in every]
    titles = [*names, *(f"{name} − {names[0]}" for name in names[1:])][: len(maps) + len(differences)]
    ax = panel_canvas(ax, 2 * len(titles), "Horizontal frequency", "Vertical frequency")
    known = np.concatenate([each[np.isfinite(each)] for each in maps] + [np.zeros(0)])
    low, high = (known.min(), known.max()) if known.size else (0, 1)
    reach = max((np.nanmax(np.abs(each), initial=0) for each in differences), default=0) or 1.0
    for number, (panel, picture) in enumerate(zip(panels(ax, titles), [*maps, *differences], strict=True)):
        limits = {"cmap": MAP, "vmin": low, "vmax": high}
        if number >= len(maps):
            limits = {"cmap": DIVERGING, "vmin": -reach, "vmax": reach}
        _draw(panel, picture, every[0], limits)
    heading(ax, f"log10 of the spectrum of the perturbation, {describe(every[0].data)}".rstrip(", "))
    return ax


def _picture(entry: Measured) -> np.ndarray:
    return variable(entry.data, "log_spectrum").transpose("frequency_y", "frequency_x").values


def _draw(panel: Axes, picture: np.ndarray, entry: Measured, limits: dict) -> None:
    y, x = (entry.data[f"frequency_{axis}"].values for axis in "yx")
    extent = (x[0] - 0.5, x[-1] + 0.5, y[0] - 0.5, y[-1] + 0.5)
    panel.imshow(picture, origin="lower", extent=extent, interpolation="nearest", **limits)
    panel.grid(False)
