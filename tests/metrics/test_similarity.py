"""CKA against its formula on features, ||X^T Y||_F^2 / (||X^T X||_F ||Y^T Y||_F)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import ConvNet, affine, images, lookup, probed, recorded, seeded, shifted, unchanged, units
from torch import nn

from netprobe.metrics import CKA
from netprobe.uncertainty import jackknife_interval

SITES = ("conv1", "conv2", "head")


def cka(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(0), y - y.mean(0)
    return np.linalg.norm(x.T @ y) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))


@pytest.fixture(scope="module")
def setting():
    model, data = seeded(ConvNet, offset=1000).double(), images()
    other = shifted(data, 0.15)
    return model, data, other, [recorded(model, x.double(), *SITES) for x in (data.inputs, other)]


def test_cka_is_that_of_the_features(setting):
    """1e-9: a mean of 1000 costs six of float64's sixteen digits."""
    model, data, other, (clean, perturbed) = setting
    found = probed(model, data, lookup(other), CKA()).squeeze("perturbation")
    for site in SITES:
        expected = cka(units(clean[site]), units(perturbed[site]))
        assert 0.3 < expected < 0.999
        np.testing.assert_allclose(found.cka.sel(site=site), expected, rtol=1e-9)


def test_interval_is_the_jackknife_of_blocks(setting):
    model, data, other, (clean, perturbed) = setting
    found = probed(model, data, lookup(other), CKA()).squeeze("perturbation")
    for site in SITES:
        x, y = (units(a[site]) for a in (clean, perturbed))
        kept = [np.delete(np.arange(20), slice(s, s + 3)) for s in range(0, 20, 3)]
        expected = jackknife_interval(np.array(cka(x, y)), np.array([cka(x[k], y[k]) for k in kept]))
        np.testing.assert_allclose(found.cka_interval.sel(site=site), expected.clip(0, 1), rtol=1e-7)


def test_nothing_changes(setting):
    model, data, *_ = setting
    found = probed(model, data, unchanged, CKA())
    np.testing.assert_allclose(found.cka, 1, rtol=1e-12)
    np.testing.assert_allclose(found.cka_interval, 1, rtol=1e-12)
    assert (found.cka <= 1 + 1e-12).all()


def test_rotations_and_one_scale_change_nothing():
    """Rotating the pixels of a layer that sees them all, and scaling them, leaves the geometry as it was."""
    data = images(shape=(1, 2, 4))
    rotation, _ = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64))
    rotated = (0.1 * data.inputs.double().flatten(1) @ rotation + 0.5).view(-1, 1, 2, 4)
    assert rotated.min() >= 0 and rotated.max() <= 1
    found = probed(nn.Sequential(nn.Flatten(), affine(torch.eye(8))), data, lookup(rotated), CKA())
    np.testing.assert_allclose(found.cka, 1, rtol=1e-10)


def test_rotating_the_units_of_a_layer_changes_nothing():
    weight = torch.randn(20, 90, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(torch.randn(20, 20, dtype=torch.float64))
    data = images()
    other = shifted(data, 0.4)
    found, expected = (
        probed(nn.Sequential(nn.Flatten(), affine(w)), data, lookup(other), CKA()).cka.item()
        for w in (7 * rotation @ weight, weight)
    )
    assert found == pytest.approx(expected, rel=1e-10)
    assert expected < 0.99


def test_a_constant_layer_has_no_cka():
    model = seeded(ConvNet).double()
    model.conv2.weight.data.zero_()
    found = probed(model, images(), "gaussian:std=0.1", CKA(), sites="conv2")
    assert found.cka.isnull().all() and found.cka_interval.isnull().all()


@pytest.mark.parametrize("memory", ["20KB", "1KB"])
def test_a_small_budget_takes_more_passes_and_changes_nothing(setting, memory):
    """One unit of 20 images under 2 conditions takes 320 bytes in float64: 62 or 3 of 124 units a pass."""
    model, data, other, _ = setting
    expected = probed(model, data, lookup(other), CKA())
    found = probed(model, data, lookup(other), CKA(), memory=memory)
    np.testing.assert_allclose(found.cka, expected.cka, rtol=1e-9)  # slices add up in another order, at 1000
    np.testing.assert_allclose(found.cka_interval, expected.cka_interval, rtol=1e-7)
