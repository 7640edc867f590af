"""Dimensions of data whose dimension is known, and the estimators by loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from netprobe import data
from netprobe.errors import NetprobeError
from netprobe.geometry import intrinsic_dimension


def by_loops(rows, k):
    logs = []
    for row in rows:
        t = np.sort(np.linalg.norm(rows - row, axis=1))[1 : k + 1]
        logs.append(np.mean([np.log(t[k - 1] / t[j]) for j in range(k - 1)]))
    return 1 / np.mean(logs)


def test_estimators_by_loops():
    rows = np.random.default_rng(0).uniform(size=(80, 5))
    found = intrinsic_dimension(rows, (4, 7))
    assert list(found["estimator"].values) == ["mle-4", "mle-7", "twonn"]
    for name, k in (("mle-4", 4), ("mle-7", 7), ("twonn", 2)):
        assert float(found["dimension"].sel(estimator=name)) == pytest.approx(by_loops(rows, k))
    np.testing.assert_allclose(found["alpha_bound"], 1 + 2 / found["dimension"])


@pytest.mark.parametrize("dimension", [1, 2, 4])
def test_known_dimensions(dimension):
    """Uniform points of a flat sheet in 20 dimensions; the bias at 3000 samples is below 8 %."""
    rng = np.random.default_rng(0)
    rows = rng.uniform(size=(3000, dimension)) @ rng.standard_normal((dimension, 20))
    found = intrinsic_dimension(rows)
    np.testing.assert_allclose(found["dimension"], dimension, rtol=0.08)
    low, high = found["dimension_interval"].values.T
    assert (low < found["dimension"]).all()
    assert (found["dimension"] < high).all()
    bounds = found["alpha_bound_interval"].values.T
    assert (bounds[0] < found["alpha_bound"]).all()
    assert (found["alpha_bound"] < bounds[1]).all()


def test_copies_are_left_out_and_scale_and_order_do_not_matter():
    rows = torch.rand(60, 3, 2)
    found = intrinsic_dimension(rows, [5])
    again = intrinsic_dimension(10 * torch.cat([rows.flip(0), rows[:7]]), [5])
    np.testing.assert_allclose(again["dimension"], found["dimension"], rtol=1e-5)
    assert int(again["copies"]) == 7


def test_of_images():
    found = intrinsic_dimension(data.load("digits", limit=200))
    assert (found["dimension"] > 3).all()
    assert (found["dimension"] < 20).all()


@pytest.mark.parametrize("neighbours", [[], [1], [60]])
def test_mistakes_are_named(neighbours):
    with pytest.raises(NetprobeError, match="give numbers from 2"):
        intrinsic_dimension(torch.rand(60, 3), neighbours)
