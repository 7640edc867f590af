"""L2 and operator norms: terms of the weights alone."""

import numpy as np
import pytest
import torch
from torch import nn

from netprobe.defenses.regularisers import SpectralNorm, Subject
from netprobe.errors import NetprobeError
from netprobe.models.shallow import shallow


@pytest.fixture
def x():
    return torch.rand(4, 3, 6, 5, dtype=torch.float64)


@pytest.fixture
def network():
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3, stride=2, groups=2))
    return nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(24, 5)).double()


def unrolled(layer, shape):
    """The matrix of a layer without its bias, a column for every unit vector."""
    units = torch.eye(int(np.prod(shape)), dtype=torch.float64).view(-1, *shape)
    with torch.no_grad():
        return (layer(units) - layer(torch.zeros_like(units))).flatten(1).T


SHAPES = {"0": (3, 6, 5), "3": (4, 6, 5), "6": (24,)}


def test_l2_is_the_sum_over_all_parameters_without_a_half(one_step, network, x):
    value = one_step("l2", network, x)
    torch.testing.assert_close(value, sum((p**2).sum() for p in network.parameters()))
    for parameter, gradient in zip(
        network.parameters(), torch.autograd.grad(value, list(network.parameters())), strict=True
    ):
        torch.testing.assert_close(gradient, 2 * parameter.detach())


def test_l2_of_some_parameters_and_of_none_that_are_frozen(one_step, network, x):
    three = (network[0].weight, network[0].bias, network[6].bias)
    torch.testing.assert_close(one_step("l2:parameters=0.*+6.bias", network, x), sum((p**2).sum() for p in three))
    network[0].requires_grad_(False)
    torch.testing.assert_close(one_step("l2:parameters=0.*+6.bias", network, x), network[6].bias.square().sum())
    with pytest.raises(NetprobeError, match="unknown parameter pattern 'hidden"):
        one_step("l2:parameters=hidden.*", network, x)


@pytest.mark.parametrize("reduce", ["sum", "max"])
def test_operator_norms_are_those_of_the_unrolled_layers(reduce, one_step, network, x):
    norms = [torch.linalg.matrix_norm(unrolled(network[int(n)], shape), 2) ** 2 for n, shape in SHAPES.items()]
    value = one_step(f"spectral-norm:reduce={reduce}", network, x, before=lambda p: p.begin_epoch(network, None, None))
    expected = sum(norms) if reduce == "sum" else max(norms)
    assert value <= expected * (1 + 1e-12)
    torch.testing.assert_close(value, expected, rtol=1e-3, atol=0)


def test_its_gradient_is_that_of_the_largest_singular_value(one_step, network, x):
    spec = "spectral-norm:layers=6,iterations=300"
    value = one_step(spec, network, x)
    (gradient,) = torch.autograd.grad(value, network[6].weight)
    u, s, v = torch.linalg.svd(network[6].weight.detach())
    torch.testing.assert_close(value.detach(), s[0] ** 2)
    torch.testing.assert_close(gradient, 2 * s[0] * torch.outer(u[:, 0], v[0]))


def test_iterations_go_on_from_where_they_were(network, x):
    penalty = SpectralNorm().penalty(Subject(network, x, 4, 4))
    values = [float(penalty(network, None).detach()) for _ in range(60)]
    assert np.all(np.diff(values) >= -1e-6 * values[-1])  # A^T A is positive: it can only come nearer
    norms = sum(torch.linalg.matrix_norm(unrolled(network[int(n)], s), 2) ** 2 for n, s in SHAPES.items())
    assert values[0] < 0.99 * norms
    assert values[-1] == pytest.approx(float(norms), rel=1e-3)
    assert {name.rpartition(".")[2] for name in penalty.state_dict()} == {"vectors"}


def test_a_layer_that_does_more_than_its_weight_says_is_refused(x):
    class Standardised(nn.Conv2d):
        def forward(self, x):
            return super().forward(x) / self.weight.norm()

    model = nn.Sequential(Standardised(3, 2, 3), nn.Flatten(), nn.Linear(24, 2)).double()
    with pytest.raises(NetprobeError, match="does more than its weight says"):
        SpectralNorm().penalty(Subject(model, x, 4, 4))
    SpectralNorm(layers="2").penalty(Subject(model, x, 4, 4))
    with pytest.raises(NetprobeError, match="unknown"):
        SpectralNorm(layers="conv9").penalty(Subject(model, x, 4, 4))


def test_a_wide_layer_starts_from_its_smaller_side():
    model = shallow(3, 12, hidden=40)
    penalty = SpectralNorm(layers="hidden").penalty(Subject(model, torch.rand(2, 12), 4, 4))
    penalty.begin_epoch(model, None, None)
    torch.testing.assert_close(penalty(model, None), torch.linalg.matrix_norm(model.hidden.weight, 2) ** 2)
