"""Paired shares against published numbers, slow references and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from netprobe.evaluation.paired import Paired


def test_counts_of_two_rows_of_answers():
    assert Paired.of(np.array([1, 1, 0, 0, 1]), np.array([1, 0, 1, 0, 0])) == (1, 2, 1, 1)


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [  # Newcombe (1998), table II, method 10, to the four digits printed there
        ((36, 12, 2, 0), 0.0569, 0.3404),
        ((0, 0, 0, 50), -0.0714, 0.0714),
    ],
)
def test_published_intervals(table, low, high):
    assert Paired(*table).interval == pytest.approx((low, high), abs=6e-5)


def test_the_interval_with_positive_correlation_step_by_step():
    """Wilson's bounds are where (p - share)^2 = z^2 p (1 - p) / n; the correlation loses n / 2 from its numerator."""
    n, z2 = 56, 1.959963984540054**2

    def bounds(share: float) -> np.ndarray:
        return np.sort(np.roots([1 + z2 / n, -2 * share - z2 / n, share**2]))

    (l1, u1), (l2, u2), p1, p2 = bounds(42 / n), bounds(34 / n), 42 / n, 34 / n
    phi = (30 * 10 - 12 * 4 - n / 2) / math.sqrt(42 * 14 * 34 * 22)
    below = (p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2
    above = (u1 - p1) ** 2 - 2 * phi * (u1 - p1) * (p2 - l2) + (p2 - l2) ** 2
    expected = (8 / n - math.sqrt(below), 8 / n + math.sqrt(above))
    assert Paired(30, 12, 4, 10).interval == pytest.approx(expected)


def test_the_interval_is_turned_round_with_the_pair():
    one, other = Paired(30, 12, 4, 10), Paired(30, 4, 12, 10)
    assert one.interval == pytest.approx(tuple(-bound for bound in reversed(other.interval)))
    assert one.difference == -other.difference == pytest.approx(8 / 56)


def test_the_interval_covers_the_true_difference():
    """95 of 100 times, to the precision of 1000 draws of 60 images (three standard errors are 2 %)."""
    rng, p = np.random.default_rng(0), np.array([0.5, 0.2, 0.1, 0.2])
    drawn = [Paired(*map(int, counts)).interval for counts in rng.multinomial(60, p, 1000)]
    assert np.mean([low <= 0.1 <= high for low, high in drawn]) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("pair", [(5, 8, 1, 3), (5, 1, 8, 3), (0, 4, 4, 0)])
def test_p_values_by_counting_every_way_the_differing_images_can_split(pair):
    paired = Paired(*pair)
    n = paired.only_first + paired.only_second
    splits = [sum(way) for way in itertools.product((0, 1), repeat=n)]
    at_least = np.mean([count >= paired.only_first for count in splits])
    assert paired.p_more == pytest.approx(at_least)
    extreme = max(paired.only_first, paired.only_second)
    assert paired.p_value == pytest.approx(min(1, 2 * np.mean([count >= extreme for count in splits])))


def test_nothing_to_compare():
    assert math.isnan(Paired(0, 0, 0, 0).difference) and np.isnan(Paired(0, 0, 0, 0).interval).all()
    assert Paired(7, 0, 0, 3).p_value == Paired(7, 0, 0, 3).p_more == 1
