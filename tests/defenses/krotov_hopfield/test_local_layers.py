"""Locally learnt layers: what they compute, what a state dict holds, and where they can be put."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d

import netprobe as npb
from netprobe.defenses.krotov_hopfield import (
    LocalConv2d,
    LocalLinear,
    convert,
    layer_samples,
    local_layer,
    signed_power,
)
from netprobe.errors import NetprobeError
from netprobe.models import Normalized
from netprobe.models.shallow import PowerReLU, shallow
from netprobe.weights.operators import weight_of


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


class Net(nn.Module):
    """Two convolutions, the second with options of its own, and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.relu1 = nn.Conv2d(1, 4, 3, padding="same", padding_mode="reflect"), nn.ReLU()
        self.conv2, self.norm, self.relu2 = nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU()
        self.linear1, self.linear2 = nn.Linear(6, 8), nn.Linear(8, 10)

    def forward(self, x):
        x = self.relu2(self.norm(self.conv2(self.relu1(self.conv1(x)))))
        return self.linear2(torch.tanh(self.linear1(x.mean((2, 3)))))


@pytest.fixture(scope="module")
def digits():
    return npb.data.load("digits", "train", limit=30)


def test_the_forward_pass_uses_powers_of_weights():
    layer, x = LocalLinear.like(nn.Linear(5, 4), p=2.5).double(), torch.rand(3, 5).double()
    torch.testing.assert_close(layer(x), x @ (layer.weight.sign() * layer.weight.abs() ** 1.5).T)
    conv, y = LocalConv2d.like(nn.Conv2d(2, 3, 3, stride=2, padding=1), p=3.0), torch.rand(2, 2, 6, 6)
    torch.testing.assert_close(conv(y), conv2d(y, conv.weight * conv.weight.abs(), stride=2, padding=1))


@pytest.mark.parametrize(
    "made", [lambda: LocalLinear.like(nn.Linear(5, 4), 3.0), lambda: LocalConv2d.like(nn.Conv2d(2, 4, 3), 3.0)]
)
def test_analyses_of_weights_read_the_matrix_that_inputs_meet(made):
    layer = made()
    layer.put(layer.weight.clone(), torch.tensor([True, True, False, True]), 0.5)
    expected = signed_power(layer.weight, 3.0)
    expected[2] = 0
    assert torch.equal(weight_of(layer), expected) and torch.equal(layer.powered, expected)


def test_a_state_dict_holds_all_that_was_learnt():
    layer = LocalLinear.like(nn.Linear(5, 4), 3.0, attempts=3)
    layer.put(torch.rand(4, 5), torch.tensor([True, False, True, True]), 0.5, [(0.4, 2, 1.0), (1.0, 0, 0.9)])
    assert set(layer.state_dict()) == {"weight", "kept", "cutoff", "attempts"}
    other, x = LocalLinear.like(nn.Linear(5, 4), 3.0, attempts=3), torch.rand(2, 5)
    assert not torch.equal(other(x), layer(x))
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x), layer(x))
    assert other.cutoff == 0.5 and other.made().tolist() == [[pytest.approx(0.4), 2, 1], [1, 0, pytest.approx(0.9)]]
    copied = copy.deepcopy(other)
    copied.load_state_dict(LocalLinear.like(nn.Linear(5, 4), 3.0, attempts=3).state_dict())
    assert torch.equal(other(x), layer(x)) and not torch.equal(copied(x), layer(x))


def test_it_is_frozen_yet_can_be_trained_by_who_asks():
    layer = LocalLinear.like(nn.Linear(5, 4), 3.0)
    assert not layer.weight.requires_grad
    layer.weight.requires_grad_()
    layer(torch.rand(2, 5)).sum().backward()
    assert layer.weight.grad.any()


def test_no_half_precision_under_autocast():
    layer = LocalLinear.like(nn.Linear(5, 4), 3.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h = layer(torch.rand(2, 5).bfloat16())
    assert h.dtype == torch.float32


def test_the_first_layer_of_the_shallow_network():
    model = shallow(in_features=12, hidden=6, power=4.5)
    made = convert(model)
    name, layer = local_layer(made)
    assert name == "hidden" and type(layer) is LocalLinear and type(made.relu) is PowerReLU
    assert type(model.hidden) is nn.Linear  # the model itself stays
    trained = {name for name, parameter in made.named_parameters() if parameter.requires_grad}
    assert trained == {"linear.weight", "linear.bias"}
    assert layer.weight.std().item() == pytest.approx(1, abs=0.35)  # 72 draws: 4 standard errors


@pytest.mark.parametrize(
    ("own", "power", "expected"), [(1, None, 4.5), (3.0, None, 3.0), (1, 1, 1), (3.0, 1, 1), (3.0, 2, 2)]
)
def test_the_power_behind_it(own, power, expected):
    made = convert(shallow(in_features=12, hidden=6, power=own), power=power).relu
    assert getattr(made, "power", 1) == expected and isinstance(made, nn.ReLU if expected == 1 else PowerReLU)


def test_layers_of_users_by_name():
    made = convert(Normalized(Net(), 0.5, 0.5), "conv2", power=1)
    name, layer = local_layer(made)
    assert name == "net.conv2" and type(layer) is LocalConv2d and layer.bias is None
    frozen = {name for name, parameter in made.named_parameters() if not parameter.requires_grad}
    assert frozen == {"net.conv1.weight", "net.conv1.bias", "net.conv2.weight"}
    assert made(torch.rand(2, 1, 8, 8)).shape == (2, 10)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.relu = nn.Linear(4, 4), nn.ReLU()

    def forward(self, x):
        return self.relu(self.linear(self.relu(self.linear(x))))


class Looking(Twice):
    def forward(self, x):
        return super().forward(x) if x.sum() > 0 else x


@pytest.mark.parametrize(
    ("model", "layer", "power", "said"),
    [
        (lambda: Net(), "conv3", None, "unknown linear layer or convolution 'conv3'.*conv"),
        (lambda: Net(), "conv2", None, r"reads conv2.*power=1"),
        (lambda: Net(), "linear1", 1, "norm comes before linear1"),
        (lambda: Twice(), None, None, "runs more than once"),
        (lambda: Looking(), None, None, "cannot follow a Looking"),
        (lambda: nn.Sequential(nn.Flatten(), nn.ReLU()), None, None, "no linear layer and no convolution"),
        (lambda: nn.Sequential(nn.Conv2d(2, 2, 3, groups=2), nn.ReLU()), None, None, "in groups"),
        (lambda: shallow(power=1), None, 0.5, "choose 1 or more"),
    ],
)
def test_what_cannot_be_learnt_says_why(model, layer, power, said):
    with pytest.raises(NetprobeError, match=said):
        convert(model(), layer, power=power)


def test_a_network_without_such_a_layer():
    with pytest.raises(NetprobeError, match=r"no locally learnt layer.*krotov-hopfield"):
        local_layer(shallow())


def test_samples_of_a_linear_layer_are_what_enters_it(digits):
    model = shallow(in_features=64, hidden=6, p=None)
    x = digits.inputs.flatten(1)
    found = layer_samples(model, model.hidden, digits, p=3.0, progress=False)
    torch.testing.assert_close(found, x / torch.linalg.vector_norm(x, 3, dim=1, keepdim=True))


def test_patches_of_a_convolution_are_what_a_unit_sees_at_a_place(digits):
    """A linear layer on a raw patch gives the convolution's output at that place, whatever padding and stride."""
    model = Net().eval()
    patches = layer_samples(model, model.conv2, digits, p=2.0, patches=7, seed=3, progress=False)
    assert patches.shape == (7 * len(digits), 36)
    torch.testing.assert_close(patches.norm(dim=1), torch.ones(len(patches)))
    with torch.no_grad():
        out = conv2d(model.relu1(model.conv1(digits.inputs)), model.conv2.weight, stride=2, padding=1)
        h = patches @ model.conv2.weight.flatten(1).T
    places = out.permute(0, 2, 3, 1).reshape(len(digits), -1, 6)
    places = places / places.norm(dim=2, keepdim=True)
    own = (h / h.norm(dim=1, keepdim=True)).view(len(digits), 7, 6)
    gaps = (own[:, :, None] - places[:, None]).norm(dim=3).amin(2)
    assert gaps.max() < 1e-4  # float32; outputs of other places are 0.01 away and more
    assert len(own[0].unique(dim=0)) > 2


def test_black_images_teach_nothing(digits):
    model = shallow(in_features=64, hidden=6)
    stored = torch.cat([torch.zeros(3, 1, 8, 8), digits.inputs[:5]])
    images = npb.data.Data(stored, torch.zeros(8, dtype=torch.int64), ("digit",), "some black ones")
    assert len(layer_samples(model, model.hidden, images, p=3.0, progress=False)) == 5
    with pytest.raises(NetprobeError, match="nothing but zeros"):
        layer_samples(model, model.hidden, images.select([0, 1]), p=3.0, progress=False)
