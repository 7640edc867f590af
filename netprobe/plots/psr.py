"""Perturbation-to-signal ratio along the network: mean in dB with its interval."""

from __future__ import annotations

from collections.abc import Iterable

import xarray as xr
from matplotlib.axes import Axes

from netprobe.plots.drawing import norm_name, site_curves, styled
from netprobe.plots.reading import describe, perturbed


@styled
def plot_psr(
    results: xr.DataTree | xr.Dataset,
    *,
    perturbation: str | None = None,
    norm: str = "2",
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Mean perturbation-to-signal ratio in dB against the site, a line and a 95 % band for each model.

    PSR_l(x) = ||f_l(x) - f_l(x')||_p / ||f_l(x)||_p; drawn is 20 log10 of its mean over images. At 0 dB the
    perturbation is as large as the signal; lower means that the layer is disturbed less.

    Parameters
    ----------
    results : what `npb.probe` returns with the metric "psr", or the Dataset of one model's "psr"
    perturbation : its name; None takes the largest eps of the first family
    norm : "1", "2" or "inf"
    models : which models, None for all; sites that differ between models are drawn by relative depth
    ax : where to draw; None makes a figure

    Returns the Axes. Raises NetprobeError when the results lack the metric or the label.

    References
    ----------
    Bakiskan (2022), dissertation, eq. 3.1 and Fig. 3.13: the mean of the ratios, then the logarithm.

    >>> import netprobe as npb
    >>> net, digits = npb.load("digits_cnn"), npb.data.load("digits", limit=20)
    >>> tree = npb.probe({"net": net}, digits, {"noise": npb.GaussianNoise(0.1)}, "psr", progress=False)
    >>> ax = npb.plot_psr(tree)
    >>> ax.get_ylabel()
    'Mean PSR (dB)'
    """
    every = perturbed(results, "psr", models, perturbation, norm=norm)
    return site_curves(every, "psr_db", f"{describe(every[0].data)}, {norm_name(norm)}", ax, "perturbation = signal")
