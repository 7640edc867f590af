"""How large a perturbation is, layer by layer, relative to the signal: PSR and SNR."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import xarray as xr

from netprobe.errors import unknown
from netprobe.metrics.base import Metric, Readings, interval, variable
from netprobe.probing.observables import Layout, Norms, Observable
from netprobe.uncertainty import bootstrap_interval, decibel

NORMS = ("1", "2", "inf")
BOOTSTRAP = "percentile bootstrap over images, 1000 resamples, seed 0"


@dataclass(frozen=True)
class PSR(Metric):
    """Perturbation-to-signal ratio of every image at every site.

        PSR_p(x) = ||f(x') - f(x)||_p / ||f(x)||_p,   p = 1, 2, inf, over all units of the site

    Returns `psr` (perturbation, norm, site, image), `psr_db` = 20 log10 of the mean over images with its bootstrap
    interval, and `psr_median`. Smaller means the site passes on less of the perturbation; above 1 (0 dB) the
    perturbation exceeds the signal. Undefined (NaN) where the clean tensor is all zero: such images are left out of
    the mean and counted in `undefined`. -inf dB where nothing changes. Invariant to rescaling a layer's weights.

    State: four numbers per image, site and perturbation. Source: Bakiskan 2022, eq. 3.1, figures 3.12 and 3.13;
    unlike the code behind them, perturbed images are not truncated to 8 bits.

    >>> from torch import nn
    >>> import netprobe as npb
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False))
    >>> fade = {"fade": lambda model, x, y, *, generator: 0.9 * x}  # a linear network fades by a tenth, too
    >>> tree = npb.probe({"net": net}, npb.data.load("digits", limit=20), fade, "psr", preflight=False, progress=False)
    >>> tree["net/psr/psr_db"].sel(perturbation="fade", norm="2").values.round(3)
    array([-20.])
    """

    name: ClassVar[str] = "psr"
    norms: tuple[str, ...] = NORMS

    def __post_init__(self) -> None:
        super().__post_init__()
        for norm in self.norms:
            if norm not in NORMS:
                raise unknown("norm", norm, NORMS)

    def observables(self, layout: Layout) -> list[Observable]:
        return [Norms(self.norms)]

    def compute(self, readings: Readings) -> xr.Dataset:
        clean, change = _norms(readings, Norms(self.norms).key)
        with np.errstate(invalid="ignore"):
            ratio = change / np.where(clean == 0, np.nan, clean)
        dims = "perturbation norm site"
        psr = variable(
            f"{dims} image",
            ratio,
            "perturbation-to-signal ratio",
            "1",
            "||f(x') - f(x)||_p / ||f(x)||_p per image",
        )
        mean_db = variable(dims, decibel(_mean(ratio)), "mean PSR", "dB", "20 log10 of the mean of psr over images")
        median = variable(dims, _median(ratio), "median PSR", "1", "median of psr over images")
        undefined = variable(
            dims, np.isnan(ratio).sum(-1), "undefined", "images", "images whose clean tensor is all zero"
        )
        bounds = interval(dims, bootstrap_interval(ratio, decibel), mean_db, BOOTSTRAP)
        return readings.dataset(
            {
                "psr": psr,
                "psr_db": mean_db,
                "psr_db_interval": bounds,
                "psr_median": median,
                "undefined": undefined,
            },
            norm=list(self.norms),
        )


@dataclass(frozen=True)
class SNR(Metric):
    """Signal-to-noise ratio, in power, of what enters (by default) every site.

        SNR = 10 log10( mean_x ||f(x)||_2^2 / ||f(x') - f(x)||_2^2 )   in dB

    Returns `snr` (perturbation, site, image), the ratio of powers; `snr_db` with its bootstrap interval; and
    `snr_median_db`. Larger means the signal survives better. The mean of ratios is ruled by the few images that hardly
    change, hence the median beside it; for the same reason -PSR in dB is not the SNR. Images that do not change at all
    have an infinite ratio: they are left out of the mean and counted in `unaffected`. NaN where signal and change are
    both 0.

    State: two numbers per image, site and perturbation. Source: Cekic, Bakiskan and Madhow 2022, eq. 5.6 of Bakiskan
    2022.

    >>> import netprobe as npb
    >>> net, half = npb.load("digits_cnn"), {"half": lambda model, x, y, *, generator: x / 2}
    >>> tree = npb.probe({"net": net}, npb.data.load("digits", limit=20), half, "snr", preflight=False, progress=False)
    >>> round(float(tree["net/snr/snr_db"].sel(perturbation="half", site="conv1:in")), 2)  # 10 log10(1 / (1/2)^2)
    6.02
    """

    name: ClassVar[str] = "snr"
    at: str = "input"

    def observables(self, layout: Layout) -> list[Observable]:
        return [Norms(("2",))]

    def compute(self, readings: Readings) -> xr.Dataset:
        clean, change = _norms(readings, Norms(("2",)).key)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.square(clean / change)[:, 0]
        dims = "perturbation site"
        snr = variable(
            f"{dims} image",
            ratio,
            "signal-to-noise ratio",
            "1",
            "||f(x)||_2^2 / ||f(x') - f(x)||_2^2 per image",
        )
        mean_db = variable(dims, decibel(_mean(ratio), 10), "mean SNR", "dB", "10 log10 of the mean of snr over images")
        median = variable(
            dims, decibel(_median(ratio), 10), "median SNR", "dB", "10 log10 of the median of snr over images"
        )
        same = variable(dims, np.isinf(ratio).sum(-1), "unaffected", "images", "images whose tensor does not change")
        bounds = bootstrap_interval(ratio, lambda mean: decibel(mean, 10))
        return readings.dataset(
            {
                "snr": snr,
                "snr_db": mean_db,
                "snr_db_interval": interval(dims, bounds, mean_db, BOOTSTRAP),
                "snr_median_db": median,
                "unaffected": same,
            }
        )


def _norms(readings: Readings, key: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Norms of the clean tensors, (1, norm, site, image), and of the differences, (perturbation, norm, site, image)."""
    norms = readings.per_image(key).transpose(2, 3, 0, 1)
    return norms[:1], norms[1:]


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over images of what is finite; NaN if nothing is."""
    defined = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(defined, values, 0).sum(-1) / defined.sum(-1)


def _median(values: np.ndarray) -> np.ndarray:
    """Median over images of what is defined; NaN if nothing is."""
    some = ~np.isnan(values).all(-1)
    return np.where(some, np.nanmedian(np.where(some[..., None], values, 0), -1), np.nan)
