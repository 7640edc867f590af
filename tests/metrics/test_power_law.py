"""Power-law fits against scipy, weighted normal equations, and laws they must recover."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from netprobe.metrics.power_law import LEAST_RANKS, fit, fit_range, numerical_rank, sensitivity_band

RANKS = np.arange(1, 301)


def noisy_law(alpha: float = 1.2, noise: float = 0.05) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.sort(3.0 * RANKS**-alpha * np.exp(noise * rng.normal(size=len(RANKS))))[::-1]


@pytest.mark.parametrize("weighting", ["ols", "stringer"])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 2.7])
def test_an_exact_law_is_recovered(alpha, weighting):
    found = fit(0.3 * RANKS**-alpha, 11, 250, weighting)
    assert found.alpha == pytest.approx(alpha, abs=1e-12)
    assert found.log_prefactor == pytest.approx(np.log10(0.3), abs=1e-12)
    assert (found.first, found.last) == (11, 250)
    assert found.high - found.low == pytest.approx(0, abs=1e-6)
    if alpha:
        assert found.r2 == pytest.approx(1, abs=1e-12)


def test_ols_is_scipys_regression():
    values, first, last = noisy_law(), 11, 200
    n, spectrum = RANKS[first - 1 : last], values[first - 1 : last]
    reference = stats.linregress(np.log(n), np.log(spectrum))
    found = fit(values, first, last)
    half = stats.t.ppf(0.975, len(n) - 2) * reference.stderr
    np.testing.assert_allclose(
        [found.alpha, found.low, found.high], [-reference.slope, -reference.slope - half, -reference.slope + half]
    )
    assert found.log_prefactor == pytest.approx(reference.intercept / np.log(10))
    assert found.r2 == pytest.approx(reference.rvalue**2)


def test_stringers_weights_by_normal_equations():
    """Weighted least squares with weights 1/n, and its standard error, from (X^T W X)^-1."""
    values, first, last = noisy_law(), 3, 150
    n = RANKS[first - 1 : last]
    design, y, w = np.stack([np.ones(len(n)), np.log(n)], 1), np.log(values[first - 1 : last]), np.diag(1 / n)
    inverse = np.linalg.inv(design.T @ w @ design)
    intercept, slope = inverse @ design.T @ w @ y
    residual = y - design @ [intercept, slope]
    half = stats.t.ppf(0.975, len(n) - 2) * np.sqrt(residual @ w @ residual / (len(n) - 2) * inverse[1, 1])
    found = fit(values, first, last, "stringer")
    np.testing.assert_allclose([found.alpha, found.low, found.high], [-slope, -slope - half, -slope + half], rtol=1e-9)
    assert found.log_prefactor == pytest.approx(intercept / np.log(10))
    mean = np.average(y, weights=1 / n)
    assert found.r2 == pytest.approx(1 - (residual @ w @ residual) / ((y - mean) @ w @ (y - mean)))


def test_stringers_weights_are_numpys_polynomial_fit():
    values = noisy_law()
    slope, _ = np.polyfit(np.log(RANKS), np.log(values), 1, w=np.sqrt(1 / RANKS))  # polyfit squares its weights
    assert fit(values, 1, 300, "stringer").alpha == pytest.approx(-slope)


def test_the_interval_covers():
    """400 laws with independent errors: 95 % of the intervals hold the truth; binomial sd 1.1 %, three times that."""
    rng = np.random.default_rng(0)
    fits = [fit(RANKS**-1.0 * np.exp(0.2 * rng.normal(size=300)), 11, 100) for _ in range(400)]
    assert np.mean([f.low < 1 < f.high for f in fits]) == pytest.approx(0.95, abs=0.033)


def test_the_sign_of_eigenvalues_does_not_matter():
    values = noisy_law()
    assert fit(values * (-1) ** RANKS, 5, 100, "stringer") == fit(values, 5, 100, "stringer")


def test_too_few_ranks_are_undefined():
    assert LEAST_RANKS == 5
    assert np.isfinite(fit(noisy_law(), 11, 15).alpha)
    for first, last in ((11, 14), (11, 10), (1, 0)):
        short = fit(noisy_law(), first, last)
        assert np.isnan([short.alpha, short.low, short.high, short.log_prefactor, short.r2]).all()
        assert (short.first, short.last) == (first, last)


def test_numerical_rank():
    assert numerical_rank(np.array([1.0, 1e-3, 1e-9, 0.0]), 1e-6) == 2
    assert numerical_rank(np.array([1.0, 1e-3, np.nan]), 1e-6) == 2
    for nothing in (np.zeros(3), np.full(3, np.nan), np.zeros(0)):
        assert numerical_rank(nothing, 1e-6) == 0


@pytest.mark.parametrize(
    ("rank", "first", "last", "expected"),
    [
        (1000, None, 500, (11, 500)),
        (300, None, 500, (11, 300)),  # never past the numerical rank
        (20, None, 500, (6, 20)),  # short: after the first quarter
        (0, None, 500, (1, 0)),
        (1000, 1, 100, (1, 100)),
        (50, 11, 500, (11, 50)),
    ],
)
def test_range_of_ranks(rank, first, last, expected):
    assert fit_range(rank, first, last) == expected


def test_band_by_all_nine_fits():
    values = noisy_law(noise=0.3)
    alphas = [fit(values, f, e).alpha for f in (10, 20, 40) for e in (150, 225, 300)]
    assert sensitivity_band(values, 20, 300) == (min(alphas), max(alphas))
    assert min(alphas) < fit(values, 20, 300).alpha < max(alphas)


def test_band_of_a_short_spectrum_is_undefined_or_one_fit():
    assert np.isnan(sensitivity_band(noisy_law(), 1, 4)).all()
    low, high = sensitivity_band(noisy_law(), 1, 5)
    assert low == high == fit(noisy_law(), 1, 5).alpha
