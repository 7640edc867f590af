"""Fit lambda_n = c n^(-alpha) to an eigenspectrum, within ranks that hold signal and not round-off."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from netprobe.uncertainty import LEVEL

LEAST_RANKS = 5
"""Fewer ranks than this are no power law."""


@dataclass(frozen=True)
class Fit:
    """A power-law fit.

    `alpha` = minus the slope of ln lambda on ln n; `low`, `high` its 95 % interval under the regression's own
    assumptions; `log_prefactor` = log10 of the line at n = 1; ranks `first`..`last` count from 1.
    """

    alpha: float
    low: float
    high: float
    log_prefactor: float
    r2: float
    first: int
    last: int


def numerical_rank(eigenvalues: np.ndarray, floor: float) -> int:
    """How many of the descending `eigenvalues` lie above `floor` times the first."""
    return int((eigenvalues > floor * eigenvalues[0]).sum()) if eigenvalues.size and eigenvalues[0] > 0 else 0


def fit_range(rank: int, first: int | None = None, last: int = 500) -> tuple[int, int]:
    """First and last rank to fit: as asked, but never past `rank`. `first=None` skips the head of the spectrum as the
    field does, from rank 11, and on short spectra a quarter of the ranks."""
    return (min(11, rank // 4 + 1) if first is None else first), min(last, rank)


def fit(eigenvalues: np.ndarray, first: int, last: int, weighting: str = "ols") -> Fit:
    """Fit ranks `first`..`last` of the descending `eigenvalues`.

    weighting="ols": ordinary least squares of ln lambda_n on ln n.  weighting="stringer": weights 1/n, which makes
    every octave of ranks count alike (Stringer et al. 2019). All NaN when fewer than five ranks are left.

    >>> import numpy as np
    >>> from netprobe.metrics import power_law
    >>> found = power_law.fit(5 * np.arange(1, 101) ** -1.5, first=1, last=100)
    >>> float(round(found.alpha, 6)), float(round(10**found.log_prefactor, 6))
    (1.5, 5.0)
    """
    ranks = np.arange(first, last + 1)
    if len(ranks) < LEAST_RANKS:
        return Fit(*[np.nan] * 5, first, last)
    x, y = np.log(ranks), np.log(np.abs(eigenvalues[first - 1 : last]))
    w = np.ones_like(x) if weighting == "ols" else 1 / ranks
    x0, y0 = np.average(x, weights=w), np.average(y, weights=w)
    sxx, syy, sxy = (np.sum(w * a * b) for a, b in ((x - x0, x - x0), (y - y0, y - y0), (x - x0, y - y0)))
    slope = sxy / sxx
    unexplained = max(syy - slope * sxy, 0.0)
    half = stats.t.ppf((1 + LEVEL) / 2, len(ranks) - 2) * np.sqrt(unexplained / (len(ranks) - 2) / sxx)
    r2 = 1 - unexplained / syy if syy > 0 else np.nan
    return Fit(-slope, -slope - half, -slope + half, (y0 - slope * x0) / np.log(10), r2, first, last)


def sensitivity_band(eigenvalues: np.ndarray, first: int, last: int, weighting: str = "ols") -> tuple[float, float]:
    """Smallest and largest alpha when the first rank is halved or doubled, the last halved or cut by a quarter."""
    firsts = {max(1, first // 2), first, 2 * first}
    lasts = {last // 2, last * 3 // 4, last}
    alphas = [fit(eigenvalues, f, e, weighting).alpha for f in firsts for e in lasts if e - f + 1 >= LEAST_RANKS]
    return (min(alphas), max(alphas)) if alphas else (np.nan, np.nan)
