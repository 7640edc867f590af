"""Paired comparison of two models over their layers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr
from scipy import stats

from netprobe.uncertainty import LEVEL


class Paired(NamedTuple):
    """A mean difference over `layers` layers with its 95 % interval, and the p-value of the signed-rank test."""

    difference: float
    low: float
    high: float
    p_value: float
    layers: int

    def __str__(self) -> str:
        if not self.layers:
            return "no layers in common"
        if np.isnan(self.low):
            return f"{self.difference:+.3f} over {self.layers} layers, too few for an interval"
        return (
            f"{self.difference:+.3f} [{self.low:+.3f}, {self.high:+.3f}] over {self.layers} layers, "
            f"Wilcoxon p = {self.p_value:.2g}"
        ).replace("-", "−")


def paired_difference(first: xr.DataArray, second: xr.DataArray) -> Paired:
    """Mean over the layers that both have of second - first, Student's t interval, Wilcoxon signed-rank test.

    d_l = second_l - first_l,   mean(d) +- t_{n-1} sd(d) / sqrt(n)

    Layers are paired by name; those where either is NaN are left out. NaN bounds and p-value for fewer than three
    layers. The layers of a network are neither independent nor drawn from a population: the interval measures how
    consistent the difference is between layers, and does not cover retraining.

    References: Student (1908); Wilcoxon (1945), as in `scipy.stats.ttest_rel` and `scipy.stats.wilcoxon`.
    """
    one, other = xr.align(first, second, join="inner")
    both = np.isfinite(one.values) & np.isfinite(other.values)
    a, b = one.values[both], other.values[both]
    n = int(both.sum())
    if not n:
        return Paired(np.nan, np.nan, np.nan, np.nan, 0)
    if n < 3 or np.ptp(b - a) == 0:  # a t interval of equal differences has no width, and warns
        bound = float(b[0] - a[0]) if n >= 3 else np.nan
        return Paired(float(np.mean(b - a)), bound, bound, _signed_rank(a, b), n)
    low, high = stats.ttest_rel(b, a).confidence_interval(LEVEL)
    return Paired(float(np.mean(b - a)), float(low), float(high), _signed_rank(a, b), n)


def _signed_rank(a: np.ndarray, b: np.ndarray) -> float:
    if len(a) < 3:
        return np.nan
    return float(stats.wilcoxon(b, a).pvalue) if (a != b).any() else 1.0
