"""Correlation shift against numpy's correlation matrices of all activations at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import ConvNet, affine, channel_rows, images, lookup, probed, recorded, seeded, shifted, unchanged
from torch import nn

from netprobe.data import load
from netprobe.errors import NetprobeError
from netprobe.metrics import CorrelationShift
from netprobe.metrics.correlation import correlation
from netprobe.probing.streaming import Moments
from netprobe.uncertainty import jackknife_interval

SITES = ("conv1", "conv2", "head")


def rows_of(activations: np.ndarray, unit: str) -> np.ndarray:
    if unit == "channel":
        return channel_rows(activations)
    return activations.reshape(*activations.shape[:2], -1).mean(-1)


def shift_of(clean: np.ndarray, perturbed: np.ndarray) -> tuple[float, float]:
    """||R_0 - R_eps||_F and the same per pair, every unit alive."""
    difference = np.corrcoef(clean, rowvar=False) - np.corrcoef(perturbed, rowvar=False)
    n = len(difference)
    return np.linalg.norm(difference), np.linalg.norm(difference) / np.sqrt(n * (n - 1))


@pytest.fixture(scope="module")
def setting():
    model, data = seeded(ConvNet, offset=1000).double(), images(n=40)
    other = shifted(data)
    return model, data, other, [recorded(model, x.double(), *SITES) for x in (data.inputs, other)]


@pytest.mark.parametrize("unit", ["channel", "pooled"])
def test_shift_is_that_of_numpys_correlations(setting, unit):
    """1e-9: a mean of 1000 costs six of float64's sixteen digits."""
    model, data, other, (clean, perturbed) = setting
    found = probed(model, data, lookup(other), CorrelationShift(unit=unit)).squeeze("perturbation")
    for site in SITES:
        before, after = (rows_of(a[site], unit) for a in (clean, perturbed))
        shift, per_pair = shift_of(before, after)
        one = found.sel(site=site)
        np.testing.assert_allclose(one["shift"], shift, rtol=1e-9)
        np.testing.assert_allclose(one.shift_per_pair, per_pair, rtol=1e-9)
        assert one.live_units == before.shape[1]


def test_changes_are_the_quantiles_of_the_changed_correlations(setting):
    model, data, other, (clean, perturbed) = setting
    found = probed(model, data, lookup(other), CorrelationShift()).squeeze("perturbation")
    for site in SITES:
        before, after = (np.corrcoef(channel_rows(a[site]), rowvar=False) for a in (clean, perturbed))
        changes = [abs(before[i, j] - after[i, j]) for i in range(len(before)) for j in range(i)]
        curve = found["change"].sel(site=site)
        assert curve.sel(share=0.5) == pytest.approx(np.median(changes), rel=1e-7)
        assert curve.sel(share=1) == pytest.approx(max(changes), rel=1e-7)
        np.testing.assert_allclose(curve, np.quantile(changes, found["share"]), rtol=1e-7)


def test_interval_is_the_jackknife_of_blocks(setting):
    model, data, other, (clean, perturbed) = setting
    found = probed(model, data, lookup(other), CorrelationShift()).squeeze("perturbation")
    for site in SITES:

        def shift(kept: np.ndarray, site=site) -> float:
            return shift_of(*(channel_rows(a[site][kept]) for a in (clean, perturbed)))[0]

        left_out = [shift(np.delete(np.arange(40), slice(s, s + 5))) for s in range(0, 40, 5)]
        expected = jackknife_interval(np.array(shift(np.arange(40))), np.array(left_out))
        np.testing.assert_allclose(found.shift_interval.sel(site=site), expected, rtol=1e-7)


def test_nothing_changes(setting):
    model, data, *_ = setting
    found = probed(model, data, unchanged, CorrelationShift())
    assert (found["shift"] == 0).all() and (found.shift_interval == 0).all() and (found.shift_per_pair == 0).all()


def linear(weight: torch.Tensor) -> nn.Module:
    return nn.Sequential(nn.Flatten(), affine(weight))


def test_rescaling_units_changes_nothing():
    weight, data = torch.randn(6, 90, dtype=torch.float64), images(n=40)
    other = shifted(data)
    scales = torch.tensor([1e-6, 3.0, 1e6, 1.0, 0.5, 2.0], dtype=torch.float64)
    expected, found = (probed(linear(w), data, lookup(other), CorrelationShift())
                       for w in (weight, scales[:, None] * weight))  # fmt: skip
    assert expected["shift"].item() > 0.1
    np.testing.assert_allclose(found["shift"], expected["shift"], rtol=1e-9)


def test_bounds_by_opposite_correlations():
    """Two units equal on clean images and opposite on perturbed ones: R goes from all 1 to -1 off the diagonal."""
    x = torch.rand(12, 1, 1, 2)
    x[..., 1] = x[..., 0]
    other = x.clone()
    other[..., 1] = 1 - x[..., 0]
    found = probed(linear(torch.eye(2)), load((x, torch.arange(12) % 2)), lookup(other), CorrelationShift())
    assert found["shift"].item() == pytest.approx(np.sqrt(2 * 2**2))  # two entries, each moved by 2
    assert found.shift_per_pair.item() == pytest.approx(2)


def test_dead_units_have_no_correlations():
    """Unit 2 is constant (at 1000) in both, unit 1 only on the perturbed images, unit 3 is always zero."""
    data = images(n=40, shape=(1, 2, 4))
    other = shifted(data, 0.3)
    other[:, 0, 0, 1] = 0.5
    model = linear(torch.eye(8)[:4])
    model[1].bias.data[2] = 1000
    model[1].weight.data[2:4] = 0
    found = probed(model, data, lookup(other), CorrelationShift())
    before, after = (x.flatten(1)[:, :2].double().numpy() for x in (data.inputs, other))
    r0 = np.zeros((4, 4))
    r0[:2, :2] = np.corrcoef(before, rowvar=False)
    r1 = np.zeros((4, 4))
    r1[0, 0] = 1
    assert np.ptp(after[:, 1]) == 0
    assert found.live_units.item() == 1
    np.testing.assert_allclose(found["shift"].item(), np.linalg.norm(r0 - r1), rtol=1e-10)
    assert found.shift_per_pair.isnull().all() and found.change.isnull().all()


def test_correlations_stay_within_one():
    rows = torch.rand(50, 1, dtype=torch.float64).repeat(1, 3) * torch.tensor([1.0, 1e-4, 1e4], dtype=torch.float64)
    moments = Moments(3)
    moments.update(rows)
    matrix, alive = correlation(moments)
    assert alive.all() and matrix.abs().max() <= 1
    np.testing.assert_allclose(matrix, np.ones((3, 3)), rtol=1e-12)


def test_a_unit_that_varies_in_its_last_bit_is_dead():
    """float32's neighbours of 1000 are 6e-5 apart: the batch a constant is computed in may decide between them."""
    rows = torch.rand(50, 2, dtype=torch.float32)
    rows[:, 1] = torch.where(rows[:, 1] < 0.5, torch.tensor(1000.0), torch.tensor(1000.0).nextafter(torch.tensor(2e3)))
    moments = Moments(2)
    moments.update(rows)
    matrix, alive = correlation(moments)
    assert moments.covariance[1, 1] > 0
    assert alive.tolist() == [True, False] and matrix.tolist() == [[pytest.approx(1), 0], [0, 0]]


def test_unknown_units_are_errors():
    with pytest.raises(NetprobeError, match="unknown unit 'unit'"):
        CorrelationShift(unit="unit")
