"""Batch-norm parameters as they are in the modules, and what is not batch norm."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from netprobe.errors import NetprobeError
from netprobe.weights import batch_norm
from netprobe.weights.batch_norm import gains

SHAPE = (3, 6, 5)


class Norms(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.full = nn.BatchNorm2d(3)
        self.conv = nn.Conv2d(3, 4, 3)
        self.plain = nn.BatchNorm2d(4, affine=False, eps=0.01)
        self.untracked = nn.BatchNorm2d(4, track_running_stats=False)
        self.group = nn.GroupNorm(2, 4)
        self.instance = nn.InstanceNorm2d(4)
        self.tracking = nn.InstanceNorm2d(4, track_running_stats=True)
        self.unused = nn.BatchNorm1d(2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.untracked(self.plain(self.conv(self.full(x))))
        return self.tracking(self.instance(self.group(x))).mean((2, 3))


@pytest.fixture
def model() -> Norms:
    made = Norms()
    for module in made.modules():
        for name in ("running_mean", "running_var", "weight", "bias"):
            tensor = getattr(module, name, None)
            if tensor is not None:
                tensor.data = torch.rand(tensor.shape) + 0.5
    with torch.no_grad():
        made.full.weight[1] = 0
    return made


def test_every_number_is_the_modules_own(model):
    found = batch_norm(model, SHAPE)
    names = {"running_mean": "running_mean", "running_variance": "running_var", "gamma": "weight", "beta": "bias"}
    for layer in ("full", "plain", "untracked", "tracking", "unused"):
        module = getattr(model, layer)
        for name, own in names.items():
            values = found[name].sel(layer=layer).values
            tensor = getattr(module, own)
            expected = np.empty(0) if tensor is None else tensor.detach().numpy()
            np.testing.assert_array_equal(values[: len(expected)], expected)
            assert np.isnan(values[len(expected) :]).all()
    assert found["epsilon"].sel(layer="plain") == 0.01
    assert found["channels"].sel(layer=["full", "plain", "unused"]).values.tolist() == [3, 4, 2]
    assert found["constant"].sel(layer=["full", "plain"]).values.tolist() == [1, 0]


def test_layers_come_in_run_order_and_say_what_they_lack(model):
    found = batch_norm(model, SHAPE)
    assert found.layer.values.tolist() == [
        "full", "plain", "untracked", "group", "instance", "tracking", "unused",
    ]  # fmt: skip
    notes = dict(zip(found.layer.values, map(str, found["note"].values), strict=True))
    assert notes["full"] == "" and "affine=False" in notes["plain"] and "batch it is given" in notes["untracked"]
    assert (
        notes["group"]
        == "GroupNorm keeps no running statistics"
        == notes["instance"].replace("InstanceNorm2d", "GroupNorm")
    )
    assert "never reached" in notes["unused"]
    assert found["running_mean"].sel(layer=["group", "instance"]).isnull().all()


def test_gain_is_what_the_layer_multiplies_by(model):
    model.eval()
    found = batch_norm(model, SHAPE)["gain"]
    for name in ("full", "plain", "tracking"):
        layer = getattr(model, name)
        zero, one = (torch.full((1, layer.num_features, 1, 1), value) for value in (0.0, 1.0))
        slope = (layer(one) - layer(zero)).abs().flatten().detach()
        np.testing.assert_allclose(gains(layer), slope, rtol=1e-5, atol=1e-6)  # a difference in float32
        np.testing.assert_allclose(found.sel(layer=name), slope.max(), rtol=1e-5, atol=1e-6)
    assert found.sel(layer=["untracked", "group"]).isnull().all()
    assert gains(model.untracked).tolist() == model.untracked.weight.double().tolist()


def test_a_network_without_batch_norm_says_what_it_has():
    with pytest.raises(NetprobeError, match="Sequential has no batch norm: GroupNorm keep no running statistics"):
        batch_norm(nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4)), SHAPE)
    with pytest.raises(NetprobeError, match=r"Sequential has no batch norm$"):
        batch_norm(nn.Sequential(nn.Conv2d(3, 4, 3)), SHAPE)


def test_bad_statistics_are_a_note_not_a_number(model):
    model.plain.running_var[0] = torch.inf
    found = batch_norm(model, SHAPE)
    assert "NaN or infinite" in str(found["note"].sel(layer="plain").values)
    assert found["running_mean"].sel(layer="plain").isnull().all()
    with pytest.raises(NetprobeError, match=r"unknown site pattern 'ful'.*did you mean 'full'"):
        batch_norm(model, SHAPE, "ful")


def test_buffers_stay(model):
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    batch_norm(model, SHAPE)
    assert model.training and all(torch.equal(before[name], now) for name, now in model.state_dict().items())
