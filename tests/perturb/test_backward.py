"""Backward passes that layers declare for attacks: used inside attacks only, exact in value."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import nn

from netprobe.perturb import PGD, BackwardPass, ImageGenerator
from netprobe.perturb.backward import surrogates
from netprobe.perturb.frozen import frozen


class Quantise(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (4 * x).round() / 4 + x.sum() * 0  # connected, but with gradient 0 almost everywhere


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(30, 20), nn.Tanh(), nn.Linear(20, 5)).eval()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(8, 3, 5, 2, generator=torch.Generator().manual_seed(2))


def gradient(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    z = x.clone().requires_grad_()
    return torch.autograd.grad(model(z).square().sum(), z)[0]


def test_exact_in_value_the_surrogates_gradient_inside_only(x):
    layer = BackwardPass(Quantise(), lambda x: 3 * x)
    plain = Quantise()(x)
    assert torch.equal(layer(x), plain)
    assert not gradient(layer, x).any()
    with frozen(layer):
        assert torch.equal(layer(x.clone().requires_grad_()), plain)
        torch.testing.assert_close(gradient(layer, x), 2 * plain * 3)
    assert not gradient(layer, x).any()


def test_straight_through_by_default(x):
    layer = BackwardPass(Quantise())
    with surrogates(layer):
        torch.testing.assert_close(gradient(layer, x), 2 * Quantise()(x))


def test_any_module_can_declare_its_own(x):
    class Own(Quantise):
        soft = False

        @contextlib.contextmanager
        def backward_surrogate(self):
            self.soft = True
            yield
            self.soft = False

        def forward(self, x):
            return x if self.soft else super().forward(x)

    model = nn.Sequential(Own(), nn.Flatten())
    with frozen(model):
        assert model[0].soft
    assert not model[0].soft


def test_it_ends_with_an_error_too(x):
    layer = BackwardPass(Quantise())
    with pytest.raises(RuntimeError, match="boom"), frozen(layer):
        assert layer.replaced
        raise RuntimeError("boom")
    assert not layer.replaced


@pytest.mark.parametrize("way", ["call", "fool"])
def test_attacks_go_through_a_quantiser(net, x, way):
    """Its own gradient is zero, so that plain PGD moves nowhere but by chance."""
    masked, declared = nn.Sequential(Quantise(), net), nn.Sequential(BackwardPass(Quantise()), net)
    y = masked(x).argmax(1)
    attack, fallen = PGD(0.3, steps=20), {}
    for name, model in (("masked", masked), ("declared", declared)):
        generator = ImageGenerator(0, range(len(x)))
        found = attack(model, x, y, generator=generator) if way == "call" else None
        found = attack.fool(model, x, y, generator=generator, slots=3).x if found is None else found
        fallen[name] = int((masked(found).argmax(1) != y).sum())
    assert fallen["declared"] > fallen["masked"]
    assert fallen["declared"] >= 6


def test_shapes_must_agree(x):
    layer = BackwardPass(Quantise(), nn.Flatten())
    with surrogates(layer), pytest.raises(ValueError, match=r"shape \(8, 30\) where the module gives \(8, 3, 5, 2\)"):
        layer(x.clone().requires_grad_())
