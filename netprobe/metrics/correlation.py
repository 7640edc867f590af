"""How far a perturbation moves the correlations between units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from netprobe.errors import unknown
from netprobe.metrics.base import Metric, Readings, interval, variable
from netprobe.probing.observables import ConditionMoments, Layout, Observable
from netprobe.probing.streaming import Moments
from netprobe.uncertainty import BLOCKS, jackknife_interval

DEAD = 64 * float(np.finfo(np.float64).eps)
"""A unit is dead when its variance is below this share of its mean square: it is constant to within round-off."""

SHARES = np.linspace(0, 1, 101)
"""Of pairs of units, at which the changes of their correlations are told."""


@dataclass(frozen=True)
class CorrelationShift(Metric):
    """Frobenius distance between the correlation matrices of a site's units on clean and on perturbed inputs.

        D = ||R_0 - R_eps||_F,   R_ij = cov_ij / sqrt(var_i var_j), 0 where a unit is dead

    over channels ("channel": one observation per image and location) or over channels averaged over locations
    ("pooled"). On a layer of n units both mean the correlations over images of arXiv 2308.03956.

    Returns `shift` (perturbation, site) with the interval of a jackknife over blocks of images;
    `shift_per_pair` = D / sqrt(n (n - 1)) over the n units alive in both conditions, comparable between widths;
    `change` (perturbation, site, share), quantiles of |R_0,ij - R_eps,ij| over the pairs i < j of those units, that is
    their empirical distribution; and `live_units`. 0 <= D <= 2 n; smaller means a more rigid correlation structure;
    invariant to positive rescaling of single units. NaN per pair and for changes where fewer than two units live. D has
    a floor from finite samples: compare conditions on the same images only. State: C (C + 2) float64 per site,
    condition and block.
    """

    name: ClassVar[str] = "correlation"
    unit: str = "channel"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.unit not in ("channel", "pooled"):
            raise unknown("unit", self.unit, ("channel", "pooled"))

    def observables(self, layout: Layout) -> list[Observable]:
        return [ConditionMoments(self.unit, layout.block)]

    def compute(self, readings: Readings) -> xr.Dataset:
        sites = readings(self.observables(readings.layout)[0].key)
        found = zip(*(_shifts(site, len(readings.conditions)) for site in sites), strict=True)
        full, changes, left_out = (np.stack(part, -1) for part in found)
        d, per_pair, live = full
        dims = "perturbation site"
        shift = variable(dims, d, "correlation shift", "1", "||R_0 - R_eps||_F")
        bounds = jackknife_interval(d, left_out)
        return readings.dataset(
            {
                "shift": shift,
                "shift_interval": interval(dims, bounds, shift, f"{BLOCKS} blocks of images left out in turn"),
                "shift_per_pair": variable(
                    dims, per_pair, "correlation shift per pair", "1", "over units alive in both, / sqrt(n (n - 1))"
                ),
                "change": variable(
                    f"{dims} share",
                    np.moveaxis(changes, 1, -1),
                    "change of a correlation",
                    "1",
                    "|R_0,ij - R_eps,ij| that this share of the pairs of units alive in both does not exceed",
                ),
                "live_units": variable(dims, live, "live units", "units", "units that vary in both conditions"),
            },
            share=SHARES,
        )


def correlation(moments: Moments) -> tuple[Tensor, Tensor]:
    """Correlation matrix (C, C), 0 in rows and columns of dead units, and which units are alive (C,)."""
    covariance = moments.covariance
    variance = covariance.diagonal()
    alive = variance > DEAD * (moments.mean.square() + variance)
    scale = torch.where(alive, variance.rsqrt(), 0)
    return (scale[:, None] * covariance * scale).clamp(-1, 1), alive


def _shifts(site: ConditionMoments, conditions: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """D, D per pair and live units, (3, perturbation); quantiles of the changes of correlations, (perturbation, share);
    and D without each block of images, (block, perturbation).
    """
    clean = correlation(site.moments(0))
    perturbed = [correlation(site.moments(c)) for c in range(1, conditions)]
    full, changes = ([measure(clean, each) for each in perturbed] for measure in (_shift, _changes))
    pairs = zip(*(map(correlation, site.jackknife(c)) for c in range(conditions)), strict=True)
    left_out = [[_shift(first, other)[0] for other in others] for first, *others in pairs]
    return np.array(full).T, np.array(changes), np.array(left_out).reshape(-1, conditions - 1)


def _shift(clean: tuple[Tensor, Tensor], perturbed: tuple[Tensor, Tensor]) -> tuple[float, float, int]:
    """D, D per pair of live units, and how many units live, from two correlation matrices and their live units."""
    difference, both = clean[0] - perturbed[0], clean[1] & perturbed[1]
    n = int(both.sum())
    per_pair = float(difference[both][:, both].norm()) / np.sqrt(n * (n - 1)) if n > 1 else np.nan
    return float(difference.norm()), per_pair, n


def _changes(clean: tuple[Tensor, Tensor], perturbed: tuple[Tensor, Tensor]) -> np.ndarray:
    """Quantiles of |R_0 - R_eps| over the pairs of units alive in both, at SHARES."""
    both = clean[1] & perturbed[1]
    difference = (clean[0] - perturbed[0])[both][:, both].abs().cpu().numpy()
    pairs = difference[np.triu_indices(len(difference), 1)]
    return np.quantile(pairs, SHARES) if pairs.size else np.full(len(SHARES), np.nan)
