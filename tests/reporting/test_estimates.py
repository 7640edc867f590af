"""How numbers are written."""

from __future__ import annotations

import math

import numpy as np
import pytest

from netprobe.reporting.estimates import Estimate, number, of_draws


@pytest.mark.parametrize(
    ("value", "digits", "unit", "text"),
    [(1.25, 1, "dB", "1.2 dB"), (-3, 1, "dB", "−3.0 dB"), (-0.04, 1, "", "0.0"), (math.nan, 1, "dB", "undefined"),
     (-math.inf, 1, "dB", "−∞ dB"), (12, 0, "", "12")],
)  # fmt: skip
def test_number(value, digits, unit, text):
    assert number(value, digits, unit) == text


def test_an_interval_is_written_only_if_there_is_one():
    assert Estimate(1, 0.5, 2).write(1, "dB") == "1.0 dB [0.5, 2.0]"
    assert Estimate(1).write(1, "dB") == "1.0 dB"


def test_overlap_includes_a_shared_end():
    assert Estimate(1, 0, 2).overlaps(Estimate(3, 2, 4))
    assert not Estimate(1, 0, 2).overlaps(Estimate(3, 2.1, 4))
    assert Estimate(3, 2, 4).overlaps(Estimate(3, 0, 9))


def test_draws_give_the_percentile_interval():
    assert of_draws(5, np.arange(1001) / 1000) == Estimate(5, 0.025, 0.975)
    assert not of_draws(5, np.array([1.0, np.nan])).bounded
