"""How far a perturbation moves the correlations between images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from netprobe.errors import NetprobeError
from netprobe.plots.drawing import canvas, curve, heading, site_curves, styled
from netprobe.plots.reading import Measured, conditions, describe, label, measured, select, strongest, sweep


@styled
def plot_correlation_shift(
    results: xr.DataTree | xr.Dataset,
    *,
    site: str | None = None,
    family: str | None = None,
    per_pair: bool = False,
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Correlation shift ||R_0 - R_eps||_F with a 95 % band for each model; smaller means better preserved.

    Over eps where the results hold a family of perturbations with several eps, otherwise over the sites,
    under the first perturbation.

    Parameters
    ----------
    results : what `npb.probe` returns with the metric "correlation", or one model's Dataset of it
    site : where, for a curve over eps; None takes each model's last site
    family : of perturbations, such as "PGD"; None takes the first with several eps
    per_pair : divide by the number of pairs of live units, to compare sites or models of different width
    models, ax : as for `plot_psr`

    Returns the Axes.
    """
    every = measured(results, "correlation", models)
    name = "shift_per_pair" if per_pair else "shift"
    swept = sweep(every[0].data, family)
    if swept:
        return _over_eps(every, name, swept, site, ax)
    if site is not None:
        raise NetprobeError(
            f"no family was probed at several eps, so there is no curve at site {site!r}: leave site out"
        )
    every = select(every, perturbation=strongest(every[0].data))
    ax = site_curves(every, name, describe(every[0].data), ax)
    ax.set_ylim(bottom=0)
    return ax


def _over_eps(every: Sequence[Measured], name: str, swept: list[str], site: str | None, ax: Axes | None) -> Axes:
    ax = canvas(ax)
    every = select(every, perturbation=swept)
    every = [entry for each in every for entry in select([each], site=site or str(each.data["site"].values[-1]))]
    eps = every[0].data["eps"].values
    shown = conditions(every[0].data)[-1]
    grey_levels = not (shown.graded or shown.relative) and np.allclose(eps * 255, np.round(eps * 255), atol=1e-3)
    handles = [curve(ax, entry.data["eps"].values * (255 if grey_levels else 1), entry, name) for entry in every]
    ax.set(xlim=(0, None), ylim=(0, None), ylabel=label(every[0].data[name]))
    ax.set_xlabel(shown.axis("grey levels of 255" if grey_levels else "input units"))
    sites = ", ".join(dict.fromkeys(str(entry.data["site"].item()) for entry in every))
    heading(ax, f"{every[0].data['family'].values[0]}, {sites}", handles)
    return ax
