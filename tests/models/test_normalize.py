"""Normalisation is a layer: right by hand, movable, saved, and strict about what it is given."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from netprobe.errors import NetprobeError
from netprobe.models import STATISTICS, Normalize, Normalized
from netprobe.models.normalize import statistics


def test_by_hand():
    x = torch.tensor([[[[0.0, 1.0]], [[0.5, 0.25]]]])  # (1, 2, 1, 2)
    # (0 - .5)/.5, (1 - .5)/.5; (.5 - .25)/.125, (.25 - .25)/.125
    assert Normalize((0.5, 0.25), (0.5, 0.125))(x).tolist() == [[[[-1.0, 1.0]], [[2.0, 0.0]]]]


def test_one_number_serves_every_channel():
    x = torch.rand(2, 3, 4, 5)
    assert torch.equal(Normalize(0.5, 0.25)(x), (x - 0.5) / 0.25)
    assert Normalize(0.5, (0.1, 0.2, 0.3)).mean.tolist() == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("name", STATISTICS)
def test_names_are_the_documented_numbers(name):
    mean, std = statistics(name)
    assert torch.equal(mean, torch.tensor(STATISTICS[name][0])) and torch.equal(std, torch.tensor(STATISTICS[name][1]))


def test_undoes_its_statistics():
    mean, std = statistics("imagenet")
    x = torch.randn(50, 3, 20, 20) * std[:, None, None] + mean[:, None, None]
    out = Normalize(mean, std)(x)
    # 20,000 values a channel: the standard error of a mean is 0.007.
    assert out.mean((0, 2, 3)).abs().max() < 0.03 and (out.std((0, 2, 3)) - 1).abs().max() < 0.03


def test_statistics_travel_with_the_module():
    layer = Normalize(0.5, 0.5)
    assert layer.double()(torch.rand(1, 3, 2, 2).double()).dtype == torch.float64
    assert set(layer.state_dict()) == {"mean", "std"} and not list(layer.parameters())
    assert layer.to("meta").mean.device.type == "meta"


def test_normalized_is_the_layer_before_the_network():
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    model = Normalized(net, *STATISTICS["cifar10"])
    x = torch.rand(3, 3, 2, 2)
    assert torch.equal(model(x), net(model.normalize(x)))
    assert [name for name, _ in model.named_children()] == ["normalize", "net"] and model.net is net


@pytest.mark.parametrize("shape", [(2, 1, 4, 4), (2, 4, 4, 4), (3, 4, 4), (2, 12)])
def test_inputs_that_do_not_fit_are_named(shape):
    with pytest.raises(NetprobeError, match=r"3 channel\(s\).*\(N, 3, H, W\)"):
        Normalize(*STATISTICS["imagenet"])(torch.rand(shape))


@pytest.mark.parametrize(
    ("normalize", "message"),
    [
        ("imagenette", "did you mean 'imagenet'"),
        ("CIFAR10", "did you mean 'cifar10'"),
        ((0.5,), "neither one of imagenet, cifar10 nor a pair"),
        (0.5, "nor a pair"),
        ((0.5, 0.0), "std above 0"),
        ((0.5, -1.0), "std above 0"),
        ((float("nan"), 1.0), "finite"),
        (((), ()), "finite"),
        (((0.1, 0.2), (0.1, 0.2, 0.3)), "one number, or one for each channel"),
        ((("a", "b"), 0.1), "one number, or one for each channel"),
        (((123.7, 116.3, 103.5), (58.4, 57.1, 57.4)), "divide mean and std by 255"),
    ],
)
def test_bad_statistics_say_what_is_wrong(normalize, message):
    with pytest.raises(NetprobeError, match=message):
        statistics(normalize)
