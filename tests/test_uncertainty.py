"""Intervals against their formulas, scipy, and their coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from netprobe.uncertainty import (
    bootstrap_interval,
    decibel,
    jackknife_interval,
    median_interval,
    resampled_means,
    wilson,
)


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (517, 1000), (1, 1)])
def test_wilson_by_its_formula(k, n):
    z, p = stats.norm.ppf(0.975), k / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    np.testing.assert_allclose(wilson(k, n), (centre - half, centre + half), rtol=1e-12, atol=1e-15)


def test_wilson_of_nothing_is_undefined():
    assert np.isnan(wilson(0, 0)).all()


def sample(n: int = 60) -> np.ndarray:
    return np.random.default_rng(1).exponential(size=n)


def test_bootstrap_is_scipys():
    """Two independent sets of resamples: the bounds differ by the error of a 2.5 % quantile, about 5 % of the width."""
    values = sample()
    found = bootstrap_interval(values)
    reference = stats.bootstrap((values,), np.mean, n_resamples=20000, method="percentile", rng=0).confidence_interval
    width = reference.high - reference.low
    np.testing.assert_allclose(found, reference, atol=0.15 * width)


def test_bootstrap_of_a_normal_mean_is_the_textbook_interval():
    values = np.random.default_rng(0).normal(size=400)
    expected = values.mean() + np.array([-1, 1]) * 1.96 * values.std() / 20
    np.testing.assert_allclose(bootstrap_interval(values), expected, atol=0.15 * 3.92 / 20)  # as above


def test_resamples_are_means_of_drawn_images():
    """With values 0 or 1 every resampled mean is a whole number of images over n; their spread is that of a mean."""
    values = np.repeat([0.0, 1.0], 10)
    means = resampled_means(values)
    assert means.shape == (1000,)
    np.testing.assert_allclose(means * 20, np.round(means * 20), atol=1e-12)
    # sd of a mean of 20 fair coins 0.1118; of 1000 draws its relative error is 1 / sqrt(2000) = 2 %, four times that
    assert means.std() == pytest.approx(np.sqrt(0.25 / 20), rel=0.09)


def test_bootstrap_is_reproducible_and_paired():
    values = sample()
    np.testing.assert_array_equal(bootstrap_interval(values), bootstrap_interval(values))
    assert (bootstrap_interval(values) != bootstrap_interval(values, seed=1)).any()
    both = bootstrap_interval(np.stack([values, values + 3]))
    np.testing.assert_allclose(both[1], both[0] + 3, rtol=1e-12)  # the same images drawn for both


def test_bootstrap_keeps_leading_axes():
    values = np.random.default_rng(0).normal(size=(2, 3, 50))
    found = bootstrap_interval(values)
    assert found.shape == (2, 3, 2)
    np.testing.assert_allclose(found[1, 2], bootstrap_interval(values[1, 2]), rtol=1e-12)


@pytest.mark.parametrize("hole", [np.nan, np.inf])
def test_bootstrap_leaves_out_what_is_undefined(hole):
    values = sample()
    holed = np.insert(values, [3, 30], hole)
    found = bootstrap_interval(holed)
    # other resamples of the same 60 numbers: as against scipy
    np.testing.assert_allclose(found, bootstrap_interval(values), atol=0.15 * np.ptp(found))
    assert np.isnan(bootstrap_interval(np.full(5, hole))).all()
    assert np.isnan(bootstrap_interval(np.zeros((2, 0)))).all()


def test_bootstrap_of_a_transformed_mean():
    values = sample()
    np.testing.assert_allclose(bootstrap_interval(values, decibel), decibel(bootstrap_interval(values)))
    assert bootstrap_interval(np.zeros(9), decibel).tolist() == [-np.inf, -np.inf]


def test_bootstrap_covers():
    """300 samples of 60: 95 % of intervals hold the truth; binomial sd 1.3 %, a percentile bootstrap 1 to 2 % short."""
    samples = np.random.default_rng(2).normal(size=(300, 60))
    low, high = bootstrap_interval(samples).T
    assert 0.89 < np.mean((low < 0) & (high > 0)) < 0.985


def left_out_means(values: np.ndarray, blocks: int) -> np.ndarray:
    return np.array([np.delete(values, part).mean() for part in np.array_split(np.arange(len(values)), blocks)])


def test_jackknife_by_hand():
    # left-out values 1, 2, 3: mean 2, squares 1 + 0 + 1; se^2 = 2/3 * 2 = 4/3; t of two degrees of freedom 4.302653
    low, high = jackknife_interval(np.array(2.0), np.array([1.0, 2.0, 3.0]))
    assert (low, high) == (pytest.approx(2 - 4.302653 * np.sqrt(4 / 3)), pytest.approx(2 + 4.302653 * np.sqrt(4 / 3)))


def test_jackknife_of_a_mean_is_the_standard_error():
    """Leaving out single values gives exactly s / sqrt(n), so the interval is Student's."""
    values = sample(30)
    found = jackknife_interval(values.mean(), left_out_means(values, 30))
    expected = stats.t.interval(0.95, 29, values.mean(), stats.sem(values))
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_jackknife_of_block_means_is_the_standard_error_of_the_blocks():
    values = sample(40)
    blocks = values.reshape(8, 5).mean(1)
    found = jackknife_interval(values.mean(), left_out_means(values, 8))
    np.testing.assert_allclose(found, stats.t.interval(0.95, 7, blocks.mean(), stats.sem(blocks)), rtol=1e-10)


def test_jackknife_keeps_axes_and_needs_three_blocks():
    left_out = np.random.default_rng(0).normal(size=(5, 2, 3))
    found = jackknife_interval(np.zeros((2, 3)), left_out)
    assert found.shape == (2, 3, 2)
    np.testing.assert_allclose(found[1, 2], jackknife_interval(np.array(0.0), left_out[:, 1, 2]))
    assert np.isnan(jackknife_interval(np.zeros((2, 3)), left_out[:2])).all()
    assert np.isnan(jackknife_interval(np.zeros((2, 3)), left_out[:0])).all()


def test_decibel():
    assert decibel(np.array([1.0, 10.0, 0.1])).tolist() == [0, 20, -20]
    assert decibel(np.array([1.0, 10.0, 0.0]), 10).tolist() == [0, 10, -np.inf]
    assert np.isnan(decibel(np.array(np.nan)))


@pytest.mark.parametrize("n", [1, 2, 7, 16, 64])
def test_median_interval_is_that_of_many_resamples(n):
    values = np.random.default_rng(n).normal(size=n)
    draws = np.random.default_rng(0).integers(0, n, (20_000, n))
    medians = np.median(values[draws], axis=1)
    low, high = median_interval(values)
    # Bounds are order statistics, those of even n a little outside: at least 95 % lie between, and not much more.
    assert np.mean(medians < low) <= 0.027 and np.mean(medians > high) <= 0.027
    if n % 2:
        assert (low, high) == tuple(np.quantile(medians, [0.025, 0.975], method="inverted_cdf"))
    assert low <= np.median(values) <= high


def test_median_interval_of_nothing():
    assert np.isnan(median_interval(np.empty(0))).all()


@pytest.mark.parametrize("n", range(3, 40))
def test_median_interval_of_the_negatives_is_the_negative(n):
    values = np.random.default_rng(n).normal(size=n)
    low, high = median_interval(values)
    assert median_interval(-values) == (-high, -low)


def test_a_bootstrap_of_mostly_undefined_values():
    """Three of eight are known: one resample in forty has none of them, and the others tell the interval."""
    values = np.array([[1.0, np.nan, 2.0, np.nan, np.nan, 4.0, np.nan, np.nan], [np.nan] * 8])
    (low, high), nothing = bootstrap_interval(values)
    assert 1.0 <= low < 7 / 3 < high <= 4.0
    assert np.isnan(nothing).all()
    means = resampled_means(values[:1])[0]
    assert 0 < np.isnan(means).mean() < 0.06
    np.testing.assert_array_equal([low, high], np.quantile(means[~np.isnan(means)], [0.025, 0.975]))
