"""Squared-Hoyer ratios against a loop over locations, and against known distributions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import ConvNet, affine, images, lookup, probed, recorded, seeded, shifted
from torch import nn

from netprobe.data import load
from netprobe.metrics import Hoyer
from netprobe.uncertainty import bootstrap_interval


def hoyer(a: np.ndarray) -> float:
    """((||a||_1 / ||a||_2)^2 - 1) / (C - 1)."""
    return ((np.abs(a).sum() / np.sqrt((a**2).sum())) ** 2 - 1) / (len(a) - 1)


def of_image(a: np.ndarray) -> tuple[float, float]:
    """The mean over locations that speak, and the share that does not, of one image's (channel, ...) activations."""
    locations = a.reshape(len(a), -1).T
    heard = [hoyer(v) for v in locations if v.any()]
    return (np.mean(heard) if heard else np.nan), 1 - len(heard) / len(locations)


class Halved(ConvNet):
    """A ConvNet whose second layer's biases silence many locations."""

    def __init__(self) -> None:
        super().__init__()
        self.conv2.bias.data -= 0.25


def test_hoyer_location_by_location():
    model, data = seeded(Halved).double(), images()
    other = shifted(data)
    found = probed(model, data, lookup(other), Hoyer(), sites="type:relu,conv1,head:in")
    assert found.site.values.tolist() == ["conv1", "relu1", "relu2", "head:in"]
    for x, condition in ((data.inputs, 0), (other, 1)):
        outputs = recorded(model, x.double(), "conv1", "relu1", "relu2")
        tensors = outputs | {"head:in": recorded(model, x.double(), "head", inputs=True)["head"]}
        for name, activations in tensors.items():
            ratio, silent = np.array([of_image(a) for a in activations]).T
            one = found.sel(site=name).isel(condition=condition)
            np.testing.assert_allclose(one.hoyer_image, ratio, rtol=1e-12)
            np.testing.assert_allclose(one.silent, silent.mean(), rtol=1e-12)
            np.testing.assert_allclose(one.hoyer, np.nanmean(ratio), rtol=1e-12)
            np.testing.assert_allclose(one.hoyer_interval, bootstrap_interval(ratio), rtol=1e-12)
    assert 0.05 < float(found.silent.sel(site="relu2")[0]) < 0.95  # otherwise the test would not test it


def test_one_channel_is_undefined():
    model = seeded(nn.Sequential, nn.Conv2d(3, 1, 3), nn.Flatten(), nn.Linear(12, 4))
    found = probed(model, images(), "gaussian:std=0.1", Hoyer())
    assert found.hoyer.sel(site="0").isnull().all() and found.hoyer_interval.sel(site="0").isnull().all()
    assert found.hoyer.sel(site="2").notnull().all()
    assert (found.silent == 0).all()


def test_a_layer_that_is_silent_everywhere_is_undefined():
    model = seeded(ConvNet).double()
    model.conv2.weight.data.zero_()
    model.conv2.bias.data.fill_(-1)
    found = probed(model, images(), "gaussian:std=0.1", Hoyer(), sites="relu2")
    assert found.hoyer.isnull().all() and (found.silent == 1).all()


def test_hoyer_does_not_depend_on_the_scale_of_activations():
    data, model = images(), seeded(Halved).double()
    expected = probed(model, data, "gaussian:std=0.1", Hoyer(), sites="relu1")
    model.conv1.weight.data *= 1e4
    model.conv1.bias.data *= 1e4
    found = probed(model, data, "gaussian:std=0.1", Hoyer(), sites="relu1")
    np.testing.assert_allclose(found.hoyer_image, expected.hoyer_image, rtol=1e-12)


def test_hoyer_of_one_hot_and_of_flat_layers():
    one_hot, flat = torch.zeros(5, 90), torch.ones(5, 90)
    one_hot[2] = 1
    flat[::2] = -1
    for weight, expected in ((one_hot, 0), (flat, 1)):
        model = nn.Sequential(nn.Flatten(), affine(weight))
        found = probed(model, images(), "gaussian:std=0.1", Hoyer())
        np.testing.assert_allclose(found.hoyer, expected, atol=1e-12)


def test_gaussian_channels_give_two_over_pi_and_their_relu_half_of_it():
    """4000 independent units: (mean |a|)^2 / mean a^2 is 2/pi = 0.637 within 4 standard errors of 1 %, 0.025."""
    data = load((torch.rand(3, 1, 8, 8), torch.arange(3)))
    units = affine(torch.randn(4000, 64))
    model = nn.Sequential(nn.Flatten(), units, nn.ReLU(), nn.Linear(4000, 3)).double()
    found = probed(model, data, "gaussian:std=0.1", Hoyer(), sites="1,2")
    np.testing.assert_allclose(found.hoyer.sel(site="1"), 2 / np.pi, atol=0.025)
    np.testing.assert_allclose(found.hoyer.sel(site="2"), 1 / np.pi, atol=0.025)


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_tiny_and_huge_activations_of_float64(factor):
    """Squares of these fit float64; in float32 anything below 1e-22 squares to zero."""
    data, model = images(), seeded(Halved).double()
    expected = probed(model, data, "gaussian:std=0.1", Hoyer(), sites="conv1")
    model.conv1.weight.data *= factor
    model.conv1.bias.data *= factor
    found = probed(model, data, "gaussian:std=0.1", Hoyer(), sites="conv1")
    np.testing.assert_allclose(found.hoyer_image, expected.hoyer_image, rtol=1e-12)
