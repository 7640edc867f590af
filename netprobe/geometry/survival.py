"""Medians of distances that are only partly known: an image that was never fooled is farther away than was looked."""

from __future__ import annotations

import warnings

import numpy as np
import xarray as xr
from scipy import stats

from netprobe.uncertainty import LEVEL


def reached(walked: xr.Dataset, variable: str) -> np.ndarray:
    """`variable` of every image of one walk: where it was fooled, inf if it never was, NaN if it was not walked."""
    censored = walked["censored"].values
    return np.select([censored == 1, censored == 0], [np.inf, walked[variable].values], np.nan)


def median_distance(distance: np.ndarray, censored: np.ndarray) -> tuple[float, float, float]:
    """Kaplan-Meier median and its 95 % interval, of distances (n,) of which the `censored` are lower bounds.

        median = smallest d with S(d) <= 1/2,   interval: the d at which 1/2 is between the bounds of S(d)

    S is the share of images farther away than d, its bounds pointwise and log-log (Brookmeyer and Crowley, Biometrics
    1982). inf where S stays above 1/2: it is not known how far. (NaN, NaN, NaN) without images.
    """
    if not len(distance):
        return np.nan, np.nan, np.nan
    if censored.all():
        return np.inf, float(np.min(distance)), np.inf
    sample = stats.CensoredData(uncensored=distance[~censored], right=distance[censored])
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # the interval is undefined where S is 1 or 0
        survival = stats.ecdf(sample).sf
        bounds = survival.confidence_interval(LEVEL, method="log-log")
    known = survival.probabilities
    low = np.where(np.isnan(bounds.low.probabilities), np.where(known >= 1, 1.0, 0.0), bounds.low.probabilities)
    high = np.where(np.isnan(bounds.high.probabilities), known, bounds.high.probabilities)
    return tuple(_crossing(survival.quantiles, share) for share in (known, low, high))


def _crossing(distance: np.ndarray, share: np.ndarray) -> float:
    """The first distance at which no more than half is left."""
    below = np.flatnonzero(share <= 0.5 + 1e-12)
    return float(distance[below[0]]) if len(below) else np.inf
