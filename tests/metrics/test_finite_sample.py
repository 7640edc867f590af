"""Exponents of laws of which samples are drawn the long way, observation by observation."""

from __future__ import annotations

import numpy as np
import pytest

from netprobe.errors import NetprobeError
from netprobe.metrics.finite_sample import corrected, standard
from netprobe.metrics.power_law import fit
from netprobe.uncertainty import jackknife_interval

EXPONENTS = (0.5, 1.0, 1.5, 2.0)


def fitted(alpha, samples, units, first, last, rng):
    """The fit to the sample covariance of N(0, diag n^-alpha)."""
    drawn = rng.standard_normal((samples, units)) * np.arange(1, units + 1) ** (-alpha / 2)
    return fit(np.linalg.eigvalsh(np.cov(drawn.T))[::-1].clip(1e-300), first, last)


def left_out_slopes(drawn, first, last):
    blocks = np.array_split(np.arange(len(drawn)), 8)
    rest = (np.delete(drawn, block, 0) for block in blocks)
    return np.array([fit(np.linalg.eigvalsh(np.cov(x.T))[::-1], first, last).alpha for x in rest])


@pytest.mark.parametrize(("units", "freedom"), [(4, 9), (4, 4), (5, 3)])
def test_wishart_matrices_have_their_moments(units, freedom):
    """E[A A^T] = n I and var of the entries n (2 n on the diagonal); 4000 draws, five standard errors."""
    rng = np.random.default_rng(0)
    drawn = np.stack([(a := standard(units, freedom, rng)) @ a.T for _ in range(4000)])
    np.testing.assert_allclose(drawn.mean(0), freedom * np.eye(units), atol=5 * np.sqrt(2 * freedom / 4000))
    np.testing.assert_allclose(drawn.var(0), freedom * (1 + np.eye(units)), rtol=0.25)


@pytest.mark.parametrize(("samples", "units"), [(300, 40), (30, 60)])
def test_the_bias_is_gone(samples, units):
    """Of the mean over 12 samples, whose standard error is a 3.5th of one interval's half width, four of those."""
    rng = np.random.default_rng(1)
    plain = [fitted(1.0, samples, units, 5, 25, rng) for _ in range(12)]
    found = [corrected(p.alpha, samples, units, 5, 25, draws=12, seed=k) for k, p in enumerate(plain)]
    half = np.mean([(f.high - f.low) / 2 for f in found])
    assert np.mean([p.alpha for p in plain]) - 1 > 0.05
    assert abs(np.mean([f.alpha for f in found]) - 1) < 4 * half / 2 / np.sqrt(12)
    assert all(f.low < f.alpha < f.high for f in found)
    assert found[0].bias == pytest.approx(plain[0].alpha - found[0].alpha)


def test_many_samples_need_no_correction():
    """Beyond 100,000 samples the bias is below a hundredth, and so is the interval."""
    found = corrected(1.2, 10**6, 30, 3, 30, draws=8)
    assert found.alpha == pytest.approx(1.2, abs=0.01)
    assert found.high - found.low < 0.02


def test_a_flat_spectrum_has_exponent_zero():
    rng = np.random.default_rng(2)
    slopes = [fitted(0.0, 200, 40, 5, 30, rng).alpha for _ in range(10)]
    assert min(slopes) > 0.2
    found = [corrected(slope, 200, 40, 5, 30, draws=8, seed=k) for k, slope in enumerate(slopes)]
    assert sum(f.low == 0 for f in found) >= 8
    assert any(f.alpha == 0 and f.high > 0 for f in found)


def test_left_out_blocks_tell_heavy_tails():
    """Independent units of kurtosis 9 make the slope scatter sqrt((9 - 1) / 2) = 2 times as much as Gaussian ones."""
    rng = np.random.default_rng(3)
    drawn = rng.standard_t(5, (800, 40)) * np.arange(1, 41) ** -0.5
    slope = fit(np.linalg.eigvalsh(np.cov(drawn.T))[::-1], 5, 35).alpha
    left_out = left_out_slopes(drawn, 5, 35)
    plain = corrected(slope, 800, 40, 5, 35, draws=12)
    tailed = corrected(slope, 800, 40, 5, 35, draws=12, left_out=left_out)
    low, high = jackknife_interval(slope, left_out)
    assert tailed.alpha == pytest.approx(plain.alpha, abs=0.02)
    assert tailed.high - tailed.low == pytest.approx(high - low, rel=0.2)  # over a derivative of 0.9


def test_left_out_blocks_tell_samples_of_uneven_size():
    """Of r^2 with E r^4 = 1.5 (E r^2)^2 the bias is that of two thirds of the samples; over 6 draws."""
    rng, plain, uneven = np.random.default_rng(4), [], []
    for k in range(6):
        drawn = rng.standard_normal((400, 40)) * np.arange(1, 41) ** -0.5 * np.sqrt(rng.gamma(2, 0.5, (400, 1)))
        slope = fit(np.linalg.eigvalsh(np.cov(drawn.T))[::-1], 5, 35).alpha
        plain.append(corrected(slope, 400, 40, 5, 35, draws=8, seed=k))
        uneven.append(corrected(slope, 400, 40, 5, 35, draws=8, seed=k, left_out=left_out_slopes(drawn, 5, 35)))
    assert np.mean([f.samples for f in plain]) == 400
    assert np.mean([f.samples for f in uneven]) == pytest.approx(400 / 1.5, rel=0.15)
    assert np.mean([f.alpha - g.alpha for f, g in zip(plain, uneven, strict=True)]) > 0.015
    assert np.mean([f.alpha for f in uneven]) == pytest.approx(1, abs=0.025)  # four standard errors of the mean
    assert sum(f.low < 1 < f.high for f in uneven) >= 5


def test_same_seed_same_numbers():
    first, again, other = (corrected(1.0, 60, 30, 3, 25, draws=6, seed=s) for s in (4, 4, 5))
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((1.0, 20, 30, 5, 20), "give more samples"),
        ((1.0, 200, 30, 5, 31), "give more samples"),
        ((1.0, 2, 30, 1, 1), "give more samples"),
    ],
)
def test_ranks_that_no_sample_has(given, message):
    with pytest.raises(NetprobeError, match=message):
        corrected(*given)


def test_few_draws_and_no_slope():
    with pytest.raises(NetprobeError, match="give 4 or more"):
        corrected(1.0, 50, 30, 3, 20, draws=2)
    assert np.isnan(corrected(np.nan, 50, 30, 3, 20).alpha)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("samples", "units", "first", "last"), [(400, 60, 6, 50), (50, 100, 6, 40)], ids=["many samples", "few samples"]
)
def test_intervals_hold_what_they_say(samples, units, first, last):
    """Of 1000 samples of each law: 93 to 97 % of its intervals hold the exponent.

    (By chance it is more or less once in 330 times; with 200 samples once in seven.) The regression's
    own interval holds it hardly ever, which is why there is a correction.
    """
    rng, kept, regression = np.random.default_rng(5), {}, []
    for alpha in EXPONENTS:
        plain = [fitted(alpha, samples, units, first, last, rng) for _ in range(1000)]
        regression += [p.low <= alpha <= p.high for p in plain]
        found = [corrected(p.alpha, samples, units, first, last, seed=k) for k, p in enumerate(plain)]
        kept[alpha] = np.mean([f.low <= alpha <= f.high for f in found])
    print(kept, np.mean(list(kept.values())), "regression:", np.mean(regression))
    assert all(0.93 <= share <= 0.97 for share in kept.values())
    assert np.mean(regression) < 0.3
