"""Eigenspectra of the activation covariance and their power-law exponents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import xarray as xr

from netprobe.errors import NetprobeError, unknown
from netprobe.metrics.base import Metric, Readings, interval, variable
from netprobe.metrics.power_law import Fit, fit, fit_range, numerical_rank, sensitivity_band
from netprobe.probing.kernels import KernelReduction, Kernels, leave_out, recentred
from netprobe.probing.observables import ConditionMoments, Layout, Observable
from netprobe.uncertainty import BLOCKS, jackknife_interval

DEFINITIONS = ("channel", "pooled", "unit")
ROUND_OFF = {"float64": 64 * float(np.finfo(np.float64).eps), "float32": (8 * float(np.finfo(np.float32).eps)) ** 2}
"""Size, relative to the first, below which eigenvalues are round-off: of float64 accumulators, or, where it is more, of
activations computed in float32 (measured: 1e-14 where true eigenvalues are 0, at means of a few standard deviations).
"""


@dataclass(frozen=True)
class Spectrum(Metric):
    """Eigenvalues lambda_n of the covariance of activations, largest first, with alpha of lambda_n ~ n^(-alpha).

    The covariance is over
        channel   the channels, one observation per image and location
        pooled    the channels averaged over locations, one observation per image
        unit      all units of the layer, one observation per image; exact, through the image-by-image Gram matrix,
                  which has the same non-zero eigenvalues (see `netprobe.probing.kernels`): N^2 times units, in extra
                  passes

    first, last    ranks to fit, counted from 1; first=None: from 11, on short spectra after the first quarter. The
                   fit never runs past the numerical rank, the number of eigenvalues above `floor` times the first;
                   floor=None: above round-off (`ROUND_OFF`)
    weighting      "ols" (ln lambda on ln n) or "stringer" (the same with weights 1/n)
    jackknife      whether to leave out blocks of images in turn for an interval of alpha over images; every block costs
                   an eigenvalue problem per site and condition

    Returns `eigenvalues` (definition, condition, site, rank), NaN past the last; `alpha` with `alpha_interval` (the
    regression's own), `alpha_band` (how far alpha moves when the range does) and `alpha_jackknife`; `r2`, `fit_first`,
    `fit_last`, `log_prefactor`, `rank_numeric`, `participation_ratio` = (sum lambda)^2 / sum lambda^2. An exponent is
    neither good nor bad in itself: near 1 is what mouse V1 shows, a code of d-dimensional stimuli is smooth if alpha
    > 1 + 2/d, and much of it is inherited from the images. NaN where fewer than five ranks can be fitted.

    State: C (C + 2) float64 per site, condition and block ("channel", "pooled"). Cost: n C^2 multiply-adds for n rows.
    Sources: Stringer et al. 2019; Nassar et al. 2020; arXiv 2405.00679.

    >>> import netprobe as npb
    >>> net, digits = npb.load("digits_cnn"), npb.data.load("digits", limit=20)
    >>> metric, noise = npb.Spectrum(first=1), {"noise": npb.GaussianNoise(0.1)}
    >>> tree = npb.probe({"net": net}, digits, noise, metric, "conv", preflight=False, progress=False)
    >>> dict(tree["net/spectrum/alpha"].sizes), dict(tree["net/spectrum/eigenvalues"].sizes)
    ({'definition': 1, 'condition': 2, 'site': 5}, {'definition': 1, 'condition': 2, 'site': 5, 'rank': 64})
    """

    name: ClassVar[str] = "spectrum"
    definitions: tuple[str, ...] = ("channel",)
    first: int | None = None
    last: int = 500
    weighting: str = "ols"
    floor: float | None = None
    jackknife: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for definition in self.definitions:
            if definition not in DEFINITIONS:
                raise unknown("spectrum definition", definition, DEFINITIONS)
        if self.weighting not in ("ols", "stringer"):
            raise unknown("weighting", self.weighting, ("ols", "stringer"))
        if self.first is not None and not 1 <= self.first < self.last:
            raise NetprobeError(f"cannot fit ranks {self.first}..{self.last}: ranks count from 1 and first < last")

    def observables(self, layout: Layout) -> list[Observable]:
        return [self._observable(definition, layout) for definition in self.definitions]

    def _observable(self, definition: str, layout: Layout) -> Observable:
        if definition == "unit":
            return KernelSpectrum(self.jackknife)
        return ConditionMoments(definition, layout.block if self.jackknife else 0)

    def compute(self, readings: Readings) -> xr.Dataset:
        floor = ROUND_OFF[readings.layout.dtype] if self.floor is None else self.floor
        per_site = [readings(self._observable(d, readings.layout).key) for d in self.definitions]
        spectra = [
            [[self._spectra(site, c) for site in sites] for c in range(len(readings.conditions))] for sites in per_site
        ]
        full = _padded([[[full for full, _ in sites] for sites in conditions] for conditions in spectra])
        left_out = [
            np.array([[[self._fit(s, floor).alpha for s in out] for _, out in sites] for sites in conditions])
            for conditions in spectra
        ]
        return readings.dataset(
            self._variables(full, left_out, floor),
            definition=list(self.definitions),
            rank=np.arange(1, full.shape[-1] + 1),
        )

    def _spectra(self, observable: Observable, condition: int) -> tuple[np.ndarray, list[np.ndarray]]:
        """Eigenvalues from all images, and without each block."""
        if isinstance(observable, KernelSpectrum):
            return observable.spectra(condition)
        left_out = observable.jackknife(condition) if self.jackknife else ()
        return eigenvalues(observable.moments(condition).covariance), [eigenvalues(m.covariance) for m in left_out]

    def _fit(self, spectrum: np.ndarray, floor: float) -> Fit:
        return fit(spectrum, *self._range(spectrum, floor), self.weighting)

    def _range(self, spectrum: np.ndarray, floor: float) -> tuple[int, int]:
        return fit_range(numerical_rank(spectrum, floor), self.first, self.last)

    def _variables(self, spectra: np.ndarray, left_out: list[np.ndarray], floor: float) -> dict[str, xr.Variable]:
        """All results, from `spectra` and, by definition, the exponents without each block (condition, site, block)."""
        dims = "definition condition site"
        flat = spectra.reshape(np.prod(spectra.shape[:3]), spectra.shape[3])
        fits = [self._fit(s, floor) for s in flat]

        def shaped(values: list) -> np.ndarray:
            return np.array(values).reshape(*spectra.shape[:3], *np.shape(values)[1:])

        alpha = variable(
            dims,
            shaped([f.alpha for f in fits]),
            "power-law exponent",
            "1",
            "minus the slope of ln lambda on ln n",
        )
        bands = [sensitivity_band(s, *self._range(s, floor), self.weighting) for s in flat]
        jackknife = np.stack(
            [jackknife_interval(a, np.moveaxis(out, -1, 0)) for a, out in zip(alpha.values, left_out, strict=True)]
        )
        with np.errstate(invalid="ignore"):
            participation = np.nansum(spectra, -1) ** 2 / np.nansum(spectra**2, -1)
        return {
            "eigenvalues": variable(
                f"{dims} rank", spectra, "eigenvalue", "activation^2", "of the covariance, descending"
            ),
            "alpha": alpha,
            "alpha_interval": interval(
                dims, shaped([(f.low, f.high) for f in fits]), alpha, "regression, t distribution"
            ),
            "alpha_band": interval(
                dims, shaped(bands), alpha, "smallest and largest alpha over ranges of ranks (no interval)"
            ),
            "alpha_jackknife": interval(dims, jackknife, alpha, f"{BLOCKS} blocks of images left out in turn"),
            "log_prefactor": variable(
                dims,
                shaped([f.log_prefactor for f in fits]),
                "log10 of the fitted line at rank 1",
                "1",
                "natural units of lambda",
            ),
            "r2": variable(
                dims,
                shaped([f.r2 for f in fits]),
                "R^2 of the fit",
                "1",
                "share of the variance of ln lambda explained",
            ),
            "fit_first": variable(dims, shaped([f.first for f in fits]), "first rank fitted", "1", "counted from 1"),
            "fit_last": variable(
                dims, shaped([f.last for f in fits]), "last rank fitted", "1", "never past rank_numeric"
            ),
            "rank_numeric": variable(
                dims,
                shaped([numerical_rank(s, floor) for s in flat]),
                "numerical rank",
                "1",
                f"eigenvalues above {floor:.2g} of the first",
            ),
            "participation_ratio": variable(
                dims, participation, "participation ratio", "1", "(sum lambda)^2 / sum lambda^2"
            ),
        }


class KernelSpectrum(KernelReduction):
    """Eigenvalues of the covariance over all units, from the kernels; if asked, also without each block of images."""

    def __init__(self, jackknife: bool = False) -> None:
        super().__init__()
        self.jackknife = jackknife
        self.key = ("unit spectrum", jackknife)

    def pairs(self, conditions: Sequence[str]) -> set[tuple[int, int]]:
        return {(c, c) for c in range(len(conditions))}

    def reduce(self, kernels: Kernels, conditions: Sequence[str]) -> dict[str, np.ndarray]:
        results = {}
        for c in range(len(conditions)):
            kernel = kernels[c, c]
            results[f"{c}"] = _kernel_spectrum(kernel)
            for block, kept in enumerate(leave_out(len(kernel)) if self.jackknife else []):
                results[f"{c} without {block}"] = _kernel_spectrum(recentred(kernel[kept][:, kept]))
        return results

    def spectra(self, condition: int) -> tuple[np.ndarray, list[np.ndarray]]:
        """The eigenvalues, and those without each block."""
        left_out = [s for name, s in self.results.items() if name.startswith(f"{condition} without ")]
        return self.results[f"{condition}"], left_out


def eigenvalues(matrix: torch.Tensor) -> np.ndarray:
    """Eigenvalues of a symmetric positive semi-definite matrix, descending; round-off below zero becomes zero."""
    if not torch.isfinite(matrix).all():
        return np.full(len(matrix), np.nan)
    return torch.linalg.eigvalsh(matrix).flip(0).clamp_min(0).cpu().numpy()


def _kernel_spectrum(kernel: torch.Tensor) -> np.ndarray:
    return eigenvalues(kernel)[: len(kernel) - 1] / (len(kernel) - 1)  # centring makes the last one zero


def _padded(spectra: list) -> np.ndarray:
    """One array (definition, condition, site, rank) from spectra of different lengths, NaN past their ends."""
    longest = max(len(s) for conditions in spectra for sites in conditions for s in sites)
    return np.array(
        [[[np.pad(s, (0, longest - len(s)), constant_values=np.nan) for s in sites] for sites in c] for c in spectra]
    )
