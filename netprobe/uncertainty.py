"""Intervals: Wilson for accuracies, bootstrap over images for means, a jackknife for what is smooth, t over seeds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import numpy as np
from scipy import stats

__all__ = ["bootstrap_interval", "jackknife_interval", "median_interval", "t_interval", "welch_interval", "wilson"]

LEVEL = 0.95

BLOCKS = 8
"""Blocks of neighbouring images that a jackknife leaves out in turn."""

REMEMBERED = 5000
"""Images up to which the draws of a bootstrap are kept: 10 MB for 1,000 resamples."""


def wilson(successes: int, trials: int, level: float = LEVEL) -> tuple[float, float]:
    """Wilson score interval of a proportion; (NaN, NaN) for no trials.

    >>> from netprobe.uncertainty import wilson
    >>> low, high = wilson(98, 100)
    >>> f"{low:.3f} to {high:.3f}"
    '0.930 to 0.994'
    """
    if not trials:
        return np.nan, np.nan
    interval = stats.binomtest(int(successes), int(trials)).proportion_ci(level, method="wilson")
    return interval.low, interval.high


def wilson_intervals(successes: np.ndarray, trials: np.ndarray | int) -> np.ndarray:
    """`wilson` of every pair of counts (...): bounds (..., 2)."""
    successes, trials = np.broadcast_arrays(successes, trials)
    bounds = [wilson(k, n) for k, n in zip(successes.ravel(), trials.ravel(), strict=True)]
    return np.reshape(bounds, (*successes.shape, 2))


def resampled_means(values: np.ndarray, resamples: int = 1000, seed: int = 0) -> np.ndarray:
    """Means over the last axis in bootstrap resamples of it, shape (..., resample); NaN and inf are left out.

    The last axis is the image axis. The resamples depend on its length and `seed` only, so arrays of the same images
    are resampled alike and their differences are paired comparisons. Cost: one matrix product of resamples x images x
    rest.
    """
    n = values.shape[-1]
    usable = np.isfinite(values)
    rows = np.where(usable, values, 0).reshape(-1, n)
    kept = usable.reshape(-1, n).astype(float)
    every = bool(usable.all())
    means = []
    for drawn in _remembered(resamples, n, seed) if n <= REMEMBERED else _resampling_weights(resamples, n, seed):
        weights = drawn.astype(float)
        with np.errstate(invalid="ignore", divide="ignore"):
            means.append((rows @ weights.T) / (n if every else kept @ weights.T))
    return np.concatenate(means, axis=-1).reshape(*values.shape[:-1], resamples)


def _resampling_weights(resamples: int, n: int, seed: int) -> Iterator[np.ndarray]:
    """How often each of n images is drawn in each resample, (resample, n), a hundred at a time to bound the memory.

    20 times faster than rng.multinomial.
    """
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, 100):
        count = min(100, resamples - start)
        drawn = rng.integers(0, n, (count, n)) + n * np.arange(count)[:, None]
        yield np.bincount(drawn.ravel(), minlength=count * n).reshape(count, n).astype(np.int16)


@functools.lru_cache(maxsize=1)
def _remembered(resamples: int, n: int, seed: int) -> list[np.ndarray]:
    """The same, kept for the next quantity of the same images."""
    return list(_resampling_weights(resamples, n, seed))


def bootstrap_interval(
    values: np.ndarray, transform: Callable[[np.ndarray], np.ndarray] = lambda mean: mean, *, seed: int = 0
) -> np.ndarray:
    """95 % percentile bootstrap interval of transform(mean over the last axis), shape (..., 2); NaN without images.

    Values that are not finite are left out, and so are resamples that draw none but these.

    `transform` is increasing, so the interval of the mean is transformed, which also holds where it gives -inf.

    >>> import numpy as np
    >>> from netprobe.uncertainty import bootstrap_interval
    >>> bootstrap_interval(np.arange(10.0))
    array([2.7, 6.4])
    """
    if not values.shape[-1]:
        return np.full((*values.shape[:-1], 2), np.nan)
    means, shares = resampled_means(values, seed=seed), [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    defined = np.isfinite(values).any(-1)
    means[~defined] = 0.0  # whatever: the quantiles of nothing but NaN would warn, and become NaN below
    bounds = (np.nanquantile if np.isnan(means).any() else np.quantile)(means, shares, axis=-1)
    bounds[:, ~defined] = np.nan
    return transform(np.moveaxis(bounds, 0, -1))


def resampled_medians(values: np.ndarray, resamples: int = 1000, seed: int = 0) -> np.ndarray:
    """Medians over the last axis in bootstrap resamples of it, shape (..., resample); inf counts as the largest.

    The last axis is the image axis; all rows are resampled alike, as in `resampled_means`. No NaN. Cost: resamples x
    images x rest.
    """
    rng, n = np.random.default_rng(seed), values.shape[-1]
    drawn = (rng.integers(0, n, n) for _ in range(resamples))
    return np.stack([np.median(values[..., images], axis=-1) for images in drawn], axis=-1)


def median_interval(values: np.ndarray) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the median of the n numbers `values`, exactly and without drawing.

    In a resample, the m-th smallest number is at most the k-th smallest of `values` when at least m draws are, so

        P(median* <= x_(k)) = P(Binomial(n, k/n) >= m),   m = (n + 1)/2

    and the bounds are order statistics. For even n, where the median lies between two numbers, the lower one gives
    the lower bound and the upper one the upper. (NaN, NaN) without numbers. Source: Efron (1982), The Jackknife, the
    Bootstrap and Other Resampling Plans, section 10.2.
    """
    n = len(values)
    if not n:
        return np.nan, np.nan
    ordered, k = np.sort(values), np.arange(1, n + 1)
    reached = [stats.binom.sf(m - 1, n, k / n) for m in ((n + 1) // 2, n // 2 + 1)]
    low, high = (1 - LEVEL) / 2, (1 + LEVEL) / 2
    return float(ordered[np.argmax(reached[0] >= low)]), float(ordered[np.argmax(reached[1] >= high)])


def jackknife_interval(estimate: np.ndarray, left_out: np.ndarray) -> np.ndarray:
    """95 % interval of `estimate` from the values with each of g blocks of images left out, `left_out` (block, ...).

        se^2 = (g - 1)/g sum_b (theta_(b) - mean theta_())^2,   interval = estimate +- t_{g-1} se;   shape (..., 2)

    NaN for fewer than three blocks. Valid for smooth statistics (Efron and Stein 1981), not for medians.
    """
    blocks = len(left_out)
    if blocks < 3:
        return np.full((*np.shape(estimate), 2), np.nan)
    se = np.sqrt((blocks - 1) * np.var(left_out, axis=0))
    half = stats.t.ppf((1 + LEVEL) / 2, blocks - 1) * se
    return np.stack([estimate - half, estimate + half], -1)


def t_interval(values: np.ndarray) -> np.ndarray:
    """95 % Student t interval of the mean over the last axis of n independent values, shape (..., 2).

        mean +- t_{n-1} s / sqrt(n)

    NaN for fewer than two values, and where one is not finite.
    """
    n = values.shape[-1]
    if n < 2:
        return np.full((*values.shape[:-1], 2), np.nan)
    return _around(values.mean(-1), stats.t.ppf((1 + LEVEL) / 2, n - 1) * _standard_error(values))


def welch_interval(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """95 % interval of the difference of two means over the last axis, first minus second, shape (..., 2).

        difference +- t_nu sqrt(e1^2 + e2^2),   e the standard errors, nu after Satterthwaite

    NaN for fewer than two values of either. Where nothing varies the interval is the difference itself. Source: Welch,
    Biometrika 34 (1947) 28.
    """
    difference, sizes = first.mean(-1) - second.mean(-1), (first.shape[-1], second.shape[-1])
    if min(sizes) < 2:
        return np.full((*difference.shape, 2), np.nan)
    one, other = (_standard_error(values) ** 2 for values in (first, second))
    with np.errstate(invalid="ignore", divide="ignore"):
        nu = (one + other) ** 2 / (one**2 / (sizes[0] - 1) + other**2 / (sizes[1] - 1))
        half = stats.t.ppf((1 + LEVEL) / 2, nu) * np.sqrt(one + other)
    return _around(difference, np.where(one + other == 0, 0, half))


def _standard_error(values: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return values.std(-1, ddof=1) / np.sqrt(values.shape[-1])


def _around(centre: np.ndarray, half: np.ndarray) -> np.ndarray:
    return np.stack([centre - half, centre + half], -1)


def decibel(ratio: np.ndarray, per_decade: float = 20.0) -> np.ndarray:
    """per_decade * log10(ratio): 20 for amplitudes, 10 for powers; -inf for 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return per_decade * np.log10(ratio)
