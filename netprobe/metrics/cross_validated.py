"""Stringer's cross-validated eigenspectrum, from two noisy repeats of every image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from netprobe.errors import NetprobeError, unknown
from netprobe.metrics.base import Metric, Readings, interval, variable
from netprobe.metrics.power_law import fit
from netprobe.metrics.spectrum import ROUND_OFF
from netprobe.probing.kernels import KernelReduction, Kernels, recentred
from netprobe.probing.observables import Layout, Observable


@dataclass(frozen=True)
class CrossValidatedSpectrum(Metric):
    """Variance along the principal directions of one noisy repeat, measured on the other, so that noise does not count.

    X_1, X_2 (image, unit) are the centred activations of two repeats, P_n the n-th unit principal direction of X_1:

        lambda_n = sum over images of (X_1 P_n)(X_2 P_n), averaged over `swaps` random swaps of each image's repeats,
                   divided by the sum over n

    `repeats` names the two perturbations that are the repeats, for example two `GaussianNoise(0.05)`; every
    perturbation has its own random stream. Returns `eigenvalues` (site, rank), which may be negative where there is
    only noise, and `alpha` from the fit of ln |lambda_n| with weights 1/n over ranks `first`..`last`. NaN past the
    rank of X_1. Computed exactly from the three kernels of the repeats. Source: Stringer et al. 2019 and its code;
    for repeats without noise it reduces to PCA.
    """

    name: ClassVar[str] = "cv_spectrum"
    repeats: tuple[str, str] = ("", "")
    first: int = 11
    last: int = 500
    swaps: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.repeats)) != 2:
            raise NetprobeError(
                f"repeats={self.repeats!r}: name the two perturbations that repeat each image with noise"
            )

    def observables(self, layout: Layout) -> list[Observable]:
        return [RepeatedSpectrum(self.repeats, self.swaps, self.seed)]

    def compute(self, readings: Readings) -> xr.Dataset:
        spectra = np.stack([s.results["eigenvalues"] for s in readings(self.observables(readings.layout)[0].key)])
        ranks = np.isfinite(spectra).sum(-1)
        fits = [fit(s, self.first, min(self.last, r), "stringer") for s, r in zip(spectra, ranks, strict=True)]
        alpha = variable("site", [f.alpha for f in fits], "power-law exponent", "1", "of |lambda_n|, weights 1/n")
        return readings.dataset(
            {
                "eigenvalues": variable(
                    "site rank", spectra, "cross-validated variance", "share", "divided by the sum"
                ),
                "alpha": alpha,
                "alpha_interval": interval("site", [(f.low, f.high) for f in fits], alpha, "weighted regression"),
                "fit_last": variable(
                    "site", [f.last for f in fits], "last rank fitted", "1", "never past the rank of X_1"
                ),
            },
            rank=np.arange(1, spectra.shape[-1] + 1),
        )


class RepeatedSpectrum(KernelReduction):
    """Cross-validated eigenvalues, divided by their sum, from the kernels of two repeats."""

    def __init__(self, repeats: tuple[str, str], swaps: int, seed: int) -> None:
        super().__init__()
        self.repeats, self.swaps, self.seed = repeats, swaps, seed
        self.key = ("cross-validated spectrum", repeats, swaps, seed)

    def _pair(self, conditions: Sequence[str]) -> tuple[int, int]:
        for name in self.repeats:
            if name not in conditions[1:]:
                raise unknown("perturbation", name, conditions[1:], "repeats= names two perturbations of this probe")
        return tuple(sorted(conditions.index(name) for name in self.repeats))

    def pairs(self, conditions: Sequence[str]) -> set[tuple[int, int]]:
        i, j = self._pair(conditions)
        return {(i, i), (i, j), (j, j)}

    def reduce(self, kernels: Kernels, conditions: Sequence[str]) -> dict[str, np.ndarray]:
        i, j = self._pair(conditions)
        both = torch.stack([torch.stack([kernels[i, i], kernels[i, j]]), torch.stack([kernels[i, j].T, kernels[j, j]])])
        rng = np.random.default_rng(self.seed)
        swaps = [torch.from_numpy(rng.integers(0, 2, both.shape[-1])) for _ in range(self.swaps)]
        mean = torch.stack([_swapped(both, swap) for swap in swaps]).mean(0)
        return {"eigenvalues": (mean / mean.nansum()).cpu().numpy()}


def _swapped(kernels: Tensor, first: Tensor) -> Tensor:
    """lambda_n when image s takes its first repeat from set `first[s]` and its second from the other one.

    With K_11 = U diag(mu) U^T: X_1 P_n = sqrt(mu_n) u_n and X_2 P_n = K_21 u_n / sqrt(mu_n), so lambda_n = u_n^T K_21
    u_n.
    """
    image = torch.arange(kernels.shape[-1])

    def chosen(rows: Tensor, columns: Tensor) -> Tensor:
        return recentred(kernels[rows[:, None], columns, image[:, None], image])

    values, vectors = torch.linalg.eigh(chosen(first, first))
    values, vectors = values.flip(0), vectors.flip(1)
    shared = torch.einsum("in,ij,jn->n", vectors, chosen(1 - first, first), vectors)
    return torch.where(values > ROUND_OFF["float64"] * values[0], shared, torch.nan)
