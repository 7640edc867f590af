"""Eigenspectra of the activation covariance and their power-law exponents."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import xarray as xr

from netprobe.errors import NetprobeError, unknown
from netprobe.metrics.base import Metric, Readings, interval, variable
from netprobe.metrics.power_law import fit, fit_range, numerical_rank, sensitivity_band
from netprobe.observables import ConditionMoments, Kernels, Observable
from netprobe.uncertainty import jackknife_interval

DEFINITIONS = ("channel", "pooled", "unit")
ROUND_OFF = 64 * float(np.finfo(np.float64).eps)
"""Relative size below which an eigenvalue is round-off of the float64 accumulator."""


@dataclass(frozen=True)
class Spectrum(Metric):
    """Eigenvalues lambda_1 >= lambda_2 >= ... of the covariance of activations, with the exponent of lambda_n ~ n^(-alpha).

    The covariance is over
        channel   the channels, one observation per image and location
        pooled    the channels averaged over locations, one observation per image
        unit      all units of the layer, one observation per image; exact, through the image-by-image Gram matrix X X^T, which
                  has the same non-zero eigenvalues: costs N^2 times units and extra passes where memory is short

    first, last    the ranks fitted, counted from 1; `first=None`: from 11, on short spectra after the first quarter. The fit
                   never runs past the numerical rank: eigenvalues above 64 eps(float64), or above `floor`, times the first.
    weighting      "ols" (ln lambda on ln n), or "stringer" (weights 1/n)
    jackknife      blocks of images to leave out in turn for an interval of alpha over images (0: none; costs one eigenvalue
                   problem per block); for "unit" spectra too
    repeats        two perturbations that are noise repeats of one another: their cross-validated "unit" spectrum is added as
                   condition-independent `eigenvalues_cv` with `alpha_cv` (Stringer et al. 2019, `swaps` random swaps)

    Returns eigenvalues (definition, condition, site, rank), NaN past their number; alpha with the regression's interval,
    `alpha_band` (how far alpha moves when the range does), optionally `alpha_jackknife`; r2; fit_first, fit_last; log_prefactor;
    rank_numeric; participation_ratio = (sum lambda)^2 / sum lambda^2. Exponents are neither good nor bad; near 1 is what mouse
    V1 shows, and a code of d-dimensional stimuli is smooth if alpha > 1 + 2/d. NaN where fewer than five ranks can be fitted.

    Sources: Stringer et al. 2019; Nassar et al. 2020; arXiv 2405.00679 ("Spectra").
    """

    name: ClassVar[str] = "spectrum"
    definitions: tuple[str, ...] = ("channel",)
    first: int | None = None
    last: int = 500
    weighting: str = "ols"
    floor: float = ROUND_OFF
    jackknife: int = 0
    repeats: tuple[str, str] | None = None
    swaps: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        for definition in self.definitions:
            if definition not in DEFINITIONS:
                raise unknown("spectrum definition", definition, DEFINITIONS)
        if self.weighting not in ("ols", "stringer"):
            raise unknown("weighting", self.weighting, ("ols", "stringer"))
        if self.first is not None and not 1 <= self.first < self.last:
            raise NetprobeError(
                f"cannot fit ranks {self.first}..{self.last}: ranks count from 1 and first < last"
            )
        if self.repeats and "unit" not in self.definitions:
            raise NetprobeError(
                f"repeats={self.repeats} needs the 'unit' spectrum; definitions are {self.definitions}"
            )

    def observables(self, images: int) -> list[Observable]:
        block = -(-images // self.jackknife) if self.jackknife else 0
        moments = [ConditionMoments(d, block) for d in self.definitions if d != "unit"]
        return moments + (
            [Kernels(self.jackknife, self.repeats, self.swaps)] if "unit" in self.definitions else []
        )

    def compute(self, readings: Readings) -> xr.Dataset:
        spectra = [
            [self._spectra(readings, d, site) for site in range(len(readings.sites))]
            for d in self.definitions
        ]
        eigenvalues = _padded([[s[0] for s in sites] for sites in spectra])
        ...


def eigenvalues(covariance: torch.Tensor) -> np.ndarray:
    """Eigenvalues of a symmetric positive semi-definite matrix, descending; round-off below zero is cut to 0."""
    if not torch.isfinite(covariance).all():
        return np.full(len(covariance), np.nan)
    return torch.linalg.eigvalsh(covariance).flip(0).clamp_min(0).cpu().numpy()
