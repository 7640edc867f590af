"""The paired comparison over layers, by hand and against scipy's own arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from netprobe.weights.tail import paired_difference


def layers(*values: float, names: str = "abcdefgh") -> xr.DataArray:
    return xr.DataArray(list(values), dims="layer", coords={"layer": list(names[: len(values)])})


def test_by_hand():
    found = paired_difference(layers(1, 2, 3, 4), layers(2, 4, 4, 6))
    assert found.difference == 1.5 and found.layers == 4
    half = stats.t.ppf(0.975, 3) * np.std([1, 2, 1, 2], ddof=1) / 2
    assert (found.low, found.high) == pytest.approx((1.5 - half, 1.5 + half))
    # all four differences are positive: 2 of the 16 sign patterns are as extreme, 0.125 (with ties, scipy
    # approximates by the normal distribution)
    assert paired_difference(layers(1, 2, 3, 4), layers(2, 4.1, 4.2, 7)).p_value == pytest.approx(0.125)


def test_pairs_are_by_name_and_need_both():
    first, second = layers(1, 2, np.nan, 4, 7), layers(9, 5, 3, 2, names="dbca")
    found = paired_difference(first, second)  # a: 1 and 2, b: 2 and 5, d: 4 and 9
    assert found.layers == 3 and found.difference == pytest.approx((1 + 3 + 5) / 3)
    shuffled = paired_difference(layers(1, 2, 4), layers(9, 5, 2, names="bca"))  # a: 1 and 2, b: 2 and 9, c: 4 and 5
    assert shuffled.low == pytest.approx(3 - stats.t.ppf(0.975, 2) * np.std([1, 7, 1], ddof=1) / np.sqrt(3))


def test_the_other_way_round_is_the_opposite():
    one, other = layers(0.1, 0.5, 0.2, 0.9, 0.4), layers(0.2, 0.3, 0.7, 0.8, 0.6)
    there, back = paired_difference(one, other), paired_difference(other, one)
    assert (back.difference, back.low, back.high) == pytest.approx((-there.difference, -there.high, -there.low))
    assert back.p_value == pytest.approx(there.p_value)


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ((1, 2), (2, 3), "+1.000 over 2 layers, too few for an interval"),
        ((np.nan,), (1.0,), "no layers in common"),
        ((1, 2, 3), (1, 2, 3), "+0.000 [+0.000, +0.000] over 3 layers, Wilcoxon p = 1"),
    ],
)
def test_few_or_equal_layers_are_said_so(one, other, said):
    assert str(paired_difference(layers(*one), layers(*other))) == said
