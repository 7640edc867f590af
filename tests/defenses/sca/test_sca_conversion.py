"""Which layers of a network can be made self-consistent, in whatever way it calls its ReLUs."""

import copy
import logging

import pytest
import torch
from torch import nn
from torch.nn import functional

import netprobe as npb
from netprobe.defenses import SCADefense
from netprobe.defenses.sca import SCAConv2d, SCALinear, convert, self_consistent
from netprobe.defenses.sca.conversion import candidates
from netprobe.errors import NetprobeError
from netprobe.models import Normalized, lenet, mlp, vgg16
from netprobe.perturb.attack_copy import LiveCopy, attack_copy


class Functional(nn.Module):
    """ReLUs of every form, in place too, a residual that reads a layer before its ReLU, a branch."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn, self.conv2 = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3)
        self.fc1, self.fc2, self.fc3, self.fc4 = (
            nn.Linear(64, 12),
            nn.Linear(12, 12),
            nn.Linear(12, 12),
            nn.Linear(12, 3),
        )

    def forward(self, x):
        x = functional.relu(self.bn(self.conv1(x)))
        x = self.conv2(x).relu_()
        x = torch.relu(self.fc1(x.flatten(1)))
        before = self.fc2(x)
        x = functional.relu(before) + before
        return self.fc4(functional.relu(self.fc3(x), inplace=True))


class Branching(nn.Module):
    """torch.fx cannot follow it."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(7, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.second(self.first(x).relu()) if x.sum() > 0 else self.second(self.first(-x).relu())


def test_the_layers_that_a_relu_alone_reads():
    assert candidates(Functional()) == ["conv2", "fc1", "fc3"]
    assert candidates(mlp(hidden=(8, 6))) == ["linear1", "linear2"]
    assert candidates(lenet()) == ["linear1"]  # its convolutions are pooled before their ReLUs
    assert candidates(Branching()) is None
    assert candidates(nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2))) == []


def test_vgg_of_torchvision_has_thirteen_convolutions_and_two_linear_layers():
    from torchvision.models import vgg16 as torchvision_vgg16

    with torch.device("meta"):
        found = candidates(torchvision_vgg16())
    assert len(found) == 15
    assert candidates(vgg16()) is not None


@pytest.mark.parametrize("name", ["conv2", "fc1", "fc3"])
def test_a_users_network_is_converted_by_name_and_stays_as_it_is(name):
    model = Functional().eval()
    before = copy.deepcopy(model.state_dict())
    x = torch.rand(3, 1, 8, 8)
    same, other = convert(model, name, steps=0), convert(model, name, steps=3)
    assert torch.equal(same(x), model(x))
    assert not torch.equal(other(x), model(x))
    assert isinstance(other.get_submodule(name), SCAConv2d if name == "conv2" else SCALinear)
    assert type(model.get_submodule(name)) in (nn.Conv2d, nn.Linear)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not other.training


def test_the_first_hidden_layer_is_converted_unless_one_is_named():
    assert self_consistent(convert(Functional()))[0] == "conv2"
    assert self_consistent(convert(mlp()))[0] == "linear1"
    behind = Normalized(mlp(hidden=(8, 6)), 0.5, 0.5)
    assert self_consistent(convert(behind))[0] == "net.linear1"
    assert self_consistent(convert(behind, "linear2"))[0] == self_consistent(convert(behind, "net.linear2"))[0]
    assert self_consistent(convert(convert(mlp())))[0] == "linear1"
    twice = convert(convert(mlp()))
    assert self_consistent(twice, "linear2")[0] == "linear2"


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("fc7", "unknown linear layer or convolution 'fc7'.*fc1"),
        ("conv1", "conv1 of this Functional is a linear.*such are: conv2, fc1, fc3"),
        ("fc2", "a ReLU, and nothing else, reads; such are: conv2, fc1, fc3"),
    ],
)
def test_what_cannot_be_converted_is_named_with_what_can(layer, message):
    with pytest.raises(NetprobeError, match=message):
        convert(Functional(), layer)


def test_where_fx_cannot_follow_a_layer_must_be_named(caplog):
    with pytest.raises(NetprobeError, match=r"say which hidden layer.*one of first, second"):
        convert(Branching())
    with caplog.at_level(logging.WARNING):
        assert isinstance(convert(Branching(), "first").first, SCALinear)
    assert "that a ReLU follows first is taken on trust" in caplog.text


def test_a_network_without_the_layer_is_told_from_one_with_it():
    with pytest.raises(NetprobeError, match="has no self-consistent layer"):
        self_consistent(mlp())
    with pytest.raises(NetprobeError, match="no layer of this Sequential is"):
        convert(nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2)))
    with pytest.raises(NetprobeError, match="unknown self-consistent layer 'linear9'"):
        self_consistent(convert(mlp()), "linear9")


@pytest.mark.parametrize("name", ["conv2", "fc1"])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_the_attack_copy_is_the_same_function_with_the_same_gradients(name, dtype):
    model, x = convert(Functional(), name, steps=4, dropout=0.5).eval(), torch.rand(6, 1, 8, 8)
    point, other = (x.clone().requires_grad_() for _ in range(2))
    made = attack_copy(model, x, dtype)
    model(point).square().sum().backward()
    made(other).square().sum().backward()
    if dtype is None:
        torch.testing.assert_close(made(x), model(x))
        torch.testing.assert_close(other.grad, point.grad, rtol=1e-4, atol=1e-6)
        assert "bn" not in dict(made.named_modules())  # folded: the layer does not keep fx from the rest
    assert functional.cosine_similarity(other.grad.flatten(), point.grad.flatten(), 0) > 0.99


def test_a_live_copy_follows_the_weights_and_the_steps():
    model, x = convert(mlp(hidden=8), steps=4).eval(), torch.rand(6, 1, 8, 8)
    live = LiveCopy(model, x)
    with torch.no_grad():
        model.linear1.lateral.mul_(-2)
    torch.testing.assert_close(live.refresh()(x), model(x))
    model.linear1.steps = 9
    torch.testing.assert_close(live.remade().module(x), model(x))


def test_the_output_of_the_layer_is_a_site_and_a_weighted_one():
    model, x = convert(Normalized(mlp(hidden=8), 0.5, 0.5), steps=4).eval(), torch.rand(3, 1, 8, 8)
    sites = {site.name: site for site in npb.find_sites(model, x)}
    assert sites["linear1"].shape == (8,)
    assert [site.name for site in npb.select(npb.find_sites(model, x))] == ["linear1", "linear"]
    seen = []
    model.net.linear1.register_forward_hook(lambda *args: seen.append(args[-1]))
    model(x)
    (*_, (last, _)) = model.net.linear1.trajectory(model.net.flatten(model.normalize(x)))
    assert torch.equal(seen[0], last)


def test_fingerprints_see_the_steps():
    from netprobe.store.fingerprint import fingerprint

    one, other = SCADefense(steps=4).build(mlp()), SCADefense(steps=5).build(mlp())
    other.load_state_dict(one.state_dict())
    assert fingerprint(one) != fingerprint(other)
    other.linear1.steps = 4
    assert fingerprint(one) == fingerprint(other)
