"""Which spatial frequencies a perturbation is made of."""

from __future__ import annotations

from collections.abc import Iterable

import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from netprobe.plots.drawing import QUIET, canvas, curve, heading, power_ticks, styled
from netprobe.plots.reading import Measured, describe, label, perturbed

LEAST = 1e-6  # relative to white noise; what is below is round-off of float32 images


@styled
def plot_perturbation_spectrum(
    results: xr.DataTree | xr.Dataset,
    *,
    perturbation: str | None = None,
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Radial power spectrum of x' - x with its 95 % interval, relative to white noise, which is the line at 1.

    Every image counts alike, however large its perturbation is. High at the left means coarse changes, high at the
    right fine ones. Values below one millionth of white noise are round-off and not drawn.

    Parameters
    ----------
    results : what `npb.perturbation_spectra` returns, or the Dataset of one model
    perturbation : its name; None takes the strongest of the first family
    models, ax : as for `plot_psr`

    Returns the Axes.
    """
    every = [_shown(entry) for entry in perturbed(results, "perturbation_spectrum", models, perturbation)]
    ax = canvas(ax)
    handles: list[Artist] = [curve(ax, entry.data["radius"].values, entry, "profile") for entry in every]
    handles.append(ax.axhline(1, color=QUIET, linewidth=1, zorder=1, label="white noise"))
    ax.set(yscale="log", xlabel="Spatial frequency (cycles per image)", ylabel=label(every[0].data["profile"]))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    power_ticks(ax.yaxis)
    heading(ax, f"Spectrum of the perturbation, {describe(every[0].data)}".rstrip(", "), handles)
    return ax


def _shown(entry: Measured) -> Measured:
    """What a logarithmic axis can show."""
    data = entry.data
    bounds = {name: data[name].where(data[name] > LEAST) for name in ("profile", "profile_interval") if name in data}
    return entry._replace(data=data.assign({k: v.assign_attrs(data[k].attrs) for k, v in bounds.items()}))
