"""Which of two networks is farther from its errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from netprobe.errors import NetprobeError
from netprobe.geometry.survival import reached
from netprobe.metrics.base import interval, variable
from netprobe.uncertainty import LEVEL, wilson

RESAMPLES = 1000


def compare_distances(first: xr.Dataset, second: xr.Dataset, *, seed: int = 0) -> xr.Dataset:
    """Two networks on the same images: which is farther from its errors, over the images that both get right.

    Returns over (walk): `farther`, of the images whose order is known the share on which `first` is, with its Wilson
    interval; `p_value` of the exact sign test; `ratio` of the medians, first / second, with its paired bootstrap 95 %
    interval, NaN where a median is beyond the grid; `images`. Two censored distances are no order, nor are equal eps.
    """
    if first.sizes["image"] != second.sizes["image"] or list(first["walk"].values) != list(second["walk"].values):
        raise NetprobeError("compare distances of the same images along the same walks")
    rows = [_compared(first.sel(walk=name), second.sel(walk=name), seed) for name in first["walk"].values]
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    farther = variable("walk", columns["farther"], "share of images farther", "1", "of those whose order is known")
    ratio = variable("walk", columns["ratio"], "ratio of medians", "1", "first over second")
    found = {
        "farther": farther,
        "farther_interval": interval("walk", columns["farther_interval"], farther, "Wilson score interval"),
        "p_value": variable("walk", columns["p_value"], "p value", "1", "exact sign test, two-sided"),
        "ratio": ratio,
        "ratio_interval": interval("walk", columns["ratio_interval"], ratio, "paired bootstrap over images"),
        "images": variable("walk", columns["images"], "images", "1", "right in both networks"),
    }
    return xr.Dataset(found, {"walk": first["walk"].values, "bound": ["low", "high"]})


def _compared(first: xr.Dataset, second: xr.Dataset, seed: int) -> dict[str, Any]:
    both = (first["censored"].values >= 0) & (second["censored"].values >= 0)
    one, two = (reached(each, "critical_eps")[both] for each in (first, second))
    more, less = int((one > two).sum()), int((one < two).sum())
    decided = more + less
    lengths = np.stack([reached(each, "distance")[both] for each in (first, second)])
    draws = np.random.default_rng(seed).integers(0, max(both.sum(), 1), (RESAMPLES, both.sum()))
    return {
        "farther": more / decided if decided else np.nan,
        "farther_interval": wilson(more, decided),
        "p_value": float(stats.binomtest(more, decided).pvalue) if decided else 1.0,
        "images": int(both.sum()),
        **_ratio(lengths, draws),
    }


def _ratio(lengths: np.ndarray, draws: np.ndarray) -> dict[str, Any]:
    """The ratio of medians, and its interval: no number where more than a 40th of the resamples has none."""
    if not lengths.shape[1]:
        return {"ratio": np.nan, "ratio_interval": (np.nan, np.nan)}
    with np.errstate(invalid="ignore", divide="ignore"):
        medians = np.median(lengths[:, draws], axis=-1)
        ratios = np.where(np.isfinite(medians).all(0), medians[0] / medians[1], np.nan)
        middle = np.median(lengths, axis=-1)
        ratio = middle[0] / middle[1] if np.isfinite(middle).all() else np.nan
    sure = np.isfinite(ratios).mean() >= (1 + LEVEL) / 2
    bounds = np.nanquantile(ratios, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if sure else (np.nan, np.nan)
    return {"ratio": ratio, "ratio_interval": tuple(bounds)}
